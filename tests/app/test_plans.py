"""A setting that drops tokens between layers: what it costs where, what the canvas is told of it, what cannot be."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from app.answers import views as answers_views
from app.answers.reports import reports
from app.canvas import state as canvas_state
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.explore.menus import within_reach
from app.plan import dominance
from app.plan import steps as plan_steps
from app.plan import views as plan_views
from app.session import Setting
from app.tradeoff import measure
from pruning.budget import keep_count
from pruning.choosing import out_of_reach
from pruning.method import make
from pruning.plan import Entry, parse_plan
from pruning.staged import STAGED, make_staged
from tests.helpers.visits import keep, look


@pytest.fixture(scope="module")
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture
def session(engine, saved):
    return look(engine, saved())


def staged(name: str, retention: float = 0.75, plan: str = "") -> Setting:
    return Setting(make_staged(name), retention, plan=parse_plan(plan) if plan else None)


def finished(engine, session, setting):
    *_, last = reports(engine, session, setting, Task())
    return last


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


UNTRAINED = sorted(name for name, method in STAGED.items() if not method.trained)  # no modules lie beside this model


def reached() -> list[tuple[str, float]]:
    """Every method with a retention that it can come to in a model of two layers, if there is one below 1."""
    found = {name: [r for r in (0.75, 0.5) if not out_of_reach(make_staged(name), 48, 2, r)] for name in UNTRAINED}
    return [(name, ratios[0]) for name, ratios in sorted(found.items()) if ratios]


@pytest.mark.parametrize(("name", "retention"), reached())
def test_layers_cost_together_what_the_answer_costs(engine, session, name, retention):
    report = finished(engine, session, staged(name, retention))
    shape = engine.vlm.config.get_text_config()
    head = 2 * shape.hidden_size * shape.vocab_size
    assert [each.layer for each in report.layers] == list(range(1, engine.vlm.layers + 1))
    assert [each.alive for each in report.layers] == report.lives.alive
    assert sum(each.flops for each in report.layers) + head == report.kept.flops
    assert sum(each.kv_bytes for each in report.layers) == report.kept.kv_bytes
    assert report.layers[-1].alive < report.n or make_staged(name).drops_all, "which may drop nothing as well"
    assert report.budget == keep_count(report.n, report.lives.equivalent_retention)


def test_what_is_forgotten_early_costs_no_memory_in_early_layers(engine, session):
    report = finished(engine, session, staged("fastv", plan="1:fastv:0.25,evict"))
    assert report.layers[0].alive == report.n > report.layers[0].held == report.layers[-1].held
    assert sum(each.kv_bytes for each in report.layers) == report.kept.kv_bytes


def test_what_is_saved_before_and_inside_is_told_apart(engine, session):
    composed = finished(engine, session, staged("fastv", plan="pre:uniform:0.5,1:fastv:0.5"))
    entered = round(composed.n / 2)
    told = str(answers_views.report(composed))
    assert f"before the language model: {composed.n} → {entered};" in told
    assert f"inside it: {entered} → " in told
    assert "1:fastv:0.5" in told
    alone = str(answers_views.report(finished(engine, session, staged("fastv"))))
    assert "before the language model: nothing;" in alone
    assert "Cost per layer" not in str(answers_views.report(finished(engine, session, keep("idpruner"))))


def test_layers_that_cost_the_same_share_a_row(engine, session):
    report = finished(engine, session, staged("fastv", plan="1:fastv:0.25"))
    told = str(answers_views.report(report))
    rows = re.findall(r'<th scope="row">([^<]+)</th><td>([\d,]+)</td>', told)
    rest = f"2 to {engine.vlm.layers}, each" if engine.vlm.layers > 2 else "2"
    assert rows == [("1", str(report.n)), (rest, str(report.lives.alive[-1]))]


@pytest.mark.parametrize(("name", "retention"), reached())
def test_the_canvas_knows_until_which_layer_every_patch_lives(engine, session, name, retention):
    setting = staged(name, retention)
    exact, payload = canvas_state.exact(engine, session, setting), canvas_state.payload(engine, session, setting)
    lives = unpacked(exact["lives"], "<u2")
    assert [int((lives > layer).sum()) for layer in range(engine.vlm.layers)] == exact["alive"]
    assert set(unpacked(exact["order"], "<u2")) == set(np.flatnonzero(lives == lives.max()))
    order = unpacked(exact["endurance"], "<u2")
    assert sorted(order) == list(range(payload["n"]))
    assert (np.diff(lives[order].astype(int)) <= 0).all(), "those that live longest come first"
    assert payload["staged"]
    assert payload["orders"] is None


def test_another_retention_has_an_order_of_its_own(engine, session):
    for retention in (0.9, 0.6):
        setting = staged("pyramiddrop", retention)
        exact = canvas_state.exact(engine, session, setting)
        lives = unpacked(exact["lives"], "<u2").astype(int)
        order = unpacked(exact["endurance"], "<u2")
        assert (np.diff(lives[order]) <= 0).all()


def test_the_card_names_the_cut(engine, session):
    setting = staged("fastv")
    exact = canvas_state.exact(engine, session, setting)
    lives = unpacked(exact["lives"], "<u2")
    token = int(np.flatnonzero(lives < engine.vlm.layers)[0])
    why = canvas_state.card(engine, session, setting, token).why
    assert why.startswith(f"dropped after layer {lives[token]}: ")
    assert f"by the last token's attention, {exact['alive'][-1]} stayed" in why


def test_what_a_schedule_cannot_come_to_names_the_range(engine, session):
    for ask in (engine.runs, canvas_state.exact, measure.plane, finished):
        where = (session, staged("fastv", 0.02))
        with pytest.raises(ValueError, match=r"cannot come to an equivalent retention of 0\.02.* reach 0\.\d+ to 1"):
            ask(*where) if ask == engine.runs else ask(engine, *where)


def test_the_plane_says_what_it_shows_of_a_plan(engine, session):
    setting = staged("fastv")
    alive = canvas_state.exact(engine, session, setting)["alive"]
    note = measure.plane_note(engine, session, setting)
    assert f"the {alive[-1]} tokens alive after its last cut" in note
    assert measure.plane_note(engine, session, keep("idpruner")) == ""
    *_, here = measure.plane(engine, session, setting)
    assert here.method == "fastv"


def test_the_chart_shows_what_the_model_does(engine, session):
    for setting in (staged("fastv"), staged("fastv", plan="pre:uniform:0.5,1:fastv:0.5,evict")):
        steps, alive = plan_steps.steps(engine, session, setting), finished(engine, session, setting).lives.alive
        counts = [steps.entered] * engine.vlm.layers
        for cut in steps.cuts:
            counts[cut.after :] = [cut.count] * (engine.vlm.layers - cut.after)
        assert counts == alive
        assert steps.equivalent == pytest.approx(sum(alive) / len(alive) / steps.n)
    assert (steps.entry, steps.evict) == ("uniform", True)
    assert plan_steps.steps(engine, session, keep("idpruner")) is None


@pytest.mark.parametrize("name", sorted(STAGED))
def test_a_rule_goes_on_from_what_a_method_lets_in(name):
    written = plan_steps.composed(Entry(make("uniform"), 0.5), make_staged(name), 28)
    plan, rule = parse_plan(written), make_staged(name)
    assert str(plan) == written
    assert (plan.entry.method.name, plan.entry.keep) == ("uniform", 0.5)
    inside = [(after, share) for after, share in rule.shape(28) if after or not rule.first]
    assert [cut.after for cut in plan.cuts] == [after for after, _ in inside]
    plan.alive(plan.entered(1000), 28)


@pytest.mark.parametrize("name", sorted(STAGED))
@pytest.mark.parametrize("layers", [4, 28])
def test_the_page_moves_a_retention_to_where_a_schedule_reaches(name, layers):
    method = make_staged(name)
    for retention in (0.02, 0.5, 0.99, 1):
        near = within_reach(method, 256, layers, retention)
        method.schedule(256, layers, near)
        assert near == within_reach(method, 256, layers, near)
    assert within_reach(make("idpruner"), 256, layers, 0.02) == 0.02


def test_what_dominates_is_that_of_the_answers_on_the_page(engine, session):
    setting = staged("fastv", plan="1:fastv:0.25")
    asked = replace(session, questions=("what color is the star?", "where is it?"))
    assert dominance.measured(engine, asked, setting) is None, "nothing has been answered yet"
    report = finished(engine, asked, setting)
    found = dominance.measured(engine, asked, setting)
    assert dominance.recalled(engine, asked, setting) == found
    assert [layer.visual_tokens for layer in found.full] == [report.n] * engine.vlm.layers
    assert [layer.visual_tokens for layer in found.kept] == report.lives.alive
    assert found.full[0].text_tokens > dominance_of(engine, session, setting).full[0].text_tokens, "earlier turns count"
    value = plan_views.dominance("a", found)
    assert [layer["mdi"] for layer in value["kept"]] == [layer.mdi for layer in found.kept]
    assert plan_views.dominance("b", None, "why")["key"] != value["key"]


def dominance_of(engine, session, setting):
    finished(engine, session, setting)
    return dominance.measured(engine, session, setting)
