"""`answer`: one picture and question with all tokens and with the kept ones, and what that saves."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL.Image import Image

from pruning.allocation import select_within
from pruning.budget import check_retention
from pruning.cli.files import write_picture
from pruning.drawing import overlays as draw
from pruning.evaluation import metrics
from pruning.evaluation.answered import Answered, Piece, side, speedup, used
from pruning.evaluation.timing import MOST, first_token_seconds, selection_seconds
from pruning.evaluation.verdict import Verdict, is_empty, verdict
from pruning.grids import Scope
from pruning.images import open_image
from pruning.importance import heat_scores
from pruning.method import Method
from pruning.models import VLM, Encoded
from pruning.models.checkpoint.sources import checked, known_name
from pruning.models.language.prompting import checked_question
from pruning.tokens import Selection, VisualTokens


def answer(
    vlm: VLM,
    source: str,
    question: str,
    method: Method,
    retention: float,
    *,
    per: Scope = "sample",
    max_new_tokens: int = 64,
    overlay: Path | None = None,
    style: str = "dimmed",
) -> dict[str, Any]:
    """Answer with all tokens and with the kept ones, and measure both. Writes the overlay where a path is given.

    per: what a budget is for. Returns the values of an `Answered` by name, and beside them what only this command
    tells: per, indices (K,) ascending, notes on the image, the overlay's path; of each answer whether it `finished`,
    total_s and ttft_spread_s, in seconds.
    """
    check_retention(retention)
    image = open_image(source)
    vlm.warmup()
    encoded = vlm.encode([image], method.needs - {"question"})
    tokens = vlm.tokens(encoded, question, method.needs)
    selection = select_within(method, tokens, retention, per)
    both = (None, selection)
    answers = [vlm.answer(encoded, question, kept, max_new_tokens=max_new_tokens) for kept in both]
    told, close, pieces = verdict(*answers), None, []
    if told.comparable:
        logp, pruned_logp = vlm.logprobs(encoded, question, answers[0].ids, both)
        close = metrics.fidelity(logp, pruned_logp)
        sure = metrics.token_probabilities(logp, answers[0].ids).tolist()
        lost = metrics.token_losses(logp, pruned_logp, answers[0].ids).tolist()
        pieces = list(map(Piece, vlm.pieces(answers[0].ids), sure, lost))
    times = [first_token_seconds(vlm, encoded, question, kept) for kept in both]
    full, pruned = (side(vlm, given, median(runs)) for given, runs in zip(answers, times, strict=True))
    select_s = selection_seconds(method, tokens, retention, per)
    if overlay is not None:
        write_picture(overlay, _overlay(vlm, image, question, encoded, tokens, selection, style))
    result = Answered(
        **used(known_name(checked(vlm.model_id)), method, retention, tokens.n, selection.k),
        question=checked_question(question),
        full=full,
        kept=pruned,
        verdict=told,
        agree=told.agree,
        fidelity=close,
        pieces=pieces,
        select_s=select_s,
        encode_s=encoded.encode_s,
        speedup=speedup(full, pruned, select_s),
    )
    values = asdict(result)
    for name, given, runs in zip(("full", "kept"), answers, times, strict=True):
        spread = max(runs) - min(runs)
        values[name] |= {"finished": given.finished, "total_s": given.total_s, "ttft_spread_s": spread}
    return values | {
        "per": per,
        "indices": selection.indices.tolist(),
        "notes": list(image.info["notes"]),
        "overlay": str(overlay) if overlay else None,
    }


def text(result: dict[str, Any]) -> str:
    """What a reader wants of `answer`'s result, in lines."""
    full, kept = result["full"], result["kept"]
    lines = [
        f"all {result['n']} tokens:  {_words(full['text'])}",
        f"{result['budget']} tokens kept: {_words(kept['text'])}",
    ]
    if result["fidelity"] is not None:
        lines.append(f"agreement: {'yes' if result['agree'] else 'no'}, fidelity {result['fidelity']:.3f}")
    if why := Verdict(result["verdict"]).why:
        lines.append(why)
    for name, label, unit in (("flops", "prefill GFLOPs", 1e9), ("kv_bytes", "KV cache, KiB", 1024)):
        change = kept[name] / full[name] - 1
        lines.append(f"{label}: {full[name] / unit:.2f} -> {kept[name] / unit:.2f} ({change:+.0%})")
    gain = "" if kept["ttft_s"] < full["ttft_s"] else " (no gain at this size)"
    lines.append(
        f"time to first token, median of up to {MOST}: {full['ttft_s'] * 1e3:.1f} -> {kept['ttft_s'] * 1e3:.1f} ms"
        f"{gain}; encoding {result['encode_s'] * 1e3:.1f} ms, selection {result['select_s'] * 1e3:.1f} ms"
    )
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    return "\n".join(lines)


def _words(said: str) -> str:
    return "(no words)" if is_empty(said) else said


def _overlay(
    vlm: VLM, image: Image, question: str, encoded: Encoded, tokens: VisualTokens, selection: Selection, style: str
) -> draw.Image:
    """The picture at display size, (H, W, 3), with the selection painted on it."""

    def more(needs: frozenset[str]) -> VisualTokens:
        """The tokens with signals that the method did not ask for: the picture is encoded for them once more."""
        fresh = encoded if needs <= tokens.signals.keys() else vlm.encode([image], needs - {"question"})
        return vlm.tokens(fresh, question, needs)

    scores = heat_scores(selection, vlm.signals, more).float().numpy() if style == "heat" else None
    pixels = np.asarray(image)
    canvas, _ = draw.fit(pixels, draw.roomy(pixels, 1024))
    factors = np.array([canvas.shape[1] / image.width, canvas.shape[0] / image.height] * 2, np.float32)
    return draw.overlay(canvas, encoded.rects * factors, selection, style, scores)
