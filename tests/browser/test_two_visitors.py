"""Two visitors at once, on the page and through the endpoints: neither ever sees what is the other's."""

import base64
import threading
from pathlib import Path

import cv2
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from app.session import Session, Setting
from pruning.method import make

OVERLAY = "#canvas [data-kept]"
PIXELS = "() => document.querySelector('#canvas canvas').toDataURL('image/png')"
# Of two windows the browser draws one at a time: what waits for drawing (Playwright's own typing) would wait for ever.
TYPE = "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', { bubbles: true })); }"
RED, BLUE = (210, 30, 40), (30, 50, 210)


def save(folder: Path, name: str, colour: tuple[int, int, int], seed: int) -> Path:
    noise = np.random.default_rng(seed).integers(-25, 26, (224, 224, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(folder / name)
    return folder / name


def test_endpoints_answer_each_client_for_its_own_image(served, tmp_path):
    images = [save(tmp_path, f"{i}.png", colour, i) for i, colour in enumerate((RED, BLUE))]
    engine, failures = served.engine, []

    def visit(which: int) -> None:
        try:
            client = Client(served.url, verbose=False, download_files=str(tmp_path))
            picture, _ = engine.resources.pictures.open(str(images[which]))
            session = Session("", (picture,))
            for turn in range(4):
                retention = (0.25, 0.5)[turn % 2]
                method = "idpruner"
                got = client.predict(
                    handle_file(str(images[which])),
                    "what color is it?",
                    method,
                    1,
                    1,
                    retention,
                    {},
                    api_name="/select",
                )
                own = engine.selection(session, Setting(make(method), retention))
                assert got["order"] == own.order.tolist()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_pages_show_each_visitor_only_her_own_image(served, chromium, tmp_path):
    contexts = [chromium.new_context() for _ in range(2)]
    tabs = [context.new_page() for context in contexts]
    images = [save(tmp_path, f"page-{i}.png", colour, 7 + i) for i, colour in enumerate((RED, BLUE))]
    for tab in tabs:
        tab.set_default_timeout(90_000)
        tab.goto(served.url)
        tab.wait_for_selector(OVERLAY, state="attached")
        tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
    before = [tab.evaluate(PIXELS) for tab in tabs]
    for tab, image in zip(tabs, images, strict=True):  # both at once: neither waits for the other
        tab.set_input_files("#image input[type=file]", image)
    for tab, was in zip(tabs, before, strict=True):
        until(tab, f"b => ({PIXELS})() !== b", was)
    for retention, kept in (("0.3", 19), ("0.5", 32), ("0.75", 48)):
        for tab in tabs:
            tab.eval_on_selector("#retention input[type=number]", TYPE, retention)
        for tab, channel in zip(tabs, (0, 2), strict=True):
            until(tab, "k => document.querySelector('#readout').innerText.includes(`${k} of 64`)", kept)
            assert dominant(tab.evaluate(PIXELS)) == channel
    for context in contexts:
        context.close()


def until(tab, condition: str, value) -> None:
    tab.wait_for_function(condition, arg=value, polling=100)


def dominant(url: str) -> int:
    """The strongest channel (0 red, 2 blue) of an overlay's coloured pixels, outlines apart."""
    data = np.frombuffer(base64.b64decode(url.split(",", 1)[1]), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].reshape(-1, 3).astype(int)
    vivid = pixels[np.ptp(pixels, axis=1) > 90]
    return int(np.argmax(np.median(vivid, axis=0)))


def test_who_waits_is_told_and_stop_or_a_closed_tab_drops_it(served, chromium, slow_model, monkeypatch):
    asked, generate = [], served.engine.vlm.generate

    def noted(encoded, question, *values, **named):
        asked.append(question)
        return generate(encoded, question, *values, **named)

    monkeypatch.setattr(served.engine.vlm, "generate", noted)
    contexts = [chromium.new_context() for _ in range(3)]
    busy, stops, closes = (context.new_page() for context in contexts)
    for tab in (busy, stops, closes):
        tab.set_default_timeout(90_000)
        tab.goto(served.url)
        tab.wait_for_selector(OVERLAY, state="attached")
    ask(busy, "who has the device for some seconds?")
    until(busy, "() => document.querySelector('#report .running .cursor')", None)
    for tab, question, place in ((closes, "does nobody wait any more?", 1), (stops, "is this never asked?", 2)):
        ask(tab, question)
        until(tab, "p => document.querySelector('#report .badge').innerText.endsWith(`place ${p} in the queue`)", place)
    closes.context.close()
    until(stops, "() => document.querySelector('#report .badge').innerText.includes('place 1 ')", None)
    stops.evaluate("document.querySelector('#stop').click()")
    stops.wait_for_function("document.querySelector('#report .badge').innerText.includes('Stopped')", timeout=3000)
    slow_model.clear()
    until(busy, "() => document.querySelector('#report .badge.same, #report .badge.other')", None)
    stops.wait_for_timeout(500)
    assert "Stopped" in stops.inner_text("#report .badge")
    assert set(asked) == {"who has the device for some seconds?"}
    for tab in (busy, stops):
        tab.context.close()


def ask(tab, question: str) -> None:
    tab.eval_on_selector("#question textarea", TYPE, question)
    tab.wait_for_timeout(200)
    tab.evaluate("document.querySelector('#ask').click()")
