"""Clips from files: which frames, when, how they look; and everything that is no clip."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pruning.images import ImageError
from pruning.video import Clip, Limits, VideoError, open_clip, open_media, reading
from pruning.video.container import MP4, codec
from tests.helpers.clips import animation, film, patched, shade


def greys(clip: Clip) -> list[int]:
    """Of the middle of each frame."""
    return [int(np.asarray(frame)[frame.height // 2, frame.width // 2].mean()) for frame in clip.frames]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.avi", "a.mkv"])
def test_frames_are_sampled_by_rate_with_their_times(tmp_path, name):
    clip = open_clip(film(tmp_path / name, frames=30, fps=10), rate=2)
    assert clip.times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.002)
    assert (clip.total, clip.size) == (30, (64, 48))
    assert clip.duration == pytest.approx(3.0, abs=0.01)
    assert greys(clip) == pytest.approx([shade(i) for i in (0, 5, 10, 15, 20, 25)], abs=4)
    assert clip.summary == "6 of 30 frames, 2 a second"
    assert clip.notes == ()


def test_a_cap_spreads_the_frames_over_the_whole_clip(tmp_path):
    path = film(tmp_path / "a.mp4", frames=40, fps=10)
    clip = open_clip(path, rate=5, frames=8)
    assert clip.times == pytest.approx([0.5 * i for i in range(8)])
    assert open_clip(path, rate=5, frames=1).times == (0.0,)


@pytest.mark.parametrize(("frames", "fps", "taken"), [(5, 1, 5), (480, 240, 4), (1, 25, 1)])
def test_slow_fast_and_single_frames(tmp_path, frames, fps, taken):
    clip = open_clip(film(tmp_path / "a.mp4", frames, fps), rate=2)
    assert len(clip.frames) == taken
    assert clip.total == frames
    assert clip.times[0] == 0


@pytest.mark.parametrize("size", [(34, 170), (322, 18)])
def test_odd_sizes_stay_as_they_are(tmp_path, size):
    assert open_clip(film(tmp_path / "a.mp4", 3, size=size)).size == size


def test_more_than_eight_bits_become_eight(tmp_path):
    import cv2

    path = tmp_path / "deep.mkv"
    settings = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 4, (32, 16), settings)
    assert writer.isOpened()
    for value in (0, 32768, 65535):
        writer.write(np.full((16, 32), value, np.uint16))
    writer.release()
    assert greys(open_clip(path, rate=4)) == pytest.approx([0, 128, 255], abs=2)


def test_rotation_flags_turn_the_frames(tmp_path):
    upright = open_clip(film(tmp_path / "a.mp4", 2))
    quarter = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]  # the matrix of a turn to the right

    def turn(data: bytes) -> bytes:
        at = data.index(b"tkhd") + 4 + 40
        return data[:at] + b"".join(v.to_bytes(4, "big", signed=True) for v in quarter) + data[at + 36 :]

    turned = open_clip(patched(film(tmp_path / "b.mp4", 2), turn))
    assert (upright.size, turned.size) == ((64, 48), (48, 64))
    white = np.asarray(turned.frames[0].convert("L")) > 200
    assert white[:20, -15:].all()
    assert not white[:, :30].any()


def test_a_clip_of_variable_rate_keeps_its_times(tmp_path):
    clip = open_clip(animation(tmp_path / "a.gif", [100, 900, 2000, 100, 100, 300]), rate=2)
    assert clip.times == pytest.approx([0, 1.0, 3.0])
    assert greys(clip) == pytest.approx([shade(0), shade(2), shade(3)], abs=3)
    assert clip.duration == pytest.approx(3.3)  # the last frame counts as long as the one before it
    assert clip.total == 6


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_other_animations_are_clips_too(tmp_path, name):
    clip = open_clip(animation(tmp_path / name, [500, 500, 500]), rate=2)
    assert clip.times == pytest.approx([0, 0.5, 1.0])
    assert greys(clip) == pytest.approx([shade(0), shade(1), shade(2)], abs=3)


def test_what_is_transparent_lies_on_white(tmp_path):
    frames = [Image.new("RGBA", (20, 10), (200, 0, 0, 0)), Image.new("RGBA", (20, 10), (0, 0, 200, 255))]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=500, lossless=True)
    clip = open_clip(tmp_path / "a.webp")
    assert [frame.getpixel((3, 3)) for frame in clip.frames] == [(255, 255, 255), (0, 0, 200)]


def test_large_frames_are_scaled_down(tmp_path):
    clip = open_clip(film(tmp_path / "a.mp4", 3, size=(640, 360)), limits=Limits(kept=40_000))
    assert clip.size == (266, 150)
    assert clip.notes == ("Frames scaled down from 640×360 to 266×150 pixels.",)


def test_a_picture_stays_a_picture(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.gif")
    Image.new("RGB", (30, 20)).save(tmp_path / "b.png")
    for name in ("a.gif", "b.png"):
        assert isinstance(open_media(tmp_path / name), Image.Image)
    assert isinstance(open_media(animation(tmp_path / "c.gif", [100, 100])), Clip)
    with pytest.raises(ImageError, match="check the path"):
        open_media(tmp_path / "none.png")


PLAYLISTS = {
    "a.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "b.webm": "ffconcat version 1.0\nfile {secret}\n",
    "c.mp4": '<?xml version="1.0"?><MPD><BaseURL>file://{secret}</BaseURL></MPD>',
    "d.mov": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_list_of_other_files_is_never_followed(tmp_path, name):
    secret = film(tmp_path / "secret.mp4", 3)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(secret=secret))
    with pytest.raises(VideoError, match="not a clip of a known kind: use one of MP4 or MOV, WebM"):
        open_clip(path)


def test_only_the_reader_of_its_kind_opens_a_file(tmp_path, monkeypatch):
    """Even where the first bytes lie: what follows them is another container, or a list, and stays closed."""
    path = film(tmp_path / "a.avi", 3)
    monkeypatch.setattr(reading, "container", lambda path: MP4)
    with pytest.raises(VideoError):
        open_clip(path)
    listed = tmp_path / "b.mp4"
    listed.write_text(PLAYLISTS["b.webm"].format(secret=film(tmp_path / "c.mp4", 3)))
    with pytest.raises(VideoError):
        open_clip(listed)


def broken(path: Path, what: str) -> Path:
    if what == "empty":
        path.write_bytes(b"")
    elif what == "text":
        path.write_text("What a day\n" * 50)
    elif what == "no index":
        patched(film(path, 30, size=(320, 240)), lambda data: data[: data.index(b"moov") - 4])
    elif what == "half":
        patched(film(path, 30, size=(320, 240)), lambda data: data[: len(data) // 2])
    elif what == "no video":
        patched(film(path), lambda data: data.replace(b"vide", b"soun"))
    elif what == "codec":
        path = patched(film(path.with_suffix(".webm"), code="VP90"), lambda data: data.replace(b"V_VP9", b"V_AV1"))
    elif what == "strange codec":
        path = patched(film(path.with_suffix(".avi")), lambda data: data.replace(b"MJPG", b"zz9q"))
    elif what == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", r"empty \(0 bytes\)"),
        ("text", "not a clip of a known kind"),
        ("no index", "cut off: its index is missing"),
        ("half", "cut off: its index is missing"),
        ("no video", "has no video, only sound or data"),
        ("codec", "codec AV1 cannot be read here: save the clip as one of H.264, H.265, VP8"),
        ("strange codec", "codec zz9q cannot be read here"),
        ("folder", "is not a file"),
        ("missing", "cannot be read .*check the path"),
    ],
)
def test_bad_files_are_told_by_their_fault(tmp_path, what, message):
    with pytest.raises(VideoError, match=message):
        open_clip(broken(tmp_path / "a.mp4", what))


def test_a_film_that_is_cut_off_behind_its_index_shows_what_there_is(tmp_path):
    path = patched(film(tmp_path / "a.avi", 30), lambda data: data[: len(data) // 2])
    clip = open_clip(path)
    assert 5 <= clip.total < 20
    assert clip.notes[0].startswith(f"Damaged or cut off: {clip.total} of its 30 frames")
    path = patched(film(tmp_path / "a.webm", 300, size=(160, 120)), lambda data: data[: len(data) // 2])
    clip = open_clip(path)
    assert 5 <= clip.total < 270
    assert clip.notes == (f"Damaged or cut off: {clip.duration:.1f} of its 30.0 s can be read.",)


def test_a_rate_that_varies_is_no_damage_where_no_frames_are_counted(tmp_path):
    def faster(data: bytes) -> bytes:
        """A header that tells of ten times the rate: of a frame's usual duration, in nanoseconds."""
        at = data.index(b"\x23\xe3\x83\x84") + 4
        return data[:at] + (10_000_000).to_bytes(4, "big") + data[at + 4 :]

    path = patched(film(tmp_path / "a.webm", 30), faster)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) > 100  # guessed from it
    clip = open_clip(path)
    assert (clip.total, clip.notes) == (30, ())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(nbytes=1000), "more than the 0.000953674 MB allowed"),
        (Limits(seconds=2), "lasts 0:03, longer than the 0:02 allowed: cut it"),
        (Limits(frames=29), "has 30 frames, more than the 29 allowed"),
        (Limits(pixels=3000), "64×48 pixels, more than the 0.0 million allowed"),
        (Limits(read_s=0), "took longer than the 0 s allowed"),
    ],
)
def test_each_limit_is_named(tmp_path, limits, message):
    with pytest.raises(VideoError, match=message):
        open_clip(film(tmp_path / "a.mp4"), limits=limits)


def test_two_hours_and_8k_are_refused_by_their_header(tmp_path):
    def slow(data: bytes) -> bytes:  # a frame in a thousand seconds: scale over rate, behind the codec of the stream
        at = data.index(b"vidsMJPG") + 20
        return data[:at] + (1000).to_bytes(4, "little") + (1).to_bytes(4, "little") + data[at + 8 :]

    long = patched(film(tmp_path / "long.avi", frames=8, fps=1), slow)
    with pytest.raises(VideoError, match=r"lasts 2:13:20, longer than the 10:00 allowed"):
        open_clip(long)
    with pytest.raises(VideoError, match=r"7680×4320 pixels, more than the 9\.4 million"):
        open_clip(film(tmp_path / "large.avi", frames=1, size=(7680, 4320)))


def test_a_header_that_lies_about_the_length_is_found_out(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", 40, fps=10)
    header = reading._Worker.header
    monkeypatch.setattr(reading._Worker, "header", lambda self: {**header(self), "frames": 1.0})
    clip = open_clip(path, rate=5, frames=8)
    assert len(clip.frames) <= 8
    assert clip.times[0] == 0
    assert clip.times[-1] > 3
    with pytest.raises(VideoError, match="longer than the 0:02 allowed"):
        open_clip(path, limits=Limits(seconds=2))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory there")
def test_a_bomb_is_stopped_by_the_memory_it_may_take(tmp_path):
    path = film(tmp_path / "a.avi", 2, size=(4096, 2304))
    with pytest.raises(VideoError, match="damaged"):
        open_clip(path, limits=Limits(memory=280 * 2**20))


@pytest.mark.alone
def test_stop_ends_reading_within_a_second(tmp_path):
    path, cancel = film(tmp_path / "a.avi", 400, fps=30, size=(1280, 720)), threading.Event()
    threading.Timer(0.3, cancel.set).start()
    start = time.monotonic()
    with pytest.raises(VideoError, match="stopped"):
        open_clip(path, rate=30, frames=400, cancel=cancel)
    assert time.monotonic() - start < 1.3


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(reading.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    threads = threading.active_count()
    open_clip(film(tmp_path / "a.mp4"))
    for what in ("no index", "codec"):
        with pytest.raises(VideoError):
            open_clip(broken(tmp_path / f"{what}.mp4", what))
    assert os.listdir(folder) == []
    assert len(started) == 3
    assert all(process.returncode is not None for process in started)
    assert threading.active_count() == threads


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), True, "2"])
def test_bad_rates(tmp_path, rate):
    with pytest.raises(ValueError, match="the rate must be"):
        open_clip(tmp_path / "a.mp4", rate=rate)


@pytest.mark.parametrize("frames", [0, 1.5, True])
def test_bad_numbers_of_frames(tmp_path, frames):
    with pytest.raises(ValueError, match="the most frames must be"):
        open_clip(tmp_path / "a.mp4", frames=frames)


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "mp4v"), ("a.webm", "V_VP8"), ("a.avi", "MJPG")])
def test_the_header_names_the_codec(tmp_path, name, code):
    from pruning.video.container import container

    path = film(tmp_path / name, 3)
    found = container(path)
    assert found is not None
    assert codec(path, found) == code


def test_clips_check_what_they_hold():
    frame = Image.new("RGB", (4, 4))
    with pytest.raises(VideoError, match="needs frames"):
        Clip((), (), 1.0, 0)
    with pytest.raises(VideoError, match="one size"):
        Clip((frame, Image.new("RGB", (5, 4))), (0.0, 1.0), 2.0, 2)
    with pytest.raises(VideoError, match="must rise"):
        Clip((frame, frame), (1.0, 1.0), 2.0, 2)
