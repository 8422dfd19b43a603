"""Positions of kept tokens in the app: asked as the library does, and nothing of one is ever taken for the other."""

from dataclasses import replace

import pytest

from app.answers.answering import Asked, answers
from app.answers.batching import answer_all
from app.answers.reports import reports
from app.api.results import answered
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.pays import run as pays_run
from app.session import Setting
from app.smallest_budget.search import find_budget
from app.tradeoff import measure
from app.web import wording
from pruning.encoding import ENCODING, make_encoding
from pruning.models import Turn
from pruning.models.values import POSITIONS
from pruning.staged import make_staged
from tests.helpers.clips import film
from tests.helpers.visits import QUESTION, keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture
def session(engine, saved):
    return look(engine, saved())


def asked_with(engine, session, positions, setting=None):
    setting = replace(setting or keep("idpruner"), positions=positions)
    return Asked(session, QUESTION, engine.runs(session, setting), positions=positions)


def answer(engine, asked):
    *_, last = answers(engine, asked, Task())
    return last


def test_each_is_answered_as_the_library_does_and_none_has_the_other_s(engine, session, monkeypatch):
    monkeypatch.setattr(engine.vlm.model.generation_config, "eos_token_id", -1)
    both = [asked_with(engine, session, positions) for positions in POSITIONS]
    encoded = engine.encoded(session)
    for round_ in range(2):  # from the cache the second time
        for asked in both:
            alone = engine.vlm.answer(encoded, QUESTION, asked.runs, positions=asked.positions)
            assert answer(engine, asked).ids == alone.ids, round_
    assert len({asked.key(engine) for asked in both}) == 2


def test_a_conversation_s_memory_belongs_to_its_positions(engine, session, monkeypatch):
    monkeypatch.setattr(engine.vlm.model.generation_config, "eos_token_id", -1)
    both = [asked_with(engine, session, positions) for positions in POSITIONS]
    for asked in both:
        answer(engine, asked)
    held = [engine.resources.memories.peek(engine.key("memory", session, asked.kept)) for asked in both]
    assert None not in held
    assert held[0] is not held[1]
    encoded = engine.encoded(session)
    for asked in both:
        history = (Turn(QUESTION, "red"),)
        later = answer(engine, replace(asked, question="how many?", history=history))
        values = {"history": history, "positions": asked.positions}
        assert later.ids == engine.vlm.answer(encoded, "how many?", asked.runs, **values).ids


def test_several_at_once_keep_their_own(engine, session, monkeypatch):
    monkeypatch.setattr(engine.vlm.model.generation_config, "eos_token_id", -1)
    both = [asked_with(engine, session, positions) for positions in POSITIONS]
    together = answer_all(engine, both, Task())
    for asked, found in zip(both, together, strict=True):
        alone = engine.vlm.answer(engine.encoded(session), QUESTION, asked.runs, positions=asked.positions)
        assert found.ids == alone.ids


def test_where_no_token_is_missing_they_are_the_same(engine, session, tmp_path):
    everything = [asked_with(engine, session, p, keep("idpruner", 1.0)).key(engine) for p in POSITIONS]
    assert everything[0] == everything[1]
    clip = look(engine, str(film(tmp_path / "a.mp4", frames=12, fps=10, size=(168, 112))))
    for name, encoding in ENCODING.items():
        seen = clip if encoding.clips else session
        anew = [asked_with(engine, seen, p, Setting(make_encoding(name), 0.5)).key(engine) for p in POSITIONS]
        assert anew[0] == anew[1]


def test_they_choose_nothing_before_the_language_model(engine, session):
    first, second = (engine.selection(session, replace(keep("divprune"), positions=p)) for p in POSITIONS)
    assert first.order.tolist() == second.order.tolist()


def test_what_rules_between_layers_saw_is_kept_apart(engine, session):
    settings = [Setting(make_staged("fastv"), 0.75, positions=p) for p in POSITIONS]
    traces = [engine.trace(session, setting) for setting in settings]
    assert traces[0] is not traces[1]
    assert engine.trace(session, settings[1]) is traces[1]


def test_curves_are_measured_with_their_positions(engine, session):
    methods, swept = [keep("random").method], {}
    for positions in POSITIONS:
        *_, last = measure.sweep(engine, session, methods, Task(), (0.1, 1.0), positions)
        swept[positions] = last.points
    assert swept["original"][0].fidelity != swept["compact"][0].fidelity
    assert swept["original"][-1].fidelity == pytest.approx(swept["compact"][-1].fidelity)
    measured = measure.Measured(session, tuple(methods), swept["compact"], 2, "compact")
    assert measured.is_about(session, "compact")
    assert not measured.is_about(session, "original")


def test_whether_it_pays_is_measured_with_them(engine, session, monkeypatch):
    asked, plain = [], type(engine.vlm).rehearse
    monkeypatch.setattr(
        type(engine.vlm), "rehearse", lambda vlm, samples, *rest: asked.extend(samples) or plain(vlm, samples, *rest)
    )
    next(pays_run.run(engine, session, keep("random"), Task(), (1,)))
    steps = pays_run.run(engine, session, replace(keep("random"), positions="compact"), Task(), (1,))
    next(steps), next(steps)
    steps.close()
    assert {sample.positions for sample in asked} == {"compact"}


def test_results_say_which_they_are(engine, session):
    setting = replace(keep("random"), positions="compact")
    *_, last = reports(engine, session, setting, Task())
    assert answered(engine, session, setting, last).positions == "compact"
    assert "without gaps" in wording.details(setting)
    assert "without gaps" not in wording.details(keep("random"))


def test_the_fewest_tokens_are_looked_for_with_them(engine, session):
    setting = replace(keep("idpruner"), positions="compact")
    *_, last = find_budget(engine, session, setting, Task())
    assert last.best.positions == "compact"
    *_, report = reports(engine, session, last.best, Task())
    assert report.agree
