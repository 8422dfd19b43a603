"""How long work will still take, as everything on the page says it that knows how far it is."""

import time

import pytest

from app.batch.run import Batch, Item
from app.compare.run import Results, Step
from app.model_pool.load_job import LoadJob
from app.pace import Pace
from app.session import Session
from app.smallest_budget.search import Search
from app.tradeoff.measure import Progress
from app.web.html import to_come
from pruning.evaluation.fidelity import FidelityPoint


@pytest.mark.parametrize(
    ("pace", "remaining"),
    [
        (Pace(3.0, 2, 6), 6.0),
        (Pace(0.5, 0.25, 1.0), 1.5),
        (Pace(7.0, 4, 4), 0.0),
        (Pace(7.0, 5, 4), 0.0),
        (Pace(3.0, 0, 6), None),
        (Pace(3.0, 0, 0), None),
        (Pace(2.0, 1, 50), 98.0),
        (Pace(2.0, 1, 51), None),
    ],
)
def test_what_is_to_come_takes_as_long_as_what_is_done(pace, remaining):
    assert pace.remaining_s == (None if remaining is None else pytest.approx(remaining))


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (Pace(3.0, 2, 6), ", about 6 s left"),
        (Pace(0.1, 2, 4), ", about 1 s left"),
        (Pace(100.0, 1, 4), ", about 5 min left"),
        (Pace(3.0, 6, 6), ""),
        (Pace(3.0, 0, 6), ""),
        (None, ""),
    ],
)
def test_the_words_round_up_to_a_second_and_say_nothing_of_what_is_unknown_or_over(pace, words):
    assert to_come(pace) == words


def test_every_kind_of_work_says_how_far_it_is_of_all_that_it_has_to_do():
    point = FidelityPoint("random", "Random", None, 4, 0.25, 0.9)
    nobody = Session("tiny", ())
    items = (Item("a", nobody, problem="too small"), *[Item("b", nobody)] * 3)
    assert Step(Results(), None, 1, 4, 3.0).pace.remaining_s == 9.0
    assert Progress((point,), 4, 3.0, "sweeping").pace.remaining_s == 9.0
    assert Search(None, 4, 4, 0, (), 1, 3, 3.0).pace.remaining_s == 9.0
    assert Batch(items, (), 3.0).pace.remaining_s == 9.0


def test_of_a_load_the_stage_at_work_gives_the_pace(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    job = LoadJob("tiny", "ann")
    assert job.progress().pace is None
    now = 110.0
    job.tell("downloading", 0.0)
    assert job.progress().pace == Pace(0.0, 0.0, 1.0)
    now = 113.0
    job.tell("downloading", 0.25)
    told = job.progress()
    assert (told.seconds, told.pace.remaining_s) == (13.0, 9.0)
    job.tell("reading the weights", None)
    assert job.progress().pace is None
