"""What a model that was trained on drawn pictures alone knows of its own world, and what lies outside of it.

Beside such a checkpoint lie `world.safetensors` and `world.json`: how some hundred pictures of its world look, how far
from its nearest ones another picture of the same world may lie, and which of its questions hold words that are
spelled. A checkpoint without them claims no world of its own, and nothing is ever outside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from pruning.models.checkpoint.damage import reading, unreadable
from pruning.models.look import NUMBERS, look
from pruning.models.values import Encoded, ModelError

if TYPE_CHECKING:
    from pruning.models.vlm import VLM

WEIGHTS, SETTINGS = "world.safetensors", "world.json"
WHAT = "what it knows of its own world"
NEAREST = 3
"""Pictures of the world that another one is compared with: the mean distance to so many."""
HOLE = "_"
"""What stands for a spelled word in the frame of a question."""
SHOWN = 6
"""Unknown words that a reason names."""


@dataclass(frozen=True, eq=False)
class World:
    """Pictures and questions of a model's own world.

    Attributes:
        name: in words, for a reader: "drawn scenes".
        center: (NUMBERS,) float32. axes: (NUMBERS, d) float32: (look - center) @ axes has about unit spread.
        pictures: (n, d) float32, where the world's pictures lie there.
        farthest: the distance up to which a picture is inside.
        frames: questions of the world that hold spelled words, these replaced by HOLE.
        clips: whether clips are part of it.
    """

    name: str
    center: Tensor
    axes: Tensor
    pictures: Tensor
    farthest: float
    frames: frozenset[str] = frozenset()
    clips: bool = False

    def distances(self, looks: Tensor) -> Tensor:
        """(m,) of looks (m, NUMBERS): how far each lies from the world's pictures, 1 = as far as is inside."""
        placed = (looks - self.center) @ self.axes  # (m, d)
        near = torch.cdist(placed, self.pictures).topk(NEAREST, largest=False).values  # (m, NEAREST)
        return near.mean(1) / self.farthest

    def strangeness(self, pictures: Sequence[Image.Image]) -> float:
        """The distance of the strangest of these RGB pictures; above 1 it is outside."""
        return float(self.distances(torch.stack([torch.from_numpy(look(picture)) for picture in pictures])).max())

    def save(self, folder: Path) -> None:
        """Write both files into a checkpoint's folder."""
        from safetensors.torch import save_file

        tensors = {"center": self.center, "axes": self.axes, "pictures": self.pictures}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
        told = {"name": self.name, "farthest": self.farthest, "frames": sorted(self.frames), "clips": self.clips}
        (folder / SETTINGS).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def beside(folder: Path) -> World | None:
    """The world that comes with a checkpoint; None: it claims none.

    Raises:
        ModelError: one of the two files is missing, or cannot be read, or does not hold what it must.
    """
    there = [(folder / name).is_file() for name in (WEIGHTS, SETTINGS)]
    if not any(there):
        return None
    if not all(there):
        lost, kept = (WEIGHTS, SETTINGS) if there[1] else (SETTINGS, WEIGHTS)
        raise ModelError(
            f"{folder} has {kept} but no {lost}: copy it from the same release, or remove {kept} and have nothing told "
            "of pictures that the model does not know"
        )
    with reading(folder, WHAT, (SETTINGS,)):
        told = _settings(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    try:
        parts = _tensors(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(folder, f"{WEIGHTS}, {WHAT},", error) from error
    frames, clips = frozenset(told["frames"]), told.get("clips", False)
    return World(told["name"], **parts, farthest=told["farthest"], frames=frames, clips=clips)


def _settings(told: Any) -> Any:
    """Raises what says that they are none."""
    frames = told["frames"]
    named = isinstance(told["name"], str) and isinstance(frames, list) and all(isinstance(f, str) for f in frames)
    named = named and isinstance(told.get("clips", False), bool)
    if not named or not isinstance(told["farthest"], float) or not 0 < told["farthest"] < float("inf"):
        raise ValueError(
            "name must be a text, farthest a number above 0, frames a list of texts and clips true or false"
        )
    return told


def _tensors(file: Path) -> dict[str, Tensor]:
    """Raises ValueError for tensors that are not as they must be."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    shapes = {key: tuple(tensor.shape) for key, tensor in sorted(tensors.items())}
    width, count = shapes.get("axes", (0, 0))[-1], shapes.get("pictures", (0,))[0]
    if shapes != {"axes": (NUMBERS, width), "center": (NUMBERS,), "pictures": (count, width)} or count < NEAREST:
        raise ValueError(f"needed are center, axes and pictures of {NUMBERS} numbers each; it has {shapes}")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError("some of its numbers are NaN or infinite")
    return {key: tensor.float() for key, tensor in tensors.items()}


@dataclass(frozen=True)
class InWorld:
    """Whether a question about pictures lies in the model's world. strange: a picture or clip does not; unknown: words
    that it does not know. reason: the same in words, "" inside.
    """

    strange: bool = False
    unknown: tuple[str, ...] = ()
    reason: str = ""

    @property
    def inside(self) -> bool:
        return not self.strange and not self.unknown


def in_world(vlm: VLM, encoded: Encoded, question: str) -> InWorld:
    """Whether the answer to a question about these pictures can mean anything. Inside, for a model of no world."""
    if vlm.world is None:
        return InWorld()
    clip = "video" in encoded.kinds and not vlm.world.clips
    strange, unknown = clip or encoded.strangeness > 1, unknown_words(vlm, question)
    why = "and was never shown a clip" if clip else "and this picture is none of them"
    reasons = [f"the model knows {vlm.world.name} alone, {why}"] if strange else []
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        reasons.append(f"the model does not know the words {', '.join(unknown[:SHOWN])}{more}")
    return InWorld(strange, unknown, " and ".join(reasons))


def unknown_words(vlm: VLM, question: str) -> tuple[str, ...]:
    """Words of a question that the model cannot know, each once, as they are written.

    Those that its tokenizer lacks; and of a model that has a world of its own, those that are spelled piece by piece,
    unless questions of its world hold spelled words in that place.
    """
    words = dict.fromkeys(word for part in question.split() if (word := part.strip("?!.,:;\"'()“”‘’«»…")))
    lacking = [word for word in words if _lacks(vlm.tokenizer, word)]
    if lacking or vlm.world is None:
        return tuple(lacking)
    apart = [word for word in words if _spelled(vlm.tokenizer, word)]
    return () if apart and frame(vlm.tokenizer, question) in vlm.world.frames else tuple(apart)


def frame(tokenizer: Any, question: str) -> str:
    """The question with its spelled words replaced by HOLE, in lower case, punctuation at its end apart."""
    words = question.lower().rstrip("?!. ").split()
    return " ".join(HOLE if _spelled(tokenizer, word) else word for word in words)


def _lacks(tokenizer: Any, word: str) -> bool:
    unknown = getattr(tokenizer, "unk_token_id", None)
    return unknown is not None and unknown in tokenizer(word, add_special_tokens=False).input_ids


def _spelled(tokenizer: Any, word: str) -> bool:
    """Whether a word with letters is put together from pieces."""
    return any(c.isalpha() for c in word) and len(tokenizer(word, add_special_tokens=False).input_ids) > 1
