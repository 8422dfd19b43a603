"""Markup in all that comes from outside, on the real page: what its model is called and says, what a visitor asks, what
their files are called. It is shown as it is, nothing of it runs, and the export holds it.
"""

from __future__ import annotations

import copy
import json
import zipfile
from dataclasses import replace

import pytest

from app.export.archive import NAME
from tests.helpers.markup import NASTY
from tests.helpers.serving import serve
from tests.helpers.visits import ask, visit

FILE = "\"><img src=x onerror=alert(5)> & 'q' {{value}} ${alert(6)}.png"
ALIEN = "document.querySelectorAll('[onerror], img[src=x], p script, span script, b script, dd script').length"
RAN = "window.ran = []; for (const name of ['alert', 'confirm']) window[name] = (what) => window.ran.push(what);"


def nasty(vlm):
    """The model, but for its title and for what it says."""
    other = copy.copy(vlm)
    stream, together = other.generate, other.answer_batch

    def generate(*values, **named):
        for chunk in stream(*values, **named):
            yield replace(chunk, text_so_far=NASTY)

    def answer_batch(samples, **named):
        return [replace(answer, text=NASTY) for answer in together(samples, **named)]

    other.title, other.generate, other.answer_batch = NASTY, generate, answer_batch
    return other


@pytest.fixture
def tab(tiny_vlm, uploads, chromium):
    with serve(nasty(tiny_vlm)) as served, visit(chromium, served.url) as tab:
        tab.add_script_tag(content=RAN)
        yield tab


def shown(tab, where: str, text: str = NASTY) -> bool:
    """Whether the text stands there, every character of it."""
    return text in tab.locator(where).first.text_content()


def test_nothing_from_outside_is_markup(tab, noise, tmp_path):
    assert shown(tab, "#head .model b")
    ask(tab, "#ask", NASTY)
    ask(tab, "#follow-up", f"and {NASTY}")
    assert shown(tab, "#report .answer:nth-child(2) p")
    assert shown(tab, ".turns li b")
    assert shown(tab, ".turns li span")
    assert shown(tab, ".asked", f"and {NASTY}")
    tab.get_by_role("tab", name="Compare").click()
    tab.click("#add-present")
    tab.wait_for_selector("#compare-status >> text=All slots measured")
    assert shown(tab, "#slot-body-A .slot-answer")
    assert shown(tab, "#compare-status .slots-about", f"and {NASTY}")
    assert shown(tab, "#compare-status .slots-about b")
    noise(64, 48).save(tmp_path / FILE)
    tab.get_by_role("tab", name="Many images").click()
    tab.set_input_files("#batch-files input[type=file]", [str(tmp_path / FILE)])
    tab.wait_for_selector("#batch-files .file")
    tab.click("#batch-run")
    tab.wait_for_selector("#batch-progress >> text=1 of 1 images in")
    assert shown(tab, "#batch-about", f"and {NASTY}")
    assert shown(tab, ".batch-card dd")
    name = tab.locator(".batch-card .name").first.text_content()
    assert "&" in name
    assert shown(tab, "#batch-totals", name)
    assert tab.locator(".batch-card .name").first.get_attribute("title") == name
    tab.click("#export button")
    tab.wait_for_selector("#export-download")
    with tab.expect_download() as download:
        tab.click("#export-download")
    download.value.save_as(tmp_path / NAME)
    with zipfile.ZipFile(tmp_path / NAME) as packed:
        answers = json.loads(packed.read("answers.json"))
    assert NASTY in json.dumps(answers, ensure_ascii=False).replace("\\n", "\n").replace('\\"', '"')
    assert tab.evaluate("window.ran") == []
    assert tab.evaluate(ALIEN) == 0
