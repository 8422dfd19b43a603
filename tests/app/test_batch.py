"""One setting over many images: the same answers as one by one, bad files named, Stop keeps what is there."""

from __future__ import annotations

import math
import re
import statistics
import threading
from dataclasses import replace

import pytest
from PIL import Image

from app.answers.answering import Asked, answers, closeness
from app.answers.batching import _packs, answer_all
from app.batch import run as batch_run
from app.batch import views as batch_views
from app.batch.run import MOST, Item, Skipped, opened, run, summary
from app.engine import remote
from app.engine.device import DeviceFullError, Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.examples import EXAMPLES
from pruning.models import Answer, Sample
from tests.helpers.visits import QUESTION, keep, look, visit

SETTING = keep("idpruner", 0.25)


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture
def files(saved, tmp_path):
    """files(count) -> paths of as many images, of two sizes."""

    def make(count: int) -> list[str]:
        return [saved(seed, (224, 168) if seed % 2 else (168, 168)) for seed in range(count)]

    return make


def items_of(engine, paths):
    items, skipped = opened(engine.resources.pictures, paths, look(engine, paths[0]))
    assert not skipped
    return items


def test_every_image_is_answered_as_it_is_alone(engine, tiny_vlm, files):
    items = items_of(engine, files(6))
    *_, last = run(engine, items, SETTING, Task())
    assert (last.stage, last.done) == ("done", 6)
    alone = Engine(tiny_vlm, Resources(64 << 20))
    for item in last.items:
        selection = alone.selection(item.session, SETTING)
        full, kept = Asked(item.session, QUESTION), Asked(item.session, QUESTION, selection)
        *_, answer = answers(alone, full, Task())
        *_, pruned = answers(alone, kept, Task())
        assert (item.full.ids, item.kept.ids) == (answer.ids, pruned.ids)
        assert item.verdict.agree == (answer.ids == pruned.ids)
        assert item.fidelity == pytest.approx(closeness(alone, full, answer, kept).fidelity, abs=1e-5)
        assert (item.n, item.budget) == (selection.n, selection.k)


def test_groups_share_passes_and_what_is_known_is_not_asked_again(engine, files, monkeypatch):
    sizes, batches = [], remote.answer_batch
    monkeypatch.setattr(remote, "answer_batch", lambda *values: sizes.append(len(values[1])) or batches(*values))
    monkeypatch.setattr(remote, "generate", lambda *values: pytest.fail("one by one"))
    items = items_of(engine, files(6))
    *_, first = run(engine, items, SETTING, Task())
    assert sizes == [4, 4, 2, 2]
    *_, again = run(engine, items, SETTING, Task())
    assert sizes == [4, 4, 2, 2]
    assert again.items == first.items


def test_the_same_image_twice_is_asked_once(engine, files, monkeypatch):
    sizes, batches = [], remote.answer_batch
    monkeypatch.setattr(remote, "answer_batch", lambda *values: sizes.append(len(values[1])) or batches(*values))
    first, second = files(2)
    *_, last = run(engine, items_of(engine, [first, second, first]), SETTING, Task())
    assert sizes == [2, 2]
    assert last.items[0].full == last.items[2].full


@pytest.mark.parametrize("error", [ValueError("too long"), DeviceFullError("full")])
def test_what_cannot_be_answered_together_is_answered_alone(engine, files, monkeypatch, error):
    def refuse(*values):
        raise error

    monkeypatch.setattr(remote, "answer_batch", refuse)
    *_, last = run(engine, items_of(engine, files(3)), SETTING, Task())
    assert (last.stage, last.done) == ("done", 3)
    assert all(item.fidelity is not None for item in last.items)


def test_packs_are_padded_to_at_most_what_fits(engine, files, monkeypatch):
    monkeypatch.setattr("app.answers.batching.MOST_TOKENS", 100)  # images have 36 and 48 tokens
    asked = [Asked(item.session, QUESTION) for item in items_of(engine, files(4))]
    packs = [[engine.encoded(one.session).tokens.n for one in pack] for pack in _packs(engine, asked)]
    assert packs == [[36, 48], [36, 48]]
    monkeypatch.setattr("app.answers.batching.MOST_TOKENS", 72)  # the shorter is padded to the longer
    assert [len(pack) for pack in _packs(engine, [asked[1], asked[0], asked[2]])] == [1, 2]
    monkeypatch.setattr("app.answers.batching.MOST_TOKENS", 10)
    assert [len(pack) for pack in _packs(engine, asked)] == [1, 1, 1, 1]


def test_what_a_file_system_leaves_is_no_image(engine, files, tmp_path):
    (photo,) = files(1)
    others = [tmp_path / name for name in ("._photo.png", ".DS_Store", "desktop.ini", "Thumbs.db")]
    for other in others:
        other.write_bytes(b"\0\5\x16\7")
    items, skipped = opened(engine.resources.pictures, [*map(str, others), photo], look(engine, photo))
    assert ([item.name for item in items], skipped) == ([photo.rpartition("/")[2]], ())
    with pytest.raises(ValueError, match="There are no images"):
        opened(engine.resources.pictures, [str(others[0])], look(engine, photo))


def test_files_that_are_no_images_are_named_and_the_others_go_on(engine, files, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear model")
    (tmp_path / "empty.png").write_bytes(b"")
    good = files(2)
    paths = [good[0], str(tmp_path / "letter.txt"), str(tmp_path / "empty.png"), good[1]]
    items, skipped = opened(engine.resources.pictures, paths, look(engine, good[0]))
    assert [item.name for item in items] == ["0-168.png", "1-224.png"]
    assert [one.name for one in skipped] == ["letter.txt", "empty.png"]
    assert "not an image" in skipped[0].why
    assert "empty" in skipped[1].why


def test_an_image_that_the_model_cannot_take_is_left_out_later(engine, files, tmp_path):
    Image.new("RGB", (900, 2)).save(tmp_path / "strip.png")
    good = files(2)
    items = items_of(engine, [good[0], str(tmp_path / "strip.png"), good[1]])
    *_, last = run(engine, items, SETTING, Task())
    assert [bool(item.problem) for item in last.items] == [False, True, False]
    assert (last.stage, last.done) == ("done", 3)
    assert summary(last.items).images == 2
    assert "strip.png" in batch_views.progress(last)


def test_more_images_than_allowed_are_named(engine, saved):
    path = saved()
    items, skipped = opened(engine.resources.pictures, [path] * (MOST + 2), look(engine, path))
    assert len(items) == MOST
    assert len(skipped) == 2
    assert f"at most {MOST}" in skipped[0].why


def test_no_file_and_no_question_are_said(engine, saved):
    with pytest.raises(ValueError, match="no images"):
        opened(engine.resources.pictures, [], look(engine, saved()))
    with pytest.raises(ValueError, match="question is empty"):
        opened(engine.resources.pictures, [saved()], look(engine, saved(), questions=()))


def test_the_last_question_of_a_conversation_is_asked_anew(engine, saved):
    session = look(engine, saved(), questions=("one", "two"))
    (item,), _ = opened(engine.resources.pictures, [saved()], session)
    assert item.session.questions == ("two",)


@pytest.mark.parametrize("moment", ["before", "first group", "second group"])
def test_stop_keeps_what_is_measured(engine, files, moment):
    task, items = Task(), items_of(engine, files(6))
    if moment == "before":
        task.set()
    for step in run(engine, items, SETTING, task):
        if (moment == "first group" and step.done == 2) or (moment == "second group" and step.items[5].full):
            task.set()
    done = {"before": 0, "first group": 2, "second group": 4}[moment]
    assert (step.stage, step.done) == ("stopped", done)
    assert [item.fidelity is not None for item in step.items] == [True] * done + [False] * (6 - done)
    *_, rest = run(engine, items, SETTING, Task())
    assert rest.stage == "done"


def test_a_stop_ends_the_pass_that_is_under_way(tiny_vlm, noise, monkeypatch):
    cancel, decode, seen = threading.Event(), tiny_vlm._decode, []

    def counted(ids):
        seen.append(len(ids))
        if len(ids) == 3:
            cancel.set()
        return decode(ids)

    monkeypatch.setattr(tiny_vlm, "_decode", counted)
    samples = [Sample(tiny_vlm.encode([noise(112, 112, seed)]), QUESTION) for seed in range(2)]
    found = tiny_vlm.answer_batch(samples, max_new_tokens=40, cancel=cancel)
    assert max(seen) == 3
    assert all(answer.cancelled and len(answer.ids) == 3 for answer in found)


def test_answers_that_were_stopped_are_none(engine, files, monkeypatch):
    task, together = Task(), remote.answer_batch

    def stopped(*values):
        task.set()
        return together(*values)

    monkeypatch.setattr(remote, "answer_batch", stopped)
    items = items_of(engine, files(2))
    asked = [Asked(item.session, QUESTION) for item in items]
    assert all(answer.cancelled for answer in answer_all(engine, asked, task))
    assert all(engine.cache.peek(one.key(engine)) is None for one in asked)
    task.clear()
    *_, last = run(engine, items, SETTING, task)
    assert last.stage == "stopped"
    assert [(item.full, item.kept) for item in last.items] == [(None, None)] * 2


def answer(*ids: int) -> Answer:
    return Answer(" ".join(map(str, ids)), ids, 0.1, 0.2, 50, True, False)


def measured(engine, saved) -> list[Item]:
    session = look(engine, saved())
    facts = [(1.0, (1, 2), (1, 2)), (0.5, (1,), (3,)), (0.9, (4,), (4,))]
    return [
        Item(f"{value}.png", session, n=64, budget=16, full=answer(*a), kept=answer(*b), fidelity=value)
        for value, a, b in facts
    ]


def test_the_summary_by_hand(engine, saved):
    items = measured(engine, saved)
    items.append(Item("left-out.png", items[0].session, problem="too thin"))
    found = summary(items)
    assert (found.images, found.agree, found.kept, found.n) == (3, 2, 48, 192)
    assert found.fidelity == pytest.approx(0.8)
    assert found.deviation == pytest.approx(statistics.stdev([1.0, 0.5, 0.9]))
    assert found.lowest.name == "0.5.png"
    assert summary(items[:1]).deviation == 0
    assert summary([]) is None
    words = re.sub("<[^>]*>", " ", batch_views.totals(items))
    for part in ("2 of 3", "66.7 %", "0.800", "± 0.265", "0.5.png", "48 of 192", "25 %"):
        assert part in words


def test_remaining_time_follows_the_pace(engine, saved):
    items = (*measured(engine, saved)[:2], *(Item("x", look(engine, saved())) for _ in range(4)))
    running = batch_run.Batch(items, (), 3.0)
    assert running.pace.remaining_s == pytest.approx(6.0)
    assert "about 6 s left" in batch_views.progress(running)
    assert replace(running, items=items[2:]).pace.remaining_s is None
    assert not math.isnan(running.seconds)


def test_names_of_files_are_never_markup(engine, saved):
    item = replace(measured(engine, saved)[0], name='<img src=x>"${1}.png')
    running = batch_run.Batch((replace(item, problem="<b>bad</b>"),), (), 1.0)
    html = batch_views.card(item, None) + batch_views.totals([item])
    html += batch_views.progress(running, [Skipped(item.name, "<i>no</i>")])
    assert "<img" not in html
    assert "<i>no" not in html
    assert "<b>bad" not in html
    assert "${" not in html


# The view in a browser


@pytest.fixture
def page(served, chromium):
    with visit(chromium, served.url) as tab:
        tab.get_by_role("tab", name="Many images").click()
        yield tab


def upload(tab, paths: list[str]) -> None:
    tab.set_input_files("#batch-files input[type=file]", paths)
    tab.wait_for_function("n => document.querySelectorAll('#batch-files .file').length === n", arg=len(paths))


def test_a_gallery_and_a_summary_and_one_bad_file(page, files, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    upload(page, [*files(5), str(tmp_path / "notes.png")])
    page.click("#batch-run")
    page.wait_for_selector("#batch-progress >> text=5 of 5 images in")
    assert "notes.png" in page.inner_text(".batch-left-out")
    cards = page.locator(".batch-card:visible")
    assert cards.count() == 5
    assert page.locator(".batch-card .badge.same, .batch-card .badge.other").count() == 5
    same = page.locator(".batch-card .badge.same").count()
    assert f"{same} of 5" in page.inner_text("#batch-totals")
    assert "9 of 36 visual tokens kept" in cards.first.locator("img").get_attribute("alt")
    assert "IDPruner, λ 0.50" in page.inner_text("#batch-about")


def test_nothing_uploaded_is_said(page):
    page.click("#batch-run")
    page.wait_for_selector("text=There are no images")


def test_stop_in_the_gallery(page, served, files, monkeypatch):
    served.models.resources.clear()
    go_on, together = threading.Event(), served.engine.vlm.answer_batch

    def wait(samples, *, max_new_tokens, cancel):
        while not go_on.wait(0.05) and not cancel.is_set():
            pass
        return together(samples, max_new_tokens=max_new_tokens, cancel=cancel)

    monkeypatch.setattr(served.engine.vlm, "answer_batch", wait)
    upload(page, files(3))
    page.click("#batch-run")
    page.wait_for_function("document.querySelectorAll('.batch-card').length === 3")
    page.click("#batch-stop")
    page.wait_for_selector("#batch-progress >> text=Stopped: 0 of 3", timeout=3_000)
    go_on.set()
    page.click("#batch-run")
    page.wait_for_selector("#batch-progress >> text=3 of 3 images in")


def test_the_view_fits(shipped_page, chromium, fits):
    with visit(chromium, shipped_page.url) as tab:
        tab.get_by_role("tab", name="Many images").click()
        upload(tab, [example.path for example in EXAMPLES])
        tab.click("#batch-run")
        tab.wait_for_selector("#batch-progress >> text=8 of 8 images in")
        names = [name.strip() for name in tab.locator("#views > .tab-wrapper [role=tab]").all_inner_texts()]
        assert [name for name in names if name] == [
            "Explore",
            "Compare",
            "Many images",
            "Does it pay?",
            "Use this setting",
            "Why?",
            "Race",
            "Training",
        ]
        fits(tab, "many-images")
        tab.set_viewport_size({"width": 390, "height": 844})
        for name in filter(None, names):  # none hides in a menu
            tab.locator("#views > .tab-wrapper").get_by_role("tab", name=name).click()
            assert not tab.is_visible("#views > .tab-wrapper > .overflow-menu")
