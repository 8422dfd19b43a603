"""Visitors' questions in one pass: the same as one by one, first come first served, and nobody's error is another's."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.answers import answering
from app.answers.answering import Asked, answers, closeness
from app.engine import remote
from app.engine.device import Device, DeviceFullError, DroppedError, Task, working
from app.engine.engine import Engine
from app.engine.joining import Joint
from app.engine.resources import Resources
from app.session import Session
from pruning.evaluation.timing import MOST
from pruning.method import make

QUESTIONS = ("what is this", "how many", "which", "why is it so", "where")


class Crowd:
    """Visitors of one joint, who come in order while somebody else has the device."""

    def __init__(self, most: int = 100) -> None:
        self.device, self.joint, self.passes = Device(lambda: None), Joint[str, str](most), list[list[str]]()
        self.results: dict[str, object] = {}
        self.tasks: dict[str, Task] = {}
        self.go_on, self.threads = threading.Event(), list[threading.Thread]()
        self._come("", lambda: self.device.run(self.go_on.wait))

    def _come(self, name, work) -> None:
        task = self.tasks[name] = Task()

        def run() -> None:
            try:
                with working(task):
                    self.results[name] = work()
            except Exception as error:
                self.results[name] = error

        waiting = len(self.device._line._waiting)
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        late = time.monotonic() + 10
        while len(self.device._line._waiting) == waiting and name and time.monotonic() < late:
            time.sleep(0.001)
        if not name:
            while self.device.idle_within(0) and time.monotonic() < late:
                time.sleep(0.001)

    def asks(self, name: str, tokens: int = 10, joint: Joint[str, str] | None = None) -> None:
        self._come(name, lambda: (joint or self.joint).run(name, tokens, self.together, self._turn))

    def has(self, name: str) -> None:
        """Work that nobody joins."""
        self._come(name, lambda: self.device.run(lambda: self.passes.append([name])))

    def _turn(self, work, ride) -> None:
        self.device.run(work, ride=ride)

    def together(self, pieces):
        names = [work for work, _ in pieces]
        self.passes.append(names)
        if any(name.startswith("bad") for name in names):
            raise ValueError("a bad one")
        if len(names) > 1 and any(name.startswith("large") for name in names):
            raise MemoryError
        return [name.upper() for name in names]

    def served(self) -> list[list[str]]:
        self.go_on.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        return self.passes


def test_what_waits_goes_together_and_each_has_its_own_result() -> None:
    crowd = Crowd()
    for name in "abc":
        crowd.asks(name)
    assert crowd.served() == [["a", "b", "c"]]
    assert {name: crowd.results[name] for name in "abc"} == {"a": "A", "b": "B", "c": "C"}
    assert all(task.place == 0 for task in crowd.tasks.values())


def test_nobody_who_came_later_and_is_not_joined_is_passed_twice() -> None:
    """Who has the device next is who has waited longest; those who join cost others no turn."""
    crowd = Crowd()
    for name in "ab":
        crowd.asks(name)
    crowd.has("other work")
    crowd.asks("c")
    crowd.asks("longer", 80)
    crowd.asks("d")
    assert crowd.served() == [["a", "b", "c", "d"], ["other work"], ["longer"]]


@pytest.mark.parametrize(
    ("most", "sizes", "passes"),
    [
        (30, [10] * 5, [3, 2]),
        (0, [10] * 3, [1, 1, 1]),
        (30, [40, 40], [1, 1]),  # alone it may be as long as it is
        (1000, [100, 10, 90], [2, 1]),  # padding is at most a quarter of the work
    ],
)
def test_a_pass_is_bounded_in_tokens(most: int, sizes: list[int], passes: list[int]) -> None:
    crowd = Crowd(most)
    for place, tokens in enumerate(sizes):
        crowd.asks(str(place), tokens)
    assert [len(names) for names in crowd.served()] == passes


def test_an_error_of_one_reaches_no_other() -> None:
    for order in (["bad", "a", "b"], ["a", "bad", "b"], ["a", "b", "bad"]):
        crowd = Crowd()
        for name in order:
            crowd.asks(name)
        assert crowd.served() == [order, *([name] for name in order)]
        assert isinstance(crowd.results["bad"], ValueError)
        assert (crowd.results["a"], crowd.results["b"]) == ("A", "B")


def test_a_pass_too_large_for_the_memory_is_done_one_by_one() -> None:
    crowd = Crowd()
    for name in ("a", "large"):
        crowd.asks(name)
    assert crowd.served() == [["a", "large"], ["a"], ["large"]]
    assert crowd.results["large"] == "LARGE"


def test_who_is_stopped_while_they_wait_is_in_no_pass() -> None:
    crowd = Crowd()
    for name in "abc":
        crowd.asks(name)
    crowd.tasks["b"].set()
    assert crowd.served() == [["a", "c"]]
    assert isinstance(crowd.results["b"], DroppedError)


def test_two_models_share_the_device_and_no_pass() -> None:
    crowd, other = Crowd(), Joint[str, str](100)
    crowd.asks("a")
    crowd.asks("x", joint=other)
    crowd.asks("b")
    crowd.asks("y", joint=other)
    assert crowd.served() == [["a", "b"], ["x", "y"]]


# Through a model


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def look(engine: Engine, folder, seed: int, size: tuple[int, int] = (112, 112)) -> Session:
    path = folder / f"{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    session = Session("tiny", (engine.resources.pictures.open(str(path))[0],))
    engine.encoded(session)
    return session


def crowd_of(engine: Engine, folder) -> list[Asked]:
    """Questions with all and with kept tokens of several pictures."""
    asked = []
    for place, question in enumerate(QUESTIONS):
        session = look(engine, folder, place, ((112, 112), (112, 140))[place % 2])
        tokens = engine.tokens(session, frozenset())
        kept = None if place % 2 == 0 else make("divprune").select(tokens, tokens.n - 2)
        asked.append(Asked(session, question, kept, positions="compact" if place == 3 else "original"))
    return asked


def at_once(engine: Engine, works) -> list[object]:
    """All of them begun while the device is busy."""
    results: list[object] = [None] * len(works)
    go_on, busy = threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: engine.on_device(lambda: (busy.set(), go_on.wait(20))))
    holder.start()
    assert busy.wait(10)

    def run(place: int) -> None:
        try:
            results[place] = works[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    late = time.monotonic() + 10
    while len(engine.resources.device._line._waiting) < len(works) and time.monotonic() < late:
        time.sleep(0.001)
    go_on.set()
    for thread in (holder, *threads):
        thread.join(60)
        assert not thread.is_alive()
    return results


def counted(monkeypatch, name: str) -> list[int]:
    sizes, function = [], getattr(remote, name)
    monkeypatch.setattr(remote, name, lambda key, works, *more: sizes.append(len(works)) or function(key, works, *more))
    return sizes


def test_answers_and_closeness_of_a_crowd_are_those_of_one_by_one(engine, tiny_vlm, tmp_path, monkeypatch) -> None:
    asked = crowd_of(engine, tmp_path)
    alone = Engine(tiny_vlm, Resources(64 << 20, joined=0))
    right = [list(answers(alone, each, Task())) for each in asked]
    sizes = counted(monkeypatch, "generate_batch")
    got = at_once(engine, [lambda each=each: list(answers(engine, each, Task())) for each in asked])
    assert max(sizes) > 1
    for mine, theirs in zip(got, right, strict=True):
        assert mine[-1].ids == theirs[-1].ids
        assert mine[-1].text == theirs[-1].text
        assert mine[-1].prefill_tokens == theirs[-1].prefill_tokens
        assert all(isinstance(text, str) for text in mine[:-1])
    pruned = [replace(each, runs=make("random").select(engine.tokens(each.session, frozenset()), 9)) for each in asked]
    worded = [place for place, each in enumerate(right) if each[-1].text]
    assert len(worded) > 1

    def close(on: Engine, place: int):
        return closeness(on, asked[place], right[place][-1], pruned[place])

    one_by_one = [close(alone, place) for place in worded]
    sizes = counted(monkeypatch, "logprobs_batch")
    found = at_once(engine, [lambda place=place: close(engine, place) for place in worded])
    assert max(sizes) > 1
    for mine, theirs in zip(found, one_by_one, strict=True):
        assert mine.fidelity == pytest.approx(theirs.fidelity, abs=1e-5)
        assert mine.sure == pytest.approx(theirs.sure, abs=1e-5)
        assert mine.lost == pytest.approx(theirs.lost, abs=1e-5)


def unseen(engine: Engine, folder, seed: int, side: int = 112) -> Session:
    path = folder / f"new-{seed}.png"
    pixels = np.random.default_rng(100 + seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Session("tiny", (engine.resources.pictures.open(str(path))[0],))


def test_encodings_of_a_crowd_are_those_of_one_by_one(engine, tiny_vlm, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Engine, "joins_encodings", True)
    sessions = [unseen(engine, tmp_path, seed) for seed in range(4)]
    needs = [frozenset({"vision_attention@-1"}) if seed == 3 else frozenset() for seed in range(4)]
    sizes = counted(monkeypatch, "encode_batch")
    works = [lambda place=place: engine.encoded(sessions[place], needs[place]) for place in range(4)]
    found = at_once(engine, works)
    assert sizes == [3], "one asks for a signal that the others do not"
    alone = Engine(tiny_vlm, Resources(64 << 20, joined=0))
    for session, wanted, one in zip(sessions, needs, found, strict=True):
        right = alone.vlm.encode(engine.images(session), wanted)
        assert one.tokens.grids == right.tokens.grids
        assert one.tokens.signals.keys() == right.tokens.signals.keys()
        np.testing.assert_allclose(one.tokens.features, right.tokens.features, atol=1e-5)
        assert engine.encoded(session, wanted) is one


def test_a_processor_encodes_one_by_one(engine, tmp_path, monkeypatch) -> None:
    sessions = [unseen(engine, tmp_path, 20 + seed) for seed in range(3)]
    sizes = counted(monkeypatch, "encode_batch")
    at_once(engine, [lambda place=place: engine.encoded(sessions[place]) for place in range(3)])
    assert not sizes


def test_an_encoding_that_fails_or_is_stopped_is_nobody_elses(engine, tmp_path, monkeypatch) -> None:
    sessions, task = [unseen(engine, tmp_path, 10 + seed) for seed in range(4)], Task()
    bad, encode = engine.images(sessions[1])[0].tobytes(), engine.vlm.encode

    def failing(images, *more):
        if any(image.tobytes() == bad for image in images):
            raise ValueError("a damaged one")
        return encode(images, *more)

    monkeypatch.setattr(Engine, "joins_encodings", True)
    monkeypatch.setattr(engine.vlm, "encode", failing)
    works = [lambda place=place: engine.encoded(sessions[place]) for place in (0, 1, 3)]
    good, broken, other = at_once(engine, works)
    assert isinstance(broken, ValueError)
    task.set()
    with working(task), pytest.raises(DroppedError):
        engine.encoded(sessions[2])
    assert good is engine.encoded(sessions[0])
    assert other is engine.encoded(sessions[3])


def test_a_stop_in_the_middle_of_a_pass_ends_one_answer_alone(engine, tmp_path, monkeypatch) -> None:
    session = look(engine, tmp_path, 0)
    asked, tasks = [Asked(session, question) for question in QUESTIONS[:3]], [Task() for _ in range(3)]
    batches, told = remote.generate_batch, list[int]()

    def stopped(key, samples, cancels, most):
        for place, chunk in batches(key, samples, cancels, most):
            yield place, chunk
            if cancels[place] is tasks[1]:
                told.append(chunk.token_id)
                tasks[1].set()

    monkeypatch.setattr(remote, "generate_batch", stopped)
    alone = Engine(engine.vlm, Resources(64 << 20, joined=0))
    right = [list(answers(alone, each, Task()))[-1] for each in asked]
    got = at_once(engine, [lambda i=i: list(answers(engine, asked[i], tasks[i]))[-1] for i in range(3)])
    assert len(right[1].ids) > 1
    assert len(told) == 1
    assert got[1].cancelled
    assert (got[0].ids, got[2].ids) == (right[0].ids, right[2].ids)


def test_a_question_that_the_model_refuses_is_told_to_its_visitor_alone(engine, tiny_vlm, tmp_path) -> None:
    session = look(engine, tmp_path, 0)
    *_, right = answers(Engine(tiny_vlm, Resources(64 << 20, joined=0)), Asked(session, QUESTIONS[0]), Task())
    bad = Asked(session, QUESTIONS[1], make("random").select(engine.tokens(session, frozenset()), 3))
    object.__setattr__(bad.runs, "n", 3)  # a selection of other pictures
    good = [Asked(session, QUESTIONS[0])]
    got = at_once(engine, [lambda each=each: list(answers(engine, each, Task())) for each in (*good, bad)])
    assert got[0][-1].ids == right.ids
    assert isinstance(got[1], ValueError)


def test_memory_that_runs_out_for_several_suffices_one_by_one(engine, tiny_vlm, tmp_path, monkeypatch) -> None:
    asked = crowd_of(engine, tmp_path)[:3]
    monkeypatch.setattr(tiny_vlm, "generate_batch", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    got = at_once(engine, [lambda each=each: list(answers(engine, each, Task())) for each in asked])
    assert not any(isinstance(each, DeviceFullError | Exception) for each in got)
    assert all(each[-1].ids for each in got)


def test_one_time_stands_for_prompts_of_one_length(engine, tmp_path, monkeypatch) -> None:
    asked, function = [], remote.first_token_seconds

    def noted(key, sample, most):
        asked.append(most)
        return function(key, sample, most)

    monkeypatch.setattr(remote, "first_token_seconds", noted)
    one, other = look(engine, tmp_path, 0), look(engine, tmp_path, 1)
    first = answering.first_token_seconds(engine, Asked(one, "which"))
    assert answering.first_token_seconds(engine, Asked(other, "which")) == first
    assert asked == [MOST]
    answering.first_token_seconds(engine, Asked(other, "which one is it"))
    assert asked == [MOST, MOST]


def test_while_others_wait_a_time_is_measured_once_and_stands_for_that_question(engine, tmp_path, monkeypatch) -> None:
    asked = list[int]()
    monkeypatch.setattr(remote, "first_token_seconds", lambda key, sample, most: asked.append(most) or (0.5,) * most)
    one, other = look(engine, tmp_path, 0), look(engine, tmp_path, 1)

    def measured():
        return answering.first_token_seconds(engine, Asked(one, "which"))

    at_once(engine, [measured, lambda: answering.first_token_seconds(engine, Asked(one, "which one is it"))])
    assert sorted(asked) == [1, MOST]  # who is last keeps nobody waiting
    monkeypatch.setattr(type(engine.resources.device), "awaited", property(lambda _: True))
    asked.clear()
    for session in (other, other, one):
        answering.first_token_seconds(engine, Asked(session, "why is that"))  # as long as neither of those before
    assert asked == [1, 1]
