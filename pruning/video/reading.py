"""From a file that somebody brought to the frames that a model gets: sampled by rate, bounded, stopped at once.

What a file is, its first bytes say; only the reader of that kind may open it, from the disk and nowhere else, so that a
list of other files is never followed. It is decoded in a process of its own (`worker`), bounded in memory and time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pruning.images import open_image, short
from pruning.video import worker
from pruning.video.clip import FRAMES, RATE, Clip, Sampling, VideoError
from pruning.video.container import CONTAINERS, READABLE, Container, Kind, codec, codec_title, container

WORKER = worker.__spec__.origin
WATCH_S = 0.05
NEARLY = 0.9  # of the frames, or seconds, that the header names: fewer, and the file is cut off


@dataclass(frozen=True)
class Limits:
    """What a clip may be; the first four are looked up before anything is decoded.

    nbytes: of the file. seconds: how long it lasts. frames, pixels: in all, and of each. read_s: seconds that reading
    may take. kept: pixels of a frame as it is returned, to which larger ones are scaled down. memory: bytes that the
    process that decodes it may take.
    """

    nbytes: int = 500 * 2**20
    seconds: float = 600
    frames: int = 20_000
    pixels: int = 4096 * 2304
    read_s: float = 60
    kept: int = 1 << 20
    memory: int = 2 * 2**30


LIMITS, DEFAULT = Limits(), Sampling()


@dataclass(frozen=True)
class Progress:
    """A clip that is being read. taken: frames so far; share: of the clip that is behind them, None = not known."""

    taken: int
    share: float | None


def open_clip(
    source: str | Path,
    *,
    rate: float = RATE,
    frames: int = FRAMES,
    limits: Limits = LIMITS,
    cancel: threading.Event | None = None,
) -> Clip:
    """`read_clip` to its end. Same arguments, same errors."""
    *_, clip = read_clip(source, rate=rate, frames=frames, limits=limits, cancel=cancel)
    assert isinstance(clip, Clip)
    return clip


def read_clip(
    source: str | Path,
    *,
    rate: float = RATE,
    frames: int = FRAMES,
    limits: Limits = LIMITS,
    cancel: threading.Event | None = None,
) -> Iterator[Progress | Clip]:
    """The clip in a file (MP4, MOV, WebM, Matroska, AVI, animated GIF, WebP or PNG): upright, on white, without sound.
    After each frame that is taken how far it is, and last the clip.

    Every frame that is the first to start at a multiple of 1 / rate seconds is taken, no frame twice. Where that would
    be more than `frames`, the distance is the clip's duration / frames. Nothing is written to disk.

    Args:
        rate: frames to take of each second. frames: the most that are taken in all. cancel: ends the reading.

    Raises:
        VideoError: empty, too large, too long, too many or too large frames, not a clip, damaged, without video, of a
        codec that is not read; too slow to decode; `cancel` was set. ValueError: a rate or number that is none.
    """
    Sampling(rate, frames)
    path, kind = _known(source, limits)
    with _Worker(path, kind, limits, cancel) as running:
        header = running.header()
        length = header["frames"] / header["fps"] if header["fps"] else 0.0
        if length > limits.seconds:
            raise VideoError(
                f"The clip lasts {_clock(length)}, longer than the {_clock(limits.seconds)} allowed: cut it"
            )
        yield from _sampled(running, max(1 / rate, length / frames), frames, header["frames"], length, limits)


def open_media(
    source: str | Path, sampling: Sampling = DEFAULT, cancel: threading.Event | None = None
) -> Image.Image | Clip:
    """A picture as `open_image` opens it, or a clip as `open_clip` does: the file's first bytes say which.

    Raises ImageError or VideoError, or ValueError, as they do.
    """
    if kind_of(source) is None:
        return open_image(source)
    return open_clip(source, rate=sampling.rate, frames=sampling.frames, cancel=cancel)


def kind_of(source: str | Path) -> Kind | None:
    """A "film", or a "picture" that moves; None for still pictures, everything else, and what cannot be read."""
    path = Path(source)
    try:
        found = container(path) if path.is_file() else None
    except (OSError, ValueError):  # which opening it tells
        return None
    return found.kind if found else None


def notes_on(medium: Image.Image | Clip) -> list[str]:
    """Sentences on what a model sees of a medium: of a clip which frames were taken, and what was changed."""
    if isinstance(medium, Clip):
        return [f"{medium.summary}.", *medium.notes]
    return list(medium.info.get("notes", ()))


def _sampled(
    running: _Worker, step: float, most: int, told: float, length: float, limits: Limits
) -> Iterator[Progress | Clip]:
    taken: list[tuple[float, Image.Image]] = []
    wanted = 0
    while True:
        found = running.ask(wanted * step)
        if max(found.get("time", 0), found.get("end", 0)) > limits.seconds:  # whatever the header said
            raise VideoError(f"The clip lasts longer than the {_clock(limits.seconds)} allowed: cut it")
        if "end" in found:
            break
        taken.append((found["time"], running.frame(found)))
        if len(taken) > most:  # the header gave no duration, or a wrong one
            taken, step = taken[::2], step * 2
        wanted = int(taken[-1][0] / step + 1e-6) + 1
        yield Progress(len(taken), min(1.0, found["time"] / length) if length else None)
    if not taken:
        raise VideoError(running.unreadable("no frame of it can be decoded"))
    first = taken[0][1].size
    pictures = tuple(picture if picture.size == first else picture.resize(first) for _, picture in taken)
    total, notes = int(found["frames"]), list[str]()
    if running.full != first:
        notes.append(f"Frames scaled down from {running.full[0]}×{running.full[1]} to {first[0]}×{first[1]} pixels.")
    end = found["end"]
    if running.kind.counted and total < NEARLY * told:
        notes.append(f"Damaged or cut off: {total} of its {told:.0f} frames can be read.")
    elif not running.kind.counted and end < NEARLY * length:
        notes.append(f"Damaged or cut off: {end:.1f} of its {length:.1f} s can be read.")
    yield Clip(pictures, tuple(at for at, _ in taken), end, total, tuple(notes))


class _Worker:
    """The process that decodes one clip. It is ended with the `with` block, on Stop, and when its time is over."""

    def __init__(self, path: Path, kind: Container, limits: Limits, cancel: threading.Event | None) -> None:
        self.path, self.kind, self.limits, self.cancel = path, kind, limits, cancel
        self.full = (0, 0)
        self.why, self.done = "", threading.Event()

    def __enter__(self) -> _Worker:
        only = f"protocol_whitelist;file|format_whitelist;{self.kind.demuxer}"
        quiet = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENBLAS_NUM_THREADS": "1"}
        limits = self.limits
        command = [sys.executable, str(WORKER), str(self.path), self.kind.kind, str(limits.memory), str(limits.kept)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, "OPENCV_FFMPEG_CAPTURE_OPTIONS": only},
        )
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.done.set()
        self.watch.join()
        self.process.kill()
        self.process.communicate()  # closes the pipes, too

    def _watch(self) -> None:
        end = time.monotonic() + self.limits.read_s
        while not self.done.wait(WATCH_S):
            if self.cancel is not None and self.cancel.is_set():
                self.why = "Reading the clip was stopped"
            elif time.monotonic() > end:
                self.why = (
                    f"Reading the clip took longer than the {self.limits.read_s:g} s allowed: cut it, or save it with "
                    "fewer or smaller frames"
                )
            if self.why:
                self.process.kill()
                return

    def ask(self, start: float) -> dict[str, Any]:
        """The first frame that starts at `start` seconds or later, or the end."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"from": start}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # the process has ended; what it said last tells why
            pass
        found = self.answer()
        self._check_frames(found.get("frames", 0))
        return found

    def header(self) -> dict[str, Any]:
        """What the clip's header says, once that is within the limits."""
        found = self.answer()
        self.full = int(found["width"]), int(found["height"])
        most = self.limits.pixels
        if self.full[0] * self.full[1] > most:
            raise VideoError(
                f"The clip's frames have {self.full[0]}×{self.full[1]} pixels, more than the {most / 1e6:.1f} million "
                "allowed: scale it down"
            )
        self._check_frames(found["frames"])
        return found

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if self.why:
            raise VideoError(self.why)
        if not line:  # a decoder that crashed, or was refused its memory
            raise VideoError(self.unreadable("its decoder broke off"))
        found: dict[str, Any] = json.loads(line)
        if "failed" in found:
            raise VideoError(self.unreadable(found["failed"]))
        return found

    def frame(self, found: dict[str, Any]) -> Image.Image:
        """The picture that follows an answer."""
        assert self.process.stdout is not None
        size = (found["width"], found["height"])
        data = self.process.stdout.read(size[0] * size[1] * 3)
        if len(data) < size[0] * size[1] * 3:
            raise VideoError(self.why or self.unreadable("its decoder broke off"))
        return Image.frombytes("RGB", size, data)

    def unreadable(self, why: str) -> str:
        """The message for a clip that cannot be decoded, as far as its header tells more than `why`."""
        if self.kind.kind == "film":
            code = codec(self.path, self.kind)
            if code is None:
                return "The file has no video, only sound or data: choose one with a picture"
            if code == "":
                return "The clip is cut off: its index is missing. Save or download it again"
            title, known = codec_title(code)
            if not known:
                return f"The codec {title} cannot be read here: save the clip as one of {', '.join(READABLE)}"
        return f"The clip is damaged ({why}): save or download it again"

    def _check_frames(self, count: float) -> None:
        if count > self.limits.frames:
            raise VideoError(f"The clip has {count:,.0f} frames, more than the {self.limits.frames:,} allowed: cut it")


def _known(source: str | Path, limits: Limits) -> tuple[Path, Container]:
    """The file and what it is, by its size and first bytes."""
    named = short(repr(str(source)))
    try:
        path = Path(source).resolve()
        size = path.stat().st_size
        if not path.is_file():
            raise VideoError(f"{named} is not a file: name a clip")
        if not size:
            raise VideoError("The clip is empty (0 bytes): choose another, or save it again")
        if size > limits.nbytes:
            raise VideoError(
                f"The clip has {size / 2**20:.1f} MB, more than the {limits.nbytes / 2**20:g} MB allowed: cut it"
            )
        found = container(path)
    except VideoError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise VideoError(f"The clip {named} cannot be read ({why}): check the path") from error
    if found is None:
        names = ", ".join(kind.name for kind in CONTAINERS)
        raise VideoError(f"The file is not a clip of a known kind: use one of {names}")
    return path, found


def _clock(seconds: float) -> str:
    """
    >>> _clock(7992), _clock(600)
    ('2:13:12', '10:00')
    """
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
