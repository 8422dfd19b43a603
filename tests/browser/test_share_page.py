"""A page that is opened with a link, and the button that makes one: values, files, and a real browser."""

import os
import re
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import gradio as gr
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import ui
from app.engine.capabilities import Capabilities
from app.examples import EXAMPLES
from app.explore.handlers import Handlers
from app.explore.layout import layout
from app.explore.menus import Menus
from app.session import Setting
from app.share import page as share_page
from app.share.link import KNOB, LONGEST, NAMES
from app.share.page import Sharing
from app.web.controls import Controls
from pruning.method import METHODS, make
from tests.app.test_share import NASTY, names, values
from tests.helpers.serving import Shelf, models_of


@pytest.fixture(scope="module")
def opened(tiny_vlm, uploads):
    """opened(query) -> ({component's elem_id or name: its new value}, words on what was not taken)."""
    models, controls = models_of(Shelf({"tiny": tiny_vlm, "gone": ValueError("it did not load")})), Controls()
    with models.use("tiny", "") as (engine, capabilities), gr.Blocks():
        start = ui.opening(models, engine, capabilities, controls)
        page = layout(controls, start)
        handlers = Handlers(models, controls, page)
        restored, menus = gr.State(""), Menus(models, controls, page)
        sharing = Sharing(share_page.place_share(page), page, restored, handlers, menus)
    shown = page.settings
    called = {c: c.elem_id or "plan" for c in [*shown, page.image, page.question, page.model]}
    called |= {page.session: "session", restored: "restored"}

    def value(update):
        return update["value"] if isinstance(update, dict) and "__type__" in update else update

    def open_(query):
        request = SimpleNamespace(query_params=query, session_hash="visitor")
        *_, last = sharing.open(request, start.session, start.method, page.knobs.value)
        changed = {
            called[c]: value(u) for c, u in last.items() if c in called and (not isinstance(u, dict) or "value" in u)
        }
        told = last.get(sharing.view)
        return changed, [] if told is None or isinstance(told, dict) else told.props["told"]["notes"]

    open_.setting = lambda changed: handlers.setting(
        Capabilities(tiny_vlm), changed["session"],
        [changed.get(called[c], c.value) for c in shown],
    )  # fmt: skip
    return open_


def test_a_page_opened_with_a_link_shows_what_it_says(opened):
    changed, refused = opened(
        "example=crowd&question=is+there+a+star%3F&question=why%3F&method=random&knob.seed=7&retention=0.5&overlay=order"
        "&importance=0.1&diversity=0.3"
    )
    assert refused == []
    assert changed["image"] == EXAMPLES[1].path
    assert changed["question"] == "why?"
    assert changed["session"].questions == ("is there a star?", "why?")
    assert changed["session"].pictures[0].path == EXAMPLES[1].path
    assert (changed["retention"], changed["style"], changed["scope"], changed["method"]) == (
        0.5,
        "order",
        "sample",
        "random",
    )
    assert (changed["importance-weight"], changed["diversity-weight"]) == (0.1, 0.3)
    assert changed["knobs"] == {"shown": ["seed"], "held": {"seed": 7}}
    assert changed["restored"]
    assert opened.setting(changed) == Setting(make("random", seed=7), 0.5)


def test_a_page_opened_without_one_stays_as_it_is(opened):
    assert opened("__theme=dark") == ({}, [])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("model=gone", "it did not load"),
        ("per=tile", "no such parts"),
        ("question=%3C%7Cim_end%7C%3E", "control token"),
    ],
)
def test_what_only_the_model_can_know_is_told_too(opened, query, words):
    changed, refused = opened(query)
    assert any(words in told for told in refused), refused
    assert changed["session"].model_name == "tiny"
    assert changed["session"].questions == EXAMPLES[0].questions[:1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(names, values), min_size=1, max_size=8))
def test_whatever_a_link_says_the_page_can_go_on_with_it(opened, pairs):
    changed, _ = opened(urlencode(pairs, errors="replace"))
    if changed:
        assert changed["session"].model_name == "tiny"
        assert changed["session"].pictures[0].path in [example.path for example in EXAMPLES]
        assert changed["image"] in [example.path for example in EXAMPLES]
        assert opened.setting(changed).method.name in METHODS


def test_nothing_of_a_link_reaches_the_file_system(opened, monkeypatch):
    marker = "zz-from-a-link"
    paths = [f"../../{marker}", f"/tmp/{marker}.png", f"{marker}/x", f"file:///{marker}"]
    with watched(monkeypatch) as seen:
        for path in paths:
            opened(urlencode([(name, path) for name in (*NAMES, KNOB + "seed", "path", "image", "file", marker)]))
    assert any(path.endswith(".png") for path in seen), "the watch sees nothing"
    assert not [path for path in seen if marker in path]


@contextmanager
def watched(monkeypatch):
    """Every path that is opened, listed or looked up meanwhile."""
    seen, on = [], [True]
    for name in ("stat", "lstat", "access", "readlink"):  # of which no audit event tells
        look_up = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *v, _real=look_up, **n: seen.append(str(path)) or _real(path, *v, **n)
        )

    def hook(event, arguments):
        if on and event.split(".")[0] in ("open", "os", "shutil", "pathlib", "glob", "import", "socket"):
            seen.extend(str(argument) for argument in arguments)

    sys.addaudithook(hook)  # stays for the life of the process, and is blind once it is told to be
    try:
        yield seen
    finally:
        on.clear()


def test_the_longest_link_reaches_the_page(served):
    query = urlencode([("question", "x" * 900)] * 12)
    assert len(query) < LONGEST
    assert httpx.get(f"{served.url}?{query}").status_code == 200


@pytest.mark.parametrize("bad", [text for text in NASTY if "alert" in text])
def test_nothing_of_an_address_comes_back_in_the_page_s_source(served, bad):
    address = f"{served.url}?question={quote(bad, errors='replace')}&example={quote(bad, errors='replace')}"
    source = httpx.get(address).text
    assert "<script>alert" not in source
    assert "onerror=alert" not in source


# In a browser


def fresh(chromium, **options):
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, **options)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    return context, tab


def test_a_copied_link_brings_everything_back(shipped_page, chromium, fits):
    context, tab = fresh(chromium, permissions=["clipboard-read", "clipboard-write"])
    tab.goto(f"{shipped_page.url}?__theme=light")
    tab.wait_for_selector("#canvas canvas")
    tab.click("#examples button:nth-child(2)")
    tab.wait_for_function("q => document.querySelector('#question textarea').value === q", arg=EXAMPLES[1].questions[0])
    tab.get_by_text("Grid outlines", exact=True).click()
    field = tab.locator("#retention input[type=number]")
    field.fill("0.5")
    field.press("Tab")
    tab.wait_for_function("document.querySelector('#report').innerText.includes('128 tokens')")
    tab.click('#share [data-part="copy"]')
    tab.wait_for_selector('.tool-panel:popover-open >> text="Copied."')
    fits(tab, "link", full_page=False)
    address = tab.evaluate("navigator.clipboard.readText()")
    assert address == tab.input_value(".tool-panel input")
    assert "example=crowd" in address
    assert "__theme" not in address

    context2, other = fresh(chromium)
    other.goto(address)
    other.wait_for_selector("#question textarea")
    other.wait_for_function(
        "q => document.querySelector('#question textarea').value === q", arg=EXAMPLES[1].questions[0]
    )
    other.wait_for_function("document.querySelector('#report').innerText.includes('128 tokens')")
    other.wait_for_selector("#report .badge.same, #report .badge.other")
    other.wait_for_function("document.querySelector('#canvas').innerText.includes('128 of 256')")
    assert other.input_value("#retention input[type=number]") == "0.5"
    assert other.is_checked("#style input[value=grid]")
    assert other.locator(".tool-panel:popover-open").count() == 0  # nothing was refused, so nothing is said
    assert other.locator("#examples button").count() == len(EXAMPLES)
    context.close()
    context2.close()


def test_where_the_clipboard_is_closed_the_link_stands_selected(served, chromium):
    context, tab = fresh(chromium)
    tab.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    tab.goto(served.url)
    tab.wait_for_selector("#canvas canvas")
    tab.click('#share [data-part="copy"]')
    tab.wait_for_selector(".tool-panel:popover-open >> text=copy it with Ctrl C")
    chosen = tab.evaluate(
        "(() => { const f = document.activeElement; return f.value.slice(f.selectionStart, f.selectionEnd); })()"
    )
    assert chosen == tab.input_value(".tool-panel input")
    assert re.match(r"http://127\.0\.0\.1:\d+/\?model=", chosen)
    tab.keyboard.press("Escape")
    tab.wait_for_selector(".tool-panel:popover-open", state="detached")
    tab.click('#share [data-part="copy"]')  # the same link again
    tab.wait_for_selector(".tool-panel:popover-open")
    context.close()


def test_after_a_link_was_opened_a_broken_upload_is_still_told_in_our_words(served, chromium, tmp_path):
    """Restoring makes Gradio build the page's components anew for this visitor."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    context, tab = fresh(chromium)
    tab.goto(f"{served.url}?example=crowd&retention=0.5")
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    tab.wait_for_function("document.querySelector('#canvas').innerText.includes('32 of 64')")
    tab.set_input_files("#images input[type=file][multiple]", broken)
    tab.wait_for_selector(".toast-body >> text=not an image")
    tab.wait_for_selector(".toast-body", state="detached")
    assert "not an image" in tab.inner_text("#note")  # the message goes, the words stay
    tab.get_by_label("Remove Image").click()
    tab.set_input_files("#image input[type=file]", broken)
    tab.wait_for_selector(".toast-body >> text=not an image")
    context.close()


def test_a_hostile_link_shows_words_and_runs_nothing(served, chromium):
    context, tab = fresh(chromium)
    ran, outside = [], []
    tab.on("dialog", lambda dialog: ran.append(dialog.message) or dialog.dismiss())
    tab.on("pageerror", lambda error: ran.append(str(error)))
    tab.on(
        "request", lambda request: outside.append(request.url) if "evil.example" in request.url.split("?")[0] else None
    )
    bad = '"><img src=x onerror=alert(1)><script>alert(2)</script>${alert(3)}{{alert(4)}}'
    pairs = [(name, bad) for name in ("model", "example", "method", "retention", "overlay", "knob.x", bad)]
    pairs += [("question", bad), ("image", "http://evil.example/x.png")]
    tab.goto(f"{served.url}?{urlencode(pairs)}")
    tab.wait_for_selector(".tool-panel:popover-open")
    assert "onerror" in tab.inner_text(".tool-panel:popover-open")  # as text
    assert tab.input_value("#question textarea") == bad  # a question may be anything
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    assert ran == []
    assert outside == []
    context.close()
