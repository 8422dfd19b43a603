"""The vision tower once more, tokens leaving between its layers: hooks shorten what the next layer is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pruning.models.families.base import Family, Pixels
from pruning.models.signals.attention import Call, LayerAttention, capture
from pruning.signals import Flow, Rule, Tower


def tower(family: Family, pixels: Pixels) -> Tower:
    """The function of a sample whose pictures are one sequence each, of a family with `shortenings`."""

    @torch.no_grad()
    def run(picture: int, rule: Rule) -> Tensor:
        inputs = {name: value[picture : picture + 1] for name, value in pixels.inputs.items()}
        with _shortening(family, rule):
            return family.features(replace(pixels, inputs=inputs)).features.float().cpu()

    return Tower(run, pixels.counts)


@contextmanager
def _shortening(family: Family, rule: Rule) -> Iterator[None]:
    """While open, the tower's passes of this thread go on with what the rule leaves after each layer."""
    thread = threading.get_ident()

    def shorten(i: int, seen: dict[Any, Call]) -> Callable[..., Any]:
        def hook(_layer: Any, _args: Any, result: Any) -> Any:
            if threading.get_ident() != thread:
                return None
            out: Tensor = result[0] if isinstance(result, tuple) else result  # (1, P, C)
            found = LayerAttention(family.attentions[i], seen[i], family.cls)
            values = found.value[0].transpose(0, 1).cpu()  # (P, H, d)
            cls, left = values[0] if family.cls else None, family.shortenings - 1 - i
            stays = rule(Flow(left, found.score()[0, :, 0].cpu(), values[family.cls :], cls)).to(out.device)
            places = torch.cat([torch.arange(family.cls, device=out.device), stays + family.cls])
            out = out[:, places]
            return (out, *result[1:]) if isinstance(result, tuple) else out

        return hook

    with ExitStack() as hooks:
        seen = hooks.enter_context(capture(dict(enumerate(family.attentions[: family.shortenings]))))
        for i in range(family.shortenings):
            hooks.callback(family.vision_layers[i].register_forward_hook(shorten(i, seen)).remove)
        yield
