"""Why an answer changed, on the page and below it: the patches that it hangs on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from app.answers import views as answers_views
from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.canvas.overlays import overlays, views
from app.canvas.state import with_forced
from app.engine import remote
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.session import Session
from app.why import views as why_views
from app.why.run import Step, on_canvas, run
from pruning.evaluation.cost import prefill_flops
from pruning.evaluation.why import needing, returning
from pruning.models import load
from tests.helpers.visits import keep, look, seconds_to_stop, visit


@pytest.fixture(scope="module")
def shipped(uploads):
    return Engine(load(), Resources(256 << 20))


@pytest.fixture(scope="module")
def crowd(shipped) -> Session:
    """A question that 5 % of the tokens answer in another way."""
    return look(shipped, "assets/examples/crowd.png", questions=("how many crosses are there?",))


FEW = keep("idpruner", 0.05)


@pytest.fixture(scope="module")
def found(shipped, crowd) -> Step:
    """The end of the search under `FEW`."""
    *_, last = run(shipped, crowd, FEW, Task())
    return last


def said(engine, session, indices=None):
    """The answer to the first question."""
    *_, answer = answers(engine, Asked(session, session.questions[0], indices), Task())
    return answer


def test_the_patches_that_bring_an_answer_back_do_so_on_the_canvas(shipped, crowd, found):
    setting, last = FEW, found
    assert (last.stage, last.found.way, last.found.reached) == ("done", "return", True)
    assert last.full != last.kept
    share, forced = on_canvas(last)
    shown = with_forced(replace(crowd, forced=forced), keep("idpruner", share))
    selection = shipped.selection(crowd, shown)
    kept = set(shipped.selection(crowd, setting).indices.tolist())
    assert set(selection.indices.tolist()) == kept | set(last.found.patches)
    assert said(shipped, crowd, selection).text == last.full


def test_the_search_is_the_librarys(shipped, crowd):
    setting, encoded = keep("idpruner", 0.1), shipped.encoded(crowd)
    chosen = shipped.selection(crowd, setting)
    for way, look_for in (("need", needing), ("return", returning)):
        *_, last = run(shipped, crowd, setting, Task(), way)
        answer = said(shipped, crowd, chosen if way == "need" else None)
        kept = chosen.indices.tolist()
        *_, found = look_for(shipped.vlm, encoded, crowd.questions[0], answer, kept, chosen.n)
        assert (last.found.patches, last.found.done) == (found.patches, found.done)
        assert "".join(costs.text for costs in last.tokens) == answer.text


def test_a_conversation_is_asked_about_its_last_question(shipped, crowd):
    both = Session(crowd.model_name, crowd.pictures, (*crowd.questions, "is there a star?"))
    *_, last = run(shipped, both, keep("idpruner", 0.1), Task(), "need")
    assert last.question == "is there a star?"
    assert (last.stage, last.turns) == ("done", 2)
    prompt = Asked(both, both.questions[0]).then(both.questions[1], said(shipped, crowd))
    text = prompt.prompt_tokens(shipped, shipped.encoded(both)) - last.n
    fewer = [text + last.budget - count for count in range(len(last.found.patches) + 1)]
    assert list(last.prefills) == [prefill_flops(shipped.vlm.config, count) for count in fewer]


def test_it_stops_with_what_is_there(shipped, crowd):
    task, steps = Task(), []
    for step in run(shipped, crowd, keep("idpruner", 0.05), task):
        steps.append(step)
        if step.found is not None:
            task.set()
    assert (steps[-1].stage, steps[-1].found.stage) == ("stopped", "stopped")
    assert "what was found stays" in why_views.progress(steps[-1])
    none = Task()
    none.set()
    assert [step.stage for step in run(shipped, crowd, keep("idpruner"), none)] == ["answering", "stopped"]


def test_earlier_turns_tell_how_they_compare_with_a_conversation_of_all_tokens(shipped, crowd):
    questions = (*crowd.questions, "is there a star?", "what color is the star?")
    setting = keep("random", 0.02)
    *_, last = reports(shipped, replace(crowd, questions=questions), setting, Task())
    for turn, exchange in enumerate(last.earlier):
        *_, alone = reports(shipped, replace(crowd, questions=questions[: turn + 1]), setting, Task())
        assert (exchange.agree, exchange.fidelity) == (alone.agree, alone.fidelity)
    shown = answers_views.report(last)
    assert f"fidelity {last.earlier[0].fidelity:.3f}" in shown
    assert {True: "same answer", False: "another answer"}[last.earlier[1].agree] in shown


@pytest.mark.parametrize(
    ("question", "setting", "why"),
    [
        ("is there a xylophone?", keep("idpruner"), "xylophone"),
        ("is there a star?", keep("idpruner", 1.0), "all 256 tokens are kept"),
        (" ", keep("idpruner"), "question"),
    ],
)
def test_what_cannot_be_looked_for_says_why(shipped, crowd, question, setting, why):
    asked = Session(crowd.model_name, crowd.pictures, (question,))
    with pytest.raises(ValueError, match=why):
        list(run(shipped, asked, setting, Task(), "return"))


def test_pictures_show_what_is_kept_and_what_was_found(shipped, crowd, found):
    setting, last = FEW, found
    shown = why_views.result(last, views(shipped, crowd, setting), overlays(shipped, crowd, setting, "dimmed"))
    for patch in last.found.patches:
        assert f'class="found" data-patch="{patch}"' in shown
    assert shown.count("<svg") == 1
    assert shown.count("<tr>") == len(last.found.patches) + 2


@pytest.mark.alone
def test_the_view_finds_stops_and_goes_to_the_canvas(shipped_page, chromium, fits, monkeypatch):
    forced, slow = remote.logprobs, [True]

    def crawl(*values):
        time.sleep(2 if slow else 0)
        return forced(*values)

    monkeypatch.setattr(remote, "logprobs", crawl)
    with visit(chromium, shipped_page.url + "?retention=0.05&") as tab:
        tab.get_by_role("tab", name="Why?").click()
        tab.click("#why-run")
        tab.wait_for_selector("#why-progress >> text=/of patches measured/")
        assert seconds_to_stop(tab, "#why-stop", "#why-progress") < 1
        slow.clear()
        tab.click("#why-run")
        tab.wait_for_selector("#why-result .why-tokens button")
        tab.wait_for_selector("#why-show:enabled")
        found = {each.get_attribute("data-patch") for each in tab.locator(".why-pictures .found").all()}
        token = tab.locator(".why-tokens button").first
        token.click()
        shown = {each.get_attribute("data-patch") for each in tab.locator(".why-pictures .costs").all()}
        assert shown == set(token.get_attribute("data-patches").split())
        assert token.get_attribute("title") in tab.inner_text(".why-told")
        fits(tab, "why")
        tab.click("#why-show")
        tab.wait_for_selector("#canvas [data-part=clear]:enabled")
        assert tab.get_by_role("tab", name="Explore").get_attribute("aria-selected") == "true"
        kept = set(tab.get_attribute("#canvas [data-kept]", "data-kept").split())
        assert found
        assert found <= kept or not found & kept
