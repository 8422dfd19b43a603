"""The engine: content decides what is shared, the device serves one at a time, and nothing of a visitor stays."""

import base64
import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.batch import run as batch_run
from app.canvas import state as canvas_state
from app.canvas.overlays import overlays
from app.engine.capabilities import Capabilities
from app.engine.device import DeviceFullError, Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.session import Forced, Setting
from app.tradeoff import measure as tradeoff_measure
from pruning import spreading
from pruning.budget import keep_count
from pruning.drawing.overlays import STYLES
from pruning.images import ImageError
from pruning.method import METHODS, make
from pruning.models import ModelError
from pruning.models.trained import KINDS
from pruning.video import VideoError
from tests.helpers.clips import film
from tests.helpers.modules import equipped
from tests.helpers.visits import QUESTION, keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def test_the_same_pixels_are_encoded_once_whatever_the_file(engine, saved, tmp_path, monkeypatch):
    calls, encode = [], engine.vlm.encode
    monkeypatch.setattr(engine.vlm, "encode", lambda *a: calls.append(1) or encode(*a))
    Image.open(saved()).save(tmp_path / "copy.bmp")
    first, second = look(engine, saved()), look(engine, str(tmp_path / "copy.bmp"))
    assert first.keys == second.keys
    assert engine.encoded(first) is engine.encoded(second)
    assert len(calls) == 1
    assert look(engine, saved(1)).keys != first.keys


@pytest.mark.parametrize("name", ["vispruner", "dpp"])
def test_whoever_sees_the_canvas_has_the_similarity_that_the_method_reads(engine, saved, name, monkeypatch):
    monkeypatch.setattr(spreading, "MANY", 0)
    session, method, setting = look(engine, saved()), make(name), keep(name)
    engine.selection(session, setting)
    tokens = engine.tokens_for(session, setting)
    assert not tokens.compared, "one setting needs none"
    alone = engine.selection(session, setting).order
    canvas_state.payload(engine, session, setting)
    assert tokens.has_similarity
    assert not method.compares or tokens.has_similarity_of(method.compares)
    engine.resources.cache.clear()
    canvas_state.payload(engine, session, setting)
    assert torch.equal(engine.selection(session, setting).order, alone)


def test_concurrent_visitors_share_one_encode(engine, saved, monkeypatch):
    calls, encode = [], engine.vlm.encode

    def slow(*values):
        calls.append(1)
        time.sleep(0.1)
        return encode(*values)

    monkeypatch.setattr(engine.vlm, "encode", slow)
    session = look(engine, saved())
    threads = [threading.Thread(target=engine.encoded, args=(session,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


# This tower's tokens cannot leave inside, and no trained modules lie beside the model.
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"flowcut_tower", *KINDS}))
def test_every_retention_is_what_the_method_itself_selects(engine, saved, name):
    session = look(engine, saved())
    method = make(name)
    tokens = engine.tokens(session, method.needs)
    for retention in (0.05, 0.25, 0.5, 1.0):
        budget = keep_count(tokens.n, retention)
        kept = engine.selection(session, Setting(method, retention))
        assert kept.order.tolist() == method.select(tokens, budget).order.tolist()


def test_relevance_depends_on_the_question_and_the_scorer_does_not(engine, saved):
    sessions = [look(engine, saved(), questions=(question,)) for question in ("red star", "how many rings")]
    relevance = keep("greedy_importance", 0.5, importance="relevance")
    orders = [engine.selection(session, relevance).order.tolist() for session in sessions]
    assert orders[0] != orders[1]
    kept = [engine.selection(session, keep("greedy_importance", 0.5)) for session in sessions]
    assert kept[0].order.tolist() == kept[1].order.tolist()


def test_tokens_are_compared_once_for_all_questions_and_methods(engine, saved):
    sessions = [look(engine, saved(), questions=(question,)) for question in ("red star", "how many rings")]
    methods = [make("vispruner"), make("mmtok")]
    encoded = engine.encoded(sessions[0], frozenset().union(*(method.needs for method in methods)))
    tokens = [engine.tokens(session, method.needs) for session in sessions for method in methods]
    assert len({id(each) for each in tokens}) > 1
    for source in (lambda each: each.similarity, lambda each: each.similarity_of("pre_projector")):
        assert {id(source(each)) for each in tokens} == {id(source(encoded.tokens))}


def test_an_evicted_image_is_read_again_and_a_deleted_one_is_explained(engine, saved, tmp_path):
    path = saved()
    session = look(engine, path)
    before = engine.selection(session, Setting(make("idpruner"), 0.25)).order.tolist()
    engine.cache.clear()
    assert engine.selection(session, Setting(make("idpruner"), 0.25)).order.tolist() == before
    engine.cache.clear()
    Image.new("RGB", (224, 168), "red").save(path)
    with pytest.raises(ValueError, match=r"changed.*upload it again"):
        engine.resources.pictures.medium(session.pictures[0])
    engine.cache.clear()
    (tmp_path / "0-224.png").unlink()
    with pytest.raises(ValueError, match=r"no longer on the server.*upload it again"):
        engine.resources.pictures.medium(session.pictures[0])


def test_the_cache_stays_within_its_bytes(tiny_vlm, saved):
    small = Engine(tiny_vlm, Resources(300_000))
    for seed in range(12):
        session = look(small, saved(seed))
        overlays(small, session, keep("idpruner"), "dimmed")
        assert small.cache.nbytes <= 300_000


def test_the_session_is_small_and_frozen(engine, saved):
    session = look(engine, saved())
    flat = [session.model_name, *session.questions, *dataclasses.astuple(session.pictures[0])]
    assert {type(value) for value in flat} == {str, int, type(None)}  # None: it is no clip
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.model_name = "other"


def test_full_answer_equals_the_models_own(engine, saved):
    session = look(engine, saved())
    own = engine.vlm.answer(engine.encoded(session), QUESTION)
    *_, last = answers(engine, Asked(session, QUESTION), Task())
    assert last.ids == own.ids
    assert (last.text, last.prefill_tokens) == (own.text, own.prefill_tokens)
    assert list(answers(engine, Asked(session, QUESTION), Task())) == [last]  # the second time from the cache


def test_reports_end_with_every_number(engine, saved):
    session = look(engine, saved())
    stages = list(reports(engine, session, keep("idpruner", 0.25), Task()))
    last = stages[-1]
    assert stages[0].stage == "all"
    assert last.stage == "done"
    assert 0 <= last.fidelity <= 1
    assert last.kept.flops < last.full.flops
    assert last.kept.kv_bytes < last.full.kv_bytes
    assert min(last.full.ttft_s, last.kept.ttft_s, last.select_s, last.encode_s) > 0


def test_all_tokens_kept_is_the_full_answer(engine, saved):
    session = look(engine, saved())
    *_, last = reports(engine, session, keep("random", 1.0), Task())
    assert last.agree is True
    assert last.fidelity == pytest.approx(1, abs=1e-5)
    assert last.kept.kv_bytes == last.full.kv_bytes > 0


def slow_generate(engine, monkeypatch, pause=0.05):
    generate = engine.vlm.generate

    def crawl(*values, **named):
        for chunk in generate(*values, **named):
            time.sleep(pause)
            yield chunk

    monkeypatch.setattr(engine.vlm, "generate", crawl)


def test_stop_ends_the_stream_and_keeps_nothing(engine, saved, monkeypatch):
    slow_generate(engine, monkeypatch)
    session, task = look(engine, saved()), engine.resources.tasks.begin("ann", "answer")
    stream = reports(engine, session, keep("idpruner", 0.25), task)
    for report in stream:
        if report.full.text:
            engine.resources.tasks.stop("ann")
    assert report.stage == "stopped"
    assert engine.resources.device.idle_within(1)
    assert engine.cache.peek(Asked(session, QUESTION).key(engine)) is None


def test_an_abandoned_reader_frees_the_device(engine, saved, monkeypatch):
    slow_generate(engine, monkeypatch)
    session = look(engine, saved())
    stream = answers(engine, Asked(session, QUESTION), Task())
    next(stream)
    stream.close()
    assert engine.resources.device.idle_within(1)


def test_a_reader_that_never_comes_back_cannot_hold_the_device(engine, saved):
    session = look(engine, saved())
    stream = answers(engine, Asked(session, QUESTION), Task())
    next(stream)  # and no more: the stream stays open
    assert engine.resources.device.idle_within(20)


def test_a_failure_in_the_model_reaches_the_reader(engine, saved, monkeypatch):
    def broken(*values, **named):
        raise RuntimeError("kernel")
        yield

    monkeypatch.setattr(engine.vlm, "generate", broken)
    with pytest.raises(RuntimeError, match="kernel"):
        list(answers(engine, Asked(look(engine, saved()), QUESTION), Task()))
    assert engine.resources.device.idle_within(1)


@pytest.mark.parametrize("after", [0, 2])
def test_a_model_that_gives_no_numbers_gets_no_verdict(engine, saved, monkeypatch, after):
    session, kind, passes = look(engine, saved(91)), type(engine.vlm.model), []
    plain, setting = kind.forward, keep("idpruner", 0.5)

    def broken(self, *values, **named):
        passes.append(1)
        output = plain(self, *values, **named)
        output.logits = output.logits * (torch.nan if len(passes) > after else 1)
        return output

    broken.__wrapped__ = plain
    monkeypatch.setattr(kind, "forward", broken)
    seen = []
    with pytest.raises(ModelError, match="NaN or infinite"):
        seen.extend(reports(engine, session, setting, Task()))
    assert seen
    assert all(report.agree is None and report.fidelity is None for report in seen)
    assert bool(seen[-1].full.text) == bool(after)
    *_, last = batch_run.run(engine, [batch_run.Item("one", session)], setting, Task())
    assert (last.stage, last.items[0].verdict, last.items[0].fidelity) == ("done", None, None)
    assert "NaN or infinite" in last.items[0].problem


def test_tasks_belong_to_their_owner_and_are_forgotten(engine):
    mine, theirs = engine.resources.tasks.begin("ann", "answer"), engine.resources.tasks.begin("bob", "answer")
    engine.resources.tasks.stop("ann", "sweep")
    assert not mine.is_set()
    newer = engine.resources.tasks.begin("ann", "answer")
    assert mine.is_set()
    assert not theirs.is_set()
    engine.resources.tasks.stop("ann")
    assert newer.is_set()
    del mine, newer, theirs
    assert len(engine.resources.tasks) == 0


def test_out_of_memory_drops_the_cache_and_tries_again(engine, saved, monkeypatch):
    session = look(engine, saved())
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
    session, method = look(engine, saved()), make("idpruner", mmr_lambda=0.35)
    points = tradeoff_measure.plane(engine, session, Setting(method, 0.25))
    assert {p.budget for p in points} == {engine.selection(session, Setting(method, 0.25)).k}
    assert (points[-1].method, points[-1].mmr_lambda) == ("idpruner", 0.35)
    assert {"random", "uniform", "divprune"} <= {p.method for p in points}
    assert len({p.mmr_lambda for p in points if p.method == "idpruner"}) >= 11


def test_sweep_streams_finishes_and_is_remembered(engine, saved):
    session, method = look(engine, saved()), make("idpruner", mmr_lambda=0.3)
    methods = tradeoff_measure.sweep_methods(Capabilities(engine.vlm), ["idpruner", "random"], Setting(method, 0.5), 1)[
        0
    ]
    stages = list(tradeoff_measure.sweep(engine, session, methods, Task(), (0.25, 0.5, 1.0)))
    counts = [len(p.points) for p in stages]
    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert stages[-1].stage == "done"
    assert {p.mmr_lambda for p in stages[-1].points if p.method == "idpruner"} == {0.3}
    assert len(list(tradeoff_measure.sweep(engine, session, methods, Task(), (0.25, 0.5, 1.0)))) == 1


def test_a_stopped_sweep_keeps_its_points_on_the_page_and_frees_the_device(engine, saved):
    session, task = look(engine, saved()), Task()
    methods = tradeoff_measure.sweep_methods(Capabilities(engine.vlm), ["random", "uniform"], keep("random"), 1)[0]
    for progress in tradeoff_measure.sweep(engine, session, methods, task):
        if progress.points:
            task.set()
    assert progress.stage == "stopped"
    assert 0 < len(progress.points) < progress.total
    assert engine.resources.device.idle_within(1)


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ((), "empty"),
        (("what", " "), "empty"),
        (("x" * 1_001,), "1,001 characters"),
        (("\ud83d?",), "half"),
    ],
)
def test_no_question_reaches_a_model_that_cannot_be_asked(engine, saved, questions, words):
    with pytest.raises(ValueError, match=words):
        list(reports(engine, look(engine, saved(), questions=questions), keep("random"), Task()))


def test_upload_limits_and_broken_files(tiny_vlm, saved, tmp_path):
    small = Engine(tiny_vlm, Resources(1 << 20, upload_bytes=1000))
    with pytest.raises(ImageError, match="allowed"):
        small.resources.pictures.open(saved())
    (tmp_path / "no.png").write_text("text")
    with pytest.raises(ImageError, match="not an image"):
        small.resources.pictures.open(str(tmp_path / "no.png"))
    with pytest.raises(VideoError, match="MB allowed: cut it"):
        small.resources.pictures.open(str(film(tmp_path / "no.mp4", 30)))


def test_unknown_words_are_named(engine):
    assert engine.unknown_words("what color is the Xylophone?") == ("Xylophone",)
    assert engine.unknown_words("what color is the star?") == ()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["idpruner", "uniform"])
def test_overlay_of_every_style_for_methods_with_and_without_scores(engine, saved, name, style):
    session = look(engine, saved())
    (painted,) = overlays(engine, session, keep(name), style)
    image = painted.image
    assert image.dtype == np.uint8
    assert max(image.shape[:2]) == 768


def test_methods_that_cannot_run_are_left_out_of_the_curves_with_the_reason(tiny_vlm):
    capabilities = Capabilities(tiny_vlm)
    capabilities.refused["divprune"] = "DivPrune needs a picture of a cat"
    chosen, left_out = tradeoff_measure.sweep_methods(capabilities, ["random", "divprune"], keep("random"), 1)
    assert [method.name for method in chosen] == ["random"]
    assert left_out == ["DivPrune needs a picture of a cat"]
    with pytest.raises(ValueError, match=r"None of the ticked.*cat"):
        tradeoff_measure.sweep_methods(capabilities, ["divprune"], keep("random"), 1)


def test_every_method_runs_in_one_sweep(engine, saved):
    session, method = look(engine, saved()), make("idpruner")
    capabilities = Capabilities(engine.vlm)
    methods, left_out = tradeoff_measure.sweep_methods(capabilities, list(METHODS), Setting(method, 0.5), 1)
    *_, last = tradeoff_measure.sweep(engine, session, methods, Task(), (0.25,))
    assert last.stage == "done"
    assert {point.method for point in last.points} == set(METHODS) - capabilities.refused.keys()
    assert set(left_out) >= {capabilities.refused["flowcut_tower"]}


def test_a_method_with_a_budget_of_its_own_keeps_at_most_that(tiny_vlm, saved):
    """Whatever the retention; page and canvas tell what it came to; a gap that a visitor makes is filled."""
    engine = Engine(equipped(tiny_vlm), Resources(64 << 20))
    session, own = look(engine, saved()), make("qtsplus", budget="own")
    n = engine.encoded(session).tokens.n
    limit = own.limit(engine.tokens(session, own.needs))
    assert 1 < limit < n - limit
    for retention, kept in ((1.0, limit), (0.05, keep_count(n, 0.05))):
        setting = Setting(own, retention)
        assert engine.selection(session, setting).k == engine.budget(session, setting) == kept
        assert engine.equivalent(session, setting) == kept / n
    assert engine.selection(session, keep("qtsplus", 1.0)).k == n
    setting = Setting(own, 1.0)
    order = engine.selection(session, setting).order
    told = canvas_state.payload(engine, session, setting)
    shown = np.frombuffer(base64.b64decode(told["orders"]), "<u2")
    assert sorted(shown.tolist()) == list(range(n)), "the canvas counts on all tokens"
    assert shown[:limit].tolist() == order.tolist()
    assert not told["nested"], "so that it asks how many stay"
    out = engine.selection(session, dataclasses.replace(setting, forced=Forced("", (), tuple(order.tolist()))))
    assert out.k == limit
    assert not set(out.order.tolist()) & set(order.tolist())
