"""Decodes a clip in a process of its own, which the reader may end at any moment: a frame, a whole film or a bomb.

Run by its path, so that it loads no more than OpenCV and Pillow. It knows no rule about which frames are wanted: it
answers one line of JSON with one line of JSON and, where the answer has a frame, the frame's RGB bytes.

    argument            path of the clip, its kind ("film" or "picture"), bytes of memory, pixels of a frame
    first answer        {"width", "height", "fps", "frames"}: what the header says, 0 where it says nothing
    asked {"from": t}   {"time", "width", "height"} and the bytes of the first frame that starts at t or later;
                        {"end", "frames"}: the clip has ended after so many seconds and frames
    failed              {"failed": why}
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

THREADS = 2
BROWSERS = 0.1  # seconds that a frame without a duration of its own is shown, as browsers do


def films(path: str) -> tuple[dict[str, float], Iterator[tuple[float, Any]]]:
    """Header and frames of what FFmpeg decodes: (start in seconds, a function that gives its RGB array)."""
    import cv2

    film = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, THREADS])
    if not film.isOpened():
        raise ValueError("it cannot be opened")
    film.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    names = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}
    header = {name: max(0.0, film.get(prop)) for name, prop in {**names, "frames": cv2.CAP_PROP_FRAME_COUNT}.items()}

    def frames() -> Iterator[tuple[float, Any]]:
        start, last = None, 0.0
        while film.grab():
            at = film.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = at if start is None else start
            last = max(last, at - start)
            yield last, lambda: cv2.cvtColor(film.retrieve()[1], cv2.COLOR_BGR2RGB)

    return header, frames()


def pictures(path: str) -> tuple[dict[str, float], Iterator[tuple[float, Any]]]:
    """The same of animated pictures, which Pillow decodes; what is transparent lies on white."""
    import numpy as np
    from PIL import Image, ImageSequence

    Image.MAX_IMAGE_PIXELS = None  # the reader has a limit of its own
    image = Image.open(path, formats=("GIF", "WEBP", "PNG"))
    header = {"width": image.width, "height": image.height, "fps": 0, "frames": getattr(image, "n_frames", 1)}

    def frames() -> Iterator[tuple[float, Any]]:
        at = 0.0
        for frame in ImageSequence.Iterator(image):
            clear = frame.convert("RGBA")
            white = Image.new("RGBA", clear.size, "white")
            yield at, lambda clear=clear, white=white: np.asarray(Image.alpha_composite(white, clear).convert("RGB"))
            shown = frame.info.get("duration", 0) / 1000
            at += shown if shown > BROWSERS / 10 else BROWSERS

    return header, frames()


def scaled(pixels: Any, most: int) -> Any:
    """(H, W, 3) of at most `most` pixels, contiguous."""
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    scale = min(1.0, (most / (height * width)) ** 0.5)
    if scale < 1:
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels)


def bound_memory(most: int) -> None:
    """Refuse allocations beyond `most` bytes, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def tell(answer: dict[str, Any], data: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + data)
    sys.stdout.buffer.flush()


def serve(path: str, kind: str, memory: int, most: int) -> None:
    import cv2  # noqa: F401  (before memory is bounded: what it maps at the start is not the clip's)

    bound_memory(memory)
    header, frames = films(path) if kind == "film" else pictures(path)
    tell(header)
    count, last, step = 0, 0.0, 0.0
    for line in sys.stdin:
        wanted = json.loads(line)["from"]
        for at, pixels in frames:
            count, last, step = count + 1, at, at - last or step
            if at >= wanted:
                data = scaled(pixels(), most)
                tell({"time": at, "width": data.shape[1], "height": data.shape[0]}, data.tobytes())
                break
        else:
            tell({"end": last + step if count else 0.0, "frames": count})


if __name__ == "__main__":
    try:
        serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except BrokenPipeError:  # the reader has gone
        sys.exit(1)
    except Exception as error:  # decoders raise whatever a broken file leads them to
        tell({"failed": " ".join(str(error).split())[:200] or type(error).__name__})
