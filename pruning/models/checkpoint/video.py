"""What a checkpoint says of clips: how many frames of a second, how many in all, how large.

It stands in `video_preprocessor_config.json`, in `processor_config.json` under `video_processor`, or, of older ones,
in `preprocessor_config.json` under `video_sampling`. A file that says nothing leaves all to the project's own limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruning.models.values import ModelError
from pruning.video import FRAMES, RATE, Sampling

PLACES = (("video_preprocessor_config.json", ""), ("processor_config.json", "video_processor"),
          ("preprocessor_config.json", "video_sampling"))  # fmt: skip


@dataclass(frozen=True)
class ClipLimits:
    """rate: frames to take of each second. frames: the most that a clip may have; None: as many as there is room for.

    size, crop: what the checkpoint calls so, e.g. {"longest_edge": 401408}, which each family reads in its own way.
    mean, std: of the three colours. {} and (): as of pictures.
    """

    rate: float = RATE
    frames: int | None = None
    size: Mapping[str, int] = field(default_factory=dict)
    crop: Mapping[str, int] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What is taken of a clip where nothing else is asked for."""
        return Sampling(self.rate, FRAMES if self.frames is None else min(FRAMES, self.frames))


def clip_limits(folder: Path | str) -> ClipLimits:
    """Of the checkpoint in a folder. Raises ModelError for a value that is none, naming file and entry."""
    for name, entry in PLACES:
        path = Path(folder) / name
        if not path.is_file():
            continue
        held = json.loads(path.read_text(encoding="utf-8"))
        held = held.get(entry) if entry else held
        if isinstance(held, dict):
            return _limits({**held, **_mapping(held.get("video_sampling"))}, f"{path} {entry}".strip())
    return ClipLimits()


def _limits(held: Mapping[str, Any], where: str) -> ClipLimits:
    rate, size = held.get("fps"), held.get("video_size") or held.get("size")
    frames = held.get("max_frames") or held.get("num_frames")
    for entry, value in (("fps", rate), ("max_frames", frames), *_mapping(size).items()):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ModelError(f"{where}: {entry} is {value!r}, and must be a number above 0: download the file again")
    edges, crop = _edges(size), _edges(held.get("crop_size"))
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if isinstance(held.get(old), int) and new not in edges:
            edges[new] = held[old]
    most = None if frames is None else int(frames)
    mean, std = (tuple(map(float, held.get(name) or ())) for name in ("image_mean", "image_std"))
    return ClipLimits(float(rate or RATE), most, edges, crop, mean, std)


def _edges(size: Any) -> dict[str, int]:
    return {str(name): int(value) for name, value in _mapping(size).items() if value is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
