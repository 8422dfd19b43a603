"""A few rows of a layer's attention, beside its fused kernel: softmax(q·K^T) for the queries asked for, no full map."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from pruning.models.values import ModelError


def attention_rows(
    attention: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor], rows: Tensor, sees: Tensor
) -> Tensor:
    """(H, r, n) float32 attention of the tokens `rows` (r,) over all n tokens, as the layer's kernel computes it.

    hidden: (1, n, D) what the attention module is given. rotation: its (cos, sin), (..., n, d). sees: (r, n) bool, what
    each row may look at.

    Raises:
        ModelError: the module has no projections of its own for queries and keys.
    """
    query = _projected(attention, "q", hidden[:, rows], tuple(part.index_select(-2, rows) for part in rotation))
    return _attended(attention, query, key_states(attention, hidden, rotation), sees)


def distance_rows(
    attention: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor], rows: Tensor, sees: Tensor
) -> Tensor:
    """(r, n) float32 `attention_rows` of a head whose queries and keys are all ones before they are rotated."""
    same = torch.ones((1, 1, hidden.shape[1], attention.head_dim), device=hidden.device)
    turned: Tensor = _rotate(attention)(same, same, *rotation)[0][0]
    return _attended(attention, turned[:, rows], turned, sees)[0]


def _attended(attention: Any, query: Tensor, keys: Tensor, sees: Tensor) -> Tensor:
    """query (H, r, d), keys (G, n, d) -> (H, r, n)."""
    groups, (heads, r, d) = len(keys), query.shape
    logits = query.reshape(groups, heads // groups * r, d).float() @ keys.float().mT * _scaling(attention, d)
    logits = logits.view(heads, r, -1)
    if cap := getattr(attention, "attn_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits.masked_fill(~sees, -torch.inf).softmax(-1)


def seen_by(rows: Tensor, n: int, mask: Tensor | None) -> Tensor:
    """(r, n) bool, what the tokens `rows` (r,) see of all n, by the mask that their layer is given.

    mask: (1, 1, n, n), bool or added; None, or of any other shape, where each token sees those before it.
    """
    if mask is None or mask.ndim != 4:
        return torch.arange(n, device=rows.device) <= rows[:, None]
    given = mask[0, 0, rows.to(mask.device)].to(rows.device)
    return given if given.dtype == torch.bool else given >= 0


def key_states(attention: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """(G, n, d) rotated keys of all n tokens; hidden and rotation as above. Raises ModelError as above."""
    return _projected(attention, "k", hidden, rotation)


def _projected(attention: Any, name: str, hidden: Tensor, rotation: tuple[Tensor, ...]) -> Tensor:
    """(heads, n, d) after projection, norm and rotation."""
    project, rotate = getattr(attention, f"{name}_proj", None), _rotate(attention)
    if project is None:
        raise _unreadable(attention)
    flat, d = project(hidden), attention.head_dim
    states = flat.view(*flat.shape[:-1], -1, d)
    if name == "q" and states.shape[-2] == 2 * _heads(attention):  # a gate beside each head's query
        states = flat.view(*flat.shape[:-1], -1, 2 * d)[..., :d]
    if norm := getattr(attention, f"{name}_norm", None):
        whole = norm.weight.shape[-1] != d  # over all heads together
        states = norm(states.flatten(-2)).view_as(states) if whole else norm(states)
    states = states.transpose(1, 2)
    rotated: Tensor = rotate(states, states, *rotation)[0]
    return rotated[0]


def _rotate(attention: Any) -> Any:
    """The rotation of the module's own file. Raises ModelError."""
    rotate = getattr(importlib.import_module(type(attention).__module__), "apply_rotary_pos_emb", None)
    if rotate is None:
        raise _unreadable(attention)
    return rotate


def _unreadable(attention: Any) -> ModelError:
    return ModelError(
        f"attention rows of {type(attention).__name__} cannot be read: it has no projection of its own for queries "
        "and keys; choose a rule that reads no attention, or a method before the language model"
    )


def _heads(attention: Any) -> int:
    return int(attention.config.get_text_config().num_attention_heads)


def _scaling(attention: Any, width: int) -> float:
    scaling = getattr(attention, "scaling", None)
    return float(width**-0.5 if scaling is None else scaling)
