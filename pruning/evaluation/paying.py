"""Whether pruning pays: what is measured, as plain values, and the words for it."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pruning.choosing import Asked
from pruning.evaluation.timing import Timing
from pruning.method import Stage
from pruning.plan import Plan
from pruning.published import Published

PHASES = ("encode", "select", "prefill", "decode")
SAVES: Mapping[Stage, tuple[str, ...]] = {
    "pre_tower": ("tower", "prefill", "decode", "memory"),
    "pre_llm": ("prefill", "decode", "memory"),
    "in_llm": ("prefill", "decode", "memory"),
}
"""Which stages of an answer become cheaper, by where tokens leave."""
NOTICEABLE = 0.02  # share of the time, below which a difference is none
LEAST = 3  # rounds that must agree
WORDS = {"encode": "the tower", "select": "the selection", "prefill": "prefill", "decode": "decoding"}


@dataclass(frozen=True)
class Run:
    """Seconds of each phase of one batch, and the most memory held meanwhile."""

    encode: float
    select: float
    prefill: float
    decode: float
    peak_bytes: int | None = None

    @property
    def total(self) -> float:
        return sum(getattr(self, phase) for phase in PHASES)

    @property
    def ttft(self) -> float:
        return self.total - self.decode


@dataclass(frozen=True)
class Row:
    """One setting at so many requests at once: medians and ranges over the rounds.

    n: visual tokens that enter the language model, of each request. ttft: encoding, selection and prefill.
    """

    setting: str
    concurrency: int
    n: int
    prompt_tokens: int
    encode: Timing
    select: Timing
    prefill: Timing
    decode: Timing
    ttft: Timing
    total: Timing
    tokens_per_s: float
    requests_per_s: float
    kv_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Ruling:
    """Whether a setting pays against another one; None: no difference that this machine can show."""

    setting: str
    against: str
    concurrency: int
    pays: bool | None
    sentence: str


@dataclass(frozen=True)
class Size:
    """One request about a picture of n visual tokens: what the setting saves of the time with all of them."""

    n: int
    kept: int
    all_tokens: Timing
    setting: Timing
    pays: bool | None


@dataclass(frozen=True)
class Paying:
    """All that is measured so far. break_even: visual tokens from which on the setting pays, of the sizes measured."""

    setting: str
    retention: float
    new_tokens: int
    rounds: int
    saves: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...] = ()
    rulings: tuple[Ruling, ...] = ()
    sizes: tuple[Size, ...] = ()
    break_even: int | None = None
    verdict: str = ""
    left_out: tuple[str, ...] = field(default=())


def row(
    setting: str, concurrency: int, n: int, prompt_tokens: int, kv_bytes: int, new: int, runs: Sequence[Run]
) -> Row:
    """kv_bytes: of one request; new: tokens of its answer."""
    times = {name: Timing.of([getattr(run, name) for run in runs]) for name in (*PHASES, "ttft", "total")}
    seconds = statistics.median(run.total for run in runs)
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    return Row(
        setting=setting,
        concurrency=concurrency,
        n=n,
        prompt_tokens=prompt_tokens,
        **times,
        tokens_per_s=concurrency * new / seconds,
        requests_per_s=concurrency / seconds,
        kv_bytes=kv_bytes * concurrency,
        peak_bytes=max(peaks, default=None),
    )


def wins(setting: Sequence[Run], other: Sequence[Run]) -> bool | None:
    """Whether it was faster in every round, or slower in every one; None where it cannot be told: few rounds, or
    rounds that disagree or hardly differ.

    Rounds were run in turn, so what slows the machine down for a while slows both.

    >>> wins([Run(1, 0, 1, 0)] * 3, [Run(1, 0, 2, 0)] * 3), wins([Run(1, 0, 1, 0)] * 3, [Run(1, 0, 1.01, 0)] * 3)
    (True, None)
    """
    gains, typical = _gains(setting, other)
    if len(gains) < LEAST or abs(typical) < NOTICEABLE or len({gain > 0 for gain in gains}) > 1:
        return None
    return gains[0] > 0


def _gains(setting: Sequence[Run], other: Sequence[Run]) -> tuple[list[float], float]:
    """Seconds by which it was faster in each round, and their median as a share of the other's time."""
    gains = [theirs.total - mine.total for mine, theirs in zip(setting, other, strict=True)]
    return gains, statistics.median(gains) / statistics.median(run.total for run in other)


def ruling(setting: str, mine: Sequence[Run], against: str, other: Sequence[Run], concurrency: int) -> Ruling:
    """Who is faster at so many requests at once, and why."""
    pays, at = wins(mine, other), f"at {concurrency} at once"
    now, before = _medians(mine), _medians(other)
    times = f"{sum(before.values()) * 1e3:.1f} → {sum(now.values()) * 1e3:.1f} ms"
    if pays:
        most = max(PHASES, key=lambda phase: before[phase] - now[phase])
        sentence = (
            f"{setting} pays {at} against {against}, {times}: {WORDS[most]} takes "
            f"{before[most] * 1e3:.1f} → {now[most] * 1e3:.1f} ms"
        )
    else:
        how = "does not pay" if pays is False else "makes no difference that this machine can show"
        why = (pays is None and _doubt(mine, other)) or _why(now, before)
        sentence = f"{setting} {how} {at} against {against}, {times}: {why}"
    return Ruling(setting, against, concurrency, pays, sentence)


def levelled(runs: Mapping[str, Sequence[Run]], towers: Mapping[str, Hashable]) -> dict[str, list[Run]]:
    """The rounds that all settings have run, where settings with the same work for the tower share its mean time of a
    round: what is done alike differs by chance alone, and many requests at once multiply it.
    """
    rounds = min(map(len, runs.values()))
    found: dict[str, list[Run]] = {}
    for name in runs:
        alike = [other for other in runs if towers[other] == towers[name]]
        means = [statistics.mean(runs[other][i].encode for other in alike) for i in range(rounds)]
        found[name] = [replace(run, encode=mean) for run, mean in zip(runs[name], means, strict=False)]
    return found


def _medians(runs: Sequence[Run]) -> dict[str, float]:
    return {phase: statistics.median(getattr(run, phase) for run in runs) for phase in PHASES}


def _doubt(mine: Sequence[Run], other: Sequence[Run]) -> str:
    """Why rounds that may well differ tell nothing; "" where they hardly differ."""
    gains, typical = _gains(mine, other)
    if len(gains) < LEAST:
        return f"{len(gains)} round{'s' if len(gains) > 1 else ''} cannot tell, at least {LEAST} are needed"
    if abs(typical) < NOTICEABLE:
        return ""
    return f"it was faster in {sum(gain > 0 for gain in gains)} of {len(gains)} rounds, and slower in the others"


def _why(now: Mapping[str, float], before: Mapping[str, float]) -> str:
    """What keeps a setting from paying."""
    saved = sum(before[phase] - now[phase] for phase in ("prefill", "decode"))
    total = sum(now.values())
    if now["encode"] > before["encode"] * (1 + NOTICEABLE) and now["encode"] - before["encode"] > now["select"]:
        return f"the tower takes {(now['encode'] - before['encode']) * 1e3:.1f} ms longer"
    if saved > 0 and now["select"] >= saved:
        return f"the selection takes {now['select'] * 1e3:.1f} ms, and saves {saved * 1e3:.1f} ms"
    most = max(PHASES, key=lambda phase: now[phase])
    kept = now[most] >= before[most] * (1 - NOTICEABLE)
    return f"{WORDS[most]} is {now[most] / total:.0%} of the time and is {'not' if kept else 'only in part'} saved"


def break_even(sizes: Sequence[Size]) -> int | None:
    """Visual tokens from which on all measured sizes pay; None where the largest does not."""
    found = None
    for size in sorted(sizes, key=lambda size: -size.n):
        if not size.pays:
            break
        found = size.n
    return found


def verdict(setting: str, sizes: Sequence[Size], rulings: Sequence[Ruling]) -> str:
    """In a sentence, whether and from where on it pays; with the first ruling's reason where it does not."""
    start = break_even(sizes)
    if start is not None:
        smallest = start == min(size.n for size in sizes)
        return f"{setting} pays from {start} visual tokens on" + (", the fewest that were measured" if smallest else "")
    return rulings[0].sentence if rulings else ""


def saves(asked: Asked) -> tuple[str, ...]:
    """Which stages of an answer become cheaper."""
    return SAVES["in_llm" if isinstance(asked, Plan | Published) else asked.stage]
