"""Clips in the app below the page: opened, drawn, explained, exported, linked, asked about by programs."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from app.answers.reports import reports
from app.batch import run as batch_run
from app.canvas import state as canvas_state
from app.canvas.overlays import overlays, views
from app.canvas.shots import on_shots, shots
from app.engine.capabilities import REFUSED, Capabilities
from app.engine.device import DroppedError, Task, working
from app.engine.engine import Engine
from app.engine.resources import Resources, checked_pictures
from app.export.archive import Archive, Wanted, export
from app.pays import run as pays_run
from app.recipe.write import written
from app.session import Session, Setting
from app.share import link as share_link
from app.tradeoff import measure as tradeoff_measure
from app.web.updates import scopes
from pruning.drawing.overlays import STYLES
from pruning.drawing.paint import KEPT
from pruning.encoding import make_encoding
from pruning.grids import Grid
from pruning.handover.certificate import read as read_certificate
from pruning.handover.parity import verify
from pruning.staged import make_staged
from pruning.tokens import Selection
from pruning.video import Clip, Progress, Sampling, VideoError, open_media
from tests.helpers.clips import animation, film
from tests.helpers.visits import QUESTION, keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """3 s, of which 6 frames are taken: 3 steps of 4 × 6 tokens."""
    return str(film(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=30, fps=10, size=(168, 112)))


def test_a_clip_is_a_picture_of_several_frames_with_its_sampling(engine, clip):
    picture, notes = engine.resources.pictures.open(clip, Sampling(5, 4))
    assert notes == ("4 of 30 frames, 1.3 a second.",)
    assert picture.film is not None
    assert picture.film.sampling == Sampling(5, 4)
    assert picture.film.times == pytest.approx((0, 0.8, 1.5, 2.3), abs=0.01)
    assert (picture.width, picture.height) == (168, 112)
    other, _ = engine.resources.pictures.open(clip)
    assert other.key != picture.key


def test_reading_tells_how_far_it_is(engine, clip):
    *told, (picture, _) = engine.resources.pictures.read(clip)
    assert all(isinstance(each, Progress) for each in told)
    assert [each.taken for each in told] == [1, 2, 3, 4, 5, 6]
    assert told[0].share == 0
    assert 0.7 < told[-1].share <= 1
    assert len(picture.film.times) == 6


def test_a_clip_that_the_cache_let_go_of_is_read_again(tiny_vlm, clip):
    small = Resources(1000)
    picture, _ = small.pictures.open(clip)
    medium = small.pictures.medium(picture)
    assert isinstance(medium, Clip)
    assert medium.times == picture.film.times
    assert small.pictures.thumbnail(picture).shape == (64, 96, 3)


def test_a_model_without_clips_is_shown_the_first_frame_of_what_moves(engine, clip, tmp_path):
    moving = str(animation(tmp_path / "a.gif", [100, 100], (60, 60)))
    picture, notes = engine.resources.pictures.open(moving, no_clips="it takes none")
    assert picture.film is None
    assert "First frame of several." in notes
    with pytest.raises(ValueError, match="it takes none"):
        engine.resources.pictures.open(clip, no_clips="it takes none")


def test_stop_ends_the_reading(engine, tmp_path):
    long = str(film(tmp_path / "long.mp4", frames=400, fps=4, size=(640, 480)))
    task, told = Task(), []

    def read() -> None:
        for found in engine.resources.pictures.read(long, Sampling(1000, 400)):
            told.append(found)
            task.set()

    with working(task), pytest.raises(DroppedError):
        read()
    assert 0 < len(told) < 400


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"What a day\n" * 9, "not an image"),
        ("cut.mp4", None, "cut off: its index is missing"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n", "not an image"),
    ],
)
def test_bad_files_are_refused_in_words(engine, clip, tmp_path, name, data, why):
    path = tmp_path / name
    path.write_bytes(Path(clip).read_bytes()[:600] if data is None else data)
    with pytest.raises(ValueError, match=why):
        engine.resources.pictures.open(str(path))
    assert sorted(tmp_path.iterdir()) == [path]


def test_clips_stand_behind_images(engine, clip, saved):
    session = look(engine, clip, saved())
    pictures = checked_pictures(session.pictures)
    assert [picture.film is None for picture in pictures] == [True, False]
    encoded = engine.encoded(Session("tiny", pictures, (QUESTION,)))
    assert [grid.t for grid in encoded.tokens.grids] == [1, 3]


def test_every_step_of_a_clip_is_a_picture_of_the_canvas(engine, clip, saved):
    session = look(engine, saved(), clip)
    told = canvas_state.payload(engine, session, keep("idpruner"))
    assert [(image["clip"], image["time"]) for image in told["images"]] == [(None, None), (1, 0.0), (1, 1.0), (1, 2.0)]
    assert [image["frames"] for image in told["images"]] == [1, 2, 2, 2]
    assert [(grid["t"], grid["image"]) for grid in told["grids"]] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert told["grids"][-1]["stop"] == told["n"] == engine.encoded(session).tokens.n


def test_shots_have_the_grids_of_their_step():
    grids = (Grid(1, 2, 2), Grid(3, 2, 3, start=4, image=1))
    frames = tuple(Image.new("RGB", (12, 8), (i, i, i)) for i in range(5))
    found = shots([np.zeros((4, 4, 3), np.uint8), Clip(frames, (0.0, 0.5, 1.0, 1.5, 2.0), 2.5, 50)], grids)
    assert [(shot.image, shot.time, shot.frames) for shot in found] == [
        (0, None, 1),
        (1, 0.0, 2),
        (1, 1.0, 2),
        (1, 2.0, 2),
    ]
    assert [int(shot.pixels[0, 0, 0]) for shot in found] == [0, 0, 2, 4]
    assert [(grid.start, grid.count, grid.image) for grid in on_shots(grids, found)] == [
        (0, 4, 0), (4, 6, 1), (10, 6, 2), (16, 6, 3),
    ]  # fmt: skip


def test_of_fewer_frames_all_are_shots_and_those_that_are_taken_have_the_grids():
    """Of a picture and a clip of six frames: the second and the fifth are one step, the last a step by itself."""
    grids = (Grid(1, 2, 2), Grid(2, 2, 3, start=4, image=1))
    frames = tuple(Image.new("RGB", (12, 8), (i, i, i)) for i in range(6))
    clip = Clip(frames, tuple(i / 2 for i in range(6)), 3.0, 60)
    found = shots([np.zeros((4, 4, 3), np.uint8), clip], grids, ((), (1, 4, 5)))
    assert [(shot.time, shot.step, shot.joins) for shot in found] == [
        (None, 0, None), (0.0, None, None), (0.5, 0, None), (1.0, None, None), (1.5, None, None), (2.0, None, 2),
        (2.5, 1, None),
    ]  # fmt: skip
    assert [(grid.start, grid.image) for grid in on_shots(grids, found)] == [(0, 0), (4, 2), (10, 6)]


def test_the_canvas_and_the_sheet_show_which_frames_were_taken(engine, clip):
    session, setting = look(engine, clip), Setting(make_encoding("fewer_frames"), 0.4)
    told = canvas_state.payload(engine, session, setting)
    assert [image["gone"] for image in told["images"]] == [True, False, True, True, False, True]
    assert [image["joins"] for image in told["images"]] == [None, None, None, None, 1, None]
    assert [(grid["image"], grid["stop"]) for grid in told["grids"]] == [(1, 24)]
    assert (told["n"], told["full"]) == (24, 72)
    (view,) = views(engine, session, setting)
    drawn = view.film(engine.selection(session, setting), "dimmed", None, None)
    lines = [bool((frame == KEPT).all(axis=2).any()) for frame in drawn]
    assert lines == [False, True, False, False, True, False]
    x0, y0, *_ = view.spot(0)
    sheet = view.painted(Selection(torch.tensor([0]), 24), "dimmed", None, None)
    outlined = np.argwhere((sheet == KEPT).all(axis=2))
    assert np.abs(outlined - (y0, x0)).max(axis=1).min() <= 2


def test_a_card_tells_the_frame_and_the_same_patch_beside_it(engine, clip):
    session = look(engine, clip)
    card = canvas_state.card(engine, session, keep("idpruner"), 24 + 7)
    assert (card.frame, card.frames, card.row, card.column) == (1, 3, 1, 1)
    similarity = engine.encoded(session).tokens.similarity
    assert card.before == pytest.approx(float(similarity[31, 7]))
    assert card.after == pytest.approx(float(similarity[31, 55]))
    assert canvas_state.card(engine, session, keep("idpruner"), 7).before is None
    assert canvas_state.card(engine, session, keep("idpruner"), 55).after is None


@pytest.mark.parametrize("style", STYLES)
def test_an_overlay_of_a_clip_is_a_sheet_of_its_frames(engine, clip, saved, style):
    session, setting = look(engine, saved(), clip), keep("evs" if style != "heat" else "idpruner", 0.5)
    still, sheet = overlays(engine, session, setting, style)
    assert (still.n, sheet.n) == (engine.encoded(session).tokens.grids[0].count, 72)
    assert still.kept + sheet.kept == engine.selection(session, setting).k
    assert sheet.image.shape[1] > sheet.image.shape[0] / 2
    alone = overlays(engine, look(engine, clip), setting, style)[0]
    assert alone.n == 72


def test_a_patch_is_found_on_the_sheet(engine, clip):
    session = look(engine, clip)
    (view,) = views(engine, session, keep("evs"))
    for token in (0, 31, 71):
        order = torch.tensor([token])
        sheet = view.painted(Selection(order, 72), "dimmed", None, None)
        x0, y0, x1, y1 = (round(side) for side in view.spot(token))
        outlined = np.argwhere((sheet == KEPT).all(axis=2))
        assert np.abs(outlined.min(axis=0) - (y0, x0)).max() <= 2, token
        assert np.abs(outlined.max(axis=0) - (y1 - 1, x1 - 1)).max() <= 2, token


@pytest.mark.parametrize(("name", "scope"), [("evs", "sample"), ("idpruner", "frame"), ("divprune", "novelty"),
                                             ("flashvid", "sample")])  # fmt: skip
def test_answers_and_budgets_of_clips(engine, clip, name, scope):
    session, setting = look(engine, clip), keep(name, 0.25, scope)
    *_, last = reports(engine, session, setting, Task())
    assert (last.stage, last.n, last.budget) == ("done", 72, 18)
    if scope == "frame":
        steps = engine.selection(session, setting).indices // 24
        assert steps.bincount().tolist() == [6, 6, 6]


def test_scopes_of_frames_are_offered_for_clips_alone(engine, clip, saved):
    def offered(*paths):
        return [value for _, value in scopes(engine.encoded(look(engine, *paths)).tokens.grids)["choices"]]

    assert offered(saved()) == ["sample"]
    assert offered(clip) == ["sample", "frame", "novelty"]
    assert offered(saved(), clip) == ["sample", "image", "frame", "novelty"]


def test_the_menu_greys_what_is_of_no_use(tiny_vlm):
    able = Capabilities(tiny_vlm)
    still = {name: line for line, name in able.menu(1)}
    moving = {name: line for line, name in able.menu(1, clips=True)}
    for name in ("evs", "dycoke", "flashvid", "fastvid", "holitom", "prunevid", "quota", "uniform_frames",
                 "fewer_frames"):  # fmt: skip
        assert still[name].startswith(REFUSED), name
        assert still[name].endswith("a picture has one frame")
        assert not moving[name].startswith(REFUSED), name
    assert not still["lower_resolution"].startswith(REFUSED)
    assert moving["lower_resolution"].endswith("for pictures alone")


def test_many_images_take_clips_too(engine, clip, saved):
    session = look(engine, saved())
    items, skipped = batch_run.opened(engine.resources.pictures, [clip, saved(1)], session)
    assert skipped == ()
    *_, last = batch_run.run(engine, items, keep("uniform"), Task())
    assert last.stage == "done"
    assert [item.problem for item in last.items] == ["", ""]
    items, skipped = batch_run.opened(engine.resources.pictures, [clip], session, "it takes none")
    assert (items, skipped[0].why) == ((), "it takes none")


def test_an_export_has_a_sheet_and_a_film(engine, clip, tmp_path):
    session, before = look(engine, clip), set(Path("/tmp").glob("idpruner-*"))
    *_, made = export(engine, Wanted(session, keep("idpruner"), (0.5, 0.5), "dimmed"), Task())
    assert isinstance(made, Archive)
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        settings = json.loads(archive.read("settings.json"))
        selection = json.loads(archive.read("selection.json"))
        (tmp_path / "film.mp4").write_bytes(archive.read("clip-1-overlay-dimmed.mp4"))
        assert Image.open(io.BytesIO(archive.read("clip-1-overlay-dimmed.png"))).width > 300
        assert "clip-1-overlay-dimmed" in archive.read("README.txt").decode()
        certificate = read_certificate(archive.read("certificate.json"))
    assert (certificate.pictures[0].fps, certificate.pictures[0].frames) == (2.0, 16)
    again = open_media(clip, Sampling(2, 16))
    assert [each.words for each in verify(certificate, engine.vlm, [again]) if not each.same] == []
    (other,) = verify(certificate, engine.vlm, [open_media(clip, Sampling(2, 5))])[1:2]
    assert (other.what, other.same) == ("pictures", False)
    assert settings["images"][0]["clip"]["sampling"] == {"rate": 2.0, "frames": 16}
    assert settings["images"][0]["clip"]["summary"] == "6 of 30 frames, 2 a second"
    assert selection["times"] == [pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])]
    drawn, count = cv2.VideoCapture(str(tmp_path / "film.mp4")), 0
    while drawn.read()[0]:
        count += 1
    assert count == 6
    assert set(Path("/tmp").glob("idpruner-*")) == before


def test_a_link_says_which_frames_are_taken(engine, clip):
    picture, _ = engine.resources.pictures.open(clip, Sampling(4, 8))
    made = share_link.of(Session("tiny", (picture,), (QUESTION,)), keep("idpruner"), (0.5, 0.5), "dimmed")
    assert (made.fps, made.frames, made.example) == (4, 8, share_link.UPLOAD)
    assert "fps=4&frames=8" in share_link.write(made)


def test_recipes_name_a_clip(engine, clip):
    session = look(engine, clip)
    texts = {recipe.name: recipe for recipe in written(engine, session, keep("evs"))}
    assert "open_clip('clip.mp4', rate=2, frames=16)" in texts["library"].text
    assert "clip.mp4" in texts["command_line"].text
    assert "--fps 2 --max-frames 16" in texts["command_line"].text
    assert "pruner(open_clip('clip.mp4', rate=2, frames=16), " in texts["transformers"].text
    assert "this is a clip" in texts["openvino"].note
    assert "by the same method (EVS)" in texts["vllm"].note


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    return Client(served.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def test_programs_ask_about_clips(client, clip):
    ask = {"image": handle_file(clip), "question": QUESTION}
    found = client.predict(**ask, method="evs", fps=5, max_frames=4, api_name="/select")
    assert found["grids"][0]["t"] == 2
    assert found["times"] == [pytest.approx([0, 0.8, 1.5, 2.3], abs=0.01)]
    assert (found["n"], found["budget"]) == (48, 12)
    found = client.predict(**ask, per="novelty", api_name="/answer")
    assert (found["n"], found["budget"]) == (72, 18)
    card = client.predict(**ask, token=31, api_name="/inspect")
    assert (card["frame"], card["frames"]) == (1, 3)
    found = client.predict(**ask, method="fewer_frames", retention=0.4, api_name="/answer")
    assert (found["budget"], found["encoding"]["reached"], found["encoding"]["taken"]) == (24, 24, [[1, 4]])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"fps": 0}, "the rate must be a number of frames a second"),
        ({"max_frames": 0}, "the most frames must be a whole number of at least 1"),
        ({"method": "lower_resolution"}, "lower resolution is for pictures alone: take fewer frames of a clip"),
        ({"method": "vflowopt"}, "the entropy of patches is known of pictures alone"),
    ],
)
def test_programs_hear_what_cannot_be(client, clip, values, why):
    with pytest.raises(AppError, match=why):
        client.predict(image=handle_file(clip), question=QUESTION, **values, api_name="/select")


def test_two_visitors_hear_of_their_own_clip_alone(served, client, clip, tmp_path):
    paths = [clip, str(film(tmp_path / "other.mp4", frames=20, fps=10, size=(112, 168)))]
    failures = list[BaseException]()

    def visit(which: int) -> None:
        try:
            picture, _ = served.models.resources.pictures.open(paths[which])
            own = served.engine.selection(Session("", (picture,), (QUESTION,)), keep("evs", 0.5))
            for _ in range(3):
                found = client.predict(
                    image=handle_file(paths[which]), question=QUESTION, method="evs", retention=0.5, api_name="/select"
                )
                assert found["order"] == own.order.tolist()
                assert found["times"][0] == pytest.approx(picture.film.times)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_a_film_that_is_none_is_an_error_of_videos(engine, tmp_path):
    path = tmp_path / "no.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
    with pytest.raises(VideoError):
        engine.resources.pictures.open(str(path))


def test_whether_it_pays_is_measured_for_clips_against_fewer_frames(engine, clip):
    *_, last = pays_run.run(engine, look(engine, clip), keep("evs", 0.5), Task(), (1,))
    assert last.stage == "done"
    (why,) = last.result.left_out
    assert why.startswith("Lower resolution is left out: lower resolution is for pictures alone")
    assert {row.setting for row in last.result.rows} == {"all tokens", "EVS", "Fewer frames"}
    assert len({size.n for size in last.result.sizes}) > 1


@pytest.mark.parametrize("name", ["fastv", "flashvid_inner", "holitom_inner"])
def test_tokens_of_clips_leave_between_layers(engine, clip, name):
    session, setting = look(engine, clip), Setting(make_staged(name), 0.75)
    *_, last = reports(engine, session, setting, Task())
    assert last.stage == "done"
    assert last.lives is not None
    assert len(last.lives.lives) == 72
    assert canvas_state.payload(engine, session, setting)["staged"]
    card = canvas_state.card(engine, session, setting, 31)
    assert (card.frame, card.frames) == (1, 3)
    (sheet,) = overlays(engine, session, setting, "dimmed")
    assert sheet.n == 72


def test_the_plane_and_curves_of_a_clip(engine, clip):
    session, setting = look(engine, clip), keep("idpruner")
    points = tradeoff_measure.plane(engine, session, setting)
    assert points[-1].budget == 18
    methods, left_out = tradeoff_measure.sweep_methods(Capabilities(engine.vlm), ["evs", "uniform"], setting, 1)
    assert left_out == []
    *_, last = tradeoff_measure.sweep(engine, session, methods, Task(), (0.25, 0.5))
    assert (last.stage, len(last.points)) == ("done", 4)
