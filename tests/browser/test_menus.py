"""The model menu, several images and conversations in a real browser, with models that load when the test lets them."""

import json
import threading

import pytest

from pruning.models import load
from tests.checkpoints import tiny_llava_next, tiny_qwen2_vl
from tests.helpers.checkout import ROOT
from tests.helpers.serving import Shelf, serve
from tests.helpers.visits import seconds_to_stop

GB = 10**9
EXAMPLES = ROOT / "assets" / "examples"


class Patient(Shelf):
    """Loads when `go_on` is set."""

    def __init__(self, *values, **named):
        super().__init__(*values, **named)
        self.go_on = threading.Event()

    def load(self, model_id, tell=None):
        tell("downloading", 0.4)
        assert self.go_on.wait(60)
        return super().load(model_id, tell)


@pytest.fixture(scope="module")
def shelf(tiny_vlm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("menu")
    tiled, second = load(tiny_llava_next(folder / "tiled")), load(tiny_qwen2_vl(folder / "second"))
    vlms = {tiny_vlm.model_id: tiny_vlm, tiled.model_id: tiled, second.model_id: second}
    vlms |= {"somebody/broken": ValueError("somebody/broken: 3 tensors are missing: fetch the checkpoint again")}
    vlms |= {"somebody/huge": None}
    needs = dict.fromkeys(vlms, GB) | {"somebody/huge": 99 * GB}
    return Patient(vlms, needs, room=10 * GB)


@pytest.fixture(scope="module")
def menu(shelf, uploads):
    with serve(shelf=shelf) as running:
        yield running


def visitor(chromium):
    """A browser of their own, to whom the page's guide has been shown."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(90_000)
    return tab


@pytest.fixture
def page(menu, chromium, shelf):
    shelf.go_on.set()
    tab, errors = visitor(chromium), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(menu.url + "?__theme=light")
    answered(tab)
    yield tab
    tab.context.close()
    assert errors == []


def answered(tab) -> None:
    tab.wait_for_function("document.querySelectorAll('#report .running').length === 0")
    tab.wait_for_selector("#report .badge.same, #report .badge.other")


def choose(tab, menu: str, name: str) -> None:
    tab.click(f"#{menu} input")
    tab.get_by_role("option", name=name).first.click()


def heading(tab, words: str) -> None:
    """Wait until the page's head names this model."""
    tab.wait_for_function("w => document.querySelector('#head').innerText.includes(w)", arg=words)


def tokens(tab) -> int:
    return int(tab.inner_text("#report .costs tbody tr:first-child td:nth-child(2)"))


def test_the_menu_tells_what_is_there_and_what_cannot_be(page):
    page.click("#model input")
    lines = page.locator("[role=option]").all_inner_texts()
    assert any("tiny-qwen2.5-vl · 1.00 GB of memory · ✓ loaded" in line for line in lines)
    (huge,) = [line for line in lines if "huge" in line]
    assert "✕" in huge
    assert "99.0 GB" in huge
    assert "10.0 GB to be had" in huge
    grey, plain = (
        page.locator("[role=option]", has_text=name).evaluate("e => getComputedStyle(e).color")
        for name in ("huge", "second")
    )
    assert grey != plain


def test_a_model_is_loaded_with_progress_and_the_page_goes_over_to_it(page, shelf):
    shelf.go_on.clear()
    before = tokens(page)
    choose(page, "model", "tiled")
    page.wait_for_selector("#loading progress")
    page.wait_for_function("document.querySelector('#loading').innerText.includes('downloading 40%')")
    page.click("#suggestions button:nth-child(2)")  # meanwhile the page goes on with the model that it has
    answered(page)
    assert "tiny-qwen2.5-vl" in page.inner_text("#head")
    shelf.go_on.set()
    heading(page, "tiled")
    page.wait_for_function("b => !document.querySelector('#report .costs').innerText.includes(b)", arg=f"\t{before}\t")
    answered(page)
    assert page.locator("#loading p").count() == 0
    assert "✓ loaded" in page.input_value("#model input")
    assert page.is_visible("#scope")  # tiles
    choose(page, "model", "tiny-qwen2.5-vl")
    heading(page, "tiny-qwen2.5-vl")
    page.wait_for_function("b => document.querySelector('#report .costs').innerText.includes(b)", arg=f"\t{before}\t")
    page.wait_for_function("!document.querySelector('#scope')?.checkVisibility()")


@pytest.mark.alone
def test_stop_ends_a_load_within_a_second_and_the_page_keeps_its_model(page, menu, shelf):
    shelf.go_on.clear()
    choose(page, "model", "second")
    page.wait_for_selector("#loading progress")
    assert seconds_to_stop(page, "#loading button", "#loading", "was stopped") < 1
    page.wait_for_function("document.querySelector('#model input').value.includes('tiny-qwen2.5-vl')")
    assert "tiny-qwen2.5-vl" in page.inner_text("#head")
    job = menu.models._jobs["second"]
    shelf.go_on.set()
    assert job.done.wait(20)
    assert menu.models.state("second") == "absent"


@pytest.mark.parametrize(
    ("name", "words"), [("broken", "3 tensors are missing"), ("huge", "needs about 99.0 GB, and 10.0 GB can be had")]
)
def test_what_does_not_load_is_explained_and_the_page_keeps_its_model(page, name, words):
    choose(page, "model", name)
    page.wait_for_selector(f"#loading >> text={words}")
    page.wait_for_function("document.querySelector('#model input').value.includes('tiny-qwen2.5-vl')")
    assert "tiny-qwen2.5-vl" in page.inner_text("#head")
    page.click("#suggestions button:nth-child(3)")
    answered(page)


def test_a_visitor_cannot_name_another_model(page, menu):
    """The menu's own request, with a value that the menu does not have."""
    config = json.loads(page.evaluate("JSON.stringify(window.gradio_config)"))
    (menu_id,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "model"]
    (chosen,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "model-chosen"]
    (event,) = [d for d in config["dependencies"] if [chosen, "click"] in d["targets"] and d["inputs"] == [menu_id]]
    sent = page.request.post(
        f"{menu.url}gradio_api/queue/join",
        data={"data": ["../../etc"], "fn_index": event["id"], "session_hash": "intruder", "trigger_id": menu_id},
    )
    assert sent.ok
    told = page.request.get(f"{menu.url}gradio_api/queue/data?session_hash=intruder").text()
    assert "not in the list of choices" in told or "not offered here" in told
    assert "../../etc" not in menu.models._jobs


def test_two_visitors_stay_with_their_own_models(menu, chromium, shelf):
    shelf.go_on.set()
    tabs = [visitor(chromium) for _ in range(2)]
    for tab in tabs:
        tab.goto(menu.url)
        answered(tab)
    choose(tabs[0], "model", "second")
    heading(tabs[0], "second")
    for tab, name in zip(tabs, ("second", "tiny-qwen2.5-vl"), strict=True):
        tab.click("#suggestions button:nth-child(2)")
        answered(tab)
        assert name in tab.inner_text("#head")
    for tab in tabs:
        tab.context.close()


def test_images_are_added_and_removed(page):
    one = tokens(page)
    page.set_input_files("#images input[type=file][multiple]", [EXAMPLES / "crowd.png", EXAMPLES / "wide.png"])
    page.wait_for_selector("#strip li:nth-child(3)")
    page.wait_for_function("b => !document.querySelector('#report .costs').innerText.includes(b)", arg=f"\t{one}\t")
    answered(page)
    three = tokens(page)
    assert three > 2 * one
    page.get_by_text("each image", exact=True).click()
    answered(page)
    page.get_by_role("button", name="Remove image 2").click()
    page.wait_for_selector("#strip li:nth-child(3)", state="detached")
    page.wait_for_function("b => !document.querySelector('#report .costs').innerText.includes(b)", arg=f"\t{three}\t")
    answered(page)
    assert one < tokens(page) < three
    page.get_by_role("button", name="Remove image 1").click()
    page.wait_for_selector("#strip li", state="detached")


def test_a_fifth_image_is_refused(page):
    page.set_input_files("#images input[type=file][multiple]", [EXAMPLES / "crowd.png"] * 4)
    page.wait_for_selector("text=at most 4")
    page.click("#suggestions button:nth-child(2)")
    answered(page)


def test_a_follow_up_shows_the_earlier_turn_until_a_new_conversation(page):
    first = page.input_value("#question textarea")
    page.fill("#question textarea", "is there a star?")
    page.click("#follow-up")
    page.wait_for_selector(f'.turns li:has-text("{first}")')
    answered(page)
    assert page.inner_text(".asked") == "is there a star?"
    page.fill("#question textarea", "how many rings?")
    page.press("#question textarea", "Enter")  # in a conversation, asking goes on with it
    page.wait_for_selector(".turns li:nth-child(2)")
    answered(page)
    choose(page, "method", "Random")  # another setting: the same conversation, asked again
    page.wait_for_function("document.querySelectorAll('.turns li').length === 2")
    answered(page)
    page.click("#anew")
    page.wait_for_selector(".turns", state="detached")
    answered(page)
    assert page.is_visible("#follow-up")
    assert not page.is_visible("#anew")
