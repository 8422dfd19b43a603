"""Methods that drop tokens between layers, on the page in a real browser."""

from __future__ import annotations

import pytest

from app.examples import EXAMPLES
from tests.helpers.visits import visit

TOUCH = "() => document.querySelector('#canvas canvas').style.touchAction"
STAGED = "?method=pyramiddrop&retention=0.5&"  # `visit` writes on


def test_depths_of_patches_and_costs_of_layers_are_shown(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")
        assert tab.locator("#canvas .key.depth").count() == 3  # one for each of its cuts
        assert "tokens alive at the end · 50 % in the mean of the layers" in tab.inner_text("#readout")
        tab.wait_for_selector("#report .by-layer")
        tokens = tab.locator("#report .by-layer tbody td:nth-child(2)").all_text_contents()  # folded
        assert len(tokens) == 4
        assert sorted(map(int, tokens), reverse=True) == list(map(int, tokens))
        assert int(tokens[-1]) == len(tab.get_attribute("#canvas [data-kept]", "data-kept").split())
        tab.locator("#plane .chart-note", has_text=f"the {tokens[-1]} tokens alive after its last cut").wait_for()
        shades = "(keys) => keys.map((key) => [key.style.getPropertyValue('--depth'), key.nextSibling.textContent])"
        wanted = tab.locator("#canvas .key.depth").evaluate_all(shades)
        tab.keyboard.press("p")
        tab.wait_for_selector(".presenter [data-legend=depth]:not([hidden])")
        assert tab.locator(".presenter .key.depth").evaluate_all(shades) == wanted
        assert len({tuple(key) for key in wanted}) == 3


@pytest.mark.slow
def test_the_menu_says_anew_what_runs_on_so_many_images(shipped_page, chromium) -> None:
    line = "CATP · inside the LLM"

    def offers(line: str) -> None:
        tab.click("#method input")
        tab.get_by_role("option", name=line, exact=True).wait_for(state="attached")
        tab.keyboard.press("Escape")

    with visit(chromium, shipped_page.url + "?method=divprune&") as tab:
        offers(f"✕ {line} · 2 images or more")
        with tab.expect_file_chooser() as files:
            tab.click("#add-image")
        files.value.set_files(EXAMPLES[1].path)
        tab.wait_for_selector("#strip li:nth-child(2)")
        offers(line)
        assert tab.input_value("#method input").startswith("DivPrune")
        tab.locator("#strip button").last.click()
        tab.wait_for_selector("#strip li", state="detached")
        offers(f"✕ {line} · 2 images or more")


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
        tab.locator("#canvas [data-part=tip]", has_text="can be forced only").wait_for()
        assert tab.locator("#canvas [data-part=clear]").is_disabled()
        tab.click("#method input")
        tab.get_by_role("option", name="DivPrune").click()
        tab.wait_for_selector("#canvas [data-tool=in]:enabled")
        tab.wait_for_selector("#canvas [data-legend=dimmed]:not([hidden])")


def test_a_retention_out_of_reach_names_the_range(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.goto(shipped_page.url + "?method=fastv&retention=0.1")
        tab.locator("#report .notice", has_text="256 visual tokens reach 0.253 to 1").wait_for()


def test_a_schedule_that_cannot_come_to_the_retention_moves_the_slider(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.click("#method input")
        tab.get_by_role("option", name="FastV · inside the LLM").click()
        tab.locator("#readout", has_text="tokens alive at the end · 26 %").wait_for()
        assert tab.input_value("#retention input[type=number]") == "0.26"
        tab.wait_for_selector("#report .by-layer")


def test_out_of_reach_the_canvas_shows_the_picture_alone_and_back_the_method(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + "?method=fastv&retention=0.5&") as tab:
        tab.locator("#readout", has_text="85 of 256 tokens alive at the end").wait_for()
        tab.fill("#retention input[type=number]", "0.1")
        tab.keyboard.press("Enter")
        tab.locator("#readout", has_text="cannot come to an equivalent retention of 0.1").wait_for()
        assert tab.get_attribute("#canvas [data-kept]", "data-kept") == ""
        tab.locator("#plane", has_text="256 visual tokens reach 0.253 to 1").wait_for()
        tab.click("#canvas [data-zoom=in]")
        tab.fill("#retention input[type=number]", "0.5")
        tab.keyboard.press("Enter")
        tab.locator("#readout", has_text="85 of 256 tokens alive at the end").wait_for()
        tab.wait_for_selector("#report .by-layer")
        assert tab.evaluate(TOUCH) == "pinch-zoom", "it stays zoomed in"


def test_the_layer_slider_puts_patches_out_where_they_are_dropped(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")
        slider = tab.locator("#canvas [data-part=step]")
        tab.wait_for_selector("#report .by-layer")
        tokens = tab.locator("#report .by-layer tbody td:nth-child(2)").all_text_contents()
        slider.focus()
        for layer in (3, 2, 1, 0):
            tab.keyboard.press("ArrowLeft")
            alive = tokens[layer - 1] if layer else "256"
            said = f"layer {layer} of 4: {alive} alive" if layer else "before the LLM: 256"
            tab.wait_for_selector(f"#canvas [aria-valuetext='{said}']")
            assert tab.get_attribute("#canvas [data-shown]", "data-shown") == alive
        tab.click("#canvas [data-part=play]")
        tab.locator("#canvas [data-part=at]", has_text=f"layer 4 of 4: {tokens[-1]} alive").wait_for()
        tab.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")


def test_a_plan_is_typed_dragged_and_composed_in_its_box(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.locator("#plan-note", has_text="PyramidDrop comes to").wait_for()
        knobs = tab.locator("#plan-chart [role=slider]")
        assert knobs.count() == 3
        tab.fill("#plan-text textarea", "9:fastv:0.5")
        tab.keyboard.press("Enter")
        tab.locator("#plan-note .warn", has_text="beyond the model: it has 4 layers").wait_for()
        assert "50 % in the mean of the layers" in tab.inner_text("#readout"), "the page stays as it was"
        tab.fill("#plan-text textarea", "pre:uniform:0.5,2:fastv:32")
        tab.keyboard.press("Enter")
        tab.locator("#readout", has_text="32 of 256 tokens alive at the end").wait_for()
        tab.locator("#plan-note", has_text="comes to 31.2 %").wait_for()
        assert knobs.count() == 2
        knobs.nth(1).focus()
        tab.keyboard.press("PageDown")
        tab.keyboard.press("ArrowLeft")
        tab.locator("#readout", has_text="22 of 256 tokens alive at the end").wait_for()
        assert tab.input_value("#plan-text textarea") == "pre:uniform:128,1:fastv:22"
        box = knobs.nth(1).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x, y - 20, steps=4)
        tab.mouse.up()
        tab.wait_for_function("() => !document.querySelector('#plan-text textarea').value.endsWith(':22')")
        tab.fill("#plan-text textarea", "")
        tab.keyboard.press("Enter")
        tab.locator("#plan-note", has_text="PyramidDrop comes to").wait_for()


def test_published_schedules_and_methods_before_are_one_click_away(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + "?method=fastv&retention=0.5&") as tab:
        tab.click("#plan-published input")
        tab.get_by_role("option", name="FastV as published").click()
        tab.wait_for_function("() => document.querySelector('#plan-text textarea').value === 'fastv-published'")
        tab.locator("#readout", has_text="tokens alive at the end").wait_for()
        tab.click("#plan-first input")
        tab.get_by_role("option", name="DivPrune", exact=True).click()
        tab.wait_for_function(
            "() => document.querySelector('#plan-text textarea').value.startsWith('pre:divprune:0.5,')"
        )
        tab.wait_for_selector("#plan-chart [data-step='-1']")
        tab.locator("#report .plan", has_text="pre:divprune:0.5").wait_for(state="attached")


def test_a_choice_in_a_menu_is_told_once(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url) as tab:
        told = "fetch('config').then((r) => r.json()).then((c) => c.dependencies.map((d) => [d.id, d.api_name]))"
        names, asked = dict(tab.evaluate(told)), list[str]()

        def note(request) -> None:
            if "/queue/join" in request.url:
                asked.append(names[request.post_data_json["fn_index"]])

        tab.on("request", note)
        for title, by_keys in (("FastV", False), ("PyramidDrop", True)):
            asked.clear()
            tab.click("#method input")
            if by_keys:
                tab.keyboard.type(title)
                tab.keyboard.press("Enter")
            else:
                tab.get_by_role("option", name=title).first.click()
            tab.locator("#report .plan", has_text=title.lower()).wait_for(state="attached")
            tab.locator("#plane .chart-note", has_text=title).wait_for()
            tab.wait_for_selector("#report .fidelity")
            results = [name.split("_")[0] for name in asked]
            assert [results.count(name) for name in ("method", "draw", "report", "plane")] == [1, 1, 1, 1]


def test_a_menu_that_is_left_without_a_choice_changes_nothing(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.fill("#plan-text textarea", "2:fastv:32")
        tab.keyboard.press("Enter")
        tab.locator("#readout", has_text="32 of 256 tokens alive at the end").wait_for()
        tab.wait_for_selector("#report .fidelity")
        told = "fetch('config').then((r) => r.json()).then((c) => c.dependencies.map((d) => [d.id, d.api_name]))"
        names, asked = dict(tab.evaluate(told)), list[str]()

        def note(request) -> None:
            if "/queue/join" in request.url:
                asked.append(names[request.post_data_json["fn_index"]].split("_")[0])

        tab.on("request", note)
        for leave in ("Escape", "Tab"):
            tab.click("#method input")
            tab.get_by_role("option", name="DivPrune").wait_for()
            tab.keyboard.press("ArrowDown")
            tab.keyboard.press(leave)
            tab.evaluate("document.activeElement.blur()")
        tab.wait_for_timeout(500)
        assert not {"method", "draw", "report"} & set(asked), asked
        assert tab.input_value("#plan-text textarea") == "2:fastv:32"
        tab.click("#method input")
        tab.get_by_role("option", name="PyramidDrop").click()  # the line that stands there: the slider again
        tab.wait_for_function("() => document.querySelector('#plan-text textarea').value === ''")
        tab.locator("#readout", has_text="50 % in the mean of the layers").wait_for()


def test_what_is_unfolded_stays_so_while_another_answer_comes(shipped_page, chromium) -> None:
    with visit(chromium, shipped_page.url + STAGED) as tab:
        tab.click("#report .by-layer summary")
        tab.wait_for_selector("#report .by-layer[open]")
        for plan in ("2:fastv:32", "1:fastv:0.5"):
            tab.fill("#plan-text textarea", plan)
            tab.keyboard.press("Enter")
            tab.locator("#report .plan", has_text=plan).wait_for()
            tab.wait_for_selector("#report .by-layer[open]")
        tab.click("#report .by-layer summary")
        tab.fill("#plan-text textarea", "2:fastv:16")
        tab.keyboard.press("Enter")
        tab.locator("#report .plan", has_text="2:fastv:16").wait_for(state="attached")
        assert tab.locator("#report .by-layer[open]").count() == 0
        tab.click("#plan-measures input")
        tab.locator("#plan-dominance [data-part=drawn]").wait_for()
        tab.focus("#plan-dominance [role=slider]")
        tab.keyboard.press("End")
        assert "Layer 4: MDI" in tab.get_attribute("#plan-dominance [role=slider]", "aria-valuetext")
