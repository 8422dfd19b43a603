"""Does pruning pay here? Measured for a setting, all tokens and lower resolution, at several requests at once.

Requests are encoded and selected for one after the other, and answered in one batch, as the library does. Settings take
turns, round after round, after a round that does not count; all answers are equally long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from pruning.budget import check_retention, keep_count
from pruning.choosing import Asked, choose, needs_of, title_of
from pruning.encoding import ENCODING, EncodingMethod, OutOfReachError, encoded_by
from pruning.evaluation import paying, peak
from pruning.evaluation.cost import kv_cache_bytes
from pruning.evaluation.paying import Paying, Run, Size
from pruning.evaluation.timing import Timing
from pruning.grids import Scope
from pruning.models.checkpoint.footprint import Shape, readable
from pruning.models.checkpoint.memory import free_bytes
from pruning.models.language.generation import synchronize
from pruning.models.values import Positions, Sample
from pruning.signals import LATER
from pruning.video import Clip

if TYPE_CHECKING:
    from pruning.models import VLM, Encoded, Kept

ALL = "all tokens"
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the picture's area: sizes among which the break-even is looked for


@dataclass(frozen=True)
class Report:
    """What is known so far; `done` of `total` pieces of work took so many seconds."""

    result: Paying
    done: float
    total: float
    seconds: float

    @property
    def remaining_s(self) -> float | None:
        """Seconds to come if it goes on as it went; None before anything is done."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None


@dataclass(frozen=True)
class Job:
    """What is asked about: one request, of n visual tokens."""

    vlm: VLM
    images: Sequence[Image.Image | Clip]
    question: str
    retention: float
    per: Scope
    positions: Positions
    new_tokens: int
    n: int

    def prepared(self, asked: Asked | None) -> tuple[Encoded, Kept, float, float]:
        """The encoding and what is kept of it, with the seconds of both, from scratch."""
        start = self._now()
        if isinstance(asked, EncodingMethod):
            made = self.vlm.encode(self.images, asked=asked.encoding(self.n, keep_count(self.n, self.retention)))
            return made, None, self._now() - start, 0.0
        needs = frozenset[str]() if asked is None else needs_of(asked)
        encoded = self.vlm.encode(self.images, needs - LATER)
        between = self._now()
        if asked is None:
            return encoded, None, between - start, 0.0
        tokens = self.vlm.tokens(encoded, self.question, needs)
        kept = choose(asked, tokens, self.vlm.layers, self.retention, self.per)
        return encoded, kept, between - start, self._now() - between

    def run(self, asked: Asked | None, concurrency: int, cancel: threading.Event | None) -> Run | None:
        """One batch of so many requests; None where `cancel` was set."""
        told = peak.begin(self.vlm.device)
        encoded, kept, encode, select = self.prepared(asked)
        samples = [Sample(encoded, self.question, kept, positions=self.positions)] * concurrency
        seconds = self.vlm.rehearse(samples, self.new_tokens, cancel)
        if len(seconds) < self.new_tokens:
            return None
        most = peak.peak_bytes(self.vlm.device) if told else None
        return Run(encode * concurrency, select * concurrency, seconds[0], seconds[-1] - seconds[0], most)

    def _now(self) -> float:
        synchronize(self.vlm.device)
        return time.perf_counter()


def pays(
    vlm: VLM,
    images: Sequence[Image.Image | Clip],
    question: str,
    asked: Asked,
    retention: float,
    *,
    per: Scope = "sample",
    positions: Positions = "original",
    concurrency: Sequence[int] = (1, 4, 16),
    rounds: int = 5,
    new_tokens: int = 16,
    scales: Sequence[float] = SCALES,
    cancel: threading.Event | None = None,
) -> Iterator[Report]:
    """Measure `asked` at a retention against all tokens, and against every other encoding that the model offers.

    Yields what is known, at first nothing, after every batch; the last report is the result. Numbers of requests that
    the memory does not hold are left out, with their reason. Then one request about the picture at other sizes tells
    from how many visual tokens on it pays. positions: of kept tokens. scales: of the picture's area, for these sizes. A
    set `cancel` ends it with what is known. Times are of a whole batch of requests.

    Raises ValueError for a retention outside (0, 1], fewer than one request or round, or two tokens of answer, and what
    `choose` and `encode` raise.
    """
    check_retention(retention)
    for name, values, least in (
        ("concurrency", concurrency, 1),
        ("rounds", [rounds], 1),
        ("new tokens", [new_tokens], 2),
    ):
        bad = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < least]
        if bad or not values:
            raise ValueError(f"{name} {bad[0] if bad else 'of none'} is not allowed: name whole numbers from {least}")
    began = time.perf_counter()
    job = Job(vlm, images, question, retention, per, positions, new_tokens, vlm.encode(images).tokens.n)
    if isinstance(asked, EncodingMethod):  # what it refuses it refuses here too
        encoded_by(asked, job.n, retention, per, lambda wanted: vlm.encode(images, asked=wanted))
    rivals, left_out = _rivals(job, asked)
    settings: dict[str, Asked | None] = {ALL: None, title_of(asked): asked, **rivals}
    result = Paying(title_of(asked), retention, new_tokens, rounds, _saves(settings), left_out=tuple(left_out))
    sizes = _sizes(job, scales)
    at_once = sorted(set(concurrency))
    total = (rounds + 1) * (len(settings) * (len(at_once) + sum(at_once)) + 4 * len(sizes))
    done = 0.0
    yield Report(result, done, total, time.perf_counter() - began)
    alone: dict[str, list[Run]] = {name: [] for name in settings}  # of one request, to be asked for once
    for many in at_once:
        reason = _too_much(job, many)
        runs: dict[str, list[Run]] = alone if many == 1 else {name: [] for name in settings}
        for turn in range(0 if reason else rounds + 1):
            for name, each in settings.items():
                try:
                    run = job.run(each, many, cancel)
                except torch.OutOfMemoryError:
                    reason = f"{many} at once is left out: the device ran out of memory"
                    break
                if run is None:
                    return
                runs[name] += [run] * (turn > 0)  # the first one warms up
                done += 1 + many
                if all(runs.values()):
                    result = _with_rows(result, job, many, settings, runs)
                yield Report(result, done, total, time.perf_counter() - began)
            if reason:
                break
        if reason:
            result = replace(result, left_out=(*result.left_out, reason))
            total -= (1 + many) * len(settings) * (rounds + 1)
            yield Report(result, done, max(done, total), time.perf_counter() - began)
    for pictures in sizes:
        n = vlm.encode(pictures).tokens.n
        known = alone if n == job.n and all(len(alone[name]) == rounds for name in alone) else None
        measured = _size(replace(job, images=pictures, n=n), asked, rounds, cancel, known)
        if measured is None:
            return
        found = (*result.sizes, measured)
        result = replace(result, sizes=found, break_even=paying.break_even(found))
        result = replace(result, verdict=paying.verdict(result.setting, found, result.rulings))
        done += 4 * (rounds + 1)
        yield Report(result, done, max(done, total), time.perf_counter() - began)


def _saves(settings: dict[str, Asked | None]) -> dict[str, tuple[str, ...]]:
    return {name: paying.saves(asked) for name, asked in settings.items() if asked is not None}


def _rivals(job: Job, asked: Asked) -> tuple[dict[str, Asked | None], list[str]]:
    """Other encodings to compare with, and why some are none."""
    found, left_out = dict[str, Asked | None](), list[str]()
    moves = any(isinstance(image, Clip) for image in job.images)
    for name in ENCODING:
        rival = ENCODING[name]()
        if rival == asked or (rival.clips and not moves):
            continue
        try:
            job.prepared(rival)
        except OutOfReachError as error:
            left_out.append(f"{rival.title} is left out: {error}")
        else:
            found[rival.title] = rival
    return found, left_out


def _too_much(job: Job, many: int) -> str:
    """Why so many requests do not fit into the memory; "" where they do."""
    vlm = job.vlm
    prompt = vlm.prompt(vlm.encode(job.images), job.question).n + job.new_tokens
    need, free = Shape.of(vlm.config).working_bytes(vlm.dtype, prompt * many), free_bytes(vlm.device)
    if need <= free:
        return ""
    return (
        f"{many} at once is left out: it needs about {readable(need)} beside the weights, and {readable(free)} are free"
    )


def _with_rows(
    result: Paying, job: Job, many: int, settings: dict[str, Asked | None], runs: dict[str, list[Run]]
) -> Paying:
    """The result with the rows and rulings of so many requests at once, in the place of earlier ones."""
    rows = [row for row in result.rows if row.concurrency != many]
    equal = paying.levelled(runs, {name: _tower(asked) for name, asked in settings.items()})
    known = {row.setting: row for row in result.rows if row.concurrency == many}
    for name, asked in settings.items():
        if name in known:
            n, length, bytes_ = known[name].n, known[name].prompt_tokens, known[name].kv_bytes // many
        else:
            n, length, bytes_ = _lengths(job, asked)
        rows.append(paying.row(name, many, n, length, bytes_, job.new_tokens, equal[name]))
    mine = result.setting
    ruled = [r for r in result.rulings if r.concurrency != many]
    ruled += [paying.ruling(mine, equal[mine], name, equal[name], many) for name in settings if name != mine]
    verdict = paying.verdict(mine, result.sizes, ruled)
    return replace(result, rows=tuple(rows), rulings=tuple(ruled), verdict=verdict)


def _lengths(job: Job, asked: Asked | None) -> tuple[int, int, int]:
    """Visual tokens that enter, length of the prompt, bytes of keys and values at the answer's end, of one request."""
    vlm = job.vlm
    encoded, kept, *_ = job.prepared(asked)
    answer = vlm.answer(encoded, job.question, kept, positions=job.positions, max_new_tokens=1)
    whole = vlm.prompt(encoded, job.question).n - encoded.tokens.n
    held: int | list[int] = answer.prefill_tokens + job.new_tokens
    if answer.trace is not None:
        held = [whole + count + job.new_tokens for count in answer.trace.held]
    return answer.prefill_tokens - whole, answer.prefill_tokens, kv_cache_bytes(vlm.config, held, vlm.dtype)


def _tower(asked: Asked | None) -> Hashable:
    """Equal for settings that give the tower the same work."""
    if isinstance(asked, EncodingMethod):
        return asked
    return frozenset() if asked is None else needs_of(asked) - LATER


def _sizes(job: Job, scales: Sequence[float]) -> list[list[Image.Image | Clip]]:
    """The pictures at the scales that give numbers of visual tokens of their own, the fewest first."""
    found: dict[int, list[Image.Image | Clip]] = {}
    for scale in scales:
        side = scale**0.5
        pictures = [_scaled(image, side) for image in job.images]
        found.setdefault(job.vlm.encode(pictures).tokens.n, pictures)
    return [found[n] for n in sorted(found)]


def _scaled(image: Image.Image | Clip, factor: float) -> Image.Image | Clip:
    """An image, or every frame of a clip."""
    size = [max(1, round(length * factor)) for length in image.size]
    if isinstance(image, Clip):
        frames = tuple(frame.resize(size, Image.Resampling.BICUBIC) for frame in image.frames)
        return replace(image, frames=frames)
    return image.resize(size, Image.Resampling.BICUBIC)


def _size(
    job: Job, asked: Asked, rounds: int, cancel: threading.Event | None, known: Mapping[str, list[Run]] | None
) -> Size | None:
    """One request at another size; None where `cancel` was set. known: its runs, where they were made already."""
    settings: dict[str, Asked | None] = {ALL: None, title_of(asked): asked}
    measured: dict[str, list[Run]] = {name: list(known[name]) if known else [] for name in settings}
    for turn in range(0 if known else rounds + 1):
        for name, each in settings.items():
            run = job.run(each, 1, cancel)
            if run is None:
                return None
            measured[name] += [run] * (turn > 0)
    both = list(paying.levelled(measured, {name: _tower(each) for name, each in settings.items()}).values())
    n, kept = (_lengths(job, each)[0] for each in (None, asked))
    whole, mine = (Timing.of([run.total for run in runs]) for runs in both)
    return Size(n, kept, whole, mine, paying.wins(both[1], both[0]))
