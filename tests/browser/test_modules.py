"""The page's modules in a real browser: each is fetched once, and a part whose module does not come says so."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from app.web import scripts


@pytest.fixture
def tab(chromium):
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def test_each_module_is_fetched_once(served, tab) -> None:
    asked = []
    tab.on("request", lambda sent: asked.append(urlsplit(sent.url).path))
    tab.goto(served.url)
    tab.wait_for_selector("#canvas [data-kept]", state="attached")
    tab.wait_for_timeout(1000)
    ours = sorted(path for path in asked if path.startswith("/scripts/"))
    assert ours == [f"/{scripts.place()}/{path.name}" for path in scripts.modules()]


def test_a_part_whose_module_does_not_come_says_so(served, tab) -> None:
    tab.route("**/canvas-view.js", lambda route: route.abort())
    tab.goto(served.url)
    told = tab.locator("#canvas [role=status]", has_text="could not be loaded: reload the page")
    told.wait_for()
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    assert tab.get_by_text("could not be loaded").count() == 1  # the other parts work
    tab.get_by_role("button", name="Present").click()
    tab.wait_for_selector(".presenter[open]")


def test_what_the_server_told_before_a_module_came_is_shown(served, tab) -> None:
    held = []
    tab.route("**/share.js", lambda route: held.append(route))
    tab.goto(served.url + "?model=gone")
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    tab.wait_for_timeout(1500)  # what of the link is not taken is told meanwhile
    held[0].continue_()
    tab.locator(".tool-panel:popover-open", has_text="model = 'gone'").wait_for()


def test_a_slider_that_the_page_moves_is_seen_at_once(served, tab) -> None:
    """No event tells of it: the canvas sees the slider's bar change, and looks at nothing while nothing changes."""
    tab.goto(served.url)
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    before = tab.get_attribute("#canvas [data-kept]", "data-kept")
    looks = """() => {
      const find = document.querySelector.bind(document);
      window.looks = 0;
      document.querySelector = (what) => { window.looks += what.includes("#retention input"); return find(what); };
    }"""
    tab.wait_for_timeout(500)
    tab.evaluate(looks)
    tab.wait_for_timeout(700)
    assert tab.evaluate("window.looks") == 0
    tab.evaluate(
        """() => {
          const slider = document.querySelector("#retention input[type=range]");
          document.querySelector("#retention input[type=number]").value = 0.5;
          slider.value = 0.5;
          slider.style.setProperty("--range_progress", "48.9%");
        }"""
    )
    tab.wait_for_function(
        "(before) => document.querySelector('#canvas [data-kept]').dataset.kept !== before", arg=before, timeout=2000
    )
