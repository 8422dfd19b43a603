"""Settings side by side: the same numbers as alone, slot by slot; what fails, is stopped or out of date says so."""

import itertools
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from app.answers.answering import Asked, answers
from app.answers.reports import Report, reports
from app.canvas import payload as canvas_payload
from app.canvas import state as canvas_state
from app.canvas.state import fitting
from app.compare import views as compare_views
from app.compare.run import EMPTY, Results, Row, Step, compare, overlap, put, remove, rows, topic
from app.engine import remote
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.session import Forced, Session
from pruning.evaluation.answered import Side
from pruning.evaluation.verdict import Verdict
from tests.helpers.visits import QUESTION, crawling, keep, look, visit

THREE = [keep("idpruner", 0.25), keep("random", 0.25), keep("uniform", 0.5)]


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture
def capabilities(tiny_vlm):
    return Capabilities(tiny_vlm)


def test_each_slot_says_what_its_setting_says_alone(engine, capabilities, saved):
    session = look(engine, saved())
    steps = list(compare(engine, capabilities, session, THREE, Results(), Task()))
    assert steps[-1].stage == "done"
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert [setting for setting, _ in itertools.groupby(step.setting for step in steps)] == [*THREE, None]
    for setting in THREE:
        *_, alone = reports(engine, session, setting, Task())
        row = steps[-1].results.of(setting)
        assert row.report == alone
        kept = np.flatnonzero(np.unpackbits(np.frombuffer(row.kept, np.uint8))).tolist()
        assert kept == engine.selection(session, setting).indices.tolist()


def test_what_is_known_is_not_measured_again_and_what_is_gone_is_forgotten(engine, capabilities, saved):
    session = look(engine, saved())
    *_, first = compare(engine, capabilities, session, THREE[:2], Results(), Task())
    *_, second = compare(engine, capabilities, session, THREE[1:], first.results, Task())
    assert (first.total, second.total) == (2, 1)
    assert {row.setting for row in second.results.rows} == set(THREE[1:])
    *_, again = compare(engine, capabilities, session, THREE[1:], second.results, Task())
    assert (again.total, again.stage) == (0, "done")


@pytest.mark.parametrize("change", ["question", "image", "model"])
def test_results_about_something_else_are_measured_again(engine, capabilities, saved, change):
    session = look(engine, saved())
    *_, first = compare(engine, capabilities, session, THREE[:1], Results(), Task())
    other = {
        "question": replace(session, questions=("how many?",)),
        "image": look(engine, saved(1)),
        "model": replace(session, model_name="another"),
    }[change]
    assert topic(other) != first.results.topic
    assert rows(other, (*THREE[:1], None, None, None), first.results)[0] == Row(THREE[0])
    *_, last = compare(engine, capabilities, other, THREE[:1], first.results, Task())
    assert (last.total, last.results.topic) == (1, topic(other))


def test_forced_patches_alone_put_nothing_out_of_date(engine, saved):
    session = look(engine, saved())
    assert topic(replace(session, forced=Forced("key", (1,)))) == topic(session)


def test_a_setting_that_fails_says_why_and_the_others_go_on(engine, capabilities, saved):
    capabilities.refused = {"random": "Random needs luck, which the tiny model does not provide"}
    bad = keep("uniform", 0.25, scope="page")
    *_, last = compare(engine, capabilities, look(engine, saved()), [THREE[1], bad, THREE[0]], Results(), Task())
    assert "needs luck" in last.results.of(THREE[1]).problem
    assert "'page'" in last.results.of(bad).problem
    assert last.results.of(THREE[0]).finished
    assert (last.done, last.total, last.stage) == (3, 3, "done")
    *_, again = compare(engine, capabilities, look(engine, saved()), [THREE[1], THREE[0]], last.results, Task())
    assert again.total == 1  # another model may serve it: what failed is tried again


def test_stopped_in_the_second_slot_the_first_one_stays(engine, capabilities, saved):
    session, task = look(engine, saved()), Task()
    for step in compare(engine, capabilities, session, THREE, Results(), task):
        row = step.results.of(THREE[1])
        if row is not None and row.report.kept.text:
            task.set()
    assert (step.stage, step.done, step.total) == ("stopped", 1, 3)
    assert step.results.of(THREE[0]).finished
    assert step.results.of(THREE[1]).report.stage == "stopped"
    assert step.results.of(THREE[2]) is None
    *_, rest = compare(engine, capabilities, session, THREE, step.results, Task())
    assert (rest.total, rest.stage) == (2, "done")


def test_stop_does_not_wait_for_what_others_have_running(engine, capabilities, saved):
    session, task, others = look(engine, saved()), Task(), threading.Event()
    engine.selection(session, THREE[0])
    held = threading.Thread(target=engine.on_device, args=(others.wait,))
    held.start()
    try:
        stages = []
        for step in compare(engine, capabilities, session, THREE[:1], Results(), task):
            stages.append(step.stage)
            task.set()
        assert stages[-1] == "stopped"
    finally:
        others.set()
        held.join()


def test_what_was_said_stays_when_a_slow_model_is_stopped(engine, saved, monkeypatch):
    asked, task, go_on, generate = Asked(look(engine, saved()), QUESTION), Task(), threading.Event(), remote.generate

    def slow(*values):
        for chunk in generate(*values):
            yield chunk
            go_on.wait()

    monkeypatch.setattr(remote, "generate", slow)
    stream = answers(engine, asked, task)
    said = next(stream)
    task.set()
    *_, last = stream
    go_on.set()
    assert said
    assert (last.text, last.cancelled) == (said, True)


def test_a_bad_question_is_no_matter_of_one_slot(engine, capabilities, saved):
    with pytest.raises(ValueError, match="question is empty"):
        next(compare(engine, capabilities, look(engine, saved(), questions=()), THREE, Results(), Task()))


def test_slots_are_filled_in_order_and_refuse_a_fifth_and_a_twin():
    slots = EMPTY
    for setting in (*THREE, keep("divprune")):
        slots = put(slots, setting)
    assert slots == (*THREE, keep("divprune"))
    with pytest.raises(ValueError, match="All 4 slots are taken"):
        put(slots, keep("dpp"))
    slots = remove(slots, 1)
    with pytest.raises(ValueError, match="slot A already"):
        put(slots, THREE[0])
    assert put(slots, keep("dpp")) == (THREE[0], keep("dpp"), THREE[2], keep("divprune"))
    assert put(slots, THREE[0], 0) == slots  # in its own place
    assert put(slots, keep("dpp"), 3)[3] == keep("dpp")


def test_overlap_against_sets():
    random = np.random.default_rng(5)
    for k, other in ((5, 5), (3, 17), (40, 1), (40, 40)):
        sets = [set(random.choice(40, size, replace=False).tolist()) for size in (k, other)]
        masks = [np.packbits(np.isin(np.arange(40), list(s))).tobytes() for s in sets]
        found = overlap(*(Row(THREE[0], kept=mask) for mask in masks))
        assert found.shared == len(sets[0] & sets[1])
        assert found.iou == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
        assert found.iou <= found.limit == pytest.approx(min(k, other) / max(k, other))
    assert overlap(Row(THREE[0]), Row(THREE[1], kept=b"\x01")) is None


def test_patches_forced_on_one_image_are_not_forced_on_another(engine, capabilities, saved):
    here, there = look(engine, saved()), look(engine, saved(1))
    key = canvas_payload.key_of(THREE[0].method, canvas_state.identity_of(here, THREE[0]))
    setting = replace(THREE[0], forced=Forced(key, (0,)))
    assert fitting(here, setting) == setting
    assert fitting(there, setting) == THREE[0]
    *_, last = compare(engine, capabilities, there, [setting], Results(), Task())
    assert last.results.rows[0].kept == np.packbits(engine.selection(there, THREE[0]).mask.numpy()).tobytes()
    assert 0 in engine.selection(here, fitting(here, setting)).indices


# What is shown


def row(setting, text: str = "red", **changes) -> Row:
    kept = Side(text, True, 40, 400, 40, 0.02)
    report = Report(
        64, 16, "", "done", QUESTION, (), Side("blue", True, 90, 900, 90), kept, Verdict.DIFFERENT, 0.5, (), 0.001
    )
    return Row(setting, replace(report, **changes), kept=np.packbits(np.arange(64) % 4 == 0).tobytes())


def test_the_table_has_a_number_for_every_sort_and_the_all_token_line_last():
    html = compare_views.table([row(THREE[0]), None, row(THREE[1], fidelity=None), None])
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    first, second = re.findall(r"<tr>.*?</tr>", body)
    kept, cost = ["16.0", "16.0", "0.0"], ["400.0", "40.0", "0.021", "0.001"]
    assert re.findall(r'data-value="([^"]*)"', first) == ["0", *kept, "0.5", *cost]
    assert re.findall(r'data-value="([^"]*)"', second) == ["2", *kept, *cost]
    assert html.count('aria-sort="none"') == len(compare_views.COLUMNS)
    assert "All tokens" in html.partition("<tfoot>")[2]


def test_the_matrix_says_what_sets_of_different_sizes_can_reach():
    small = Row(THREE[2], kept=np.packbits(np.arange(64) % 8 == 0).tobytes())
    html = compare_views.matrix([row(THREE[0]), small, None, None])
    assert "share 8 tokens" in html
    assert "0.50 <small>(0.50)</small>" in html
    assert compare_views.matrix([row(THREE[0]), None, None, None]) == ""


def test_words_of_a_model_or_a_visitor_are_never_markup():
    nasty = "<img src=x onerror=alert(1)> ${1}"
    shown = row(THREE[0], nasty, question=nasty)
    step = Step(Results("topic", (shown,)), None, 1, 1, 0.5, "done")
    html = compare_views.body(shown) + compare_views.status(step, (THREE[0], None, None, None))
    assert "<img" not in html
    assert "${" not in html
    assert "&lt;img" in html


# The endpoint


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    return Client(served.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def ask(client, path: str, **values):
    return client.predict(handle_file(path), QUESTION, api_name="/compare", **values)


def test_the_endpoint_compares_with_random_and_uniform_by_itself(client, served, saved):
    path = saved()
    found = ask(client, path, retention=0.5)
    assert [one["method"] for one in found["settings"]] == ["idpruner", "random", "uniform"]
    assert {(one["n"], one["budget"]) for one in found["settings"]} == {(48, 24)}
    alone = client.predict(handle_file(path), QUESTION, method="random", retention=0.5, api_name="/answer")
    assert found["settings"][1] == alone
    picture, _ = served.models.resources.pictures.open(path)
    session = Session(served.models.first, (picture,))
    kept = [set(served.engine.selection(session, keep(n, 0.5)).indices.tolist()) for n in ("idpruner", "random")]
    assert found["iou"][0][1] == found["iou"][1][0] == pytest.approx(len(kept[0] & kept[1]) / len(kept[0] | kept[1]))
    assert [found["iou"][i][i] for i in range(3)] == [1, 1, 1]


def test_what_another_setting_leaves_out_is_as_in_the_first(client, saved):
    others = [{"retention": 0.25}, {"importance": 1, "diversity": 3}, {"method": "random", "knobs": {"seed": 7}}]
    found = ask(client, saved(), knobs={"importance": "feature_norm"}, retention=0.5, others=others)["settings"]
    assert [one["method"] for one in found] == ["idpruner"] * 3 + ["random"]
    assert [one["knobs"].get("importance") for one in found] == ["feature_norm"] * 3 + [None]
    assert [one["mmr_lambda"] for one in found] == [0.5, 0.5, 0.25, None]
    assert [one["retention"] for one in found] == [0.5, 0.25, 0.5, 0.5]
    assert found[3]["knobs"] == {"seed": 7}


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ("random", ["others", "list of at most 3"]),
        ([{}] * 4, ["list of at most 3"]),
        (["random"], ["others[0]", "'random'", "object"]),
        ([{"method": "random"}, {"colour": 1}], ["others[1]", "colour", "retention"]),
        ([{"method": "magic"}], ["others[0]", "'magic'", "idpruner"]),
        ([{"retention": 0}], ["others[0]", "retention", "above 0"]),
        ([{"retention": "half"}], ["others[0]", "'half'"]),
        ([{"importance": -1}], ["others[0]", "Importance weight"]),
        ([{"knobs": {"seed": 7}}], ["others[0]", "'seed'"]),
        ([{"knobs": [1]}], ["others[0]", "knobs", "object"]),
        ([{"positions": 0}], ["others[0]", "positions 0", "original, compact"]),
        ([{"per": "page"}], ["others[0]", "'page'", "sample, image, tile"]),
    ],
)
def test_bad_settings_are_named(client, saved, others, words):
    with pytest.raises(AppError) as caught:
        ask(client, saved(), others=others)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# The view in a browser


@pytest.fixture
def page(served, chromium):
    with visit(chromium, served.url) as tab:
        tab.get_by_role("tab", name="Compare").click()
        yield tab


def add(tab, name: str, letter: str) -> None:
    tab.click(f"#add-{name}")
    tab.wait_for_selector(f"#slot-head-{letter} .slot-head")


def measured(tab, *letters: str) -> None:
    for letter in letters:
        tab.wait_for_selector(f"#slot-body-{letter} .fidelity")
    tab.wait_for_selector("#compare-status >> text=All slots measured")
    last = "document.querySelector('#compare-table tbody')?.innerText.includes('–') === false"
    tab.wait_for_function(last)


def order(tab) -> list[str]:
    return [text[0] for text in tab.locator("#compare-table tbody th").all_inner_texts()]


def test_present_random_and_uniform_stand_side_by_side(page):
    assert "up to four settings" in page.inner_text("#compare-status")
    assert page.locator(".slot-empty").count() == 4
    for name, letter in zip(("present", "random", "uniform"), "ABC", strict=True):
        add(page, name, letter)
    measured(page, *"ABC")
    heads = [page.inner_text(f"#slot-head-{letter} h3") for letter in "ABC"]
    assert [head.split("\n")[-1].strip() for head in heads] == ["IDPruner, λ 0.50", "Random", "Uniform grid"]
    pictures = [page.get_attribute(f"#slot-head-{letter} img", "src") for letter in "ABC"]
    assert len(set(pictures)) == 3
    assert "16 of 64 visual tokens" in page.get_attribute("#slot-head-A img", "alt")
    assert page.locator("#compare-iou tbody td").all_inner_texts()[::4] == ["1.00"] * 3
    page.click("#add-random")
    page.wait_for_selector("text=slot B already")


def test_the_table_sorts_by_keyboard_and_stays_sorted(page):
    for name, letter in zip(("present", "random"), "AB", strict=True):
        add(page, name, letter)
    measured(page, *"AB")
    head = page.locator("#compare-table thead th").nth(4)
    head.locator("button").focus()
    for way in ("ascending", "descending"):
        page.keyboard.press("Enter")
        page.wait_for_selector(f'#compare-table th:nth-child(5)[aria-sort="{way}"]')
        sorted_so(page, way)
    add(page, "uniform", "C")
    measured(page, *"ABC")
    assert head.get_attribute("aria-sort") == "descending"
    assert set(order(page)) == set("ABC")
    sorted_so(page, "descending")
    assert page.locator('#compare-table [aria-sort="none"]').count() == len(compare_views.COLUMNS) - 1


def sorted_so(tab, way: str) -> None:
    cells = tab.locator("#compare-table tbody td:nth-child(5)").all_inner_texts()
    values = [float(cell) for cell in cells]
    assert values == sorted(values, reverse=way == "descending")


def test_replace_and_remove_change_one_slot(page):
    add(page, "random", "A")
    add(page, "uniform", "B")
    measured(page, *"AB")
    page.click("#replace-A")
    page.wait_for_selector("#slot-head-A >> text=IDPruner")
    measured(page, *"AB")
    page.click("#remove-B")
    page.wait_for_selector("#slot-head-B .slot-empty")
    page.wait_for_function("document.querySelectorAll('#compare-table tbody tr').length === 1")
    assert not page.is_visible("#remove-B")
    page.click("#remove-A")
    page.wait_for_selector("#compare-status >> text=up to four settings")
    assert page.locator("#compare-table table").count() == 0


def test_another_image_puts_the_results_out_of_date(page):
    add(page, "present", "A")
    measured(page, "A")
    before = page.get_attribute("#slot-head-A img", "src")
    page.get_by_role("tab", name="Explore").click()
    page.click("#examples button:nth-child(3)")
    page.wait_for_function("document.querySelector('#question textarea').value.includes('star')")
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#compare-status .stale")
    assert page.get_attribute("#slot-head-A img", "src") == before
    page.click("#compare-run")
    page.wait_for_selector("#compare-status >> text=color is the star")
    measured(page, "A")
    assert page.get_attribute("#slot-head-A img", "src") != before


def test_stop_keeps_what_is_measured(page, served, monkeypatch):
    add(page, "present", "A")
    measured(page, "A")
    served.models.resources.clear()  # no answer is known from another test
    with crawling(served.engine.vlm, monkeypatch):
        add(page, "random", "B")
        page.wait_for_selector("#compare-status >> text=B: answering")
        page.click("#compare-stop")
        page.wait_for_selector("#compare-status >> text=Stopped: 0 of 1 done", timeout=3_000)
    assert page.locator("#slot-body-A .fidelity").count() == 1
    assert "Stopped" in page.inner_text("#slot-body-B")
    page.click("#compare-run")
    measured(page, *"AB")


def test_the_view_fits(shipped_page, chromium, fits):
    with visit(chromium, shipped_page.url) as tab:
        tab.get_by_role("tab", name="Compare").click()
        for name, letter in zip(("present", "random", "uniform"), "ABC", strict=True):
            add(tab, name, letter)
        measured(tab, *"ABC")
        fits(tab, "compare")
