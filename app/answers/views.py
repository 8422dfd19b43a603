"""A report as HTML: earlier turns, both answers, the verdict, the table of costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from app.answers.reports import Exchange, Report
from app.answers.verdicts import answer, badge, idle
from app.web.html import FLOPS, NONE, notice, quantity, seconds, waiting
from app.web.templates import render
from pruning.evaluation.answered import Piece, Side

IN_THE_MEAN = "Alive in the mean of the language model's layers"
LONG = 40  # characters: a longer answer is set smaller
BYTES = ["B", "KiB", "MiB", "GiB"]
FAINT = 0.005  # a loss that rounds to 0.00 is none


def report(r: Report | None, place: int = 0, problem: str = "") -> Markup:
    """Both answers, the verdict and the table. Every row is there from the start, so nothing moves while numbers
    come. place: in the line where it waits now, 0 = it does not. problem: why it has ended without the rest.
    """
    r = r or Report(0, 0, "", "idle")
    return render(
        "answers.report",
        turns=[
            (turn.question, answer(turn.full), answer(turn.kept), turn.in_world, _agreement(turn)) for turn in r.earlier
        ],
        question=r.question,
        sides=[
            _answer("All tokens", r.n, r.full, r.stage == "all", _pieces(r)),
            _answer("Kept tokens", r.budget, r.kept, r.stage == "kept"),
        ],
        scale=_scale(r) if r.in_world else "",
        outside=r.outside,
        verdict=_verdict(r, place, problem),
        problem=notice(problem, "warn"),
        rows=_rows(r),
        plan=None if r.lives is None else r.lives.plan,
        saved=_saved(r),
        layers=_layers(r),
    )


def _agreement(turn: Exchange) -> str:
    """How the kept tokens' answer to an earlier turn compares; "" where that is not defined."""
    if turn.agree is None:
        return ""
    words = "same answer" if turn.agree else "another answer"
    return words if turn.fidelity is None else f"{words}, fidelity {turn.fidelity:.3f}"


def _answer(name: str, count: int, side: Side, running: bool, marked: str = "") -> Markup:
    """marked: the same answer with its tokens coloured, once that is known."""
    return render(
        "answers.side",
        name=name,
        tokens=f"{count} tokens" if count else NONE,
        words=marked or (answer(side.text) if side.done else side.text),
        running=running,
        long=len(side.text) > LONG,
    )


def _pieces(r: Report) -> Markup:
    """The all-token answer, each token coloured by what pruning took of its probability."""
    last = len(r.pieces) - 1
    if not any(piece.text for piece in r.pieces):
        return Markup()
    # Part of a character is left out: the token that completes it shows it.
    shown = [_token(piece) for place, piece in enumerate(r.pieces) if piece.text or place == last]
    return render("answers.tokens", pieces=shown)


def _token(piece: Piece) -> tuple[str, str, str, str]:
    """Class, strength of its colour, loss in words, text."""
    kind = f"token{'' if piece.text else ' end'}{' more' if piece.lost <= -FAINT else ''}"
    strength = f"{abs(piece.lost):.0%}" if abs(piece.lost) >= FAINT else ""
    return kind, strength, _loss(piece), piece.text


def _loss(piece: Piece) -> str:
    """ "lost 0.42 of 0.97"."""
    what = "" if piece.text else "end of the answer: "
    if piece.lost <= -FAINT:
        return f"{what}gained {-piece.lost:.2f} over {piece.sure:.2f}"
    return f"{what}lost {max(0.0, piece.lost):.2f} of {piece.sure:.2f}"


def _scale(r: Report) -> Markup:
    """The legend of the coloured tokens, and the one that lost most in words. It takes its line from the start."""
    worst = max(r.pieces, key=lambda piece: piece.lost, default=None)
    if worst is None:
        return render("answers.scale", lead="", worst="", loss="")
    if worst.lost < FAINT:
        return render("answers.scale", lead="no token lost any", worst="", loss="")
    return render("answers.scale", lead="most: ", worst=worst.text.strip(), loss=_loss(worst))


def _verdict(r: Report, place: int, problem: str) -> Markup:
    if problem:
        return idle("✕ Failed")
    if place:
        return idle(waiting(place))
    if r.stage == "stopped":
        return idle("■ Stopped")
    if r.verdict is None:
        words = {
            "idle": "Ask a question",
            "all": "Answering with all tokens …",
            "kept": "Answering with kept tokens …",
        }
        return idle(words.get(r.stage, "…"))
    fidelity = r.fidelity if r.verdict.comparable else None
    measuring = r.verdict.comparable and fidelity is None
    why = r.verdict.why if r.in_world else ""  # the card says more
    return render("answers.verdict", sign=badge(r.verdict), why=why, fidelity=fidelity, measuring=measuring)


def _rows(r: Report) -> list[tuple[str, ...]]:
    """(name, meaning, all, kept, gain, what else is said of the gain) of each row of the table."""
    known = r.kept.prefill_tokens and r.full.prefill_tokens
    return [
        ("Visual tokens", IN_THE_MEAN if r.lives else "What the language model receives of the image", *_counts(r)),
        ("Prefill FLOPs", "Analytic, F = floating-point operations to read the prompt once, text included",
         *_costs(r.full.flops, r.kept.flops, FLOPS, 1000, bool(known))),
        ("KV cache", "Analytic bytes of keys and values of the prompt",
         *_costs(r.full.kv_bytes, r.kept.kv_bytes, BYTES, 1024, bool(known))),
        ("Time to first token", "Measured, median of up to 5 runs; for the kept tokens with the selection",
         *_times(r)),
        ("… of it, selection", "Measured, median of 3 runs, from the features on",
         NONE, NONE if r.select_s is None else seconds(r.select_s), "", ""),
        *_encoding(r),
    ]  # fmt: skip


def _encoding(r: Report) -> list[tuple[str, ...]]:
    """What the vision tower takes: alike with all tokens and with those that are left, but for another encoding."""
    name, measured = "Image encoding", "Measured, preprocessing included"
    if r.encoding is None:
        once = seconds(r.encode_s) if r.encode_s else NONE
        return [(name, f"{measured}; pruning after it does not change it", once, once, "", "")]
    tower, frames = r.encoding.tower, sum(map(len, r.encoding.taken))
    missed = r.encoding.note and f": {r.encoding.note}"
    return [
        (name, f"{measured}, median of up to 5 runs", seconds(tower.full_s), seconds(tower.kept_s),
         *_share(tower.full_s, tower.kept_s)),
        ("… of it, patches", "What the vision tower works on, padding among it",
         f"{tower.full_patches:,}", f"{tower.kept_patches:,}", *_share(tower.full_patches, tower.kept_patches)),
        *([("… of it, frames", "Frames of clips, evenly spaced", NONE, f"{frames:,}", "", "")] if frames else []),
        ("Tokens asked for", f"The most that the other encoding may have{missed}",
         NONE, f"{r.encoding.asked:,}", "", f"nearest: {r.budget:,}" if missed else "met"),
    ]  # fmt: skip


def _saved(r: Report) -> str:
    """Where a plan saves visual tokens: before the language model, and inside it. "" where there is none."""
    if r.lives is None:
        return ""
    inside, end = sum(r.lives.alive) / len(r.lives.alive), r.lives.alive[-1]
    before = f"{r.n:,} → {r.entered:,}" if r.entered < r.n else "nothing"
    return (
        f"Saved before the language model: {before}; inside it: {r.entered:,} → {inside:,.0f} in the mean of its "
        f"layers, {end:,} at the end"
    )


def _layers(r: Report) -> list[tuple[str, ...]]:
    """(layers, tokens alive, FLOPs, bytes of keys and values) of a plan; those that cost the same share a row."""
    rows: list[tuple[str, ...]] = []
    for _, group in groupby(r.layers, lambda each: (each.alive, each.held)):
        same = list(group)
        first, last = same[0], same[-1]
        name = f"{first.layer}" if first is last else f"{first.layer} to {last.layer}, each"
        rows.append(
            (name, f"{first.alive:,}", quantity(first.flops, FLOPS, 1000), quantity(first.kv_bytes, BYTES, 1024))
        )
    return rows


def _counts(r: Report) -> tuple[str, ...]:
    return (str(r.n), str(r.budget), *_share(r.n, r.budget)) if r.n else (NONE, NONE, "", NONE)


def _costs(full: int, kept: int, units: Sequence[str], base: float, known: bool) -> tuple[str, ...]:
    shown = [quantity(value, units, base) if value else NONE for value in (full, kept)]
    return (*shown, *_share(full, kept)) if known else (*shown, "", NONE)


def _times(r: Report) -> tuple[str, ...]:
    full = NONE if r.full.ttft_s is None else seconds(r.full.ttft_s)
    if r.kept.ttft_s is None or r.select_s is None or r.speedup is None:
        return full, NONE, "", NONE
    gain = (f"{r.speedup:.2f}×", " faster") if r.saves_time else ("", "no gain at this size")
    return full, seconds(r.kept.ttft_s + r.select_s), *gain


def _share(full: float, kept: float) -> tuple[str, str]:
    return (f"{1 - kept / full:.0%}", "") if 0 < kept < full else ("", "none")
