"""What is dragged, by finger and by mouse, to its end and not: page, server and answer agree afterwards."""

from __future__ import annotations

import json

import pytest

from tests.helpers.visits import SharedTab

KEPT = "#canvas [data-kept]"
ROW = [16, 17, 18, 19, 20, 21]  # of the tiny model's 8 × 8 patches: the third row, all but its last two
SETTLED = """() => {
  const [kept] = document.querySelector("#readout").textContent.split(" ");
  return document.querySelectorAll("#report .running").length === 0
    && document.querySelector("#report .badge.same, #report .badge.other")
    && document.querySelector("#report .answer:nth-child(2) h3").innerText.includes(`${kept} tokens`);
}"""


@pytest.fixture(scope="module", params=["phone", "mouse"])
def visitor(served, chromium, request):
    """With a finger at 390 px, or with a mouse at 1440 px."""
    touch = request.param == "phone"
    size = {"width": 390, "height": 844} if touch else {"width": 1440, "height": 900}
    look = {"has_touch": touch, "is_mobile": touch, "device_scale_factor": 2 if touch else 1}
    with SharedTab(chromium, served.url, viewport=size, **look) as shared:
        yield shared, touch


@pytest.fixture
def page(visitor):
    """The visitor's tab; `page.told`: what was told to be forced in."""
    shared, touch = visitor
    with shared.at_the_start() as tab:
        tab.touch, tab.told = touch, []
        if not hasattr(tab, "session"):
            tab.session = tab.context.new_cdp_session(tab)

        def note(sent) -> None:
            tab.told.extend(edits(sent))

        tab.on("request", note)
        yield tab
        tab.remove_listener("request", note)


def edits(sent) -> list[list[int]]:
    """The patches forced in, of a request that tells the server."""
    data = (json.loads(sent.post_data or "{}").get("event_data") if "run/predict" in sent.url else None) or {}
    return [sorted(data["in"])] if isinstance(data, dict) and "in" in data else []


def hand(page, kind: str, *places: tuple[float, float]) -> None:
    """down, move, up or cancel, of one finger or several, or of the mouse."""
    if page.touch:
        name = {"down": "touchStart", "move": "touchMove", "up": "touchEnd", "cancel": "touchCancel"}[kind]
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        page.session.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
    else:
        for x, y in places:
            page.mouse.move(x, y)
        if kind in ("down", "up"):
            getattr(page.mouse, kind)()


def patch(page, column: float, row: float) -> tuple[float, float]:
    """Where the middle of a patch is, in the window."""
    box = page.locator("#canvas canvas").bounding_box()
    side = min(box["width"], box["height"])  # the picture is a square in the middle
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    return left + (column + 0.5) * side / 8, top + (row + 0.5) * side / 8


def brush(page, name: str = "Force in") -> None:
    page.get_by_role("button", name=name).click()
    page.locator("#canvas canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(300)


def first(page, count: int) -> list[int]:
    """The first tokens that the canvas keeps: those forced in come before all others."""
    page.wait_for_timeout(150)
    return sorted(int(token) for token in page.get_attribute(KEPT, "data-kept").split()[:count])


def heard(page, patches: list[int]) -> None:
    """Wait until the server knows of these, and of no others."""
    for _ in range(50):
        page.wait_for_timeout(600)  # it is told once the hand rests
        if page.told[-1:] == [patches]:
            break
    assert page.told[-1:] == [patches]
    page.wait_for_function(SETTLED)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_stroke_is_whole_however_quick_the_hand(page, steps):
    brush(page)
    (x, y), (to, _) = patch(page, 0, 2), patch(page, 5, 2)
    hand(page, "down", (x, y))
    for i in range(1, steps + 1):
        hand(page, "move", (x + (to - x) * i / steps, y))
    hand(page, "up", *([] if page.touch else [(to, y)]))
    assert first(page, 6) == ROW
    heard(page, ROW)
    page.get_by_role("button", name="Inspect").click()
    middle = patch(page, 3, 2)
    page.touchscreen.tap(*middle) if page.touch else page.mouse.click(*middle)
    page.wait_for_selector("#card .card.kept >> text=forced it in")


def test_a_finger_that_the_browser_takes_away_was_no_stroke(page):
    brush(page)
    hand(page, "down", patch(page, 0, 2))
    hand(page, "move", patch(page, 1, 2))
    hand(page, "up", *([] if page.touch else [patch(page, 1, 2)]))
    heard(page, ROW[:2])
    said = len(page.told)
    hand(page, "down", patch(page, 0, 5))
    hand(page, "move", patch(page, 6, 5))
    assert len(set(first(page, 9)) & set(range(40, 47))) == 7
    if page.touch:
        hand(page, "cancel")
    else:
        page.locator("#canvas canvas").dispatch_event("pointercancel", {"pointerId": 1})
        hand(page, "up")
    assert set(first(page, 16)) >= set(ROW[:2])
    heard(page, ROW[:2])
    assert len(page.told) == said  # there was nothing to tell
    brush(page)  # and the next stroke is one
    hand(page, "down", patch(page, 2, 2))
    hand(page, "up", *([] if page.touch else [patch(page, 2, 2)]))
    heard(page, ROW[:3])


def test_a_stroke_that_the_window_loses_stands_and_is_told(page):
    brush(page)
    hand(page, "down", patch(page, 0, 2))
    hand(page, "move", patch(page, 5, 2))
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    hand(page, "move", patch(page, 5, 6))  # nobody brushes any more
    assert first(page, 6) == ROW
    heard(page, ROW)
    hand(page, "up", *([] if page.touch else [patch(page, 5, 6)]))


def test_half_a_stroke_is_never_told(page):
    """The end of one stroke is told a moment later: not in the middle of the next."""
    brush(page)
    hand(page, "down", patch(page, 0, 2))
    hand(page, "up", *([] if page.touch else [patch(page, 0, 2)]))
    hand(page, "down", patch(page, 1, 2))
    hand(page, "move", patch(page, 3, 2))
    page.wait_for_timeout(600)
    assert page.told == []
    hand(page, "move", patch(page, 5, 2))
    hand(page, "up", *([] if page.touch else [patch(page, 5, 2)]))
    heard(page, ROW)
    assert len(page.told) == 1


@pytest.mark.parametrize("visitor", ["phone"], indirect=True)
def test_a_second_finger_leaves_page_and_server_agreeing(page):
    brush(page)
    one, two = patch(page, 0, 2), patch(page, 7, 6)
    hand(page, "down", one)
    hand(page, "move", patch(page, 2, 2))
    hand(page, "down", patch(page, 2, 2), two)
    hand(page, "move", patch(page, 5, 2), two)
    hand(page, "up", two)
    hand(page, "up")
    page.wait_for_timeout(600)
    told = page.told[-1] if page.told else []
    assert told in (ROW, [])  # a whole stroke, or none where the browser zooms the page
    assert set(told) <= set(first(page, 16))
    assert 55 not in told
    page.wait_for_function(SETTLED)


@pytest.mark.parametrize("visitor", ["phone"], indirect=True)
def test_a_finger_scrolls_the_page_unless_it_drags(page):
    canvas = page.locator("#canvas canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)

    def swipe() -> float:
        """How far the page went under a finger that moves up over the picture."""
        before = page.evaluate("scrollY")
        x, y = patch(page, 4, 6)
        hand(page, "down", (x, y))
        for i in range(1, 11):
            hand(page, "move", (x, y - 12 * i))
            page.wait_for_timeout(16)
        hand(page, "up")
        page.wait_for_timeout(400)
        return page.evaluate("scrollY") - before

    assert swipe() > 50
    assert page.locator("#card .card.empty").count() == 1  # and chooses nothing
    canvas.scroll_into_view_if_needed()
    page.touchscreen.tap(*patch(page, 3, 3))
    page.wait_for_selector("#card .card:not(.empty)")  # the next tap does
    page.get_by_role("button", name="Zoom in").click()
    assert swipe() == 0
    page.get_by_role("button", name="Whole picture").click()
    brush(page)
    assert swipe() == 0
    page.get_by_role("button", name="Inspect").click()
    page.evaluate("document.querySelector('#canvas').scrollIntoView()")
    assert swipe() > 50


@pytest.mark.parametrize("visitor", ["mouse"], indirect=True)
def test_what_is_forced_is_forced_on_page_and_server_whatever_was_shown_meanwhile(page, visitor):
    shared, _ = visitor

    def agree(kept: list[int], why: str) -> None:
        shared.settle()
        page.mouse.click(*patch(page, 3, 2))
        page.locator("#card .card", has_text=why).wait_for()
        assert first(page, 6) == kept
        assert page.locator("#canvas [data-part=clear]").is_enabled() == (kept == ROW)

    def choose(method: str) -> None:
        page.click("#method input")
        page.get_by_role("option", name=method).first.click()
        page.locator("#readout", has_text="no λ" if method == "Random" else "λ = 0.50").wait_for()

    free = first(page, 6)
    brush(page)
    hand(page, "down", patch(page, 0, 2))
    hand(page, "move", patch(page, 5, 2))
    hand(page, "up", patch(page, 5, 2))
    heard(page, ROW)
    page.get_by_role("button", name="Inspect").click()
    agree(ROW, "forced it in")
    page.click("#examples button:first-child")  # the same picture once more
    agree(ROW, "forced it in")
    choose("Random")
    shared.settle()
    assert page.locator("#canvas [data-part=clear]").is_disabled()
    choose("IDPruner")
    agree(ROW, "forced it in")
    page.click("#canvas [data-part=clear]")
    heard(page, [])
    agree(free, "dropped")


@pytest.mark.parametrize("visitor", ["mouse"], indirect=True)
def test_the_menu_s_button_brushes_nothing(page):
    brush(page)
    page.mouse.click(*patch(page, 3, 3), button="right")
    page.wait_for_timeout(500)
    assert page.told == []


ENDS = ("beside it", "outside the window", "blur", "cancel")


@pytest.mark.parametrize("end", ENDS)
def test_a_slider_is_answered_wherever_its_drag_ends(page, end):
    slider = page.locator("#diversity-weight input[type=range]")
    slider.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box, report = slider.bounding_box(), "document.querySelector('#report').innerText"
    before, readout = page.evaluate(report), page.inner_text("#readout")
    middle = box["y"] + box["height"] / 2
    share = float(slider.evaluate("e => (e.value - e.min) / (e.max - e.min)"))
    start, aim = box["x"] + 8 + (box["width"] - 16) * share, box["x"] + box["width"] * 0.85
    hand(page, "down", (start, middle))
    for i in range(1, 6):
        hand(page, "move", (start + (aim - start) * i / 5, middle))
    if end == "blur":
        page.evaluate("window.dispatchEvent(new Event('blur'))")
        hand(page, "up", *([] if page.touch else [(aim, middle)]))
    elif end == "cancel" and page.touch:
        hand(page, "cancel")
    elif end == "cancel":
        slider.dispatch_event("pointercancel")
        hand(page, "up", (aim, middle))
    elif page.touch:
        hand(page, "move", (aim, middle - 150))
        hand(page, "up")
    else:
        away = (aim, middle - 100) if end == "beside it" else (aim, -40)
        hand(page, "move", away)
        hand(page, "up", away)
    page.wait_for_function("before => document.querySelector('#readout').innerText !== before", arg=readout)
    page.wait_for_function(f"before => {report} !== before", arg=before)
    page.wait_for_function(SETTLED)


@pytest.mark.parametrize("visitor", ["phone"], indirect=True)
def test_a_slider_under_a_finger_that_scrolls_agrees_with_the_answer(page):
    slider = page.locator("#retention input[type=range]")
    slider.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = slider.bounding_box()
    x, y = box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2
    hand(page, "down", (x, y))
    for i in range(1, 11):
        hand(page, "move", (x, y - 15 * i))
        page.wait_for_timeout(16)
    hand(page, "up")
    page.wait_for_timeout(800)
    page.wait_for_function(SETTLED)


def test_a_step_of_the_plan_is_dragged(served, page) -> None:
    page.goto(served.url + "?__theme=light&method=fastv&retention=0.75")
    knob = page.locator("#plan-chart [data-step='0']")
    knob.wait_for()
    page.locator("#report .by-layer").wait_for(state="attached")
    knob.scroll_into_view_if_needed()
    if page.touch:
        edges = page.evaluate(
            "[...document.querySelectorAll('#plan-chart :is(text, circle, path)')]"
            ".map((e) => e.getBoundingClientRect()).flatMap((box) => [box.left, box.right])"
        )
        assert 0 <= min(edges) < max(edges) <= 390
    before, scrolled = knob.get_attribute("aria-valuenow"), page.evaluate("scrollY")
    box = knob.locator(".reach").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(end: str) -> str:
        hand(page, "down", (x, y))
        for step in range(1, 6):
            hand(page, "move", (x, y + 6 * step))
        page.wait_for_function(
            "now => document.querySelector('#plan-chart [data-step]').ariaValueNow !== now", arg=before
        )
        lower = knob.get_attribute("aria-valuenow")
        hand(page, end, *([] if page.touch else [(x, y + 30)]))
        return lower

    if page.touch:
        drag("cancel")
        assert knob.get_attribute("aria-valuenow") == before
        assert page.input_value("#plan-text textarea") == ""
    lower = drag("up")
    assert int(lower) < int(before)
    page.wait_for_function(
        "text => document.querySelector('#plan-text textarea').value === text", arg=f"1:fastv:{lower}"
    )
    assert page.evaluate("scrollY") == scrolled, "the page scrolls with a finger that drags"
