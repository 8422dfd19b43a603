"""Proof on load for families without a file of their own: what the adapter takes for granted is measured first.

A small picture goes through the model library's own path and through ours; marks are painted under tokens, which those
must notice. What does not hold for the answers is a refusal that says what was measured. Where the geometry does not
hold, as of learned queries that all see the whole picture, tokens are not placed; what does not hold inside the tower
only takes its signals away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image

from pruning.models.proof import tower as tower_proof
from pruning.models.proof.tower import Marked
from pruning.models.values import ModelError, unsupported
from pruning.models.vlm import VLM

SIZE = (168, 112)  # neither square nor smaller than what processors scale up
QUESTION = "What is this?"
MARKS = 4
GRAIN = (96, 160)  # darkest and lightest of a picture that is not flat
NEAR = 0.1  # share of the tokens that may change as much as the one with the mark under it; chance would give 0.5
MOSTLY = 0.75  # share of the marks that must move their own token more than any other
TOP = 100  # likeliest tokens of the vocabulary whose log-probabilities are compared
GAP, HALF_GAP = 0.02, 0.3  # root mean square differences that rounding explains, in float32 and in half precision


def prove(vlm: VLM) -> None:
    """Measure whether the adapter fits a freshly loaded model, and take off the signals that it cannot tell.

    Raises ModelError with the measured reason. Nothing is left on the model.
    """
    kind = vlm.config.model_type
    if getattr(vlm.config, "is_encoder_decoder", False):
        raise unsupported(kind, "they are encoder-decoders, whose answers have no place for kept tokens")
    try:
        _answers(vlm)
        encoded = vlm.encode([Image.new("RGB", SIZE, "grey")])
        known = all(grid.placed for grid in encoded.tokens.grids)
        found = _followed(vlm, encoded.rects) if known else None
        vlm.family.placed = found is not None
        tower = found is not None and _holds(partial(tower_proof.is_understood, vlm, *found))
        projector = found is not None and tower and _holds(partial(tower_proof.projects_again, vlm, found[0]))
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever an unknown family's code raises
        text = (str(error).strip() or "no message").splitlines()[0]
        raise unsupported(kind, f"a trial with a small picture fails ({type(error).__name__}: {text})") from error
    tower_proof.reduce_to(vlm, tower=tower, projector=projector)


def _answers(vlm: VLM) -> None:
    """With all tokens the answer's first step is the library's; with half of them there is an answer."""
    kind, picture = vlm.config.model_type, _noise()
    encoded = vlm.encode([picture])
    given = vlm.family.processing.whole([picture], QUESTION)
    ids = vlm.prompt(encoded, QUESTION).input_ids
    if ids.tolist() != given["input_ids"].tolist():
        raise unsupported(kind, f"their processor writes another prompt than ours ({ids.shape[1]} tokens)")
    with torch.no_grad():
        logits = vlm.model(**vlm.family.on_device(given), logits_to_keep=1).logits[0, -1].float()
    theirs, top = logits.log_softmax(-1).topk(min(TOP, len(logits)))
    (ours,) = vlm.logprobs(encoded, QUESTION, [0], [None])
    gap = float((ours[0, top] - theirs).square().mean().sqrt())
    if not gap <= (GAP if vlm.dtype == torch.float32 else HALF_GAP):
        raise unsupported(kind, f"with all tokens kept their log-probabilities differ by {gap:.2g} from the library's")
    half = torch.arange(0, encoded.tokens.n, 2)
    answer = vlm.answer(encoded, QUESTION, half, max_new_tokens=2)
    (pruned,) = vlm.logprobs(encoded, QUESTION, answer.ids, [half])
    if not bool(torch.isfinite(pruned).all()):
        raise unsupported(kind, "with half of the tokens their log-probabilities are not finite")


def _followed(vlm: VLM, rects: np.ndarray) -> tuple[Image.Image, Marked] | None:
    """A picture on which features follow marks, with these; None where they do on neither. rects: (N, 4).

    On a flat one a norm may blow the faint edge of a mark up to the mark itself, on a grained one it does not.
    """
    for blank in (Image.new("RGB", SIZE, "grey"), _noise(*GRAIN)):
        marked = [(_over(rects, token), _painted(blank, rects[token])) for token in _spread(rects)]
        if _features_follow(vlm, blank, marked):
            return blank, marked
    return None


def _features_follow(vlm: VLM, blank: Image.Image, marked: Marked) -> bool:
    """Whether what a token becomes follows the pixels under it, and while the tower's attention is silent those alone:
    a neighbour that sees the blurred edge of a mark may come close, or for one mark in four be moved more.

    In a tower whose attention is not known it must follow them more than those elsewhere.
    """
    known = bool(vlm.family.attentions)
    with tower_proof.silence(vlm.family.attentions):
        before = vlm.encode([blank]).tokens.features
        moves = [(over, vlm.encode([picture]).tokens.features - before) for over, picture in marked]
    shares, most, own = [], [], []
    for over, move in moves:
        size = move.norm(dim=1)
        # The edge of a mark is blurred into tokens beside it.
        rivals = (size > size[over].max() * (0.5 if known else 1)) & ~over
        shares.append(float(rivals.float().mean()))
        most.append(bool(over[size.argmax()]))
        own.append(bool(size[over].max() >= 0.5 * size.max()))
    return bool(np.mean(shares) <= NEAR) and (not known or bool(np.mean(most) >= MOSTLY and all(own)))


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a tower of another build fails anywhere
        return False


def _noise(low: int = 0, high: int = 256) -> Image.Image:
    pixels = np.random.default_rng(0).integers(low, high, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _over(rects: np.ndarray, token: int) -> torch.Tensor:
    """(N,) bool, the tokens that see the mark under this one: it, and where tiles and a thumbnail show the same place,
    those of which half lies there, or that hold half of it. rects: (N, 4).
    """
    low, high = np.maximum(rects[:, :2], rects[token, :2]), np.minimum(rects[:, 2:], rects[token, 2:])
    shared = (high - low).clip(0).prod(1)
    areas = (rects[:, 2:] - rects[:, :2]).prod(1)
    return torch.from_numpy((shared > 0) & (shared >= 0.5 * np.minimum(areas, areas[token])))


def _painted(picture: Image.Image, rect: np.ndarray) -> Image.Image:
    x0, y0, x1, y1 = rect.round().astype(int).tolist()
    painted = picture.copy()
    painted.paste("red", (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
    return painted


def _spread(rects: np.ndarray) -> list[int]:
    """Up to MARKS tokens from first to last, of those that see a whole cell of the picture. rects: (N, 4)."""
    areas = (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])
    seen = np.nonzero(areas > 0.9 * areas.max())[0]
    return sorted({int(seen[len(seen) * (2 * i + 1) // (2 * MARKS)]) for i in range(MARKS)})
