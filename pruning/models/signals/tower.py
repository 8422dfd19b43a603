"""Signals from inside the vision tower: one pass of the tower, captured where a signal needs it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning.models.families.base import Family, Pixels
from pruning.models.signals import shortened
from pruning.models.signals.attention import Call, LayerAttention, capture
from pruning.models.values import Rows

LAYER = re.compile(r"(vision_(?:attention|attention_map|keys|values))@(-?\d+)")
MAP_PATCHES = 20_000  # an attention map of more is refused: it would take gigabytes
PROJECTOR, TOWER = "projector", "tower"


def names(family: Family) -> frozenset[str]:
    """The signals of this kind that a family's tower can provide."""
    depth = len(family.attentions)
    kinds = ("vision_attention", "vision_attention_map", "vision_keys", "vision_values")
    layers = {f"{kind}@{layer}" for kind in kinds for layer in range(-depth, depth)}
    around = {"pre_projector", "projector"} if family.projector is not None else set[str]()
    return frozenset(layers | around | ({TOWER} if family.shortenings else set()))


def run(family: Family, pixels: Pixels, needs: frozenset[str], places: Tensor | None) -> tuple[Rows, dict[str, Any]]:
    """The tower's rows, and each signal in `needs` that `names` lists; float32 on the CPU."""
    wanted = {need: (m[1], family.layer(int(m[2]))) for need in sorted(needs) if (m := LAYER.fullmatch(need))}
    modules: dict[Any, nn.Module] = {layer: family.attentions[layer] for _, layer in wanted.values()}
    if needs & {"pre_projector", "projector"}:
        modules[PROJECTOR] = family.projector
    with torch.no_grad(), capture(modules) as seen:
        rows = family.features(pixels)
    place = _Places(family, pixels, places)
    layers = {layer: LayerAttention(modules[layer], seen[layer], family.cls) for layer in modules if layer != PROJECTOR}
    found: dict[str, Any] = {need: place.signal(kind, layers[layer]) for need, (kind, layer) in wanted.items()}
    if "pre_projector" in needs:
        found["pre_projector"] = place.tokens(family.shrink_input(_batched(seen[PROJECTOR].hidden).float())).cpu()
    if "projector" in needs:
        found["projector"] = place.projection(seen[PROJECTOR])
    if TOWER in needs:
        found[TOWER] = shortened.tower(family, pixels)
    levels = tuple(level.float().cpu() for level in rows.deepstack)
    cpu = Rows(rows.features.float().cpu(), levels, rows.stacked, rows.video)
    return cpu, found


class _Places:
    """Takes values from the tower's patches to the sample's tokens."""

    def __init__(self, family: Family, pixels: Pixels, places: Tensor | None) -> None:
        self.family, self.pixels, self.places = family, pixels, places

    def tokens(self, shrunk: Tensor) -> Tensor:
        """(S, p, C) in the tower's order -> (N, C)."""
        rows = self.family.arrange(shrunk, self.pixels)
        return rows if self.places is None else rows[self.places.to(rows.device)]

    def signal(self, kind: str, layer: LayerAttention) -> Tensor:
        shrink = self.family.shrink
        if kind == "vision_attention":
            return self.tokens(shrink(layer.score()))[:, 0].cpu()
        if kind == "vision_attention_map":
            return self._map(layer).cpu()
        values = layer.keys() if kind == "vision_keys" else layer.values()
        return self.tokens(shrink(values)).unflatten(1, (layer.heads, -1)).cpu()

    def _map(self, layer: LayerAttention) -> Tensor:
        sequences, places = layer.key.shape[0], layer.key.shape[2]
        if sequences * places > MAP_PATCHES:
            raise ValueError(
                f"an attention map of {sequences * places:,} patches would not fit into memory (at most "
                f"{MAP_PATCHES:,}): use a smaller image or a method that needs no map"
            )
        blocks = layer.map(self.family.shrink)  # (S, p, p)
        whole = torch.block_diag(*blocks)  # (S·p, S·p)
        for _ in range(2):  # arrange rows, then columns
            whole = self.tokens(whole.view(sequences, -1, whole.shape[1])).T
        return whole.contiguous()

    def projection(self, call: Call) -> Callable[[Tensor], Tensor]:
        """offset (C,) -> (N, D), in float32: a step of a hundredth vanishes in bfloat16."""
        module = copy.deepcopy(self.family.projector).float()
        given = _batched(call.hidden).float()
        flat = call.hidden.ndim == 2
        others: Mapping[str, Any] = {k: v for k, v in call.named.items() if k != "hidden_states"}

        @torch.no_grad()
        def project(offset: Tensor) -> Tensor:
            moved = given + self.family.widen(offset.to(given.device, torch.float32))
            output = _batched(module(moved[0] if flat else moved, **others))
            return self.tokens(output).float().cpu()

        return project


def _batched(hidden: Tensor) -> Tensor:
    """Packed (P, C) as (1, P, C)."""
    return hidden if hidden.ndim == 3 else hidden[None]
