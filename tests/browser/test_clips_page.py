"""Clips on the page, in a real browser: chosen and dropped, scrubbed and played, resampled, refused in words."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from app.session import Session
from tests.helpers.clips import film
from tests.helpers.visits import QUESTION, SharedTab, keep

MOMENT = "#canvas [data-part=moment]"
SETTLED = "#report .badge.same, #report .badge.other"
DROP = """([where, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), held = new DataTransfer();
  held.items.add(new File([bytes], name, { type: "video/mp4" }));
  const field = document.querySelector(where);
  for (const kind of ["dragenter", "dragover", "drop"]) {
    field.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: held }));
  }
}"""
PIXELS = """() => {
  const canvas = document.querySelector("#canvas [data-part=frames]");
  return canvas.toDataURL();
}"""


@pytest.fixture(scope="module")
def shared(served, chromium):
    with SharedTab(chromium, served.url, viewport={"width": 1440, "height": 900}) as tab:
        yield tab


@pytest.fixture
def page(shared):
    with shared.at_the_start() as tab:
        tab.settle = shared.settle
        yield tab


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """3 s, of which 6 frames are taken: 3 steps of 4 × 6 tokens."""
    return film(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=30, fps=10, size=(168, 112))


def choose(page, clip: Path) -> None:
    page.set_input_files("#image input[type=file]", clip)
    page.wait_for_selector("#canvas .canvas-film:not([hidden])")
    page.settle()


def kept(page) -> list[int]:
    return sorted(map(int, page.get_attribute("#canvas [data-kept]", "data-kept").split()))


def moment(page, words: str = "") -> str:
    """What stands there once it begins with these words: the canvas draws once a frame."""
    page.wait_for_function(
        "([where, words]) => document.querySelector(where).innerText.startsWith(words)", arg=[MOMENT, words]
    )
    return page.inner_text(MOMENT)


def test_a_clip_that_is_chosen_is_answered_and_shows_its_frames(page, served, clip):
    choose(page, clip)
    assert page.inner_text("#note").endswith("6 of 30 frames, 2 a second.")
    page.wait_for_selector(SETTLED)
    picture, _ = served.models.resources.pictures.open(str(clip))
    own = served.engine.selection(Session(served.models.first, (picture,), (QUESTION,)), keep("idpruner", 0.25))
    assert kept(page) == own.indices.tolist()
    first = sum(token < 24 for token in own.indices.tolist())
    assert moment(page) == f"frame 1 of 3 · 0.0 s · {first} of 24 kept"
    assert page.get_by_label("Time").get_attribute("aria-valuetext") == moment(page)
    assert page.locator("#scope label").all_inner_texts() == ["all", "each frame", "by what is new"]
    assert page.locator("#frames-rate").is_visible()


def test_the_time_cursor_scrubs_by_key_slider_and_strip_and_plays(page, clip):
    choose(page, clip)
    large = "() => document.querySelector('#canvas canvas').toDataURL()"
    before = page.evaluate(large)
    page.locator("#canvas canvas").first.focus()
    page.keyboard.press(".")
    moment(page, "frame 2 of 3 · 1.0 s")
    page.wait_for_function(f"(before) => ({large})() !== before", arg=before)
    page.keyboard.press(",")
    moment(page, "frame 1 of 3")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    moment(page, "frame 3 of 3 · 2.0 s")
    assert page.inner_text("#canvas [data-part=tip]").startswith("patch (1, 1) of frame 3")
    page.get_by_label("Time").fill("1")
    moment(page, "frame 2 of 3")
    strip = page.locator("#canvas [data-part=frames]").bounding_box()
    page.mouse.click(strip["x"] + 20, strip["y"] + 20)
    moment(page, "frame 1 of 3")
    page.get_by_role("button", name="Play the clip").click()
    moment(page, "frame 3 of 3")
    page.wait_for_function("document.querySelector('#canvas [data-part=roll]').innerText === '▶'")


def test_a_slider_repaints_the_strip_without_a_request_and_a_patch_tells_its_frame(page, clip):
    choose(page, clip)
    before, asked = page.evaluate(PIXELS), []

    def note(sent) -> None:
        asked.extend([sent.url] if "/queue/" in sent.url else [])

    page.on("request", note)
    page.evaluate(
        """() => {
          const slider = document.querySelector("#retention input[type=range]");
          slider.value = 0.75;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    page.wait_for_function(f"(before) => ({PIXELS})() !== before", arg=before)
    assert len(kept(page)) == 54
    assert asked == []
    page.remove_listener("request", note)
    page.locator("#canvas canvas").first.focus()
    for key in ("ArrowRight", "PageDown", "Enter"):
        page.keyboard.press(key)
    page.locator("#card .card b", has_text="frame 2 of 3").wait_for()
    assert "same patch, frame before" in page.inner_text("#card")
    assert "same patch, next frame" in page.inner_text("#card")


CUT = """() => [...document.querySelectorAll(':is(.min_value, .max_value)')]
  .filter((end) => end.checkVisibility() && end.scrollWidth > end.clientWidth).map((end) => end.textContent)"""


def test_other_frames_are_taken_as_asked(page, clip):
    choose(page, clip)
    assert page.evaluate(CUT) == [], "the numbers at the ends of sliders that stand side by side are whole"
    field = page.locator("#frames-most input[type=number]")
    field.fill("4")
    field.press("Tab")
    page.locator("#note", has_text="4 of 30 frames").wait_for()
    page.settle()
    assert "of 2" in moment(page)
    field.fill("16")
    field.press("Tab")
    page.locator("#note", has_text="6 of 30 frames").wait_for()


def test_a_clip_may_be_dropped_and_stand_beside_an_image(page, clip):
    data = base64.b64encode(clip.read_bytes()).decode()
    page.evaluate(DROP, ["#image", "clip.mp4", data])
    page.wait_for_selector("#canvas .canvas-film:not([hidden])")
    page.settle()
    assert page.locator("#strip li").count() == 0
    page.click("#examples button:nth-child(2)")
    page.wait_for_selector("#canvas .canvas-film", state="hidden")
    page.settle()
    page.set_input_files("#images input[type=file][multiple] >> nth=0", clip)
    page.wait_for_selector("#canvas .canvas-film:not([hidden])")
    page.settle()
    assert page.locator("#strip li").count() == 2
    moment(page, "frame 1 of 3")


def test_the_dialog_offers_clips(page):
    page.evaluate("HTMLInputElement.prototype.click = () => {}")
    page.locator("#image").click()
    assert "video/*" in page.get_attribute("#image input[type=file]", "accept")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [("text.mp4", b"What a day\n" * 9, "not an image"), ("cut.mp4", b"", "cut off: its index is missing")],
)
def test_a_bad_clip_is_refused_in_words_and_the_image_stays(page, clip, tmp_path, name, data, why):
    path = tmp_path / name
    path.write_bytes(data or clip.read_bytes()[:600])
    page.set_input_files("#image input[type=file]", path)
    page.locator("#note .notice.warn", has_text=why).wait_for()
    page.settle()
    assert page.locator("#canvas .canvas-film").is_hidden()
    assert len(kept(page)) == 16


def test_methods_for_clips_are_grey_until_there_is_one(page, clip):
    def line(name: str) -> str:
        page.click("#method input")
        page.fill("#method input", "")
        page.fill("#method input", name)
        found = page.get_by_role("option", name=name).first.get_attribute("aria-label")
        page.keyboard.press("Escape")
        return found

    assert line("DyCoke") == "✕ DyCoke · for clips · a picture has one frame"
    choose(page, clip)
    assert line("DyCoke") == "DyCoke · for clips"


def test_of_fewer_frames_the_strip_shows_which_were_taken(page, clip, fits):
    choose(page, clip)
    page.fill("#retention input[type=number]", "0.4")
    page.keyboard.press("Tab")
    page.click("#method input")
    page.fill("#method input", "Fewer frames")
    page.get_by_role("option", name="Fewer frames · before the tower", exact=True).click()
    page.locator("#canvas [data-part=count]", has_text="24 tokens of another encoding in place of 72").wait_for()
    page.settle()
    page.keyboard.press("Escape")
    page.locator("#canvas canvas").first.focus()
    for _ in range(5):
        page.keyboard.press(",")
    told = [moment(page, "frame 1 of 6")]
    for number in range(2, 7):
        page.keyboard.press(".")
        told.append(moment(page, f"frame {number} of 6"))
    assert told == [
        "frame 1 of 6 · 0.0 s · not taken",
        "frame 2 of 6 · 0.5 s · 24 of 24 kept",
        "frame 3 of 6 · 1.0 s · not taken",
        "frame 4 of 6 · 1.5 s · not taken",
        "frame 5 of 6 · 2.0 s · 24 of 24 kept, in one step with frame 2",
        "frame 6 of 6 · 2.5 s · not taken",
    ]
    page.wait_for_selector(SETTLED)
    assert "Frames of clips, evenly spaced" in page.inner_html("#report")
    fits(page, "fewer-frames")


def test_the_page_of_a_clip_fits(page, clip, fits):
    choose(page, clip)
    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    fits(page, "clip")


def test_a_clip_is_recorded_with_the_camera(page, served):
    page.context.grant_permissions(["camera"])
    record = page.get_by_role("button", name="Record")
    record.click()
    page.wait_for_function("document.querySelector('#record video').videoWidth > 0")
    page.wait_for_function("document.querySelector('#record [data-part=says]').innerText.startsWith('0:02')")
    assert page.evaluate("document.activeElement.innerText") == "Stop and use"
    page.keyboard.press("Enter")
    page.wait_for_selector("#canvas .canvas-film:not([hidden])")
    page.settle()
    assert re.search(r"\d+ of \d+ frames, [\d.]+ a second\.$", page.inner_text("#note"))
    assert page.locator("#record [data-part=panel]").is_hidden()
    assert not page.evaluate("document.querySelector('#record video').srcObject")  # the camera is let go
    page.wait_for_selector(SETTLED)


def test_a_recording_that_is_cancelled_changes_nothing(page):
    page.context.grant_permissions(["camera"])
    before = page.get_attribute("#canvas [data-kept]", "data-kept")
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url) if "upload" in request.url else None)
    page.get_by_role("button", name="Record").click()
    page.wait_for_function("document.querySelector('#record [data-part=says]').innerText.startsWith('0:00')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#record [data-part=panel]", state="hidden")
    assert page.evaluate("document.activeElement.innerText") == "Record"
    page.settle()
    assert asked == []
    assert page.get_attribute("#canvas [data-kept]", "data-kept") == before


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ("{ getUserMedia: () => Promise.reject(new DOMException('', 'NotAllowedError')) }", "allow it for this page"),
        ("{ getUserMedia: () => Promise.reject(new DOMException('', 'NotFoundError')) }", "choose a clip instead"),
        ("undefined", "over https"),
    ],
)
def test_a_camera_that_is_not_to_be_had_is_explained(page, camera, words):
    page.evaluate(f"Object.defineProperty(navigator, 'mediaDevices', {{ configurable: true, value: {camera} }})")
    page.get_by_role("button", name="Record").click()
    page.wait_for_selector(f"#record [data-part=says] >> text={words}")
    assert page.get_by_role("button", name="Stop and use").is_disabled()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("#record [data-part=panel]", state="hidden")
