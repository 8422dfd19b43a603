"""Whether pruning pays: the words and rules on times that are given, the measurement on a tiny model."""

import gc
import threading
from dataclasses import asdict

import pytest
import torch

from pruning.encoding import ENCODING, make_encoding
from pruning.evaluation import pays as module
from pruning.evaluation import peak
from pruning.evaluation.cost import kv_cache_bytes
from pruning.evaluation.paying import SAVES, Run, Size, break_even, levelled, row, ruling, saves, verdict, wins
from pruning.evaluation.pays import ALL, pays
from pruning.evaluation.timing import Timing
from pruning.method import make
from pruning.models import Sample
from pruning.plan import parse_plan
from pruning.staged import make_staged

QUESTION = "how many"
ONCE = Timing(1.0, 1.0, 1.0)


def runs(encode: float, select: float, prefill: float, decode: float = 0.1, n: int = 3) -> list[Run]:
    return [Run(encode, select, prefill, decode, 100 + i) for i in range(n)]


# Rules and words


def test_faster_in_every_round_pays_and_in_some_does_not_tell() -> None:
    slow, fast = runs(1, 0, 1), runs(1, 0.1, 0.2)
    assert wins(fast, slow) is True
    assert wins(slow, fast) is False
    assert wins([*fast, *slow], [*slow, *fast]) is None
    assert wins(runs(1, 0, 0.99), runs(1, 0, 1)) is None, "less than can be noticed"
    assert wins(fast[:2], slow[:2]) is None, "too few rounds to tell"


def test_a_ruling_says_what_changed_or_what_is_not_saved() -> None:
    pays_ = ruling("IDPruner", runs(1, 0.1, 0.2), ALL, runs(1, 0, 1), 4)
    assert pays_.pays is True
    assert (
        pays_.sentence
        == "IDPruner pays at 4 at once against all tokens, 2100.0 → 1400.0 ms: prefill takes 1000.0 → 200.0 ms"
    )
    costly = ruling("IDPruner", runs(1, 0.5, 0.2), ALL, runs(1, 0, 0.3), 1)
    assert costly.pays is False
    assert costly.sentence.endswith("the selection takes 500.0 ms, and saves 100.0 ms")
    tower = ruling("IDPruner", runs(8, 0, 0.99), ALL, runs(8, 0, 1), 16)
    assert tower.pays is None
    assert "makes no difference that this machine can show at 16 at once" in tower.sentence
    assert tower.sentence.endswith("the tower is 88% of the time and is not saved")
    part = ruling("Lower resolution", runs(8, 0, 1.2, 0.1), ALL, runs(9, 0, 0.1), 1)
    assert part.pays is not True
    assert part.sentence.endswith("the tower is 86% of the time and is only in part saved")
    rival = ruling("IDPruner", runs(8, 0.1, 0.2), "Lower resolution", runs(2, 0, 0.2), 1)
    assert rival.sentence.endswith("the tower takes 6000.0 ms longer")


def test_rounds_that_cannot_tell_say_so() -> None:
    fast, slow = runs(8, 0, 0.1, n=5), runs(8, 0, 4, n=5)
    few = ruling("IDPruner", fast[:1], ALL, slow[:1], 1)
    assert few.sentence.endswith("12100.0 → 8200.0 ms: 1 round cannot tell, at least 3 are needed")
    split = ruling("IDPruner", [*fast[:4], slow[0]], ALL, [*slow[:4], fast[0]], 1)
    assert split.pays is None
    assert split.sentence.endswith("it was faster in 4 of 5 rounds, and slower in the others")
    near = ruling("IDPruner", runs(8, 0, 0.1), ALL, [*runs(8, 0, 0.2, n=2), *runs(8, 0, 0, n=1)], 1)
    assert near.sentence.endswith("the tower is 98% of the time and is not saved")


@pytest.mark.parametrize(
    ("found", "start"),
    [
        ([(36, None), (64, True), (121, True)], 64),
        ([(36, True), (64, None), (121, True)], 121),
        ([(36, True), (64, True), (121, False)], None),
        ([(36, True)], 36),
        ([], None),
    ],
)
def test_the_break_even_is_where_all_larger_sizes_pay(found, start) -> None:
    sizes = [Size(n, n // 4, ONCE, ONCE, pays_) for n, pays_ in reversed(found)]
    assert break_even(sizes) == start


def test_the_verdict_is_the_break_even_or_the_first_ruling() -> None:
    sizes = [Size(n, n // 4, ONCE, ONCE, n > 40) for n in (36, 64, 121)]
    rulings = [ruling("IDPruner", runs(8, 0, 1), ALL, runs(8, 0, 1), 1)]
    assert verdict("IDPruner", sizes, rulings) == "IDPruner pays from 64 visual tokens on"
    assert verdict("IDPruner", sizes[1:], rulings).endswith("from 64 visual tokens on, the fewest that were measured")
    assert verdict("IDPruner", sizes[:1], rulings) == rulings[0].sentence
    assert verdict("IDPruner", [], []) == ""


def test_the_same_work_of_the_tower_has_one_time_in_a_round() -> None:
    given = {"all": runs(1, 0, 1), "pruned": runs(3, 0.1, 0.2, n=2), "small": runs(0.5, 0, 0.2)}
    found = levelled(given, {"all": "tower", "pruned": "tower", "small": "less"})
    assert [[run.encode for run in found[name]] for name in given] == [[2, 2], [2, 2], [0.5, 0.5]]
    assert [run.prefill for run in found["pruned"]] == [0.2, 0.2]


def test_a_row_tells_medians_ranges_and_rates() -> None:
    found = row(
        "IDPruner", 4, 16, 30, 1000, 8, [Run(1, 0.5, 1, 1.5, 7), Run(3, 0.5, 1, 1.5, 9), Run(1, 0.5, 1, 1.5, None)]
    )
    assert (found.encode.median_ms, found.encode.low_ms, found.encode.high_ms) == (1000, 1000, 3000)
    assert found.ttft.median_ms == 2500
    assert (found.tokens_per_s, found.requests_per_s) == (8, 1)
    assert (found.kv_bytes, found.peak_bytes) == (4000, 9)


def test_every_stage_says_what_it_saves() -> None:
    asked = [make("idpruner"), make_staged("fastv"), parse_plan("1:fastv:0.5"), *map(make_encoding, ENCODING)]
    assert ["tower" in saves(each) for each in asked] == [False, False, False, *[True] * len(ENCODING)]
    assert all(set(stages) <= {"tower", "prefill", "decode", "memory"} for stages in SAVES.values())


# The measurement


@pytest.fixture
def reports(tiny_vlm, noise):
    def measure(asked, retention=0.25, size=(224, 168), **more):
        options = {"concurrency": (1, 3), "rounds": 2, "new_tokens": 3} | more
        return list(pays(tiny_vlm, [noise(*size)], QUESTION, asked, retention, **options))

    return measure


PLANS = [make("divprune"), make("idpruner"), make_staged("fastv"), parse_plan("pre:feature_norm:0.5,1:fastv:0.5")]


@pytest.mark.parametrize("asked", PLANS, ids=str)
def test_all_settings_are_measured_in_turn(tiny_vlm, noise, reports, asked) -> None:
    found = reports(asked, 0.75)
    last = found[-1].result
    assert found[0].result.rows == ()
    assert [report.done for report in found] == sorted({report.done for report in found})
    assert found[-1].done == found[-1].total
    assert found[-1].remaining_s == 0
    full = tiny_vlm.encode([noise(224, 168)]).tokens.n
    assert {row.setting for row in last.rows} == {ALL, last.setting, "Lower resolution"}
    assert sorted(row.concurrency for row in last.rows) == [1, 1, 1, 3, 3, 3]
    for each in last.rows:
        assert each.n == full if each.setting == ALL else each.n <= full
        assert 0 < each.prefill.low_ms <= each.prefill.median_ms <= each.prefill.high_ms
        assert each.requests_per_s == pytest.approx(each.concurrency / each.total.median_ms * 1e3)
        assert each.tokens_per_s == pytest.approx(3 * each.requests_per_s)
    whole = {row.concurrency: row for row in last.rows if row.setting == ALL}
    assert whole[3].kv_bytes == 3 * whole[1].kv_bytes
    assert whole[1].kv_bytes == kv_cache_bytes(tiny_vlm.config, whole[1].prompt_tokens + 3, tiny_vlm.dtype)
    mine = next(row for row in last.rows if row.setting == last.setting)
    assert mine.kv_bytes < whole[1].kv_bytes
    assert {(r.against, r.concurrency) for r in last.rulings} == {
        (name, many) for name in (ALL, "Lower resolution") for many in (1, 3)
    }
    assert len({size.n for size in last.sizes}) == len(last.sizes) > 2
    here = next(size for size in last.sizes if size.n == full)
    assert here.all_tokens == whole[1].total, "what was measured is not measured again"
    assert last.verdict
    assert asdict(last)


def test_a_rival_is_not_compared_with_itself(reports) -> None:
    last = reports(make_encoding("lower_resolution"))[-1].result
    assert {row.setting for row in last.rows} == {ALL, "Lower resolution"}
    assert [row.select.high_ms for row in last.rows] == [0] * len(last.rows)


def test_a_family_of_one_size_has_no_rival_and_says_why(tiny, noise) -> None:
    vlm = tiny("llava")
    *_, last = pays(vlm, [noise(90, 60)], QUESTION, make("divprune"), 0.5, concurrency=(1,), rounds=1, new_tokens=2)
    assert {row.setting for row in last.result.rows} == {ALL, "DivPrune"}
    assert "has no option that makes fewer visual tokens" in last.result.left_out[0]
    assert len(last.result.sizes) == 1


def test_what_the_memory_does_not_hold_is_left_out(reports, monkeypatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: 3_000_000)
    last = reports(make("divprune"), concurrency=(1, 5000))[-1]
    assert {row.concurrency for row in last.result.rows} == {1}
    assert "5000 at once is left out: it needs about" in last.result.left_out[0]
    assert last.done == last.total


def test_running_out_of_memory_leaves_a_number_out(tiny_vlm, reports, monkeypatch) -> None:
    plain = type(tiny_vlm).rehearse

    def greedy(vlm, samples, *rest):
        if len(samples) == 3:
            raise torch.OutOfMemoryError
        return plain(vlm, samples, *rest)

    monkeypatch.setattr(type(tiny_vlm), "rehearse", greedy)
    last = reports(make("divprune"))[-1]
    assert {row.concurrency for row in last.result.rows} == {1}
    assert last.result.left_out == ("3 at once is left out: the device ran out of memory",)


def test_cancel_keeps_what_is_known(tiny_vlm, noise) -> None:
    cancel, found = threading.Event(), []
    for report in pays(
        tiny_vlm, [noise(112, 112)], QUESTION, make("divprune"), 0.5, rounds=2, new_tokens=2, cancel=cancel
    ):
        found.append(report)
        if report.result.rows:
            cancel.set()
    assert found[-1].result.rows
    assert found[-1].result.sizes == ()
    assert found[-1].done < found[-1].total


def test_answers_are_equally_long_whatever_they_say(tiny_vlm, noise, monkeypatch) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    first = tiny_vlm.answer(encoded, QUESTION, max_new_tokens=1).ids[0]
    monkeypatch.setattr(tiny_vlm.model.generation_config, "eos_token_id", first)
    seconds = tiny_vlm.rehearse([Sample(encoded, QUESTION)] * 2, 5)
    assert len(seconds) == 5
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"concurrency": (0,)}, "concurrency 0 is not allowed"),
        ({"concurrency": ()}, "concurrency of none"),
        ({"rounds": 0}, "rounds 0"),
        ({"new_tokens": 1}, "new tokens 1 is not allowed: name whole numbers from 2"),
        ({"retention": 0.0}, "retention ratio"),
        (
            {"asked": make_encoding("lower_resolution"), "per": "image"},
            "one budget for all pictures, not one per image",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(reports, more, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        reports(**({"asked": make("divprune")} | more))


def test_the_peak_is_of_what_ran_since() -> None:
    device = torch.device("cpu")
    if not peak.begin(device):
        pytest.skip("this system does not begin the high-water mark anew")
    gc.collect()  # what is let go meanwhile would count against what is held
    before = peak.peak_bytes(device)
    held = torch.ones(60_000_000)
    assert peak.peak_bytes(device) - before > 100_000_000
    del held
    peak.begin(device)
    assert peak.peak_bytes(device) - before < 60_000_000
