"""`certificate` and `verify`: what one sample came to, and whether it comes to the same here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pruning.choosing import Asked
from pruning.cli.media import Medium, opened, still
from pruning.grids import Scope
from pruning.handover import certificate as certificates
from pruning.handover.certificate import Certificate
from pruning.handover.parity import Difference, Wanted, certificate
from pruning.models import VLM, load
from pruning.models.values import Positions
from pruning.video import Clip, Sampling

STILL = "the certificate is of a picture"
MOST_BYTES = 32 << 20


def written(
    vlm: VLM,
    source: str,
    question: str,
    asked: Asked,
    retention: float,
    per: Scope,
    positions: Positions,
    fps: float | None = None,
    most: int | None = None,
) -> str:
    """The certificate of one picture or clip and question, as JSON. ValueError as `parity.certificate` and `opened`."""
    wanted = Wanted(asked, retention, per, positions)
    medium, taken = opened(source, vlm, fps, most), None
    if isinstance(medium, Clip):
        usual = vlm.sampling
        taken = Sampling(usual.rate if fps is None else fps, usual.frames if most is None else most)
    made = certificate(vlm, [medium], [Path(source).name], question, wanted, [taken])
    return certificates.written(made)


def found(path: Path) -> Certificate:
    """The certificate in a file. Raises ValueError for one that is not there, too large, or as `certificate.read`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} is no certificate: it is larger than {MOST_BYTES >> 20} MiB")
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): name the certificate's file") from error
    try:
        return certificates.read(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def pictures_of(path: Path, was: Certificate, given: Sequence[str]) -> list[str]:
    """The files of its pictures: those given, else those of their names beside it. ValueError where one is missing."""
    files = list(given) or [str(path.parent / Path(picture.file).name) for picture in was.pictures]
    if len(files) != len(was.pictures):
        raise ValueError(f"{path} is of {len(was.pictures)} pictures, and {len(files)} are named: name them in order")
    for file in files:
        if not Path(file).is_file():
            raise ValueError(f"the picture {file} is not there: name the pictures behind the certificate")
    return files


def model_for(was: Certificate, options: argparse.Namespace) -> VLM:
    """The certificate's model, in its dtype, attention and pixel limit, unless the options name others."""
    return load(
        options.model or was.model,
        device=options.device,
        dtype=options.dtype or was.dtype,
        quantization=options.quantization,
        attention=options.attention or was.attention,
        device_map=options.device_map,
        scorer=options.scorer,
        pruner=options.pruner,
        max_visual_tokens=was.most_tokens,
    )


def media_of(vlm: VLM, was: Certificate, files: Sequence[str]) -> list[Medium]:
    """Its pictures and clips, taken as they were. Raises ValueError as `opened` and `still`."""
    return [
        still(file, STILL) if picture.fps is None else opened(file, vlm, picture.fps, picture.frames)
        for picture, file in zip(was.pictures, files, strict=True)
    ]


def told(was: Certificate, now: dict[str, str], found: Sequence[Difference]) -> str:
    """What was compared, in lines, and what differs first."""
    lines = [f"{'the same' if each.same else 'DIFFERENT':<10} {each.what}: {each.words}" for each in found]
    other = [
        f"{name} {was.made_with.get(name, 'none')} there, {value} here"
        for name, value in now.items()
        if was.made_with.get(name) != value
    ]
    if other:
        lines.append(f"made with: {'; '.join(other)}")
    first = next((each for each in found if not each.same), None)
    lines.append("it comes to the same here" if first is None else f"the first difference: {first.what}: {first.words}")
    return "\n".join(lines)
