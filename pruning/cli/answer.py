"""`answer`: one picture or clip and question with all tokens and with the kept ones, and what that saves."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pruning.budget import check_retention, keep_count
from pruning.choosing import Asked, choose, needs_of, written
from pruning.cli.media import Medium, opened, write_overlay
from pruning.drawing import overlays as draw
from pruning.encoding import Encoding, EncodingMethod
from pruning.evaluation import metrics
from pruning.evaluation.answered import Answered, Piece, side, speedup, used
from pruning.evaluation.dominance import dominance
from pruning.evaluation.lives import lives, survivors
from pruning.evaluation.reencoded import reencoded
from pruning.evaluation.timing import MOST, first_token_seconds, selection_seconds, signals_anew
from pruning.evaluation.verdict import Verdict, is_empty, verdict
from pruning.grids import Scope
from pruning.importance import heat_scores
from pruning.models import VLM, Answer, Encoded, Kept, in_world
from pruning.models.checkpoint import transfer
from pruning.models.checkpoint.footprint import readable
from pruning.models.checkpoint.memory import free_bytes
from pruning.models.checkpoint.presets import best_that_fits
from pruning.models.checkpoint.sources import checked, known_name
from pruning.models.language.trace import Trace
from pruning.models.values import Positions, kept_indices, standing
from pruning.plan import Plan
from pruning.text import checked_question
from pruning.tokens import Selection, VisualTokens
from pruning.video import notes_on


def answer(
    vlm: VLM,
    source: str,
    question: str,
    method: Asked,
    retention: float,
    *,
    per: Scope = "sample",
    positions: Positions = "original",
    max_new_tokens: int = 64,
    overlay: Path | None = None,
    style: str = "dimmed",
    attention: bool = False,
    fps: float | None = None,
    max_frames: int | None = None,
) -> dict[str, Any]:
    """Answer with all tokens and with the kept ones, and measure both. Writes the overlay where a path is given.

    source: a picture or a clip, of which `opened` takes frames by fps and max_frames.
    method: of any registry, a published schedule or a plan. per: what a budget is for. positions: of kept tokens.
    Returns the values of an `Answered` by name, and beside them what only this command tells: per, indices
    (K,) ascending, notes on the image or clip and its overlay, whose path; of each answer whether it `finished`,
    total_s and ttft_spread_s, in seconds, and how many visual tokens are `alive` in each layer; with `attention`, of
    each answer the `dominance` of text in each layer. retention: of a method; a plan has its own, and neither method
    nor knobs. `budget` and `indices` are what lives longest. Where the method asks for another encoding, `encoding`
    tells of it (a `Reencoded`), `budget` is the number of its tokens, and there are no indices: none of the N tokens
    is kept.
    """
    check_retention(retention)
    image = opened(source, vlm, fps, max_frames)
    vlm.warmup()
    needs = needs_of(method)
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    again = partial(_encoded, vlm, image)
    kept = choose(method, tokens, vlm.layers, retention, per, again)
    seen, _ = standing(encoded, kept)
    both: tuple[Kept, Kept] = (None, kept)
    answers = [vlm.answer(encoded, question, each, positions=positions, max_new_tokens=max_new_tokens) for each in both]
    trace = answers[1].trace
    everything = Selection(torch.arange(seen.tokens.n), seen.tokens.n)
    selection = survivors(trace) if trace else kept if isinstance(kept, Selection) else everything
    known = in_world(vlm, encoded, question)
    told, close, pieces = verdict(answers[0], answers[1], known.inside), None, []
    if told.comparable:
        logp, pruned_logp = vlm.logprobs(encoded, question, answers[0].ids, both, positions=positions)
        close = metrics.fidelity(logp, pruned_logp)
        sure = metrics.token_probabilities(logp, answers[0].ids).tolist()
        lost = metrics.token_losses(logp, pruned_logp, answers[0].ids).tolist()
        pieces = list(map(Piece, vlm.pieces(answers[0].ids), sure, lost))
    times = [first_token_seconds(vlm, encoded, question, each) for each in both]
    alive = [_alive(vlm, encoded, each, given) for each, given in zip(both, answers, strict=True)]
    full, pruned = (side(vlm, given, median(runs)) for given, runs in zip(answers, times, strict=True))
    fresh = partial(signals_anew, vlm, encoded, question, needs)
    select_s = selection_seconds(method, fresh, retention, per, vlm.layers)
    asked = method.encoding(tokens.n, keep_count(tokens.n, retention)) if isinstance(method, EncodingMethod) else None
    anew = reencoded(asked, encoded, seen, again) if asked else None
    if overlay is not None:
        drawn = replace(seen, tokens=seen.tokens if asked else tokens)
        _draw(overlay, vlm, image, question, drawn, selection, style, asked, trace)
    lived = lives(written(method, kept), trace) if trace and isinstance(kept, Plan) else None
    shading = (
        [draw.depth_words(trace.lives.tolist(), len(trace.alive))] if overlay and trace and style == "dimmed" else []
    )
    name = known_name(checked(vlm.model_id))
    result = Answered(
        **used(name, method, retention, tokens.n, selection.k, vlm.layers, lived),
        question=checked_question(question),
        positions=positions,
        full=full,
        kept=pruned,
        verdict=told,
        in_world=known.inside,
        outside=known.reason,
        agree=told.agree,
        fidelity=close,
        pieces=pieces,
        select_s=select_s,
        encode_s=encoded.encode_s,
        speedup=speedup(full, pruned, select_s),
        encoding=anew,
    )
    values = asdict(result)
    for which, given, runs, each in zip(("full", "kept"), answers, times, alive, strict=True):
        spread = max(runs) - min(runs)
        values[which] |= {"finished": given.finished, "total_s": given.total_s, "ttft_spread_s": spread, "alive": each}
    if attention:
        for which, given, what in zip(("full", "kept"), answers, both, strict=True):
            told_of = (
                [] if is_empty(given.text) else vlm.attended(encoded, question, given.ids, what, positions=positions)
            )
            values[which]["dominance"] = [asdict(dominance(layer)) for layer in told_of]
    return values | {
        "per": per,
        "indices": None if anew else selection.indices.tolist(),
        "notes": [*notes_on(image), *shading],
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
            f"plan {result['plan']}: alive in each layer {' '.join(map(str, result['alive']))}, "
            f"{result['equivalent_retention']:.1%} in the mean"
        )
    if result["encoding"]:
        lines.append(_anew(result["encoding"]))
    if result["fidelity"] is not None:
        lines.append(f"agreement: {'yes' if result['agree'] else 'no'}, fidelity {result['fidelity']:.3f}")
    if why := Verdict(result["verdict"]).why:
        lines.append(f"{why} ({result['outside']})" if result["outside"] else why)
    for name, label, unit in (("flops", "prefill GFLOPs", 1e9), ("kv_bytes", "KV cache, KiB", 1024)):
        change = kept[name] / full[name] - 1
        lines.append(f"{label}: {full[name] / unit:.2f} -> {kept[name] / unit:.2f} ({change:+.0%})")
    gain = "" if kept["ttft_s"] < full["ttft_s"] else " (no gain at this size)"
    lines.append(
        f"time to first token, median of up to {MOST}: {full['ttft_s'] * 1e3:.1f} -> {kept['ttft_s'] * 1e3:.1f} ms"
        f"{gain}; encoding {result['encode_s'] * 1e3:.1f} ms, selection {result['select_s'] * 1e3:.1f} ms"
    )
    for name, side_ in (("all tokens", full), ("kept tokens", kept)):
        if layers := side_.get("dominance"):
            told = " ".join("-" if layer["mdi"] is None else f"{layer['mdi']:.2f}" for layer in layers)
            lines.append(f"dominance of the text in each layer (MDI), {name}: {told}")
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    return "\n".join(lines)


def elsewhere(vlm: VLM) -> str:
    """Which model to name for what lies outside this one's world: the best for photographs that fits on its device and
    on the disk, and answers soon; "" where there is none.
    """
    kind, free, room = vlm.device.type, free_bytes(vlm.device), transfer.room()
    found = best_that_fits(lambda each: each.need(device=kind).total <= free and each.download <= room, kind)
    if found is None:
        return ""
    return (
        f"{found.title} reads photographs: --model {found.model_id} ({readable(found.download)} to download, "
        f"{found.licence})"
    )


def _anew(made: dict[str, Any]) -> str:
    """What another encoding came to."""
    grids = ", ".join(f"{grid['rows']} × {grid['columns']}" for grid in made["grids"])
    tower = made["tower"]
    return (
        f"encoded anew: {made['note'] or made['reached']} tokens, {_frames(made)}grid {grids}; tower "
        f"{tower['full_patches']:,} -> {tower['kept_patches']:,} patches, {tower['full_s'] * 1e3:.1f} -> "
        f"{tower['kept_s'] * 1e3:.1f} ms"
    )


def _frames(made: dict[str, Any]) -> str:
    """Which frames of clips were taken, counted from 1 as the page does."""
    told = [f"frame{'s' * (len(each) > 1)} {', '.join(str(at + 1) for at in each)}" for each in made["taken"] if each]
    return f"{' and '.join(told)}, " if told else ""


def _encoded(vlm: VLM, image: Medium, asked: Encoding | None = None) -> Encoded:
    return vlm.encode([image], asked=asked)


def _alive(vlm: VLM, encoded: Encoded, kept: Kept, given: Answer) -> list[int]:
    """Visual tokens that each layer processes."""
    seen, entering = standing(encoded, kept)
    entered = len(kept_indices(entering, seen.tokens.n))
    return list(given.trace.alive if given.trace else (entered,) * vlm.layers)


def _words(said: str) -> str:
    return "(no words)" if is_empty(said) else said


def _draw(
    path: Path,
    vlm: VLM,
    image: Medium,
    question: str,
    encoded: Encoded,
    selection: Selection,
    style: str,
    asked: Encoding | None,
    trace: Trace | None,
) -> None:
    """Write the picture or clip with the selection painted on it; of another encoding, all of whose tokens are kept,
    its cells.
    """

    def more(needs: frozenset[str]) -> VisualTokens:
        """The tokens with signals that the method did not ask for: the picture is encoded for them once more."""
        known = needs <= encoded.tokens.signals.keys()
        fresh = encoded if known else vlm.encode([image], needs - {"question"}, asked)
        return vlm.tokens(fresh, question, needs)

    style = "grid" if asked is not None and style == "dimmed" else style

    scores = heat_scores(selection, vlm.signals, more).float().numpy() if style == "heat" else None
    write_overlay(path, image, encoded, selection, style, scores, trace.depths.numpy() if trace else None)
