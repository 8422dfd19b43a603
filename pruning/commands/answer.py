"""`answer`: one picture and question with all tokens and with the kept ones, and what that saves."""

import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruning import draw
from pruning.allocation import select_within
from pruning.budget import check_retention
from pruning.commands.files import write_picture
from pruning.cost import kv_cache_bytes, prefill_flops
from pruning.grids import Scope
from pruning.images import open_image
from pruning.importance import raw_importance, signals_for
from pruning.method import Method
from pruning.metrics import fidelity
from pruning.models import VLM, Answer, Encoded, Kept
from pruning.models.values import kept_indices
from pruning.plan import Plan, plan_of
from pruning.staged import StagedMethod
from pruning.tokens import Selection, VisualTokens
from pruning.verdict import Verdict, is_empty, verdict

TIMINGS = 5  # repetitions behind a median


def answer(
    vlm: VLM,
    source: str,
    question: str,
    method: Method | StagedMethod | Plan,
    retention: float,
    *,
    per: Scope = "sample",
    max_new_tokens: int = 64,
    overlay: Path | None = None,
    style: str = "dimmed",
) -> dict[str, Any]:
    """Answer with all tokens and with the kept ones, and measure both. Writes the overlay where a path is given.

    per: what a budget is for. retention: for a staged method the mean over the layers; a plan has its own. Agreement
    and fidelity are None where the answer with all tokens has no words. `kept` and `indices`: what the last layer sees.
    """
    check_retention(retention)
    if per != "sample" and not isinstance(method, Method):
        raise ValueError(f"per {per!r} is for methods before the language model: inside it, name 'sample'")
    image = open_image(source)
    vlm.warmup()
    needs = _needs(method)
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    kept = _choose(vlm, method, tokens, retention, per)
    both: tuple[Kept, Kept] = (None, kept)
    answers = [vlm.answer(encoded, question, kept, max_new_tokens=max_new_tokens) for kept in both]
    full, pruned = (_report(vlm, encoded, question, each, given) for each, given in zip(both, answers, strict=True))
    selection = kept if isinstance(kept, Selection) else _last(answers[1], tokens.n)
    told = verdict(*answers)
    close = fidelity(*vlm.logprobs(encoded, question, answers[0].ids, both)) if told.comparable else None
    if overlay is not None:
        scores = None
        if style == "heat" and selection.scores is None:
            tokens = vlm.tokens(encoded, question, signals_for("feature_norm"))
            scores = raw_importance(tokens, "feature_norm", "the overlay").numpy()
        canvas, factor = draw.fit(np.asarray(image), 1024)
        write_picture(overlay, draw.overlay(canvas, encoded.rects * factor, selection, style, scores))
    return {
        "model": vlm.title,
        "question": question,
        "method": None if isinstance(method, Plan) else method.name,
        "knobs": None if isinstance(method, Plan) else asdict(method),
        "plan": str(method if isinstance(method, Plan) else kept) if answers[1].trace else None,
        "retention": None if isinstance(method, Plan) else retention,
        "equivalent_retention": sum(pruned["alive"]) / sum(full["alive"]),
        "per": per,
        "tokens": tokens.n,
        "kept": selection.k,
        "indices": selection.indices.tolist(),
        "encode_s": encoded.encode_s,
        "select_s": statistics.median(_select_seconds(vlm, method, tokens, retention, per) for _ in range(TIMINGS)),
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
    if result["plan"]:
        lines.append(
            f"plan {result['plan']}: alive in each layer {' '.join(map(str, pruned['alive']))}, "
            f"{result['equivalent_retention']:.1%} in the mean"
        )
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


def _needs(method: Method | StagedMethod | Plan) -> frozenset[str]:
    """Signals of the tower and the question; what a rule between layers needs is captured there."""
    if isinstance(method, Plan):
        return method.entry.method.needs if method.entry else frozenset()
    return method.needs if isinstance(method, Method) else frozenset()


def _choose(
    vlm: VLM, method: Method | StagedMethod | Plan, tokens: VisualTokens, retention: float, per: Scope
) -> Selection | Plan:
    """What is kept: a selection, or a plan whose entry has been made."""
    if isinstance(method, Method):
        return select_within(method, tokens, retention, per)
    plan = method if isinstance(method, Plan) else plan_of(method, tokens.n, vlm.layers, retention)
    return plan.on(tokens)


def _last(given: Answer, n: int) -> Selection:
    """What the last layer saw."""
    if given.trace is None:
        return Selection(torch.arange(n), n)
    return Selection((given.trace.lives == len(given.trace.alive)).nonzero()[:, 0], n)


def _select_seconds(
    vlm: VLM, method: Method | StagedMethod | Plan, tokens: VisualTokens, retention: float, per: Scope
) -> float:
    """One selection before the language model from scratch, the similarity matrix included."""
    fresh = replace(tokens)  # a copy without the computed similarity
    start = time.perf_counter()
    _choose(vlm, method, fresh, retention, per)
    return time.perf_counter() - start


def _report(vlm: VLM, encoded: Encoded, question: str, kept: Kept, given: Answer) -> dict[str, Any]:
    """What an answer says and what it cost; the time to the first token is a median, choosing between layers included.

    alive: visual tokens that each layer processes.
    """
    entered = len(kept_indices(kept, encoded.tokens.n))
    alive = given.trace.alive if given.trace else (entered,) * vlm.layers
    text = given.prefill_tokens - entered
    processed = [text + count for count in alive]
    held = [text + count for count in (kept.held(entered, vlm.layers) if isinstance(kept, Plan) else alive)]
    times = [vlm.answer(encoded, question, kept, max_new_tokens=1).ttft_s for _ in range(TIMINGS)]
    return {
        "text": given.text,
        "finished": given.finished,
        "ttft_s": statistics.median(times),
        "ttft_spread_s": max(times) - min(times),
        "total_s": given.total_s,
        "prefill_tokens": given.prefill_tokens,
        "alive": list(alive),
        "prefill_flops": prefill_flops(vlm.config, processed),
        "kv_cache_bytes": kv_cache_bytes(vlm.config, held, vlm.dtype),
    }
