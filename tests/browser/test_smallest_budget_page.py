"""The search for the fewest tokens: against every budget asked one by one, with Stop, and as the page shows it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from app.answers.answering import Asked, answers
from app.canvas import payload as canvas_payload
from app.canvas import state as canvas_state
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.session import Forced, Session, Setting
from app.smallest_budget import views as smallest_budget_views
from app.smallest_budget.search import Search, Try, find_budget, find_lambda
from app.web import updates
from pruning.budget import keep_count, retention_of
from pruning.method import make
from pruning.models import Turn
from tests.helpers.visits import QUESTION, crawling, keep, look, visit


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture
def threshold(monkeypatch):
    """threshold(tokens by λ): from so many tokens on a model says what it says with all of them; asks no model.

    A method without λ counts as λ None. Returns the list of (tokens, question) that are asked.
    """
    from app.smallest_budget import search as smallest_budget_search
    from pruning.models import Answer

    def set_to(needs):
        asked = []

        def answer(engine, what: Asked, task):
            if task.is_set():
                yield Answer("", (), 0, 0, 0, False, True)
                return
            kept = engine.encoded(what.session).tokens.n if what.runs is None else what.runs.k
            asked.append((kept, what.question))
            least = 0 if what.runs is None else needs(what)
            yield Answer("same" if kept >= least else "other", (1,) if kept >= least else (2,), 0, 0, 9, True, False)

        monkeypatch.setattr(smallest_budget_search, "answers", answer)
        return asked

    return set_to


@pytest.mark.slow
def test_the_least_budget_of_a_real_model(engine, saved):
    session, setting = look(engine, saved()), keep("idpruner", 0.25)
    *_, found = find_budget(engine, session, setting, Task())

    def ids(selection) -> tuple[int, ...]:
        *_, answer = answers(engine, Asked(session, QUESTION, selection), Task())
        return answer.ids

    full = ids(None)
    same = {k: ids(engine.selection(session, Setting(setting.method, k / found.n))) == full for k in range(1, found.n)}
    assert found.stage == "done"
    assert same.get(found.tokens, True)
    assert not same.get(found.tokens - 1, False)
    assert all(same.get(t.tokens, True) == t.same for t in found.tried)


@pytest.mark.parametrize("least", [1, 2, 11, 47, 48])
def test_finds_each_threshold_and_names_what_it_tried(engine, saved, threshold, least):
    session = look(engine, saved())
    asked = threshold(lambda what: least)
    *_, found = find_budget(engine, session, keep("divprune", 0.5), Task())
    assert (found.tokens, found.n, found.fails) == (least, 48, least - 1)
    assert keep_count(48, found.best.retention) == least
    assert [t.tokens for t in found.tried] == [kept for kept, _ in asked[1:]]
    assert all(t.same == (t.tokens >= least) for t in found.tried)


def test_budgets_per_image_are_counted_as_they_fall(engine, saved, threshold):
    threshold(lambda what: 7)
    session = look(engine, saved(), saved(1))
    *_, found = find_budget(engine, session, keep("divprune", 0.5, scope="image"), Task())
    assert found.n == 96
    assert found.tokens >= 7
    assert found.tokens == engine.selection(session, found.best).k
    smaller = replace(found.best, retention=retention_of(keep_count(96, found.best.retention) - 1, 96))
    assert engine.selection(session, smaller).k < 7


@pytest.mark.parametrize(("present", "best"), [(0.5, 0.25), (0.75, 0.75)])  # where two need the same, it may stay
def test_the_best_lambda_of_the_grid(engine, saved, threshold, present, best):
    needs = {0.0: 31, 0.25: 9, 0.5: 20, 0.75: 9, 1.0: 40}
    session = look(engine, saved())
    orders = {}
    for value in needs:
        method = make("idpruner", mmr_lambda=value)
        for k in range(1, 49):
            kept = tuple(engine.selection(session, Setting(method, k / 48)).order.tolist())
            orders.setdefault(kept, value)
    threshold(lambda what: needs[orders[tuple(what.runs.order.tolist())]])
    steps = list(find_lambda(engine, session, keep("idpruner", 0.25, mmr_lambda=present), Task(), list(needs)))
    assert steps[-1].stage == "done"
    assert (steps[-1].best.method.mmr_lambda, steps[-1].tokens) == (best, 9)
    assert [step.done for step in steps] == [0, 1, 2, 3, 4, 5, 5]


def test_a_method_without_lambda_says_so(engine, saved):
    with pytest.raises(ValueError, match="DivPrune has no λ"):
        next(find_lambda(engine, look(engine, saved()), keep("divprune"), Task()))


@pytest.mark.parametrize("find", [find_budget, find_lambda])
def test_stopped_it_keeps_what_it_knows(engine, saved, threshold, find):
    threshold(lambda what: 5)
    task = Task()
    for count, step in enumerate(find(engine, look(engine, saved()), keep("idpruner"), task)):
        if count == 2:
            task.set()
            last = step
    assert step.stage == "stopped"
    assert (step.best, step.tokens) == (last.best, last.tokens)
    assert step.best is not None


def test_stopped_before_anything_is_known(engine, saved):
    task = Task()
    task.set()
    *_, last = find_budget(engine, look(engine, saved()), keep("random"), task)
    assert (last.stage, last.best) == ("stopped", None)
    assert "Nothing is known" in smallest_budget_views.search(last)


def test_every_turn_of_a_conversation_has_to_stay(engine, saved, threshold):
    least = {"one": 4, "two": 13}
    asked = threshold(lambda what: least[what.question])
    session = look(engine, saved(), questions=("one", "two"))
    *_, found = find_budget(engine, session, keep("random"), Task())
    assert found.tokens == 13
    assert (13, "two") in asked


def test_history_is_what_was_answered_with_all_tokens(engine, saved, monkeypatch):
    from app.smallest_budget import search as smallest_budget_search

    seen = []
    real = smallest_budget_search.answers
    monkeypatch.setattr(
        smallest_budget_search, "answers", lambda engine, what, task: seen.append(what) or real(engine, what, task)
    )
    session = look(engine, saved(), questions=("what is it?", "and now?"))
    next(step for step in find_budget(engine, session, keep("random"), Task()) if step.tried)
    *_, first = real(engine, seen[0], Task())
    assert {what.history for what in seen if what.question == "and now?"} == {(Turn("what is it?", first.text),)}


def forcing(session: Session, ins=(), outs=()) -> Setting:
    setting = keep("idpruner", 0.5)
    key = canvas_payload.key_of(setting.method, canvas_state.identity_of(session, setting))
    return replace(setting, forced=Forced(key, ins, outs))


def test_a_budget_holds_what_is_forced_in(engine, saved, threshold):
    threshold(lambda what: 2)
    session = look(engine, saved())
    *_, found = find_budget(engine, session, forcing(session, ins=(1, 2, 3, 4, 5)), Task())
    assert found.tokens == 5
    assert {1, 2, 3, 4, 5} == set(engine.selection(session, found.best).indices.tolist())


def test_patches_forced_out_may_leave_nothing_that_keeps_the_answer(engine, saved, threshold):
    threshold(lambda what: 46)
    session = look(engine, saved())
    *_, found = find_budget(engine, session, forcing(session, outs=(0, 1)), Task())
    assert found.tokens == 46
    with pytest.raises(ValueError, match="Even 45 of 48 tokens change the answer: release"):
        list(find_budget(engine, session, forcing(session, outs=(0, 1, 2)), Task()))


# What is shown


def test_the_line_names_tokens_share_answer_and_every_try():
    tried = (Try(0.5, 64, True), Try(0.5, 8, True), Try(0.5, 3, False))
    found = Search(keep("idpruner"), 8, 64, 7, tried, 3, 0, 1.0, 0, "<b>red</b>", "done")
    html = smallest_budget_views.search(found)
    words = re.sub("<[^>]*>", "", html)
    assert "8 of 64 tokens (12.5 %) keep “&lt;b&gt;red&lt;/b&gt;”, 7 do not" in words
    assert "64 ✓8 ✓3 ✗" in words
    assert 'title="3 tokens: another answer"' in html
    assert "<b>red" not in html
    over = smallest_budget_views.search(replace(found, lambdas=21, done=9, stage="stopped"))
    assert "Stopped" in over
    assert "9 of 21 values of λ" in over
    assert smallest_budget_views.search(None) == ""


@pytest.mark.parametrize(
    ("budget", "n", "value", "step"),
    [(16, 64, 0.25, 0.01), (1, 256, 0.004, 0.001), (5, 9000, 0.0006, 0.0001), (1, 16384, 6e-05, 1e-05)],
)
def test_the_slider_can_hold_every_budget(budget, n, value, step):
    update = updates.retention(retention_of(budget, n))
    assert update["value"] == pytest.approx(value)
    assert update["step"] == pytest.approx(step)
    assert update["minimum"] <= update["value"]
    steps = (update["value"] - update["minimum"]) / update["step"]
    assert steps == pytest.approx(round(steps))
    assert keep_count(n, update["value"]) == budget


# The page in a browser


@pytest.fixture
def page(served, chromium):
    with visit(chromium, served.url) as tab:
        yield tab


def kept(tab) -> int:
    return int(re.match(r"(\d+) of 64", tab.inner_text('#canvas [data-part="count"]'))[1])


def settled(tab) -> int:
    """The tokens that slider, canvas and answer agree on."""
    tab.wait_for_selector("#fewest-result .fewest")
    tab.wait_for_function(
        """() => {
            const [, found] = document.querySelector('.fewest').innerText.match(/(\\d+) of 64 tokens/);
            const head = document.querySelector('#report .answer:nth-child(2) h3').innerText;
            return document.querySelector('#canvas [data-part="count"]').innerText.startsWith(`${found} of 64`)
                && head.includes(`${found} tokens`);
        }"""
    )
    tab.wait_for_selector("#report .badge.same")
    return kept(tab)


def test_slider_overlay_and_answer_go_to_the_fewest_tokens(page):
    page.click("#fewest-tokens")
    found = settled(page)
    ratio = float(page.input_value("#retention input[type=number]"))
    assert keep_count(64, ratio) == found
    assert float(page.input_value("#retention input[type=range]")) == ratio
    assert "tried" in page.inner_text("#fewest-result")
    assert not page.is_visible("#fewest-stop")
    page.click("#examples button:nth-child(3)")  # another image: the line says nothing of it
    page.wait_for_function("document.querySelector('#fewest-result .fewest') === null")


def test_the_best_lambda_moves_the_weights(page):
    page.click("#fewest-lambda")
    page.wait_for_selector("#fewest-result >> text=21 of 21 values of λ")
    found = settled(page)
    told = page.inner_text("#fewest-result")
    value = float(re.search(r"λ (\d\.\d+)", told)[1])
    weights = [float(page.input_value(f"#{name}-weight input[type=number]")) for name in ("importance", "diversity")]
    assert weights[0] / sum(weights) == pytest.approx(value, abs=0.005)
    page.click("#fewest-tokens")
    page.wait_for_selector("#fewest-result >> text=tried")
    assert settled(page) == found


def test_a_method_without_lambda_is_refused_and_stop_ends_a_search(page, served, monkeypatch):
    page.click("#method input")
    page.get_by_role("option", name="Random · baseline").click()
    page.wait_for_function("document.querySelector('#canvas [data-part=\"count\"]').innerText.includes('no λ')")
    page.click("#fewest-lambda")
    page.wait_for_selector("text=Random has no λ")
    served.models.resources.clear()  # no answer is known from another test
    with crawling(served.engine.vlm, monkeypatch):
        page.click("#fewest-tokens")
        page.wait_for_selector("#fewest-stop", state="visible")
        page.click("#fewest-stop")
        page.wait_for_selector("#fewest-result >> text=Stopped", timeout=3_000)
    assert not page.is_visible("#fewest-stop")


def test_a_link_brings_a_budget_that_the_slider_had_no_step_for(served, chromium):
    with visit(chromium, served.url + "?example=crowd&retention=0.0104&") as tab:
        tab.wait_for_function("document.querySelector('#canvas [data-part=\"count\"]').innerText.startsWith('1 of 64')")
        assert float(tab.input_value("#retention input[type=number]")) == 0.0104
        tab.wait_for_function(
            "document.querySelector('#report .answer:nth-child(2) h3').innerText.includes('1 tokens')"
        )
