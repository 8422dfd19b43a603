"""How much the tokens of an answer attend to text and to the picture, layer by layer: a few rows beside the kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruning.models.language.forward import Visual, forward
from pruning.models.language.rows import attention_rows
from pruning.models.language.stages import Stages
from pruning.models.values import Prompt


@dataclass(frozen=True)
class Attended:
    """What the tokens of an answer attend to in one layer: mean over them and the heads of the attention, after the
    softmax over all keys, that the prompt's text and its visual tokens receive, each summed. What goes to the answer's
    own tokens is neither. text_tokens, visual_tokens: how many the layer holds.
    """

    layer: int
    text: float
    visual: float
    text_tokens: int
    visual_tokens: int


@torch.no_grad()
def attended(model: Any, prompt: Prompt, visual: Visual, answer: Tensor, stages: Stages | None) -> list[Attended]:
    """For each layer that has attention, from a prompt and T >= 1 tokens of an answer that follow it.

    stages: what leaves between layers, with a course for this prompt.

    Raises:
        ModelError: an attention whose rows cannot be read.
    """
    layers, device, length, steps = list(model.get_decoder().layers), model.device, prompt.n, len(answer)
    given: list[dict[int, tuple[Tensor, tuple[Tensor, ...]]]] = [{}, {}]  # of each pass and layer, what attention gets

    thread = threading.get_ident()

    def note(into: dict[int, Any], i: int) -> Callable[..., None]:
        def hook(_module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            if threading.get_ident() != thread:  # somebody else's pass
                return
            into[i] = (args[0] if args else named["hidden_states"], named["position_embeddings"])

        return hook

    positions = prompt.positions.to(device)
    following = positions.flatten(0, -2).amax() + 1 + torch.arange(steps, device=device)
    mask = torch.ones((1, length + steps), dtype=torch.long, device=device)
    cache, feeds = None, (prompt.input_ids.to(device), answer[None].to(device))
    places = (positions, following.expand(*positions.shape[:-1], -1))
    for past, into, feed, at in zip((0, length), given, feeds, places, strict=True):
        with ExitStack() as hooks:
            if stages is not None:
                hooks.enter_context(stages.attached(past))
            for i, layer in enumerate(layers):
                if hasattr(layer, "self_attn"):
                    handle = layer.self_attn.register_forward_pre_hook(note(into, i), with_kwargs=True)
                    hooks.callback(handle.remove)
            _, cache = forward(model, feed, at, mask[:, : past + feed.shape[1]], cache, None if past else visual)
    return [_of_layer(layers[i], i, given[0][i], given[1][i], prompt, stages) for i in sorted(given[0])]


def _of_layer(
    layer: Any,
    i: int,
    before: tuple[Tensor, tuple[Tensor, ...]],
    after: tuple[Tensor, tuple[Tensor, ...]],
    prompt: Prompt,
    stages: Stages | None,
) -> Attended:
    """From the attention's inputs over the prompt and over the answer."""
    hidden = torch.cat([before[0], after[0]], dim=1)
    cos, sin = (torch.cat(parts, dim=-2) for parts in zip(before[1], after[1], strict=True))
    device, steps = hidden.device, after[0].shape[1]
    held = torch.arange(prompt.n) if stages is None else stages.held[i].rows[0].cpu()
    places = torch.cat([held, prompt.n + torch.arange(steps)]).to(device)
    rows = torch.arange(len(held), len(places), device=device)
    window = layer.self_attn.sliding_window if getattr(layer.self_attn, "is_sliding", False) else None
    sees = places <= places[rows, None]
    if window is not None:
        sees &= places[rows, None] - places < window
    mass = attention_rows(layer.self_attn, hidden, (cos, sin), rows, sees).mean((0, 1)).cpu()  # (R + T,)
    picture = torch.isin(held, prompt.visual)
    share = mass[: len(held)]
    text, visual = float(share[~picture].sum()), float(share[picture].sum())
    return Attended(i, text, visual, int((~picture).sum()), int(picture.sum()))
