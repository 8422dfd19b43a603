"""Questions about a scene, five families, each with one right answer of one word.

`attribute`: colour or shape of the one object that the question names. `existence`: yes or no, as POPE asks; half the
absent things share a colour or a shape with something that is there. `counting`: how many of a shape, a colour, or
in all. `reading`: the digit on an object. `spatial`: which side of another object, or of the picture, an object is on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from pruning.scenes.render import COLORS, DIGITS, SHAPES, Scene, SceneObject

T = TypeVar("T")

FAMILIES: Final = ("attribute", "existence", "counting", "reading", "spatial")
APART: Final = 40.0
"""Objects whose centres differ by less than this many px along an axis are not asked about along it."""

PLURAL: Final = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
_FRAMES: Final = (
    "what color is the ? what shape is the object ? is there a object ? how many objects are there ? what number "
    "is on the ? is the left or right of the ? above or below the ? on the side ? top bottom yes no"
)
_REPHRASED: Final = (
    ("color", "colour"), ("what", "which"), ("number", "digit"), ("are there?", "do you see?"),
    ("there a", "there any"), ("there a", "there an"), ("?", " in the picture?"), ("?", " in the image?"), ("?", ""),
    ("how", "count: how"),
    ("is there a", "do you see a"), ("number is on", "number does it say on"), ("number is on", "number is written on"),
)  # fmt: skip


def _words(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return re.findall(r"[a-z]+|[:?]", " ".join(new for _, new in pairs))


VOCABULARY: Final = tuple(
    dict.fromkeys([*_FRAMES.split(), *_words(_REPHRASED), *SHAPES, *PLURAL.values(), *COLORS, *DIGITS, "0"])
)


@dataclass(frozen=True)
class Question:
    """`text` as a visitor would type it, `answer` one word of the vocabulary, `family` one of FAMILIES."""

    text: str
    answer: str
    family: str


def ask(scene: Scene, rng: np.random.Generator, family: str) -> Question | None:
    """One random question of `family` about `scene`; None where the scene has nothing to ask about."""
    asked = {"attribute": _attribute, "existence": _existence, "counting": _counting, "reading": _reading,
             "spatial": _spatial}[family](scene, rng)  # fmt: skip
    return Question(*asked, family) if asked else None


def questions(scene: Scene, seed: int, per_family: int = 1) -> Iterator[Question]:
    """Up to `per_family` different questions of each family, deterministic in `seed`."""
    rng = np.random.default_rng([scene.seed, seed])
    for family in FAMILIES:
        seen: set[str] = set()
        for _ in range(per_family * 3):
            question = ask(scene, rng, family)
            if question and question.text not in seen and len(seen) < per_family:
                seen.add(question.text)
                yield question


def rephrase(question: Question, rng: np.random.Generator) -> Question:
    """The same question in other words, where one of the known rephrasings fits."""
    old, new = _REPHRASED[int(rng.integers(len(_REPHRASED)))]
    return replace(question, text=question.text.replace(old, new, 1))


def _names(scene: Scene) -> list[tuple[SceneObject, list[str]]]:
    """Objects with the phrases that name no other: "star", "red object", "red star"."""
    shapes = Counter(o.shape for o in scene.objects)
    colors = Counter(o.color for o in scene.objects)
    both = Counter((o.color, o.shape) for o in scene.objects)
    named = []
    for o in scene.objects:
        phrases = [o.shape] * (shapes[o.shape] == 1) + [f"{o.color} object"] * (colors[o.color] == 1)
        if not phrases and both[o.color, o.shape] == 1:
            phrases = [f"{o.color} {o.shape}"]
        if phrases:
            named.append((o, phrases))
    return named


def _pick(rng: np.random.Generator, items: list[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _attribute(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    shapes = Counter(o.shape for o in scene.objects)
    colors = Counter(o.color for o in scene.objects)
    asks = [(f"what color is the {o.shape}?", o.color) for o in scene.objects if shapes[o.shape] == 1]
    asks += [(f"what shape is the {o.color} object?", o.shape) for o in scene.objects if colors[o.color] == 1]
    return _pick(rng, asks) if asks else None


def _existence(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    there = {(o.color, o.shape) for o in scene.objects}
    shapes, colors = {o.shape for o in scene.objects}, {o.color for o in scene.objects}
    kind, yes = rng.integers(3), bool(rng.random() < 0.5)
    if kind == 0:
        pool = [s for s in SHAPES if (s in shapes) == yes]
        return (f"is there a {_pick(rng, pool)}?", "yes" if yes else "no") if pool else None
    if kind == 1:
        pool = [c for c in COLORS if (c in colors) == yes]
        return (f"is there a {_pick(rng, pool)} object?", "yes" if yes else "no") if pool else None
    near = rng.random() < 0.5  # absent, but its colour or its shape is there
    pairs = [(c, s) for c in COLORS for s in SHAPES
             if ((c, s) in there) == yes and (yes or (c in colors or s in shapes) == near)]  # fmt: skip
    if not pairs:
        return None
    color, shape = _pick(rng, pairs)
    return f"is there a {color} {shape}?", "yes" if yes else "no"


def _counting(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    if rng.random() < 0.25:
        return "how many objects are there?", str(len(scene.objects))
    shapes = Counter(o.shape for o in scene.objects)
    colors = Counter(o.color for o in scene.objects)
    asks = {f"how many {PLURAL[s]} are there?": shapes[s] for s in SHAPES}
    asks |= {f"how many {c} objects are there?": colors[c] for c in COLORS}
    count = _pick(rng, sorted(set(asks.values())))  # else nearly every answer is 0 or 1
    return _pick(rng, [text for text, n in asks.items() if n == count]), str(count)


def _reading(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    asks = [(f"what number is on the {_pick(rng, names)}?", o.digit) for o, names in _names(scene) if o.digit]
    return _pick(rng, asks) if asks else None


def _spatial(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    named = _names(scene)
    if not named:
        return None
    height, width = scene.image.shape[:2]
    across = bool(rng.random() < 0.5)
    first, names = _pick(rng, named)
    start = f"is the {_pick(rng, names)}"
    if rng.random() < 0.35:
        gap = first.x - width / 2 if across else first.y - height / 2
        if abs(gap) < APART / 2:
            return None
        sides = ("left", "right") if across else ("top", "bottom")
        return f"{start} on the {sides[0]} or {sides[1]} side?", sides[gap > 0]
    others = [(o, n) for o, n in named if abs(o.x - first.x if across else o.y - first.y) >= APART]
    if not others:
        return None
    second, names = _pick(rng, others)
    sides = ("left", "right") if across else ("above", "below")
    gap = first.x - second.x if across else first.y - second.y
    of = " of" if across else ""
    return f"{start} {sides[0]} or {sides[1]}{of} the {_pick(rng, names)}?", sides[gap > 0]
