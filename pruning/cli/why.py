"""`why`: the patches that would bring the full-token answer back, or those that an answer cannot do without."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pruning.choosing import Asked, choose, needs_of, one_shot
from pruning.cli.media import opened, write_overlay
from pruning.evaluation.verdict import check_meaning, check_words, is_empty
from pruning.evaluation.why import Way, costliest, needing, removal_losses, returning, summary
from pruning.grids import Scope
from pruning.models import VLM, in_world
from pruning.models.checkpoint.sources import checked, known_name
from pruning.models.values import Positions
from pruning.text import checked_question
from pruning.tokens import Selection
from pruning.video import notes_on


def why(
    vlm: VLM,
    source: str,
    question: str,
    method: Asked,
    retention: float,
    *,
    way: Way | None,
    per: Scope,
    positions: Positions,
    most: int,
    max_new_tokens: int,
    overlay: Path | None,
    progress: Callable[[str, int, int], None],
    fps: float | None = None,
    max_frames: int | None = None,
) -> dict[str, Any]:
    """Look for the patches that the answer to one question hangs on. Writes the overlay where a path is given.

    method: one that selects before the language model; merges are left out: tokens are kept as they are. way: None:
    "return" where the kept tokens change the answer, else "need". positions: of kept tokens. most: sets measured, at
    most. progress: called with stage, sets measured, and those that the stage still takes, after every batch.

    Returns the values of a `Found` by name, without its stage, and its `summary`; beside them model, question, n, both
    answers, `rects` of the patches in pixels of the picture or frame, `frames`, the number of the tile or step of time
    that each lies in, the `notes` on it, the overlay's path, and for each token of the answer its text and the patches
    whose removal from the kept ones costs its probability most, with that cost; of the answer with all tokens for
    "return", removed from all of them.

    Raises ValueError for a method inside the language model or before the tower, a picture or question outside the
    model's world, an answer without words, and as `returning` and `needing` do.
    """
    rule = one_shot(method)
    image = opened(source, vlm, fps, max_frames)
    encoded = vlm.encode([image], needs_of(rule) - {"question"})
    check_meaning(in_world(vlm, encoded, question).reason)
    selection = choose(rule, vlm.tokens(encoded, question, needs_of(rule)), vlm.layers, retention, per)
    assert isinstance(selection, Selection)
    n, kept = encoded.tokens.n, selection.indices.tolist()
    full, pruned = (
        vlm.answer(encoded, question, each, positions=positions, max_new_tokens=max_new_tokens)
        for each in (None, selection.indices)
    )
    check_words(full)
    way = way or ("need" if list(full.ids) == list(pruned.ids) else "return")
    look, answer, among = (returning, full, list(range(n))) if way == "return" else (needing, pruned, kept)
    for found in look(vlm, encoded, question, answer, kept, n, positions=positions, most=most):
        progress(found.stage, found.done, found.left)
    losses = removal_losses(vlm, encoded, question, answer, among, n, positions=positions)  # (K, T)
    if overlay is not None:
        write_overlay(overlay, image, encoded, Selection(torch.tensor(found.patches or kept), n))
    values = asdict(found)
    del values["stage"]
    return values | {
        "summary": summary(found),
        "model": known_name(checked(vlm.model_id)),
        "question": checked_question(question),
        "positions": positions,
        "n": n,
        "budget": len(kept),
        "full": full.text,
        "kept": pruned.text,
        "rects": [encoded.rects[i].tolist() for i in found.patches],
        "frames": encoded.tokens.pictures[list(found.patches)].tolist(),
        "tokens": [
            {"text": piece, "patches": [{"patch": patch, "lost": loss} for patch, loss in costliest(lost, among)]}
            for piece, lost in zip(vlm.pieces(answer.ids), losses.T, strict=True)
            if piece
        ],
        "notes": notes_on(image),
        "overlay": str(overlay) if overlay else None,
    }


def told(result: dict[str, Any]) -> str:
    """What a reader wants of it, in lines."""
    patches, back = result["patches"], result["way"] == "return"
    kept = result["kept"] if not is_empty(result["kept"]) else "(no words)"
    lines = [f"all {result['n']} tokens:  {result['full']}", f"{result['budget']} tokens kept: {kept}"]
    if not result["reached"] or not patches:
        lines.append(result["summary"])
    else:
        lines.append(f"{result['summary']}: {' '.join(map(str, patches))}")
        close = " -> ".join(f"{value:.3f}" for value in result["fidelities"])
        lines.append(f"fidelity after each {'return' if back else 'removal'}: {close}")
    for token in result["tokens"]:
        most = ", ".join(f"{each['patch']} ({each['lost']:+.3f})" for each in token["patches"])
        lines.append(f"“{token['text'].strip()}” loses most probability without patch {most}")
    lines.append(f"{result['done']} sets measured")
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    return "\n".join(lines)
