"""The engine: content decides what is shared, the device serves one at a time, and nothing of a visitor stays."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from app import tradeoff
from app.answering import answer_key, answers
from app.device import DeviceFullError, Task
from app.engine import Engine, checked_question
from app.reports import reports
from pruning.images import ImageError
from pruning.method import METHODS, make

QUESTION = "what color is the star?"


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, 64 << 20)


@pytest.fixture
def saved(tmp_path, noise):
    """saved(seed) -> path of a PNG."""

    def save(seed=0, size=(224, 168)):
        path = tmp_path / f"{seed}-{size[0]}.png"
        noise(*size, seed).save(path)
        return str(path)

    return save


def test_the_same_pixels_are_encoded_once_whatever_the_file(engine, saved, tmp_path, monkeypatch):
    calls, encode = [], engine.vlm.encode
    monkeypatch.setattr(engine.vlm, "encode", lambda *a: calls.append(1) or encode(*a))
    Image.open(saved()).save(tmp_path / "copy.bmp")
    first, second = engine.open(saved())[0], engine.open(str(tmp_path / "copy.bmp"))[0]
    assert first.image_key == second.image_key
    assert engine.encoded(first) is engine.encoded(second)
    assert len(calls) == 1
    assert engine.open(saved(1))[0].image_key != first.image_key


def test_concurrent_visitors_share_one_encode(engine, saved, monkeypatch):
    calls, encode = [], engine.vlm.encode

    def slow(*values):
        calls.append(1)
        time.sleep(0.1)
        return encode(*values)

    monkeypatch.setattr(engine.vlm, "encode", slow)
    session = engine.open(saved())[0]
    threads = [threading.Thread(target=engine.encoded, args=(session,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


@pytest.mark.parametrize("name", METHODS)
def test_every_retention_is_what_the_method_itself_selects(engine, saved, name):
    session = engine.open(saved())[0]
    method = make(name)
    tokens = engine.tokens(session, QUESTION, method.needs)
    for retention in (0.05, 0.25, 0.5, 1.0):
        budget = engine.budget(session, retention)
        kept = engine.selection(session, QUESTION, method, retention)
        assert kept.order.tolist() == method.select(tokens, budget).order.tolist()


def test_relevance_depends_on_the_question_and_the_scorer_does_not(engine, saved):
    session = engine.open(saved())[0]
    relevance, scorer = make("greedy_importance", importance="relevance"), make("greedy_importance")
    orders = [engine.selection(session, q, relevance, 0.5).order.tolist() for q in ("red star", "how many rings")]
    assert orders[0] != orders[1]
    kept = [engine.selection(session, q, scorer, 0.5) for q in ("red star", "how many rings")]
    assert kept[0].order.tolist() == kept[1].order.tolist()


def test_an_evicted_image_is_read_again_and_a_deleted_one_is_explained(engine, saved, tmp_path):
    path = saved()
    session = engine.open(path)[0]
    before = engine.selection(session, "", make("idpruner"), 0.25).order.tolist()
    engine.cache.clear()
    assert engine.selection(session, "", make("idpruner"), 0.25).order.tolist() == before
    engine.cache.clear()
    Image.new("RGB", (224, 168), "red").save(path)
    with pytest.raises(ValueError, match=r"changed.*upload it again"):
        engine.image(session)
    engine.cache.clear()
    (tmp_path / "0-224.png").unlink()
    with pytest.raises(ValueError, match=r"no longer on the server.*upload it again"):
        engine.image(session)


def test_the_cache_stays_within_its_bytes(tiny_vlm, saved):
    small = Engine(tiny_vlm, 300_000)
    for seed in range(12):
        session = small.open(saved(seed))[0]
        small.overlay(session, QUESTION, make("idpruner"), 0.25, "dimmed")
        assert small.cache.nbytes <= 300_000


def test_the_session_is_small_and_frozen(engine, saved):
    session = engine.open(saved())[0]
    assert {type(value) for value in dataclasses.astuple(session)} == {str, int}
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.path = "other"


def test_full_answer_equals_the_models_own(engine, saved):
    session = engine.open(saved())[0]
    own = engine.vlm.answer(engine.encoded(session), QUESTION)
    *_, last = answers(engine, session, QUESTION, None, Task())
    assert last.ids == own.ids
    assert (last.text, last.prefill_tokens) == (own.text, own.prefill_tokens)
    assert list(answers(engine, session, QUESTION, None, Task())) == [last]  # the second time from the cache


def test_reports_end_with_every_number(engine, saved):
    session = engine.open(saved())[0]
    stages = list(reports(engine, session, QUESTION, make("idpruner"), 0.25, Task()))
    last = stages[-1]
    assert stages[0].stage == "all"
    assert last.stage == "done"
    assert 0 <= last.fidelity <= 1
    assert last.kept.flops < last.full.flops
    assert last.kept.kv_bytes < last.full.kv_bytes
    assert min(last.full.ttft_s, last.kept.ttft_s, last.select_s, last.encode_s) > 0


def test_all_tokens_kept_is_the_full_answer(engine, saved):
    session = engine.open(saved())[0]
    *_, last = reports(engine, session, QUESTION, make("random"), 1.0, Task())
    assert last.agree is True
    assert last.fidelity == pytest.approx(1, abs=1e-5)
    assert not last.saves_memory


def slow_generate(engine, monkeypatch, pause=0.05):
    generate = engine.vlm.generate

    def crawl(*values, **named):
        for chunk in generate(*values, **named):
            time.sleep(pause)
            yield chunk

    monkeypatch.setattr(engine.vlm, "generate", crawl)


def test_stop_ends_the_stream_and_keeps_nothing(engine, saved, monkeypatch):
    slow_generate(engine, monkeypatch)
    session, task = engine.open(saved())[0], engine.tasks.begin("ann", "answer")
    stream = reports(engine, session, QUESTION, make("idpruner"), 0.25, task)
    for report in stream:
        if report.full.text:
            engine.tasks.stop("ann")
    assert report.stage == "stopped"
    assert engine.device.idle_within(1)
    assert engine.cache.peek(answer_key(engine, session, QUESTION, None)) is None


def test_an_abandoned_reader_frees_the_device(engine, saved, monkeypatch):
    slow_generate(engine, monkeypatch)
    session = engine.open(saved())[0]
    stream = answers(engine, session, QUESTION, None, Task())
    next(stream)
    stream.close()
    assert engine.device.idle_within(1)


def test_a_reader_that_never_comes_back_cannot_hold_the_device(engine, saved):
    session = engine.open(saved())[0]
    stream = answers(engine, session, QUESTION, None, Task())
    next(stream)  # and no more: the stream stays open
    assert engine.device.idle_within(20)


def test_a_failure_in_the_model_reaches_the_reader(engine, saved, monkeypatch):
    def broken(*values, **named):
        raise RuntimeError("kernel")
        yield

    monkeypatch.setattr(engine.vlm, "generate", broken)
    with pytest.raises(RuntimeError, match="kernel"):
        list(answers(engine, engine.open(saved())[0], QUESTION, None, Task()))
    assert engine.device.idle_within(1)


def test_tasks_belong_to_their_owner_and_are_forgotten(engine):
    mine, theirs = engine.tasks.begin("ann", "answer"), engine.tasks.begin("bob", "answer")
    engine.tasks.stop("ann", "sweep")
    assert not mine.is_set()
    newer = engine.tasks.begin("ann", "answer")
    assert mine.is_set()
    assert not theirs.is_set()
    engine.tasks.stop("ann")
    assert newer.is_set()
    del mine, newer, theirs
    assert len(engine.tasks) == 0


def test_out_of_memory_drops_the_cache_and_tries_again(engine, saved, monkeypatch):
    session = engine.open(saved())[0]
    engine.cache.put("other", 1, 1000)
    failures, encode = [1], engine.vlm.encode

    def tight(*values):
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(*values)

    monkeypatch.setattr(engine.vlm, "encode", tight)
    assert engine.encoded(session).tokens.n > 0
    assert engine.cache.peek("other") is None

    def full(*values):
        raise MemoryError

    monkeypatch.setattr(engine.vlm, "encode", full)
    engine.cache.clear()
    with pytest.raises(DeviceFullError, match="smaller image"):
        engine.encoded(session)
    monkeypatch.setattr(engine.vlm, "encode", encode)
    assert engine.encoded(session).tokens.n > 0


def test_plane_holds_sweep_references_and_the_present_setting(engine, saved):
    session, method = engine.open(saved())[0], make("idpruner", mmr_lambda=0.35)
    points = tradeoff.plane(engine, session, QUESTION, method, 0.25)
    assert {p.budget for p in points} == {engine.budget(session, 0.25)}
    assert (points[-1].method, points[-1].mmr_lambda) == ("idpruner", 0.35)
    assert {"random", "uniform", "divprune"} <= {p.method for p in points}
    assert len({p.mmr_lambda for p in points if p.method == "idpruner"}) >= 11


def test_sweep_streams_finishes_and_is_remembered(engine, saved):
    session, method = engine.open(saved())[0], make("idpruner", mmr_lambda=0.3)
    methods = tradeoff.sweep_methods(engine, ["idpruner", "random"], method)
    stages = list(tradeoff.sweep(engine, session, QUESTION, methods, Task(), (0.25, 0.5, 1.0)))
    counts = [len(p.points) for p in stages]
    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert stages[-1].stage == "done"
    assert {p.mmr_lambda for p in stages[-1].points if p.method == "idpruner"} == {0.3}
    assert len(list(tradeoff.sweep(engine, session, QUESTION, methods, Task(), (0.25, 0.5, 1.0)))) == 1


def test_a_stopped_sweep_keeps_its_points_on_the_page_and_frees_the_device(engine, saved):
    session, task = engine.open(saved())[0], Task()
    methods = tradeoff.sweep_methods(engine, ["random", "uniform"], make("random"))
    for progress in tradeoff.sweep(engine, session, QUESTION, methods, task):
        if progress.points:
            task.set()
    assert progress.stage == "stopped"
    assert 0 < len(progress.points) < progress.total
    assert engine.device.idle_within(1)


@pytest.mark.parametrize(
    ("question", "words"), [("", "empty"), ("  \n", "empty"), ("x" * 10_000, "10,000"), (None, "empty")]
)
def test_questions_are_checked(question, words):
    with pytest.raises(ValueError, match=words):
        checked_question(question)


def test_upload_limits_and_broken_files(tiny_vlm, saved, tmp_path):
    small = Engine(tiny_vlm, 1 << 20, upload_bytes=1000)
    with pytest.raises(ImageError, match="allowed"):
        small.open(saved())
    (tmp_path / "no.png").write_text("text")
    with pytest.raises(ImageError, match="not an image"):
        small.open(str(tmp_path / "no.png"))


def test_unknown_words_are_named(engine):
    assert engine.unknown_words("what color is the Xylophone?") == ["Xylophone"]
    assert engine.unknown_words("what color is the star?") == []


@pytest.mark.parametrize("style", ["dimmed", "grid", "heat", "order"])
@pytest.mark.parametrize("name", ["idpruner", "uniform"])
def test_overlay_of_every_style_for_methods_with_and_without_scores(engine, saved, name, style):
    session = engine.open(saved())[0]
    image = engine.overlay(session, QUESTION, make(name), 0.25, style)
    assert image.dtype == np.uint8
    assert max(image.shape[:2]) == 768
