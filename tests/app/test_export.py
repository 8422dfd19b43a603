"""The export: every file says what the engine says, what is not measured is left out, and Stop leaves nothing."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.examples import EXAMPLES
from app.export import archive as exporting
from app.export import files as export_files
from app.export import page as export_page
from app.export.archive import Archive, Step, Wanted, export
from app.session import Forced
from app.tradeoff import measure as tradeoff_measure
from app.tradeoff.measure import Measured
from pruning.drawing import overlays as draw
from pruning.drawing.overlays import STYLES
from pruning.handover.certificate import read
from pruning.handover.parity import verify
from pruning.images import open_image
from pruning.method import make
from tests.helpers.visits import keep, look, seconds_to_stop

FIXED = {"README.txt", "recipe.md", "settings.json", "certificate.json", "selection.json", "answers.json",
         "plane.svg", "plane.png", "plane.csv", "references.bib"}  # fmt: skip
ONE = {"image-1.png", "image-1-overlay-dimmed.png", "image-1-kept.png"}
CURVES = {"fidelity.svg", "fidelity.png", "fidelity.csv"}


@pytest.fixture(scope="module")
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20), "tiny")


def wanted(session, setting, style="dimmed", measured=None):
    return Wanted(session, setting, (0.5, 0.5), style, measured)


def files(engine, what):
    """name -> bytes of a finished export."""
    *steps, archive = export(engine, what, Task())
    assert all(isinstance(step, Step) for step in steps)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        assert packed.testzip() is None
        assert tuple(packed.namelist()) == archive.names
        return {name: packed.read(name) for name in archive.names}


def picture(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def rows(data):
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_it_holds_these_files(engine, saved):
    found = files(engine, wanted(look(engine, saved(0), saved(1, (112, 112))), keep("idpruner", scope="image"), "heat"))
    own = {f"image-{place}{kind}.png" for place in (1, 2) for kind in ("", "-overlay-heat", "-kept")}
    assert set(found) == FIXED | own
    readme = found["README.txt"].decode()
    assert all(name in readme for name in found if name != "README.txt")


def test_its_certificate_holds_for_the_pictures_beside_it(engine, saved):
    session = look(engine, saved(0), saved(1, (112, 112)))
    setting = replace(keep("divprune"), forced=Forced("", (7,), (0, 1)))
    found = files(engine, wanted(session, setting))
    certificate = read(found["certificate.json"])
    pictures = [open_image(found[picture.file]) for picture in certificate.pictures]
    assert [each.words for each in verify(certificate, engine.vlm, pictures) if not each.same] == []
    assert certificate.seen.indices == engine.selection(session, setting).indices.tolist()
    assert 7 in certificate.seen.indices


def test_settings_and_selection_are_the_engine_s(engine, saved):
    session = look(engine, saved())
    setting = replace(keep("prumerge", 0.3, neighbours=8), forced=Forced())
    found = files(engine, wanted(session, setting))
    told, chosen = json.loads(found["settings.json"]), json.loads(found["selection.json"])
    selection = engine.selection(session, setting)
    assert (told["method"], told["knobs"]["neighbours"], told["retention"]) == ("prumerge", 8, 0.3)
    assert chosen["order"] == selection.order.tolist()
    assert chosen["indices"] == selection.indices.tolist()
    assert chosen["merge_into"] == selection.merge_into.tolist()
    assert np.allclose(chosen["rects"], engine.encoded(session).rects, atol=0.01)
    assert told["images"] == [{"sha256": session.keys[0], "width": 224, "height": 168}]
    assert told["model"]["id"] == "tiny"
    assert set(told["versions"]) == {"idpruner-lab", "python", *exporting.LIBRARIES}
    assert all(re.match(r"\d+\.\d+", number) for number in told["versions"].values())
    assert told["link"].startswith("?model=tiny&example=upload&question=")


def test_forced_patches_are_told_and_kept(engine, saved):
    session = look(engine, saved())
    free = engine.selection(session, keep("idpruner"))
    out, in_ = int(free.order[0]), next(i for i in range(free.n) if not free.mask[i])
    setting = replace(keep("idpruner"), forced=Forced("key", (in_,), (out,)))
    found = files(engine, wanted(session, setting))
    told, chosen = json.loads(found["settings.json"]), json.loads(found["selection.json"])
    assert (told["forced_in"], told["forced_out"]) == ([in_], [out])
    assert in_ in chosen["indices"]
    assert out not in chosen["indices"]


@pytest.fixture
def little_memory(monkeypatch):
    """What the model sees of an upload has at most 683 × 2,049 pixels."""
    held = {"most_pixels": 683 * 2049}
    monkeypatch.setattr("app.engine.resources.open_image", lambda path, **options: open_image(path, **(held | options)))


@pytest.mark.parametrize("style", STYLES)
def test_overlays_are_drawn_on_the_upload_s_own_pixels(engine, noise, tmp_path, little_memory, style):
    noise(2700, 900, 5).save(tmp_path / "large.png")
    session, setting = look(engine, str(tmp_path / "large.png")), keep("idpruner", 0.3)
    found = files(engine, wanted(session, setting, style))
    overlay, kept = picture(found[f"image-1-overlay-{style}.png"]), picture(found["image-1-kept.png"])
    assert session.pictures[0].width == 2049
    assert overlay.shape == kept.shape == (900, 2700, 3)
    rects = engine.encoded(session).rects * (2700 / 2049)
    mask = np.zeros((900, 2700), bool)
    for token in engine.selection(session, setting).indices.tolist():
        x0, y0, x1, y1 = np.rint(rects[token]).astype(int)
        mask[y0:y1, x0:x1] = True
    assert ((kept[..., 0] == 255) == mask).mean() > 0.999  # rounding of an edge by one pixel
    assert set(np.unique(kept)) == {0, 255}
    if style == "dimmed":
        inner = cv2.copyMakeBorder(mask.astype(np.uint8), 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=0)
        inside = cv2.erode(inner, np.ones((5, 5), np.uint8))[3:-3, 3:-3] > 0  # without the outline
        assert inside.sum() > 100_000
        assert np.array_equal(overlay[inside], np.asarray(noise(2700, 900, 5))[inside])


def test_large_pictures_share_a_bound_and_it_is_told(engine, noise, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "PIXELS", 200_000)
    noise(1000, 500, 1).save(tmp_path / "a.png")
    noise(100, 100, 2).save(tmp_path / "b.png")
    found = files(engine, wanted(look(engine, str(tmp_path / "a.png"), str(tmp_path / "b.png")), keep("random")))
    height, width, _ = picture(found["image-1-kept.png"]).shape
    assert 90_000 < height * width < 101_000  # to a row of pixels
    assert f"Image 1 is drawn at {width} x {height} pixels." in found["README.txt"].decode()
    assert picture(found["image-2-kept.png"]).shape == (100, 100, 3)


def test_an_upload_that_is_gone_is_drawn_as_the_model_saw_it(engine, noise, tmp_path, little_memory):
    path = tmp_path / "gone.png"
    noise(2700, 900, 6).save(path)
    session = look(engine, str(path))
    path.unlink()
    found = files(engine, wanted(session, keep("random")))
    assert picture(found["image-1-kept.png"]).shape[:2] == (session.pictures[0].height, 2049)


def test_figures_are_files_of_their_own_with_their_numbers(engine, saved):
    session, setting = look(engine, saved()), keep("idpruner", 0.4)
    found = files(engine, wanted(session, setting))
    root = ElementTree.fromstring(found["plane.svg"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(--" not in found["plane.svg"]  # colours of a file, not of a page
    assert "Hopkins" in "".join(root.itertext())
    assert Image.open(io.BytesIO(found["plane.png"])).size[0] >= 900
    points, table = tradeoff_measure.plane(engine, session, setting), rows(found["plane.csv"])
    assert len(table) == len(points)
    for row, point in zip(table, points, strict=True):
        assert row["method"] == point.method
        assert float(row["importance_retention"]) == point.importance_retention
        assert float(row["hopkins"]) == point.hopkins
    assert [row["here"] for row in table] == ["False"] * (len(points) - 1) + ["True"]
    assert any(row["on_front"] == "True" for row in table)


def test_a_statistic_that_is_not_defined_is_an_empty_field(engine, saved):
    table = rows(files(engine, wanted(look(engine, saved()), keep("idpruner", 0.001)))["plane.csv"])
    assert {row["hopkins"] for row in table} == {""}


def test_fidelity_curves_are_there_when_they_were_measured(engine, saved):
    session, setting = look(engine, saved()), keep("idpruner")
    methods = (setting.method, make("random"))
    *_, swept = tradeoff_measure.sweep(engine, session, methods, Task())
    measured = Measured(session, methods, swept.points, swept.total, "original")
    found = files(engine, wanted(session, setting, measured=measured))
    assert set(found) >= CURVES
    table = rows(found["fidelity.csv"])
    assert [(r["method"], int(r["budget"]), float(r["fidelity"])) for r in table] == [
        (p.method, p.budget, p.fidelity) for p in swept.points
    ]
    assert [curve["method"] for curve in json.loads(found["settings.json"])["curves"]] == ["idpruner", "random"]
    assert "not measured" not in found["README.txt"].decode()
    part = replace(measured, points=swept.points[:5])
    readme = files(engine, wanted(session, setting, measured=part))["README.txt"].decode()
    assert f"5 of {swept.total} points" in readme


def test_what_was_not_measured_is_left_out_and_said(engine, saved):
    session, setting = look(engine, saved()), keep("idpruner")
    none = files(engine, wanted(session, setting))
    assert not CURVES & set(none)
    assert "were not measured" in none["README.txt"].decode()
    other = replace(session, questions=("is there a circle?",))
    *_, swept = tradeoff_measure.sweep(engine, other, (setting.method,), Task())
    stale = Measured(other, (setting.method,), swept.points, swept.total, "original")
    found = files(engine, wanted(session, setting, measured=stale))
    assert not CURVES & set(found)
    assert "another image, question or positions" in found["README.txt"].decode()
    nothing = files(engine, wanted(session, setting, measured=replace(stale, session=session, points=())))
    assert "were not measured" in nothing["README.txt"].decode()


def test_answers_of_a_whole_conversation(engine, saved):
    session = look(engine, saved(), questions=("what color is the star?", "and the circle?"))
    told = json.loads(files(engine, wanted(session, keep("idpruner", 1.0)))["answers.json"])
    assert told["agree"] is True
    assert told["question"] == "and the circle?"
    assert [turn["question"] for turn in told["earlier"]] == ["what color is the star?"]
    assert told["full"]["text"] == told["kept"]["text"]


def test_without_a_question_there_are_no_answers(engine, saved):
    found = files(engine, wanted(look(engine, saved(), questions=()), keep("idpruner")))
    assert set(found) == FIXED - {"answers.json", "certificate.json"} | ONE
    assert "No question was asked" in found["README.txt"].decode()


def test_the_papers_of_every_method_that_appears_are_cited(engine, saved):
    found = files(engine, wanted(look(engine, saved()), keep("vtc_cls")))["references.bib"].decode()
    assert "2412.05819" in found  # its own
    assert "2602.13315" in found  # of the plane
    assert "2503.02175" in found


def test_questions_too_long_for_a_link_do_not_hinder_it(engine, saved):
    session = look(engine, saved(), questions=("星" * 900, "星" * 900))
    assert json.loads(files(engine, wanted(session, keep("random")))["settings.json"])["link"] is None


def test_equal_wishes_give_equal_names_and_pictures(engine, saved):
    what = wanted(look(engine, saved()), keep("idpruner"))
    first, second = files(engine, what), files(engine, what)
    assert list(first) == list(second)
    assert all(first[name] == second[name] for name in first if not name.endswith(".svg"))  # whose ids are random


def test_an_example_is_named(engine):
    told = json.loads(files(engine, wanted(look(engine, EXAMPLES[1].path), keep("random")))["settings.json"])
    assert told["example"] == "crowd"
    assert "/" not in json.dumps(told["images"])


@pytest.mark.parametrize("after", range(1, 6))
def test_stop_ends_it_before_the_next_piece(engine, saved, after):
    task, seen = Task(), []
    for item in export(engine, wanted(look(engine, saved()), keep("idpruner")), task):
        seen.append(item)
        if len(seen) == after:
            task.set()
    if after < 5:
        assert len(seen) == after
        assert not any(isinstance(item, Archive) for item in seen)


@pytest.mark.parametrize(("during", "never"), [("original", "overlay"), ("overlay", "png")])
def test_stop_ends_a_large_picture_between_its_parts(engine, saved, monkeypatch, during, never):
    task, called = Task(), []

    def stopping(*_):
        task.set()
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(engine.resources.pictures if during == "original" else draw, during, stopping)
    monkeypatch.setattr(draw, never, lambda *_: called.append(never))
    assert not any(isinstance(i, Archive) for i in export(engine, wanted(look(engine, saved()), keep("random")), task))
    assert task.is_set()
    assert called == []


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        export_files.text({"hopkins": float("nan")})


def test_the_panel_escapes_what_it_shows():
    assert "&lt;b&gt;" in export_page.progress(Step("<b>", 1, 3))
    assert "&lt;b&gt;" in export_page.stopped("<b>")
    told = export_page.done(Archive(b"12345", ("README.txt", "a<b.png")))
    assert "2 files, 5 B" in told
    assert "a&lt;b.png" in told


# In a browser


def test_the_button_gives_a_file(shipped_page, chromium, fits, tmp_path):
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(f"{shipped_page.url}?__theme=light")
    tab.wait_for_selector("#canvas canvas")
    tab.get_by_role("tab", name="Fidelity curves").click()
    tab.wait_for_selector("#progress >> text=points measured")
    tab.click("#export button")
    tab.wait_for_selector("#export-download")
    fits(tab, "export", full_page=False)
    with tab.expect_download() as download:
        tab.click("#export-download")
    assert download.value.suggested_filename == exporting.NAME
    download.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as packed:
        assert set(packed.namelist()) == FIXED | CURVES | ONE
        size = picture(packed.read("image-1-kept.png")).shape[:2]
    assert size == (EXAMPLES[0].height, EXAMPLES[0].width)
    context.close()


@pytest.mark.alone
def test_stop_in_the_panel_ends_the_export(served, chromium, monkeypatch):
    import time

    generate = served.engine.vlm.generate

    def crawl(*values, **named):
        for chunk in generate(*values, **named):
            time.sleep(0.3)
            yield chunk

    context = chromium.new_context(viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(served.url)
    tab.wait_for_selector("#canvas canvas")
    tab.wait_for_selector("#report .badge.same, #report .badge.other")
    monkeypatch.setattr(served.engine.vlm, "generate", crawl)
    tab.fill("#question textarea", "is there anything to export at all?")
    tab.click("#ask")
    tab.wait_for_selector("#report .running .cursor")
    tab.click("#export button")
    tab.wait_for_selector("#export-panel >> text=answers …")
    assert seconds_to_stop(tab, "#export-stop", "#export-panel", "Stopped.") < 1
    assert not tab.is_visible("#export-download")
    context.close()
