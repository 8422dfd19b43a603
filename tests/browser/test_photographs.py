"""One click from the model that ships to one that reads photographs, which comes from a hub over loopback."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image

from app.engine.resources import Resources
from app.model_pool.loader import Loader, listed
from app.model_pool.pool import Models
from app.settings import Settings
from pruning.models.checkpoint import presets, reach
from tests.helpers.hub import until
from tests.helpers.serving import serve
from tests.helpers.visits import seconds_to_stop, visit

HUB_ID = "maker/tiny-vl"
WEIGHTS = "model.safetensors"


@pytest.fixture
def page(hub, tiny_folder, uploads, monkeypatch):
    """The page on one's own machine; the tiny checkpoint is all that there is to be had for photographs."""
    folder = hub.repository(HUB_ID)
    shutil.copytree(tiny_folder, folder)
    size = (folder / WEIGHTS).stat().st_size
    ours = replace(
        presets.PRESETS[-4],
        shape=presets.PRESETS[0].shape,
        model_id=HUB_ID,
        title="tiny-vl",
        parameters=size // 4,
        embeddings=0,
    )
    monkeypatch.setattr(presets, "PRESETS", (presets.PRESETS[0], ours))
    settings = Settings(device="cpu")
    loader = Loader(settings)
    allowed = listed(settings.model_ids, loader.fits)
    models = Models(allowed, loader.load(allowed[0].model_id), loader, Resources(256 << 20, 2 << 20))
    with serve(models=models) as running:
        yield running


def size(hub):
    return (hub.repository(HUB_ID) / WEIGHTS).stat().st_size


def heading(tab, words):
    tab.wait_for_function("w => document.querySelector('#head').innerText.includes(w)", arg=words)


@pytest.mark.alone
def test_one_click_with_stop_and_a_second_one_that_goes_on(page, hub, chromium, fits):
    hub.pause = 0.02
    with visit(chromium, page.url) as tab:
        offer = tab.locator("#photographs")
        assert offer.inner_text() == "tiny-vl reads photographs · 500 kB to download, fits · Apache 2.0"
        tab.click("#model input")
        lines = tab.locator("[role=option]").all_inner_texts()
        assert len(lines) == 2
        assert any("tiny-vl" in line and "to download" in line and "of memory · Apache 2.0" in line for line in lines)
        tab.keyboard.press("Escape")
        fits(tab, "photographs")
        offer.click()
        tab.wait_for_function("document.querySelector('#loading')?.innerText.includes('downloading maker/tiny-vl')")
        tab.wait_for_function("document.querySelector('#loading')?.innerText.includes('left')")
        assert seconds_to_stop(tab, "#loading button", "#loading", "choose it again to go on") < 1
        tab.wait_for_function("document.querySelector('#model input').value.includes('scenes-vlm')")
        heading(tab, "scenes-vlm")
        assert until(lambda: not page.models._jobs)
        sent, hub.pause = hub.sent[WEIGHTS], 0.0
        assert 0 < sent < size(hub)
        offer.dblclick()
        heading(tab, "tiny-vl")
        tab.wait_for_selector("#photographs", state="hidden")
        assert hub.sent[WEIGHTS] - sent < size(hub)
        # The same question, asked of the model that came.
        tab.wait_for_selector("#report .badge.same, #report .badge.other")
        with page.models.use(HUB_ID, "test") as (engine, _):
            asked = tab.input_value("#question textarea")
            assert asked
            assert engine.vlm.title == "tiny-vl"
        assert "✓ loaded" in tab.input_value("#model input")


def test_without_a_network_it_says_so_at_once_and_stays(page, hub, chromium):
    hub.close()
    reach.forget()
    with visit(chromium, page.url) as tab:
        tab.locator("#photographs").click()
        tab.wait_for_selector("#loading >> text=hub cannot be reached", timeout=8000)
        tab.wait_for_function("document.querySelector('#model input').value.includes('scenes-vlm')")
        heading(tab, "scenes-vlm")
        assert tab.is_visible("#photographs")


def test_the_answer_that_means_nothing_leads_there_and_is_asked_again(page, hub, chromium, tmp_path):
    Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
    with visit(chromium, page.url) as tab:
        tab.set_input_files("#image input[type=file]", tmp_path / "white.png")
        tab.wait_for_selector("#report .outside >> text=this picture is none of them")
        tab.wait_for_selector("#report .badge.none >> text=Outside what the model knows")
        tab.wait_for_function("document.querySelector('#report .costs').innerText.includes('ms')")
        assert not tab.is_visible("#report .elsewhere")
        tab.click("#ask")  # and while it answers
        tab.click("#report .to-photographs")
        heading(tab, "tiny-vl")
        tab.wait_for_selector("#report .badge.same, #report .badge.other, #report .badge.none:has-text('No words')")
        assert tab.locator("#report .outside").count() == 0
        assert hub.sent[WEIGHTS] == size(hub)
