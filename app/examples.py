"""The example scenes on the page, and questions to try. `python -m app.examples` renders their files again.

All seeds are held out: the shipped model never saw these scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruning import assets

FOLDER = assets.ROOT / "examples"
FPS = 4  # of the clips
ANY_IMAGE = ("how many objects are there?", "what color is the star?", "is there a circle?", "is there a red object?")


@dataclass(frozen=True)
class Example:
    """A scene of `seed`, counted from the first held-out one. `questions`: the first one is asked at once. frames: of a
    moving scene, FPS a second; 0 for a picture.
    """

    name: str
    seed: int
    height: int
    width: int
    questions: tuple[str, ...]
    frames: int = 0

    @property
    def title(self) -> str:
        return self.name.replace("-", " ")

    @property
    def path(self) -> str:
        """Where its picture or clip lies. AssetError where that is missing."""
        return str(assets.found(FOLDER.name, self.file))

    @property
    def file(self) -> str:
        return f"{self.name}.{'webp' if self.frames else 'png'}"


EXAMPLES = (
    Example(
        "one-large-many-small", 6, 448, 448,
        ("what number is on the circle?", "how many squares are there?", "is there a blue cross?",
         "is the circle left or right of the cross?"),
    ),
    Example(
        "crowd", 21, 448, 448,
        ("what number is on the triangle?", "how many crosses are there?", "what shape is the purple object?",
         "is there a green cross?"),
    ),
    Example(
        "tiny", 9, 448, 448,
        ("what color is the star?", "how many objects are there?", "is there a green ring?",
         "is the triangle on the left or right side?"),
    ),
    Example(
        "hearts", 13, 448, 448,
        ("what number is on the yellow object?", "how many hearts are there?", "what color is the ring?",
         "is the ring above or below the square?"),
    ),
    Example(
        "small-beside-large", 14, 448, 448,
        ("what color is the square?", "how many pink objects are there?", "what number is on the red object?",
         "is the square left or right of the circle?"),
    ),
    Example(
        "wide", 2, 336, 560,
        ("how many objects are there?", "is there a star?", "is there a red object?"),
    ),
    Example(
        "coming-and-going", 2, 336, 448,
        ("what number is on the yellow object?", "how many objects are there?", "is there a purple ring?"), 24,
    ),
    Example(
        "turning", 5, 336, 448,
        ("how many squares are there?", "what color is the triangle?", "is there a circle?"), 24,
    ),
)  # fmt: skip


def main() -> None:
    """Write every example's file."""
    import cv2
    from PIL import Image

    from pruning.scenes.moving import render_moving
    from pruning.scenes.render import HELD_OUT, render

    FOLDER.mkdir(parents=True, exist_ok=True)
    for example in EXAMPLES:
        seed, file, size = HELD_OUT + example.seed, FOLDER / example.file, (example.height, example.width)
        if example.frames:
            first, *others = map(Image.fromarray, render_moving(seed, example.frames, *size).frames)
            first.save(file, save_all=True, append_images=others, duration=1000 // FPS, quality=80, minimize_size=True)
        else:
            cv2.imwrite(str(file), cv2.cvtColor(render(seed, *size).image, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
