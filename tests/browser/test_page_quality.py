"""What no single feature answers for: no outside host, names, tooltips, focus, contrast, nothing that jumps, Stop."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlparse

import pytest

from app.examples import EXAMPLES
from tests.helpers.visits import A_WHILE, ask, seconds_to_stop

MEASURES = (Path(__file__).parent / "quality.js").read_text("utf-8")
STILL = "*, ::before, ::after { transition: none !important; animation: none !important; }"
CONTROLS = {"button", "textbox", "slider", "spinbutton", "combobox", "radio", "checkbox", "tab", "link", "searchbox",
            "application", "Canvas", "progressbar", "progressIndicator", "switch", "menuitem", "option"}  # fmt: skip
STOOD = """() => document.getAnimations()
  .every((each) => each.playState !== "running" || each.effect.getComputedTiming().iterations === Infinity)
  && [...document.querySelectorAll('ul[role=listbox]')].every((list) => getComputedStyle(list).opacity === '1')"""
BLOCKS = ("#controls", "#stage", "#results", "#canvas canvas", "#report .verdict", "#report .costs", "#tradeoff")
BOXES = """(blocks) => blocks.map((block) => {
  const { x, y, width } = document.querySelector(block).getBoundingClientRect();
  return [x, y, width];
})"""
SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const { value, sources } of list.getEntries())
      window.shifts.push([value, sources.map((s) => s.node?.nodeName)]);
  }).observe({ type: "layout-shift" });
}"""
WALK = """() => {
  window.walked = [];
  document.addEventListener("focusin", () => window.walked.push(quality.focus()), true);
}"""


def visit(url, chromium, theme="light"):
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    tab = context.new_page()
    tab.set_default_timeout(30_000)
    requests = []
    context.on("request", lambda request: requests.append(request.url))
    tab.on("websocket", lambda socket: requests.append(socket.url))
    tab.goto(f"{url}?__theme={theme}")
    tab.wait_for_selector("#canvas [data-kept]", state="attached")
    return tab, requests


def tour(tab):
    """Show one view after the other; yields its name."""
    yield "Explore"
    tab.get_by_role("tab", name="Fidelity curves").click()
    tab.wait_for_selector("#progress >> text=points measured")
    tab.get_by_role("button", name="Methods").click()
    tab.wait_for_selector("#curve-methods label")
    tab.get_by_text("Importance heat", exact=True).click()
    tab.locator("#canvas canvas").click(position={"x": 90, "y": 60})
    tab.wait_for_selector("#card dl")
    yield "curves, card, heat"
    tab.click("#method input")
    tab.wait_for_selector("[role=option]")
    tab.wait_for_function(STOOD)  # it fades in
    yield "menu"
    tab.keyboard.press("Escape")
    tab.wait_for_selector("[role=option]", state="detached")
    tab.get_by_role("button", name="What is this?").click()
    yield "guide"
    tab.keyboard.press("Escape")
    for view in tab.locator("#views > .tab-wrapper [role=tab]").all()[1:]:
        view.click()
        name = view.inner_text()
        if name == "Use this setting":
            tab.wait_for_selector("#recipe .cm-line span")  # its colours come with the text
        tab.wait_for_function(STOOD)
        yield name
    tab.keyboard.press("p")
    tab.wait_for_selector(".presenter[data-stage=done][data-waits=no]")
    yield "presenter"


def nameless(tab) -> list[str]:
    """Controls of the accessibility tree without a name."""
    session = tab.context.new_cdp_session(tab)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    found = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in CONTROLS]
    assert len(found) > 5
    empty = [node["backendDOMNodeId"] for node in found if not node.get("name", {}).get("value", "").strip()]
    return [str(session.send("DOM.describeNode", {"backendNodeId": i})["node"].get("attributes")) for i in empty]


def unfocused(tab, presses: int = 75) -> list[str]:
    """Where Tab goes without its being seen."""
    tab.evaluate("document.activeElement.blur()")
    tab.evaluate(WALK)
    for _ in range(presses):
        tab.keyboard.press("Tab")
    walked = [step for step in tab.evaluate("window.walked") if step]
    assert len(walked) >= min(presses, 20) / 2
    return sorted({step["where"] for step in walked if not step["shown"]})


def unexplained(tab) -> list[str]:
    """Controls without tooltip or description; these come a moment after the control: 2 s of the page's own clock."""
    for _ in range(40):
        if not tab.evaluate("quality.unexplained()"):
            break
        tab.evaluate(A_WHILE)
    return tab.evaluate("quality.unexplained()")


@pytest.fixture(scope="module", params=["light", "dark"])
def found(shipped_page, chromium, request):
    """Measure -> view -> what is wrong there; "requests" -> all addresses that were asked for."""
    tab, requests = visit(shipped_page.url, chromium, request.param)
    tab.add_style_tag(content=STILL)
    tab.evaluate(MEASURES)
    result = defaultdict(dict)
    for view in tour(tab):
        count, faint = tab.evaluate("quality.faintTexts()")
        assert count > 10
        result["texts"] |= {view: faint} if faint else {}
        faint = tab.evaluate("quality.faintControls()")
        result["controls"] |= {view: faint} if faint else {}
        for measure, wrong in (("names", nameless), ("tips", unexplained)) if request.param == "light" else ():
            bad = wrong(tab)
            result[measure] |= {view: bad} if bad else {}
        if view not in ("Explore", "menu", "guide"):  # the next view has all of the first
            lost = unfocused(tab, 75 if "card" in view else 12)
            result["focus"] |= {view: lost} if lost else {}
    result["requests"] = requests
    result["links"] = tab.evaluate(
        "[...document.querySelectorAll('link[href], script[src], img[src], iframe, object, video, source')]"
        ".map((e) => e.href ?? e.src ?? e.data).filter(Boolean)"
    )
    result["icon"] = tab.request.get(shipped_page.url + "favicon.ico").status
    tab.context.close()
    return result


def foreign(addresses) -> list[str]:
    parts = [(address, urlparse(address)) for address in addresses]
    return [address for address, part in parts if part.scheme not in ("data", "blob", "about")
            and part.hostname not in ("127.0.0.1", "localhost")]  # fmt: skip


def test_nothing_comes_from_another_host(found):
    assert len(found["requests"]) > 20
    assert foreign(found["requests"]) == []
    assert foreign(found["links"]) == []
    assert found["icon"] < 400
    assert foreign(["https://fonts.gstatic.com/a.woff2", "data:image/png;base64,"]) == [
        "https://fonts.gstatic.com/a.woff2"
    ]


def test_every_control_has_a_name(found):
    assert found["names"] == {}


def test_every_control_is_explained(found):
    assert found["tips"] == {}


def test_texts_stand_out(found):
    assert found["texts"] == {}


def test_edges_and_icons_stand_out(found):
    assert found["controls"] == {}


@pytest.mark.parametrize("width", [1440, 390])
def test_texts_are_read_in_full(shipped_page, chromium, width):
    tab, _ = visit(shipped_page.url, chromium)
    tab.set_viewport_size({"width": width, "height": 900})
    tab.evaluate(MEASURES)
    assert {view: cut for view in tour(tab) if (cut := tab.evaluate("quality.cutTexts()"))} == {}
    tab.context.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_long_notices_and_names_are_read_in_full(shipped_page, chromium, tmp_path, width):
    """Without pointing at them: what has to be done often stands at their end."""
    tab, _ = visit(shipped_page.url, chromium)
    tab.set_viewport_size({"width": width, "height": 900})
    tab.evaluate(MEASURES)
    words = "is there a xylophone beside the hippopotamus, an elephant, a giraffe or a rhinoceros? " + "W" * 90
    tab.fill("#question textarea", words)
    tab.click("#ask")
    tab.wait_for_selector("#hint >> text=It will guess.")
    assert tab.inner_text("#about-model").endswith("--model NAME, see docs/models.md")
    tab.evaluate(
        "document.querySelector('#about-method').innerHTML = '<p class=about-method>' + 'needs more '.repeat(40)"
    )
    tab.wait_for_selector("#report .badge.none")  # words outside what the model knows
    assert tab.evaluate("quality.cutTexts()") == {}
    name = "a picture " * 9 + "with_a_name_that_breaks_nowhere" * 3
    shutil.copy(EXAMPLES[0].path, tmp_path / f"{name}.png")
    tab.get_by_role("tab", name="Many images").click()
    tab.set_input_files("#batch-files input[type=file]", tmp_path / f"{name}.png")
    tab.wait_for_selector("#batch-run:enabled")
    tab.click("#batch-run")
    tab.wait_for_selector(".batch-card .badge.none")
    assert tab.evaluate("quality.cutTexts()") == {}
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.context.close()


def test_the_focus_is_seen_everywhere(found):
    assert found["focus"] == {}


def test_the_measures_see_what_is_wrong(shipped_page, chromium):
    """A page spoilt on purpose: each measure must notice."""
    tab, _ = visit(shipped_page.url, chromium)
    tab.add_style_tag(content=STILL + "#ask { outline: none !important } .answer h3 { color: #999 !important }"
                      "#question textarea { box-shadow: none !important }")  # fmt: skip
    tab.evaluate(MEASURES)
    tab.evaluate("document.querySelector('#stage').insertAdjacentHTML('beforeend', '<button>·</button><input>')")
    assert any(".answer" in where for where in tab.evaluate("quality.faintTexts()")[1])
    assert any("#question" in where for where in tab.evaluate("quality.faintControls()"))
    assert [where.strip() for where in unexplained(tab)] == ["#stage > button ·", "#stage > input"]
    assert len(nameless(tab)) == 1
    assert any("#ask" in where for where in unfocused(tab, 30))
    tab.add_style_tag(content=".notice { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }")
    assert any(".notice" in where for where in tab.evaluate("quality.cutTexts()"))
    tab.context.close()


def test_nothing_jumps_while_an_answer_streams(served, chromium, slow_model):
    tab, _ = visit(served.url, chromium)
    slow_model[:] = [0.03]
    before = None
    while (now := tab.evaluate(BOXES, list(BLOCKS))) != before:  # on a busy machine the page is still being laid out
        before = now
        tab.wait_for_timeout(300)
    tab.evaluate(SHIFTS)
    tab.fill("#question textarea", "how many objects are there, and which colour is the largest?")
    tab.click("#ask")
    tab.wait_for_selector("#report .running")
    seen = []
    while tab.locator("#report .badge.same, #report .badge.other").count() == 0 or not seen:
        seen.append(tab.evaluate(BOXES, list(BLOCKS)))
    tab.wait_for_function("!document.querySelector('#report .costs tbody tr:nth-child(4)').innerText.includes('–')")
    seen.append(tab.evaluate(BOXES, list(BLOCKS)))
    for boxes in seen:
        for name, was, now in zip(BLOCKS, before, boxes, strict=True):
            assert now == pytest.approx(was, abs=1), name
    shifts = tab.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < 0.01, shifts
    tab.context.close()


@pytest.mark.alone
def test_stop_ends_an_answer_within_a_second(served, chromium, slow_model):
    tab, _ = visit(served.url, chromium)
    tab.fill("#question textarea", "what is left when it stops?")
    tab.click("#ask")
    tab.wait_for_selector("#report .running .cursor")
    tab.wait_for_function("document.querySelector('#report .running p').textContent.length > 0")
    assert seconds_to_stop(tab, "#stop", "#report") < 1
    assert tab.inner_text("#report .answer:first-child p").strip()  # what was said stays
    assert served.models.resources.device.idle_within(1)
    tab.context.close()


@pytest.mark.alone
def test_stop_ends_a_sweep_within_a_second_and_keeps_its_points(served, chromium, monkeypatch):
    forced = served.engine.vlm.logprobs

    def crawl(*values, **named):
        time.sleep(0.25)
        return forced(*values, **named)

    tab, _ = visit(served.url, chromium)
    ask(tab, "#ask", "is a half measured curve a curve?")
    tab.wait_for_function("!document.querySelector('#report .costs tbody tr:nth-child(4)').innerText.includes('–')")
    monkeypatch.setattr(served.engine.vlm, "logprobs", crawl)
    tab.get_by_role("tab", name="Fidelity curves").click()
    tab.wait_for_selector("#progress >> text=left")  # remaining time
    assert seconds_to_stop(tab, "#stop", "#progress") < 1
    assert 0 < tab.locator("#curves .mark").count() < 45
    assert served.models.resources.device.idle_within(1)
    tab.context.close()
