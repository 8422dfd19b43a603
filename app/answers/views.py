"""A report as HTML: earlier turns, both answers, the verdict, the table of costs."""

from __future__ import annotations

from collections.abc import Sequence

from app.answers.reports import Report
from app.answers.verdicts import answer, badge
from app.web.html import NONE, notice, quantity, seconds, text, waiting
from pruning.evaluation.answered import Piece, Side

LONG = 40  # characters: a longer answer is set smaller
FAINT = 0.005  # a loss that rounds to 0.00 is none


def report(r: Report | None, place: int = 0, problem: str = "") -> str:
    """Both answers, the verdict and the table. Every row is there from the start, so nothing moves while numbers
    come. place: in the line where it waits now, 0 = it does not. problem: why it has ended without the rest.
    """
    r = r or Report(0, 0, "", "idle")
    return (
        f'<section class="report"><h2>Answer and cost</h2>{_earlier(r)}'
        f'<div class="answers">{_answer("All tokens", r.n, r.full, r.stage == "all", _pieces(r))}'
        f"{_answer('Kept tokens', r.budget, r.kept, r.stage == 'kept')}</div>{_scale(r)}"
        f'<p class="verdict" aria-live="polite">{_verdict(r, place, problem)}</p>'
        f"{notice(problem, 'warn')}{_table(r)}</section>"
    )


def _earlier(r: Report) -> str:
    """The turns before this one, each column with its own answers, and this turn's question."""
    if not r.earlier:
        return ""
    turns = "".join(
        f"<li><b>{text(turn.question)}</b><span>{answer(turn.full)}</span><span>{answer(turn.kept)}</span></li>"
        for turn in r.earlier
    )
    asked = f'<p class="asked">{text(r.question)}</p>'
    return f'<ol class="turns" aria-label="Earlier turns" tabindex="0">{turns}</ol>{asked}'


def _answer(name: str, count: int, side: Side, running: bool, marked: str = "") -> str:
    """marked: the same answer with its tokens coloured, once that is known."""
    cursor = '<span class="cursor" aria-hidden="true"></span>' if running else ""
    shown = marked or (answer(side.text) if side.done else text(side.text))
    number = f"{count} tokens" if count else NONE
    kind = f"answer{' running' if running else ''}{' long' if len(side.text) > LONG else ''}"
    return f'<article class="{kind}"><h3>{name} <small>{number}</small></h3><p>{shown}{cursor}</p></article>'


def _pieces(r: Report) -> str:
    """The all-token answer, each token coloured by what pruning took of its probability."""
    last = len(r.pieces) - 1
    marks = []
    for place, piece in enumerate(r.pieces):
        if not piece.text and place < last:
            continue  # part of a character: the token that completes it shows it
        kind = "token end" if not piece.text else "token"
        kind += " more" if piece.lost <= -FAINT else ""
        strength = f' style="--loss:{abs(piece.lost):.0%}"' if abs(piece.lost) >= FAINT else ""
        marks.append(f'<span class="{kind}"{strength} title="{text(_loss(piece))}">{text(piece.text)}</span>')
    return "".join(marks) if any(piece.text for piece in r.pieces) else ""


def _loss(piece: Piece) -> str:
    """ "lost 0.42 of 0.97"."""
    what = "" if piece.text else "end of the answer: "
    if piece.lost <= -FAINT:
        return f"{what}gained {-piece.lost:.2f} over {piece.sure:.2f}"
    return f"{what}lost {max(0.0, piece.lost):.2f} of {piece.sure:.2f}"


def _scale(r: Report) -> str:
    """The legend of the coloured tokens, and the one that lost most in words. It takes its line from the start."""
    why = "Probability of each token of the all-token answer: what pruning took of it, or added"
    worst = max(r.pieces, key=lambda piece: piece.lost, default=None)
    told = ""
    if worst is not None and worst.lost < FAINT:
        told = "<span>· no token lost any</span>"
    elif worst is not None:
        name = f"<b>“{text(worst.text.strip())}”</b> " if worst.text.strip() else ""
        told = f"<span>· most: {name}{text(_loss(worst))}</span>"
    return (
        f'<p class="loss-scale" title="{why}">Tokens: lost 1 <i class="key loss" aria-hidden="true"></i> '
        f"1 gained{told}</p>"
    )


def _verdict(r: Report, place: int, problem: str) -> str:
    if problem:
        return '<span class="badge idle">✕ Failed</span>'
    if place:
        return f'<span class="badge idle">{waiting(place)}</span>'
    if r.stage == "stopped":
        return '<span class="badge idle">■ Stopped</span>'
    if r.verdict is None:
        words = {
            "idle": "Ask a question",
            "all": "Answering with all tokens …",
            "kept": "Answering with kept tokens …",
        }
        return f'<span class="badge idle">{words.get(r.stage, "…")}</span>'
    sign, means = badge(r.verdict), f'<span class="why">{text(r.verdict.why)}</span>' if r.verdict.why else ""
    if not r.verdict.comparable:
        return f"{sign}{means}"
    if r.fidelity is None:
        return f"{sign} <span class='faint'>measuring …</span>{means}"
    why = "exp(−mean KL divergence) over the tokens of the all-token answer; 1 = says the same with the same confidence"
    return (
        f'{sign}<span class="fidelity" title="{why}">fidelity <b>{r.fidelity:.3f}</b>'
        f'<span class="bar" aria-hidden="true"><i style="width:{r.fidelity:.1%}"></i></span></span>{means}'
    )


def _table(r: Report) -> str:
    known = r.kept.prefill_tokens and r.full.prefill_tokens
    encoding = seconds(r.encode_s) if r.encode_s else NONE
    rows = [
        _row("Visual tokens", "What the language model receives of the image", *_counts(r)),
        _row("Prefill FLOPs", "Analytic, F = floating-point operations to read the prompt once, text included",
             *_costs(r.full.flops, r.kept.flops, ["F", "kF", "MF", "GF", "TF"], 1000, bool(known))),
        _row("KV cache", "Analytic bytes of keys and values of the prompt",
             *_costs(r.full.kv_bytes, r.kept.kv_bytes, ["B", "KiB", "MiB", "GiB"], 1024, bool(known))),
        _row("Time to first token", "Measured, median of up to 5 runs; for the kept tokens with the selection",
             *_times(r)),
        _row("… of it, selection", "Measured, median of 3 runs, similarity matrix included",
             NONE, NONE if r.select_s is None else seconds(r.select_s), ""),
        _row("Image encoding", "Measured once per image; pruning before the language model does not change it",
             encoding, encoding, ""),
    ]  # fmt: skip
    head = '<tr><td></td><th scope="col">All</th><th scope="col">Kept</th><th scope="col">Saved</th></tr>'
    columns = '<colgroup><col class="name"><col><col><col class="saved"></colgroup>'
    return f'<table class="costs">{columns}<thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _row(name: str, why: str, full: str, kept: str, saved: str) -> str:
    return f'<tr><th scope="row" title="{text(why)}">{name}</th><td>{full}</td><td>{kept}</td><td>{saved}</td></tr>'


def _counts(r: Report) -> tuple[str, str, str]:
    return (str(r.n), str(r.budget), _share(r.n, r.budget)) if r.n else (NONE, NONE, NONE)


def _costs(full: int, kept: int, units: Sequence[str], base: float, known: bool) -> tuple[str, str, str]:
    shown = [quantity(value, units, base) if value else NONE for value in (full, kept)]
    return shown[0], shown[1], _share(full, kept) if known else NONE


def _times(r: Report) -> tuple[str, str, str]:
    full = NONE if r.full.ttft_s is None else seconds(r.full.ttft_s)
    if r.kept.ttft_s is None or r.select_s is None or r.speedup is None:
        return full, NONE, NONE
    gain = f"<b>{r.speedup:.2f}×</b> faster" if r.saves_time else "no gain at this size"
    return full, seconds(r.kept.ttft_s + r.select_s), gain


def _share(full: int, kept: int) -> str:
    return f"<b>{1 - kept / full:.0%}</b>" if 0 < kept < full else "none"
