"""Work that waits for its turn, tells its place, hears of Stop, and ends in a state: every kind that the page has.

The events are called as the page calls them, without a browser.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import gradio as gr
import pytest

from app.batch.page import BatchEvents, place_batch
from app.compare.page import CompareEvents, place_compare
from app.compare.run import Results
from app.engine.cache import ByteCache
from app.engine.device import DroppedError, Line, Task, Tasks, working
from app.explore.handlers import Handlers
from app.explore.image_handlers import ImageHandlers
from app.explore.layout import layout
from app.export.page import Exporting
from app.presenter.page import Presenter
from app.session import Session
from app.smallest_budget.page import SmallestBudgetEvents
from app.ui import opening
from app.web.controls import Controls
from app.web.events import Told
from app.web.streams import Shown, stream
from tests.checkpoints import tiny_llava_next
from tests.helpers.checkout import ROOT
from tests.helpers.serving import Shelf, models_of

SOON = 1.0  # seconds in which Stop ends what waits
SHOWN = Shown(
    waiting=lambda place: f"waiting {place}",
    stopped=lambda: "stopped",
    failed=lambda words: f"failed: {words}",
)
ERRORS = {
    "bad input": (lambda: ValueError("the context is too short: ask less"), "the context is too short: ask less"),
    "a bug": (lambda: RuntimeError("a bug"), "Something failed inside the app (RuntimeError)"),
    "no memory": (MemoryError, "ran out of memory"),
}


# Lines


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@contextmanager
def held(take: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Something is busy, for another visitor, until the block ends. take: does a piece of work alone there."""
    begun, free = threading.Event(), threading.Event()
    thread = threading.Thread(target=take, args=(lambda: (begun.set(), free.wait(60)),))
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        free.set()
        thread.join(20)


def in_turn(line: Line) -> Callable[[Callable[[], object]], object]:
    def take(work: Callable[[], object]) -> object:
        with line.turn():
            return work()

    return take


@pytest.mark.alone
def test_turns_come_in_the_order_of_asking_and_each_knows_its_place():
    line, done = Line(), []
    tasks = [Task() for _ in range(4)]

    def wait(number: int) -> None:
        with suppress(DroppedError), working(tasks[number]), line.turn():
            done.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    with held(in_turn(line)):
        for number, thread in enumerate(threads):
            thread.start()
            assert within(5, lambda number=number: tasks[number].place == number + 1)
        tasks[1].set()
        assert within(SOON, lambda: tasks[2].place == 2), "who leaves makes room for those behind"
        assert not done
    for thread in threads:
        thread.join(5)
    assert done == [0, 2, 3]
    assert line.idle_within(1)


def test_what_was_stopped_gets_no_turn_even_of_a_free_line():
    task = Task()
    task.set()
    with working(task), pytest.raises(DroppedError), Line().turn():
        raise AssertionError("it began")


def test_a_line_takes_so_many_and_says_so():
    line = Line(1, most=0)
    with held(in_turn(Line(1))), pytest.raises(ValueError, match="0 others wait"), line.turn():
        pass


def test_a_value_whose_maker_is_stopped_is_made_by_the_next_who_wants_it():
    cache, begun, stop, got = ByteCache(100), threading.Event(), threading.Event(), []

    def stopped() -> str:
        begun.set()
        stop.wait(10)
        raise DroppedError

    def first() -> None:
        with pytest.raises(DroppedError):
            cache.get("key", stopped, len)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert begun.wait(10)
    threads.append(threading.Thread(target=lambda: got.append(cache.get("key", lambda: "made", len))))
    threads[1].start()
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert got == ["made"]


def test_after_stop_nothing_follows_until_the_visitor_wants_something():
    tasks = Tasks()
    running = tasks.begin("ann", "answer")
    tasks.halt("ann")
    assert running.is_set()
    assert tasks.follow("ann", "answer").is_set()
    assert not tasks.follow("bob", "answer").is_set()
    assert not tasks.begin("ann", "sweep").is_set()
    assert not tasks.follow("ann", "answer").is_set()


# Streams


def test_a_stream_waits_says_so_and_goes_on():
    line = Line()
    with held(in_turn(line)):
        items = stream(Task(), line, lambda: (told for told in ["news"]), SHOWN)
        assert next(items) == "waiting 1"
    assert list(items) == ["news"]
    assert line.idle_within(1)


@pytest.mark.parametrize("error", ERRORS)
def test_a_stream_that_fails_shows_it_and_then_tells_the_visitor(error):
    raised, _ = ERRORS[error]

    def work() -> Iterator[str]:
        yield "under way"
        raise raised()

    seen, line = [], Line()

    def read() -> None:
        for item in stream(Task(), line, work, SHOWN):
            seen.append(item)

    with pytest.raises(gr.Error) as told:
        read()
    assert seen == ["under way", f"failed: {told.value.message}"]
    assert line.idle_within(1)


@pytest.mark.alone
def test_a_stream_that_is_deaf_to_stop_is_left_within_a_second():
    task, line, free = Task(), Line(), threading.Event()

    def work() -> Iterator[str]:
        yield "under way"
        free.wait(20)

    items = stream(task, line, work, SHOWN)
    assert next(items) == "under way"
    task.set()
    start = time.monotonic()
    assert list(items) == ["stopped"]
    assert time.monotonic() - start < SOON
    free.set()
    assert line.idle_within(1)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_stream_shows_nothing_once_a_later_one_has_begun(stopped):
    """What both show stands in one place: the end of the earlier one must not cover the later one's news."""
    tasks, going, late = Tasks(), threading.Event(), threading.Event()

    def work() -> Iterator[str]:
        yield "first"
        going.set()
        late.wait(20)
        yield "late"

    task = tasks.begin("visitor", "compare")
    news = stream(task, Line(), work, Shown(str, lambda: "stopped", str))
    assert next(news) == "first"
    assert going.wait(20)
    if stopped:
        tasks.stop("visitor", "compare")
    later = tasks.begin("visitor", "compare")
    assert task.is_set()
    late.set()
    assert list(news) == []
    assert list(stream(later, Line(), lambda: (word for word in ["later"]), Shown(str, str, str))) == ["later"]


def test_a_stream_that_nobody_reads_any_more_is_stopped():
    task = Task()
    items = stream(task, Line(), lambda: (told for told in ["one", "two"]), SHOWN)
    next(items)
    items.close()
    assert task.is_set()


# Every kind of work of the page


@pytest.fixture(scope="module")
def page(tiny_vlm, tmp_path_factory):
    """The page's event functions, each bound to its values: kind -> events(request) that gives an iterator."""
    models, controls = models_of(Shelf({tiny_vlm.model_id: tiny_vlm})), Controls()
    with models.use(models.first, "") as (engine, capabilities), gr.Blocks():
        start = opening(models, engine, capabilities, controls)
        parts = layout(controls, start)
        handlers, images = Handlers(models, controls, parts), ImageHandlers(models, parts)
        compare_view, batch_view = place_compare(parts.views), place_batch(parts.views)
    session, present = start.session, handlers.setting
    settings = [field.value for field in parts.settings]
    path = session.pictures[0].path
    with models.use(models.first, "") as (_, capabilities):
        slots = (present(capabilities, session, settings), None, None, None)
    batch, compare = BatchEvents(batch_view, models, present), CompareEvents(compare_view, models, present)
    search, export = SmallestBudgetEvents(models, present), Exporting(handlers, tmp_path_factory.mktemp("exports"))
    picked, wished = Told(data={"index": 0}), Told(data={"turn": 1})
    events = {
        "answer": lambda request: handlers.report(request, session, *settings),
        "canvas": lambda request: handlers.draw(request, session, *settings),
        "plane": lambda request: handlers.plane(request, session, *settings),
        "curves": lambda request: handlers.curves(request, session, ["random"], *settings),
        "compare": lambda request: compare.run(request, slots, Results(), session),
        "many images": lambda request: batch.run(request, [path], session, *settings),
        "fewest tokens": lambda request: search.tokens(request, session, *settings),
        "best lambda": lambda request: search.over_lambda(request, session, *settings),
        "export": lambda request: export.make(request, None, session, *settings),
        "presenter": lambda request: Presenter(handlers).show(request, wished, ["random"], session, *settings),
        "upload": lambda request: images.upload(request, session, path, "what color is it?"),
        "more images": lambda request: images.add(
            request, Session(session.model_name, ()), [path], "what color is it?"
        ),
        "one image less": lambda request: images.remove(request, picked, session, "what color is it?"),
        "example": lambda request: images.example(request, picked, session),
    }
    return SimpleNamespace(models=models, handlers=handlers, events=events, vlm=tiny_vlm)


ASKING = ["answer", "curves", "compare", "many images", "fewest tokens", "best lambda", "export", "presenter"]
ENCODING = ["canvas", "plane", "upload", "more images", "one image less", "example"]
KINDS = [*ASKING, *ENCODING]


def words(item: object) -> str:
    """All that an update says."""
    if isinstance(item, dict):
        return " ".join(map(words, item.values()))
    if isinstance(item, (tuple, list)):
        return " ".join(map(words, item))
    return str(item.props) if isinstance(item, gr.HTML) else str(item)


def seen_of(events: Iterator[object]) -> tuple[list[str], threading.Thread]:
    """What the events say, as they come; and the thread that reads them."""
    seen: list[str] = []

    def read() -> None:
        try:
            for item in events:
                seen.append(words(item))
        except gr.Error as error:
            seen.append(f"raised {error.message!r} visible={error.visible}")

    thread = threading.Thread(target=read)
    thread.start()
    return seen, thread


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.alone
def test_waiting_is_told_and_stop_drops_it(page, kind, monkeypatch):
    resources, request = page.models.resources, gr.Request(session_hash=f"waits {kind}")
    resources.clear()
    calls: list[str] = []
    for name in ("encode", "generate", "answer_batch", "logprobs", "tokens"):
        monkeypatch.setattr(page.vlm, name, lambda *values, name=name, **named: calls.append(name))
    page.handlers.interrupt(request)
    with held(resources.device.run):
        seen, thread = seen_of(page.events[kind](request))
        assert within(5, lambda: any("Waiting: place 1 in the queue" in told for told in seen)), seen
        page.handlers.stop(request)
        start = time.monotonic()
        thread.join(5)
        assert time.monotonic() - start < SOON
        assert any("Stopped" in told for told in seen[-2:]), seen[-2:]
        assert "visible=True" not in seen[-1]
    assert resources.device.idle_within(5)
    time.sleep(0.1)
    assert calls == [], "it began after Stop"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_says_why_where_its_result_would_be(page, kind, error, monkeypatch):
    resources, request = page.models.resources, gr.Request(session_hash=f"fails {kind} {error}")
    raised, told = ERRORS[error]
    resources.clear()
    generate = page.vlm.generate

    def breaks(*values, **named):
        yield next(iter(generate(*values, **named)))
        raise raised()

    def fails(*values, **named):
        raise raised()

    monkeypatch.setattr(page.vlm, "answer_batch", fails)
    monkeypatch.setattr(page.vlm, "generate", breaks if kind in ASKING else fails)
    if kind in ENCODING:
        monkeypatch.setattr(page.vlm, "encode", fails)
    page.handlers.interrupt(request)
    seen, thread = seen_of(page.events[kind](request))
    thread.join(60)
    last = [item for item in seen if not item.startswith("raised")]
    assert any(told in item for item in last[-2:]), last[-2:]
    for alive in ("running", "Answering", "answering", "Asking", "Measuring", "Waiting", "measuring …"):
        assert alive not in last[-1], last[-1]
    assert resources.device.idle_within(5)


@pytest.mark.parametrize("kind", KINDS)
def test_work_keeps_its_model_until_it_is_over(page, kind):
    """Another visitor cannot have it unloaded meanwhile; afterwards nothing of the work holds it."""
    request = gr.Request(session_hash=f"holds {kind}")
    loaded = page.models._loaded_models
    page.models.resources.clear()
    page.handlers.interrupt(request)
    ((_, model, _),) = loaded.seen_by(frozenset())
    with held(page.models.resources.device.run):
        seen, thread = seen_of(page.events[kind](request))
        assert within(5, lambda: any("Waiting" in told for told in seen)), seen
        assert model.leases[request.session_hash] == 1
        page.handlers.stop(request)
        thread.join(5)
    assert within(5, lambda: not model.leases[request.session_hash])


@pytest.mark.parametrize(("kind", "line"), [("answer", "answers"), ("curves", "answers"), ("compare", "long_work")])
def test_work_waits_behind_other_work_before_it_begins(page, kind, line, monkeypatch):
    resources, request = page.models.resources, gr.Request(session_hash=f"queues {kind}")
    full = Line(1)
    monkeypatch.setattr(resources, line, full)
    page.handlers.interrupt(request)
    with held(in_turn(full)):
        seen, thread = seen_of(page.events[kind](request))
        assert within(5, lambda: any("Waiting: place 1" in told for told in seen)), seen
        assert len(seen) == 1
        page.handlers.gone(request)  # a closed tab
        thread.join(5)
        assert not thread.is_alive()
    assert full.idle_within(1)


@pytest.mark.slow
def test_a_first_model_that_cannot_answer_is_a_message(tmp_path):
    folder = tiny_llava_next(tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 100
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "app.py", "--port", "0", "--model", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    told = ended.stderr.strip().splitlines()[-1]
    assert told.startswith("app.py: short does not answer the page's first question: ")
    assert "holds 100" in told
    assert told.endswith("; or choose another --model")
