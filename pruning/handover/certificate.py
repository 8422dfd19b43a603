"""The parity certificate: what one sample came to, as a JSON file that another machine can hold itself against.

Values alone, and how the file is written and read; what is measured for it is in `parity`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pruning import assets
from pruning.grids import Scope
from pruning.models.values import Positions

KIND: Literal["idpruner certificate"] = "idpruner certificate"
FORMAT = 1
EXACT = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")


@dataclass(frozen=True)
class Picture:
    """A picture or a clip. file: its name where the certificate was made. sha256: of its RGB pixels as the model is
    given them, of a clip of all frames that were taken, and their times. fps, frames: of a clip, how they were taken:
    of each second, and the most in all; None for a picture.
    """

    file: str
    width: int
    height: int
    sha256: str
    fps: float | None
    frames: int | None


@dataclass(frozen=True)
class Asked:
    """The setting. method: its key, the name of a published schedule, or a plan as it is written; knobs: all of them,
    of a plan by method. retention: None for what has one of its own. forced_in, forced_out: tokens forced by hand.
    """

    method: str
    knobs: dict[str, Any]
    retention: float | None
    per: Scope
    positions: Positions
    forced_in: list[int]
    forced_out: list[int]


@dataclass(frozen=True)
class Seen:
    """What came of it.

    n, k: visual tokens, and those kept; of a plan those that live longest, of another encoding its own. grids: [t, gh,
    gw] of each. lengths: L2 of the features of up to 16 tokens, spread over all. indices: (K,) ascending, what is kept
    of the N; None where another encoding stands in their place. indices_sha256: of them as JSON. positions: of every
    token of the pruned prompt, a list for each axis. answer_ids: the first tokens of the answer with all tokens, at
    most 20; logp_full, logp_kept: their log-probabilities, forced, with all tokens and with the kept ones.
    """

    n: int
    k: int
    grids: list[list[int]]
    lengths: list[float]
    indices: list[int] | None
    indices_sha256: str
    positions: list[list[int]]
    answer: str
    answer_ids: list[int]
    logp_full: list[float]
    logp_kept: list[float]


@dataclass(frozen=True)
class Certificate:
    """made_with: versions, device and machine, which may differ elsewhere. revision: of the model's files. limits: how
    its processor scales pictures. sha256: of all that stands before it.
    """

    kind: Literal["idpruner certificate"]
    format: int
    made_with: dict[str, str]
    model: str
    revision: str
    dtype: str
    attention: str
    most_tokens: int
    limits: dict[str, Any]
    pictures: list[Picture]
    question: str
    asked: Asked
    seen: Seen
    sha256: str = ""

    __pydantic_config__ = EXACT


def sealed(certificate: Certificate) -> Certificate:
    """The same with its hash."""
    return dataclasses.replace(certificate, sha256=hashed(_open(certificate)))


def written(certificate: Certificate) -> str:
    """As JSON. Raises ValueError for a number that is not finite."""
    return json.dumps(dataclasses.asdict(certificate), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def read(text: str | bytes) -> Certificate:
    """The certificate in a file. Raises ValueError for text that is none, one of another format, one with fields that
    are missing, unknown or of another type, and one that was changed after it was made.
    """
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ValueError(f"this is no certificate: it is not JSON ({error})") from error
    if not isinstance(told, Mapping) or told.get("kind") != KIND:
        raise ValueError(f'this is no certificate: it has no "kind": "{KIND}". Make one with `idpruner certificate`')
    if told.get("format") != FORMAT:
        made = told.get("made_with")
        by = made.get(assets.PROJECT, "another version") if isinstance(made, Mapping) else "another version"
        raise ValueError(
            f"the certificate is of format {told.get('format')!r}, and this version ({assets.version()}) reads format "
            f"{FORMAT}: verify it with {assets.PROJECT} {by}, which made it, or make it anew"
        )
    try:
        certificate = TypeAdapter(Certificate).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"the certificate cannot be read: {where}: {first['msg']}. Make it anew") from error
    if (own := hashed(_open(certificate))) != certificate.sha256:
        raise ValueError(
            f"the certificate was changed after it was made: its content has the hash {own[:12]}…, and it says "
            f"{certificate.sha256[:12]}…. Make it anew with `idpruner certificate`"
        )
    return certificate


def hashed(value: Any) -> str:
    """SHA-256 of a value as JSON, its keys in order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _open(certificate: Certificate) -> dict[str, Any]:
    values = dataclasses.asdict(certificate)
    del values["sha256"]
    return values
