"""One pass of the language model over what is new, with or without the rows of pictures. Nothing is kept on it."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visual:
    """What stands at the placeholders: the value of `mm_encoder_outputs`, by kind.

    mark: tells these rows from others, for a conversation cache; 0 where none asks.
    marks: by what the language model is told which tokens are visual, "": by nothing; token_ids: those that it is told.
    """

    output: Any
    mark: int
    token_ids: tuple[int, ...]
    marks: str


@torch.no_grad()
def forward(
    model: Any, ids: Tensor, positions: Tensor, mask: Tensor, cache: Any, visual: Visual | None, keep: int = 1
) -> tuple[Tensor, Any]:
    """One pass: (B, keep, V) float32 logits of the last `keep` places (0 = all), and the KV cache.

    `mask` covers what the cache holds and the new tokens. It is never left out: without one, gaps in the positions
    would be taken for borders between packed sequences.
    """
    from transformers import DynamicCache

    if cache is None:  # some families make none of their own
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    more: dict[str, Any] = {cache_name(type(model).forward): cache}
    if visual is not None and visual.marks:
        more[visual.marks] = torch.isin(ids, torch.tensor(visual.token_ids, device=ids.device)).long()
    output = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        mm_encoder_outputs=None if visual is None else visual.output,
        use_cache=True,
        logits_to_keep=keep,
        **more,
    )
    logits: Tensor = output.logits[:, -keep:]  # some families form those of all places
    return logits.float(), getattr(output, cache_name(type(model).forward))


@functools.cache
def cache_name(method: Any) -> str:
    """What a model's `forward` calls the KV cache, in and out: `past_key_values` up to 5.23, `cache` from then on."""
    return "cache" if "cache" in inspect.signature(method).parameters else "past_key_values"
