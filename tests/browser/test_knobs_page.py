"""The panel of knobs in the browser: each of the chosen method's, what is set there, and what stays set."""

from __future__ import annotations

import pytest

from tests.browser.test_page import answered, changed, drag, overlay
from tests.helpers.visits import SharedTab

KEPT = "document.querySelector('#canvas [data-kept]').dataset.kept"


@pytest.fixture(scope="module")
def visitor(served, chromium):
    with SharedTab(chromium, served.url, viewport={"width": 1440, "height": 900}) as shared:
        yield shared


@pytest.fixture
def page(visitor):
    with visitor.at_the_start() as tab:
        tab.settle = visitor.settle
        yield tab


def choose(tab, title: str) -> None:
    """A method by its title, and wait until the canvas shows its selection, and no other on the way."""
    before = tab.evaluate(KEPT)
    tab.click("#method input")
    tab.keyboard.type(title.split(" ·")[0])
    tab.get_by_role("option", name=title).click()
    tab.wait_for_function(f"before => {KEPT} !== before", arg=before)
    tab.settle()


def test_a_number_is_set_kept_and_told(page):
    choose(page, "Random · baseline")
    first, number = page.evaluate(KEPT), page.locator("#knob-seed input[type=number]")
    number.fill("7")
    number.press("Enter")
    page.wait_for_function(f"first => {KEPT} !== first", arg=first)
    seventh = page.evaluate(KEPT)
    assert page.input_value("#knob-seed input[type=range]") == "7"
    answered(page)
    choose(page, "IDPruner")
    assert page.locator("#knob-seed").count() == 0
    choose(page, "Random · baseline")
    assert number.input_value() == "7"
    assert page.evaluate(KEPT) == seventh


def test_what_is_typed_is_allowed_or_goes(page):
    choose(page, "Random · baseline")
    number = page.locator("#knob-seed input[type=number]")
    most, before = page.get_attribute("#knob-seed input[type=range]", "max"), page.evaluate(KEPT)
    number.fill("-3")
    number.press("Tab")
    page.wait_for_function("document.querySelector('#knob-seed input[type=number]').value === '0'")
    number.fill("")
    number.press("Tab")
    page.wait_for_function("document.querySelector('#knob-seed input[type=number]').value === '0'")
    assert page.evaluate(KEPT) == before  # zero is what held
    number.fill("1000000000")
    number.press("Tab")
    page.wait_for_function("most => document.querySelector('#knob-seed input[type=number]').value === most", arg=most)
    page.wait_for_function(f"before => {KEPT} !== before", arg=before)
    assert page.locator(".toast-body").count() == 0


def test_a_slider_that_was_dragged_and_a_menu_are_followed(page):
    choose(page, "Random · baseline")
    before = page.evaluate(KEPT)
    drag(page, "knob-seed", 0.6)
    page.wait_for_function(f"before => {KEPT} !== before", arg=before)
    answered(page)
    choose(page, "IDPruner")
    before = overlay(page)
    page.select_option("#knob-importance select", "feature_norm")
    changed(page, before)
    answered(page)
    page.focus("#canvas canvas")
    page.keyboard.press("PageUp")
    page.keyboard.press("Enter")
    page.wait_for_selector("#card .card:not(.empty)")
    assert page.input_value("#knob-importance select") == "feature_norm"


def test_each_field_is_named_and_explained(page):
    choose(page, "Random · baseline")
    for kind in ("number", "range"):
        field = page.locator(f"#knob-seed input[type={kind}]")
        assert "Seed" in field.get_attribute("aria-label")
        assert field.get_attribute("aria-description")
    assert page.get_attribute("#knob-seed", "title") == field.get_attribute("aria-description")
