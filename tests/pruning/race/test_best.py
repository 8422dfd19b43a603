"""The best setting by successive halving: it is found, paired and at equal cost, and measured on what chose nothing."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from pruning.cli import best as cli_best
from pruning.cli.best import candidates
from pruning.method import make
from pruning.race.best import best, sizes, split
from pruning.race.folder import Cell, Result
from pruning.race.records import Fault, Record
from pruning.race.settings import ALL
from pruning.staged import make_staged
from pruning.tokens import Selection


@dataclass(frozen=True)
class Drawn:
    name: str

    def digest(self) -> str:
        return self.name


def records(pictures: int, each: int = 2) -> list[Record]:
    return [
        Record(each * i + j + 1, f"{i}.{j}", Drawn(f"{i}"), "?", ("yes",), "exact")  # type: ignore[arg-type]
        for i in range(pictures)
        for j in range(each)
    ]


class Chances:
    """Settings that are right with a chance of their own. asked: what each was asked, in order."""

    def __init__(self, chances: dict[str, float], seed: int = 0) -> None:
        self.chances, self.seed = chances | {ALL: 1.0}, seed
        self.asked: list[tuple[list[str], list[str]]] = []

    def __call__(self, rows, names) -> list[Result]:
        self.asked.append(([row.id for row in rows], list(names)))
        return [
            Result(row.id, row.row, row.id, digest=row.picture.digest(),
                   cells={name: Cell("", float(self.right(row, name))) for name in names})
            for row in rows
        ]  # fmt: skip

    def right(self, row, name) -> bool:
        return random.Random(f"{self.seed} {row.id} {name}").random() < self.chances[name]


NAMES = {f"s{i}": 0.2 + 0.1 * i for i in range(8)}  # s7 is the best, 0.9


def test_it_finds_one_of_the_best_and_tells_it_from_the_worst() -> None:
    rows, good = records(150), 0
    for seed in range(20):
        found = best(list(NAMES), rows[:240], rows[240:], Chances(NAMES, seed))
        good += found.name in ("s6", "s7")
        worst = next(each for each in found.standings if each.name == "s0")
        assert worst.rounds == 1
        assert worst.behind is not None
        assert worst.behind > 0.3
    assert good >= 18


def test_those_that_are_left_have_answered_the_same_questions_and_rounds_cost_the_same() -> None:
    ask, rows = Chances(NAMES), records(160)
    found = best(list(NAMES), rows[:280], rows[280:], ask)
    assert found.sizes == (40, 80, 160)
    *rounds, last = ask.asked
    assert [len(names) for _, names in rounds] == [8, 4, 2]
    assert [len(ids) * len(names) for ids, names in rounds] == [320, 320, 320]
    assert [i for ids, _ in rounds for i in ids] == [row.id for row in rows[:280]]
    for (_, before), (_, after) in pairwise(rounds):
        assert set(after) < set(before)
    assert last == ([row.id for row in rows[280:]], [found.name, ALL])
    assert Counter(each.rounds for each in found.standings) == {3: 2, 2: 2, 1: 4}
    assert [each.n for each in found.standings] == [280, 280, 120, 120, 40, 40, 40, 40]
    assert found.fresh.n == found.whole.n == 40
    assert found.whole.accuracy == 1


def test_of_equal_ones_the_first_named_stays() -> None:
    same = {name: 1.0 for name in "cab"}
    found = best(list(same), records(20), records(4), Chances(same))
    assert [each.name for each in found.standings] == ["c", "a", "b"]
    assert [each.p for each in found.standings] == [None, 1.0, 1.0]
    assert found.p_whole == 1.0


def test_what_fails_counts_as_wrong_and_what_nobody_can_be_asked_for_nothing() -> None:
    rows = records(20)

    def ask(rows, names):
        good = [Result(row.id, row.row, row.id, digest=row.picture.digest(),
                       cells={name: Cell(error="too many tokens") if name == "b" else Cell("", 1.0) for name in names})
                for row in rows]  # fmt: skip
        return [*good[1:], Result(rows[0].id, 1, rows[0].id, "outside of what the model knows")]

    found = best(["b", "a"], rows[:30], rows[30:], ask)
    assert found.name == "a"
    b = found.standings[1]
    assert (b.n, b.accuracy, b.failed, b.why) == (29, 0, 29, "too many tokens")
    with pytest.raises(ValueError, match="none of the questions could be asked"):
        best(["a", "b"], rows, rows, lambda rows, names: [Result("", 1, "", "outside")])


@pytest.mark.parametrize("settings", [2, 3, 5, 8, 31, 32, 33])
def test_rounds_double_and_use_every_question(settings: int) -> None:
    rounds = (settings - 1).bit_length()
    for questions in (2**rounds - 1, 700):
        found = sizes(settings, questions)
        assert len(found) == rounds
        assert sum(found) == questions
        assert found[:-1] == [found[0] * 2**turn for turn in range(rounds - 1)]
    with pytest.raises(ValueError, match=f"too few to choose among {settings} settings: give {2**rounds - 1} or more"):
        sizes(settings, 2**rounds - 2)


def test_whole_pictures_are_held_out_in_an_order_that_the_seed_says() -> None:
    rows = [*records(30, 3), Fault(91, "x", "no picture")]
    choose, held = split(rows, 0, 0.3)
    assert len(held) == 27
    assert {row.id for row in (*choose, *held)} == {row.id for row in rows[:-1]}
    assert not {row.picture.digest() for row in choose} & {row.picture.digest() for row in held}
    assert split(rows, 0, 0.3) == (choose, held)
    assert split(rows, 1, 0.3) != (choose, held)
    with pytest.raises(ValueError, match="cannot be held out"):
        split(rows, 0, 1.0)
    with pytest.raises(ValueError, match="too few pictures"):
        split(records(1), 0)


def test_within_a_time_each_keeps_as_many_as_come_within_it(tiny_vlm, noise, monkeypatch) -> None:
    class Given(Drawn):
        def open(self, *_):
            return noise(168, 112)

    record = replace(records(1)[0], picture=Given("0"), question="What color is the star?")
    asked = candidates([make("idpruner"), make("random"), make_staged("fastv")], [0.5])
    kept = {"idpruner": 0.004, "random": 0.001, "fastv": 0.001}  # seconds of a selection
    monkeypatch.setattr(cli_best, "selection_seconds", lambda asked, *_: kept[asked.name])

    def first_token_seconds(vlm, encoded, question, chosen):  # a millisecond a token
        entered = chosen.k if isinstance(chosen, Selection) else chosen.equivalent(24, vlm.layers, 24) * 24
        return (0.001 * entered,) * 3

    monkeypatch.setattr(cli_best, "first_token_seconds", first_token_seconds)
    settings = cli_best.within(tiny_vlm, asked, record, 0.0101, "sample")
    assert [each.name for each in settings] == ["all tokens", "idpruner λ=0.5@0.25", "random@0.35"]
    with pytest.raises(ValueError, match="0 settings answer within 1 ms, and the fastest took"):
        cli_best.within(tiny_vlm, asked, record, 0.001, "sample")


def test_methods_with_lambda_stand_at_each_of_them() -> None:
    found = candidates([make("idpruner"), make("random"), make_staged("fastv")], [0.2, 0.5, 0.2])
    assert list(found) == ["idpruner λ=0.2", "idpruner λ=0.5", "random", "fastv"]
    assert found["idpruner λ=0.2"] == make("idpruner", mmr_lambda=0.2)
    with pytest.raises(ValueError, match="mmr_lambda = 2"):
        candidates([make("idpruner")], [2])
    with pytest.raises(ValueError, match="1 setting leaves nothing to choose"):
        best(["a"], records(3), records(3), Chances({"a": 1.0}))
