"""What a family's vision tower looks like inside, for signals: layers, projector, and how patches become tokens."""

from __future__ import annotations

from functools import cached_property
from math import isqrt
from typing import Any

from torch import Tensor, nn


class TowerAdapter:
    """Half of `Family`. Patches of the tower are shaped (S, P, C): S pictures or tiles of P patches (packed: S = 1)."""

    model: Any
    config: Any

    @cached_property
    def tower(self) -> Any:
        """The vision tower; a module without layers where it is not found."""
        names = ("visual", "vision_tower", "vision_model")
        return next((getattr(self.model.model, name) for name in names if hasattr(self.model.model, name)), nn.Module())

    @cached_property
    def vision_layers(self) -> nn.ModuleList:
        """The layers of the tower, in order."""
        lists = [module for module in self.tower.modules() if isinstance(module, nn.ModuleList)]
        return max(lists, key=len, default=nn.ModuleList())

    @cached_property
    def attentions(self) -> list[nn.Module]:
        """The attention module of every layer of the tower, in order; empty where they are not understood."""
        layers = self.vision_layers
        found = [next((m for m in layer.children() if "Attention" in type(m).__name__), None) for layer in layers]
        known = [m for m in found if m is not None and (hasattr(m, "qkv") or hasattr(m, "q_proj"))]
        return known if len(known) == len(layers) else []

    @cached_property
    def shortenings(self) -> int:
        """Vision layers, from the first, after which tokens may leave: those before the one whose output is projected,
        patch by patch. 0 where that is not how the features come about, or a picture is more than one sequence.
        """
        return 0

    @cached_property
    def cls(self) -> int:
        """1 where the tower puts a CLS place before the patches, else 0."""
        names = {name.rpartition(".")[2] for name, _ in self.tower.named_parameters()}
        return int(bool(names & {"class_embedding", "cls_token"}))

    @cached_property
    def projector(self) -> Any:
        """The module between tower and language model; called once with (S, P', C)."""
        names = ("multi_modal_projector", "connector", "aligner")
        return next((getattr(self.model.model, name) for name in names if hasattr(self.model.model, name)), None)

    def layer(self, number: int) -> int:
        """Index of vision layer L; negative L counts from the end, layers that see the whole picture first."""
        return number % len(self.attentions)

    @cached_property
    def merge(self) -> int:
        """Patches along a side of the square that becomes one token."""
        return 1

    def shrink(self, patches: Tensor) -> Tensor:
        """(S, P, C) -> (S, p, C): the mean over the patches of each token, in the tower's order."""
        sequences, count, width = patches.shape
        if self.merge == 1:
            return patches
        side = isqrt(count) // self.merge
        squares = patches.reshape(sequences, side, self.merge, side, self.merge, width)
        return squares.mean((2, 4)).flatten(1, 2)

    def shrink_input(self, given: Tensor) -> Tensor:
        """What the projector was called with -> (S, p, C), the mean over the patches of each token."""
        return self.shrink(given)

    def widen(self, offset: Tensor) -> Tensor:
        """(C,) to be added to a patch -> what is to be added to the projector's input."""
        return offset
