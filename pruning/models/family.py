"""What a family of models must tell the generic adapter: preprocessing, the tower, positions, geometry, its signals."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from pruning.tokens import Grid


@dataclass(frozen=True)
class Pixels:
    """Preprocessed images: the tower's keyword arguments, and the merged grid of each image."""

    inputs: dict[str, Tensor]
    grids: tuple[Grid, ...]


class Family(ABC):
    """Stateless but for the loaded model and its image processor; nothing is written to either."""

    model_types: ClassVar[tuple[str, ...]]

    def __init__(self, model: Any, image_processor: Any) -> None:
        self.model = model
        self.image_processor = image_processor

    @property
    @abstractmethod
    def vision_layers(self) -> int:
        """Blocks of the vision tower: `vision_attention@L` exists for -vision_layers <= L < vision_layers."""

    @abstractmethod
    def preprocess(self, images: Sequence[Image.Image], max_tokens: int) -> Pixels:
        """RGB images -> tower inputs, at most `max_tokens` visual tokens each. ValueError for what it cannot take."""

    @abstractmethod
    def encode(self, pixels: Pixels, layers: Iterable[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """(N, D) rows for the language model, and for each L in `layers` the (N,) attention received, raster order."""

    @abstractmethod
    def encoder_output(self, rows: Tensor) -> Any:
        """(K, D) kept rows, of a whole batch one after the other -> value for `mm_encoder_outputs["image"]`."""

    @abstractmethod
    def positions(self, input_ids: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        """Positions of an unpruned prompt (1, n): (3, 1, n) or (1, n)."""

    @abstractmethod
    def rects(self, grids: tuple[Grid, ...], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """(N, 4) float32 x0, y0, x1, y1 in pixels of the given images, whose (width, height) are `sizes`."""
