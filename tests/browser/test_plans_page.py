"""Methods that drop tokens between layers, on the page in a real browser."""

from __future__ import annotations

import pytest

from tests.helpers.visits import visit

pytestmark = pytest.mark.browser
STAGED = "?method=pyramiddrop&retention=0.5&"  # `visit` writes on


def test_depths_of_patches_and_costs_of_layers_are_shown(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")
        assert tab.locator("#canvas .key.depth").count() == 3  # one for each of its cuts
        assert "tokens alive at the end · 50 % in the mean of the layers" in tab.inner_text("#readout")
        tokens = tab.locator("#report .by-layer tbody td:nth-child(2)").all_text_contents()  # folded
        assert len(tokens) == 4
        assert sorted(map(int, tokens), reverse=True) == list(map(int, tokens))
        assert int(tokens[-1]) == len(tab.get_attribute("#canvas [data-kept]", "data-kept").split())
        tab.locator("#plane .chart-note", has_text=f"the {tokens[-1]} tokens alive after its last cut").wait_for()


def test_a_patch_says_at_which_cut_it_left(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")
        tab.focus("#canvas canvas")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#card .cuts li")
        told = tab.inner_text("#card p")
        assert "by the last token's attention in the next layer" in told, told


def test_nothing_is_forced_where_patches_leave_between_layers(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.wait_for_selector("#canvas [data-tool=in]:disabled")
        tab.focus("#canvas canvas")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("i")
        tab.locator("#canvas [data-part=tip]", has_text="none can be forced").wait_for()
        assert tab.locator("#canvas [data-part=clear]").is_disabled()
        tab.click("#method input")
        tab.get_by_role("option", name="DivPrune").click()
        tab.wait_for_selector("#canvas [data-tool=in]:enabled")
        tab.wait_for_selector("#canvas [data-legend=dimmed]:not([hidden])")


def test_a_retention_out_of_reach_names_the_range(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.goto(shipped_page.url + "?method=fastv&retention=0.1")
        tab.locator("#report .notice", has_text="256 visual tokens reach 0.253 to 1").wait_for()


def test_back_within_reach_the_canvas_shows_the_method(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.click("#method input")
        tab.get_by_role("option", name="FastV").click()
        tab.locator("#report .notice", has_text="256 visual tokens reach 0.253 to 1").wait_for()
        tab.fill("#retention input[type=number]", "0.5")
        tab.keyboard.press("Enter")
        tab.locator("#readout", has_text="85 of 256 tokens alive at the end").wait_for()
        tab.wait_for_selector("#report .by-layer")
