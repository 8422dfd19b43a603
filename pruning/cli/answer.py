"""`answer`: one picture and question with all tokens and with the kept ones, and what that saves."""

import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pruning.allocation import select_within
from pruning.budget import check_retention
from pruning.cli.files import write_picture
from pruning.drawing import overlays as draw
from pruning.evaluation.cost import kv_cache_bytes, prefill_flops
from pruning.evaluation.metrics import fidelity
from pruning.evaluation.verdict import Verdict, is_empty, verdict
from pruning.grids import Scope
from pruning.images import open_image
from pruning.importance import raw_importance, signals_for
from pruning.method import Method
from pruning.models import VLM, Answer, Encoded
from pruning.tokens import VisualTokens

TIMINGS = 5  # repetitions behind a median


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

    per: what a budget is for. Agreement and fidelity are None where the answer with all tokens has no words.
    """
    check_retention(retention)
    image = open_image(source)
    vlm.warmup()
    encoded = vlm.encode([image], method.needs - {"question"})
    tokens = vlm.tokens(encoded, question, method.needs)
    selection = select_within(method, tokens, retention, per)
    both = (None, selection)
    answers = [vlm.answer(encoded, question, kept, max_new_tokens=max_new_tokens) for kept in both]
    full, pruned = (_report(vlm, encoded, question, kept, given) for kept, given in zip(both, answers, strict=True))
    told = verdict(*answers)
    close = fidelity(*vlm.logprobs(encoded, question, answers[0].ids, both)) if told.comparable else None
    if overlay is not None:
        scores = None
        if style == "heat" and selection.scores is None:
            tokens = vlm.tokens(encoded, question, signals_for("feature_norm"))
            scores = raw_importance(tokens, "feature_norm", method.name).numpy()
        pixels = np.asarray(image)
        canvas, _ = draw.fit(pixels, draw.roomy(pixels, 1024))
        factors = np.array([canvas.shape[1] / image.width, canvas.shape[0] / image.height] * 2, np.float32)
        write_picture(overlay, draw.overlay(canvas, encoded.rects * factors, selection, style, scores))
    return {
        "model": vlm.title,
        "question": question,
        "method": method.name,
        "knobs": asdict(method),
        "retention": retention,
        "per": per,
        "tokens": tokens.n,
        "kept": selection.k,
        "indices": selection.indices.tolist(),
        "encode_s": encoded.encode_s,
        "select_s": statistics.median(_select_seconds(method, tokens, retention, per) for _ in range(TIMINGS)),
        "full": full,
        "pruned": pruned,
        "verdict": told.value,
        "agreement": told.agree,
        "fidelity": close,
        "notes": list(image.info["notes"]),
        "overlay": str(overlay) if overlay else None,
    }


def text(result: dict[str, Any]) -> str:
    """What a reader wants of `answer`'s result, in lines."""
    full, pruned = result["full"], result["pruned"]
    lines = [
        f"all {result['tokens']} tokens:  {_words(full['text'])}",
        f"{result['kept']} tokens kept: {_words(pruned['text'])}",
    ]
    if result["fidelity"] is not None:
        lines.append(f"agreement: {'yes' if result['agreement'] else 'no'}, fidelity {result['fidelity']:.3f}")
    if why := Verdict(result["verdict"]).why:
        lines.append(why)
    for name, label, unit in (("prefill_flops", "prefill GFLOPs", 1e9), ("kv_cache_bytes", "KV cache, KiB", 1024)):
        change = pruned[name] / full[name] - 1
        lines.append(f"{label}: {full[name] / unit:.2f} -> {pruned[name] / unit:.2f} ({change:+.0%})")
    gain = "" if pruned["ttft_s"] < full["ttft_s"] else " (no gain at this size)"
    lines.append(
        f"time to first token, median of {TIMINGS}: {full['ttft_s'] * 1e3:.1f} -> {pruned['ttft_s'] * 1e3:.1f} ms"
        f"{gain}; encoding {result['encode_s'] * 1e3:.1f} ms, selection {result['select_s'] * 1e3:.1f} ms"
    )
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    return "\n".join(lines)


def _words(said: str) -> str:
    return "(no words)" if is_empty(said) else said


def _select_seconds(method: Method, tokens: VisualTokens, retention: float, per: Scope) -> float:
    """One selection from scratch, the similarity matrix included."""
    fresh = replace(tokens)  # a copy without the computed similarity
    start = time.perf_counter()
    select_within(method, fresh, retention, per)
    return time.perf_counter() - start


def _report(vlm: VLM, encoded: Encoded, question: str, kept: Any, given: Answer) -> dict[str, Any]:
    """What an answer says and what it cost; the time to the first token is a median."""
    times = [vlm.answer(encoded, question, kept, max_new_tokens=1).ttft_s for _ in range(TIMINGS)]
    return {
        "text": given.text,
        "finished": given.finished,
        "ttft_s": statistics.median(times),
        "ttft_spread_s": max(times) - min(times),
        "total_s": given.total_s,
        "prefill_tokens": given.prefill_tokens,
        "prefill_flops": prefill_flops(vlm.config, given.prefill_tokens),
        "kv_cache_bytes": kv_cache_bytes(vlm.config, given.prefill_tokens, vlm.dtype),
    }
