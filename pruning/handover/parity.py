"""What a parity certificate tells, measured; and the same measured anew, with what differs first."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image

from pruning import assets
from pruning.choosing import Asked, choose, name_of, needs_of, one_shot
from pruning.evaluation.lives import survivors
from pruning.grids import SCOPES, Scope
from pruning.handover.certificate import FORMAT, KIND, Certificate, Picture, Seen, hashed, sealed
from pruning.handover.certificate import Asked as Told
from pruning.handover.wanted import short_name
from pruning.models import VLM, Encoded
from pruning.models.checkpoint.revision import revision
from pruning.models.values import POSITIONS, Kept, Positions, Sample, standing
from pruning.overrides import with_overrides
from pruning.params import HasKnobs
from pruning.plan import Plan, parse_plan
from pruning.published import PUBLISHED, Published
from pruning.rgb import as_rgb
from pruning.runnable import REGISTERED, made
from pruning.staged import make_staged
from pruning.text import checked_question
from pruning.tokens import Selection
from pruning.video import Clip, Sampling

Medium = Image.Image | Clip
FIRST = 20  # tokens of the answer
SPREAD = 16  # tokens whose features are measured
LENGTHS = 0.01  # relative difference of features that counts as one
LOGITS = 0.05  # of log-probabilities, in nats
LIBRARIES = ("torch", "transformers", "numpy")


@dataclass(frozen=True)
class Wanted:
    """A setting as `choosing.choose` takes it. forced: tokens in, tokens out."""

    asked: Asked
    retention: float | None
    per: Scope = SCOPES[0]
    positions: Positions = POSITIONS[0]
    forced: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True)
class Difference:
    """One thing that was compared. same: within the tolerance; words: by how much, in a sentence."""

    what: str
    same: bool
    words: str


def certificate(
    vlm: VLM,
    images: Sequence[Medium],
    names: Sequence[str],
    question: str,
    wanted: Wanted,
    samplings: Sequence[Sampling | None] = (),
) -> Certificate:
    """Encode, choose and answer, and tell what came of it. names: of the pictures and clips, as their files are called.
    samplings: of each, how its frames were taken, None for a picture; () = pictures alone.

    Raises ValueError as `VLM.encode`, `choosing.choose` and `VLM.answer` do.
    """
    pictures, samplings = _as_given(images), samplings or [None] * len(images)
    limits = {
        name: value
        for name in ("size", "max_image_size", "min_pixels", "max_pixels")
        if (value := _plain(getattr(vlm.image_processor, name, None))) is not None
    }
    told = [
        Picture(name, *image.size, pixels_hash(image), *((float(taken.rate), taken.frames) if taken else (None, None)))
        for name, image, taken in zip(names, pictures, samplings, strict=True)
    ]
    return sealed(
        Certificate(
            KIND,
            FORMAT,
            made_with(vlm),
            short_name(str(vlm.model_id)),
            revision(str(vlm.model_id), vlm.config),
            str(vlm.dtype).removeprefix("torch."),
            str(vlm.config._attn_implementation),
            vlm.max_visual_tokens,
            limits,
            told,
            checked_question(question),
            _told(wanted),
            seen(vlm, pictures, question, wanted),
        )
    )


def verify(was: Certificate, vlm: VLM, images: Sequence[Medium], tolerance: float = LOGITS) -> list[Difference]:
    """The certificate's sample measured anew on this model, compared in the order in which one thing follows from
    another: model, pictures, tokens, indices, positions, logits with all and with the kept tokens.

    images: as many as it has. tolerance: of log-probabilities. What cannot be compared, because what it follows from
    has another size, is left out.

    Raises ValueError for another number of pictures, a setting that is not here, and as `certificate`.
    """
    if len(images) != len(was.pictures):
        raise ValueError(f"the certificate is of {len(was.pictures)} pictures, and {len(images)} were given")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance = {tolerance!r} is not allowed: it must be a number of at least 0")
    pictures = _as_given(images)
    wanted = wanted_of(was.asked)
    now = seen(vlm, pictures, was.question, wanted, was.seen.answer_ids)
    found = [_model(was, vlm), _pictures(was, pictures), _tokens(was.seen, now)]
    if was.seen.n == now.n:
        found.append(_indices(was.seen, now))
    found += [_positions(was.seen, now), *_logits(was.seen, now, tolerance)]
    return found


def seen(vlm: VLM, images: Sequence[Medium], question: str, wanted: Wanted, answer_ids: Sequence[int] = ()) -> Seen:
    """answer_ids: of the answer whose log-probabilities are wanted; none = the model's own."""
    needs = needs_of(wanted.asked)
    encoded = vlm.encode(images, needs - {"question"})
    kept = _kept(vlm, encoded, question, wanted, lambda asked: vlm.encode(images, asked=asked))
    on, _ = standing(encoded, kept)
    ready = vlm.prepare(Sample(encoded, question, kept, positions=wanted.positions), FIRST)
    indices = None if on is not encoded else _indices_of(vlm, encoded, question, kept, wanted.positions)
    ids = list(answer_ids) or list(vlm.answer(encoded, question, max_new_tokens=FIRST).ids)
    full, pruned = vlm.logprobs(encoded, question, ids, [None, kept], positions=wanted.positions)
    place = torch.linspace(0, encoded.tokens.n - 1, min(SPREAD, encoded.tokens.n)).long()
    own = torch.tensor(ids)[:, None]
    return Seen(
        n=encoded.tokens.n,
        k=on.tokens.n if indices is None else len(indices),
        grids=[[grid.t, grid.gh, grid.gw] for grid in encoded.tokens.grids],
        lengths=_rounded(torch.linalg.vector_norm(encoded.tokens.features[place], dim=1)),
        indices=indices,
        indices_sha256=hashed(indices),
        positions=ready.prompt.positions.flatten(0, -2).tolist(),
        answer="".join(vlm.pieces(ids)),
        answer_ids=ids,
        logp_full=_rounded(full.cpu().gather(1, own)[:, 0]),
        logp_kept=_rounded(pruned.cpu().gather(1, own)[:, 0]),
    )


def wanted_of(told: Told) -> Wanted:
    """The setting that a certificate tells of. Raises ValueError for a method or knob that is not here."""
    name, knobs = told.method, told.knobs
    if name in REGISTERED:
        asked: Asked = made(name, knobs)
    elif name in PUBLISHED:
        asked = PUBLISHED[name]
    else:
        asked = parse_plan(
            name,
            lambda method: one_shot(made(method, knobs.get(method, {}))),
            lambda method: make_staged(method, **knobs.get(method, {})),
        )
    return Wanted(asked, told.retention, told.per, told.positions, (tuple(told.forced_in), tuple(told.forced_out)))


def made_with(vlm: VLM) -> dict[str, str]:
    """Versions, device and machine."""
    return {
        assets.PROJECT: assets.version(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "device": str(vlm.device),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }


def pixels_hash(image: Medium) -> str:
    """SHA-256 of an RGB image's size and pixels; of a clip of all frames, and their times."""
    found = hashlib.sha256("{}x{}".format(*image.size).encode())
    for frame in image.frames if isinstance(image, Clip) else (image,):
        found.update(np.ascontiguousarray(frame).tobytes())
    if isinstance(image, Clip):
        found.update(repr([round(time, 3) for time in image.times]).encode())
    return found.hexdigest()


def _as_given(images: Sequence[Medium]) -> list[Medium]:
    """As the model is given them: pictures in RGB."""
    return [image if isinstance(image, Clip) else as_rgb(image)[0] for image in images]


def _kept(vlm: VLM, encoded: Encoded, question: str, wanted: Wanted, again: Callable[[Any], Encoded]) -> Kept:
    tokens = vlm.tokens(encoded, question, needs_of(wanted.asked))
    at = partial(choose, wanted.asked, tokens, vlm.layers)
    kept = at(wanted.retention, wanted.per, again)
    if any(wanted.forced) and isinstance(kept, Selection):
        every = at(1.0)
        assert isinstance(every, Selection)
        kept = with_overrides(kept, every, *wanted.forced)
    return kept  # type: ignore[return-value]  # what `again` makes is an `Encoded`


def _indices_of(vlm: VLM, encoded: Encoded, question: str, kept: Kept, positions: Positions) -> list[int]:
    if isinstance(kept, Plan):
        return survivors(vlm.trace(encoded, question, kept, positions=positions)).indices.tolist()
    assert isinstance(kept, Selection)
    return kept.indices.tolist()


def _told(wanted: Wanted) -> Told:
    asked = wanted.asked
    knobs: dict[str, Any] = {}
    if isinstance(asked, Plan):
        knobs = {method.name: asdict(method) for method in asked.methods}
    elif not isinstance(asked, Published) and isinstance(asked, HasKnobs):
        knobs = asdict(asked)
    retention = None if isinstance(asked, Plan | Published) else wanted.retention
    ins, outs = wanted.forced
    return Told(name_of(asked), knobs, retention, wanted.per, wanted.positions, list(ins), list(outs))


def _model(was: Certificate, vlm: VLM) -> Difference:
    now = {
        "revision": revision(str(vlm.model_id), vlm.config),
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "attention": str(vlm.config._attn_implementation),
        "most_tokens": vlm.max_visual_tokens,
    }
    other = [
        f"{name} {_short(getattr(was, name))} there, {_short(value)} here"
        for name, value in now.items()
        if getattr(was, name) != value
    ]
    return Difference("model", not other, "; ".join(other) or "the same files, dtype, attention and pixel limit")


def _pictures(was: Certificate, images: Sequence[Medium]) -> Difference:
    for told, image in zip(was.pictures, images, strict=True):
        if (told.width, told.height) != image.size:
            there = f"{told.width}×{told.height}"
            here = "{}×{}".format(*image.size)
            return Difference("pictures", False, f"{told.file}: {there} there, {here} here")
        if told.sha256 != pixels_hash(image):
            return Difference("pictures", False, f"{told.file}: the same size, other pixels")
    return Difference("pictures", True, "the same pixels")


def _tokens(was: Seen, now: Seen) -> Difference:
    if (was.n, was.grids) != (now.n, now.grids):
        return Difference("tokens", False, f"{was.n} tokens in grids {was.grids} there, {now.n} in {now.grids} here")
    off = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(was.lengths, now.lengths, strict=True))
    return Difference("tokens", off <= LENGTHS, f"{was.n}; lengths of features differ by {off:.2g} of theirs at most")


def _indices(was: Seen, now: Seen) -> Difference:
    if was.indices_sha256 == now.indices_sha256:
        return Difference("indices", True, f"the same {was.k} tokens")
    if was.indices is None or now.indices is None:
        return Difference("indices", was.k == now.k, f"{was.k} tokens of another encoding there, {now.k} here")
    gone, come = sorted(set(was.indices) - set(now.indices)), sorted(set(now.indices) - set(was.indices))
    both = len(set(was.indices) & set(now.indices))
    words = f"{was.k} kept there, {now.k} here, {both} of them the same; the first that is not: {(*gone, *come)[0]}"
    return Difference("indices", False, words)


def _positions(was: Seen, now: Seen) -> Difference:
    there, here = np.array(was.positions), np.array(now.positions)
    if there.shape != here.shape:
        size = "axes and tokens of the prompt"
        return Difference("positions", False, f"{there.shape} {size} there, {here.shape} here")
    other = np.argwhere((there != here).any(axis=0))[:, 0]
    if not len(other):
        return Difference("positions", True, f"the same at all {there.shape[1]} tokens of the prompt")
    at = int(other[0])
    words = f"other at {len(other)} of {there.shape[1]} tokens, first at {at}: {there[:, at].tolist()} there, "
    return Difference("positions", False, words + f"{here[:, at].tolist()} here")


def _logits(was: Seen, now: Seen, tolerance: float) -> list[Difference]:
    found = []
    for what, there, here in (
        ("logits, all tokens", was.logp_full, now.logp_full),
        ("logits, kept tokens", was.logp_kept, now.logp_kept),
    ):
        off = [abs(a - b) for a, b in zip(there, here, strict=True)]
        first = next((i for i, value in enumerate(off) if value > tolerance), None)
        words = f"log-probabilities of {len(off)} tokens differ by {max(off):.2g} at most"
        if first is not None:
            words += f", first at token {first}: {there[first]:.4f} there, {here[first]:.4f} here"
        found.append(Difference(what, first is None, words))
    return found


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.double().tolist()]


def _plain(value: Any) -> Any:
    """What JSON can hold of a processor's setting."""
    if isinstance(value, int | float | str) or value is None:
        return value
    return {name: size for name, size in dict(value).items() if size is not None}


def _short(value: Any) -> Any:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else value
