"""`answer`: one picture and question with all tokens and with the kept ones, and what that saves."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from pruning.allocation import select_within
from pruning.budget import check_retention
from pruning.cli.files import write_picture
from pruning.drawing import overlays as draw
from pruning.evaluation import metrics
from pruning.evaluation.answered import Answered, Piece, Side, side, speedup, used
from pruning.evaluation.cost import kv_cache_bytes, prefill_flops
from pruning.evaluation.timing import MOST, SELECTIONS, first_token_seconds, selection_seconds, several
from pruning.evaluation.verdict import Verdict, is_empty, verdict
from pruning.grids import Scope
from pruning.images import open_image
from pruning.importance import heat_scores
from pruning.method import Method
from pruning.models import VLM, Answer, Encoded, Kept
from pruning.models.checkpoint.sources import checked, known_name
from pruning.models.language.prompting import checked_question
from pruning.models.values import kept_indices
from pruning.plan import Plan, needs_before, plan_of
from pruning.staged import StagedMethod
from pruning.tokens import Selection, VisualTokens


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

    per: what a budget is for. Returns the values of an `Answered` by name, and beside them what only this command
    tells: per, indices (K,) ascending, notes on the image, the overlay's path; of each answer whether it `finished`,
    total_s and ttft_spread_s, in seconds, and how many visual tokens are `alive` in each layer. retention: for a staged
    method the mean over the layers; a plan has its own, and neither method nor knobs. `budget` and `indices` are what
    the last layer sees.
    """
    check_retention(retention)
    if per != "sample" and not isinstance(method, Method):
        raise ValueError(f"per {per!r} is for methods before the language model: inside it, name 'sample'")
    image = open_image(source)
    vlm.warmup()
    needs = needs_before(method)
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    kept = _choose(vlm, method, tokens, retention, per)
    both: tuple[Kept, Kept] = (None, kept)
    answers = [vlm.answer(encoded, question, each, max_new_tokens=max_new_tokens) for each in both]
    selection = kept if isinstance(kept, Selection) else _last(answers[1], tokens.n)
    told, close, pieces = verdict(*answers), None, []
    if told.comparable:
        logp, pruned_logp = vlm.logprobs(encoded, question, answers[0].ids, both)
        close = metrics.fidelity(logp, pruned_logp)
        sure = metrics.token_probabilities(logp, answers[0].ids).tolist()
        lost = metrics.token_losses(logp, pruned_logp, answers[0].ids).tolist()
        pieces = list(map(Piece, vlm.pieces(answers[0].ids), sure, lost))
    times = [first_token_seconds(vlm, encoded, question, each) for each in both]
    alive = [_alive(vlm, encoded, each, given) for each, given in zip(both, answers, strict=True)]
    full, pruned = (side(vlm, given, median(runs)) for given, runs in zip(answers, times, strict=True))
    if isinstance(kept, Plan):
        pruned = _staged(vlm, kept, encoded, answers[1], pruned, alive[1])
    select_s = _select_seconds(vlm, method, tokens, retention, per)
    if overlay is not None:
        write_picture(overlay, _overlay(vlm, image, question, encoded, tokens, selection, style))
    result = Answered(
        **_used(vlm, method, retention, tokens.n, selection.k),
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
    for name, given, runs, each in zip(("full", "kept"), answers, times, alive, strict=True):
        spread = max(runs) - min(runs)
        values[name] |= {"finished": given.finished, "total_s": given.total_s, "ttft_spread_s": spread, "alive": each}
    return values | {
        "plan": str(method if isinstance(method, Plan) else kept) if answers[1].trace else None,
        "equivalent_retention": sum(alive[1]) / sum(alive[0]),
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
    if result["plan"]:
        lines.append(
            f"plan {result['plan']}: alive in each layer {' '.join(map(str, kept['alive']))}, "
            f"{result['equivalent_retention']:.1%} in the mean"
        )
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


def _alive(vlm: VLM, encoded: Encoded, kept: Kept, given: Answer) -> list[int]:
    """Visual tokens that each layer processes."""
    entered = len(kept_indices(kept, encoded.tokens.n))
    return list(given.trace.alive if given.trace else (entered,) * vlm.layers)


def _staged(vlm: VLM, plan: Plan, encoded: Encoded, given: Answer, pruned: Side, alive: list[int]) -> Side:
    """The answer's costs from what each layer processes and holds."""
    entered = len(kept_indices(plan, encoded.tokens.n))
    text = given.prefill_tokens - entered
    held = [text + count for count in plan.held(entered, vlm.layers)]
    flops = prefill_flops(vlm.config, [text + count for count in alive])
    return replace(pruned, flops=flops, kv_bytes=kv_cache_bytes(vlm.config, held, vlm.dtype))


def _used(vlm: VLM, method: Method | StagedMethod | Plan, retention: float, n: int, budget: int) -> dict[str, Any]:
    name = known_name(checked(vlm.model_id))
    if isinstance(method, Method):
        return used(name, method, retention, n, budget)
    made: dict[str, Any] = {"model": name, "mmr_lambda": None, "n": n, "budget": budget}
    if isinstance(method, Plan):
        return made | {"method": None, "knobs": None, "retention": None}
    return made | {"method": method.name, "knobs": asdict(method), "retention": retention}


def _select_seconds(
    vlm: VLM, method: Method | StagedMethod | Plan, tokens: VisualTokens, retention: float, per: Scope
) -> float:
    """Before the language model, from scratch; what is chosen between its layers is in the time to the first token."""
    if isinstance(method, Method):
        return selection_seconds(method, tokens, retention, per)

    def once() -> float:
        fresh = replace(tokens)  # a copy without the computed similarity
        start = time.perf_counter()
        _choose(vlm, method, fresh, retention, per)
        return time.perf_counter() - start

    return median(several(once, SELECTIONS))


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
