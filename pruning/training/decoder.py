"""The language model's forward pass for many questions about one picture: same weights, same outputs.

Questions about the same picture share its visual tokens, so the prompt's head (start, visual tokens) runs once and
every question attends to it and to itself, never to another question. A test holds this pass equal to the library's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.training.tower import norm, turn


def rotation(positions: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """positions (3, ...) int64 -> cos, sin (..., head width): M-RoPE, bands dealt to time, row and column in blocks."""
    width = config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    bands = rope["rope_theta"] ** -(torch.arange(0, width, 2, device=positions.device).float() / width)
    turn = positions[..., None].float() * bands
    turn = torch.cat([t[i % 3] for i, t in enumerate(turn.split(rope["mrope_section"], -1))], -1)
    turn = torch.cat([turn, turn], -1)
    return turn.cos(), turn.sin()


def _mlp(x: Tensor, layer: Any) -> Tensor:
    y = norm(x, layer.post_attention_layernorm)
    mlp = layer.mlp
    return x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))


def _head_keys(y: Tensor, layer: Any, config: Any, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated keys and values (B, kv, P, w) of the normed head y (B, P, D)."""
    b, p, d = y.shape
    kv, width = config.num_key_value_heads, d // config.num_attention_heads
    k = turn(layer.self_attn.k_proj(y).view(b, p, kv, width), cos[..., None, :], sin[..., None, :]).transpose(1, 2)
    return k, layer.self_attn.v_proj(y).view(b, p, kv, width).transpose(1, 2)


def _head_layer(
    x: Tensor, y: Tensor, k: Tensor, v: Tensor, layer: Any, config: Any, cos: Tensor, sin: Tensor
) -> Tensor:
    """One layer on the head alone. x (B, P, D), y: x normed, k and v as `_head_keys` gives them."""
    b, p, d = x.shape
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    width = d // heads
    q = turn(layer.self_attn.q_proj(y).view(b, p, heads, width), cos[..., None, :], sin[..., None, :])
    q = q.view(b, p, kv, heads // kv, width).permute(0, 2, 3, 1, 4)  # (B, kv, group, P, w)
    future = torch.ones(p, p, dtype=torch.bool, device=x.device).triu(1)
    score = (q @ k.transpose(-1, -2)[:, :, None]).float() * width**-0.5
    weight = score.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype)
    mixed = (weight @ v[:, :, None]).permute(0, 3, 1, 2, 4).reshape(b, p, d)
    return _mlp(x + layer.self_attn.o_proj(mixed), layer)


def first_layer(language: nn.Module, head: Tensor, head_at: Tensor) -> Tensor:
    """(B, P, D) -> (B, P, D): start and visual tokens after the first layer, as `answer_logits` computes them."""
    model: Any = language
    layer, config = model.layers[0], model.config
    cos, sin = rotation(head_at, config)
    y = norm(head, layer.input_layernorm)
    return _head_layer(head, y, *_head_keys(y, layer, config, cos, sin), layer, config, cos, sin)


def answer_logits(
    language: nn.Module, head: Tensor, head_at: Tensor, ask: Tensor, ask_at: Tensor, real: Tensor, last: int = 2
) -> Tensor:
    """Logits at the `last` positions of every question.

    head (B, P, D): embeddings of start and visual tokens; head_at (3, P) or (3, B, P): their positions.
    ask (B, Q, L, D): embeddings of the questions, padded on the left; ask_at (3, B, Q, L): their positions.
    real (B, Q, L) bool: False on padding.
    Returns (B, Q, last, vocabulary), float32.
    """
    model: Any = language
    config = model.config
    b, p, d = head.shape
    _, q, length, _ = ask.shape
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    group, width = heads // kv, d // heads
    cos_p, sin_p = rotation(head_at, config)
    cos_q, sin_q = rotation(ask_at, config)
    own = torch.ones(length, length, dtype=torch.bool, device=head.device).tril()
    hidden = ~(real[:, None, :, None, None, :] & own)  # (B, 1, Q, 1, L, L)

    for i, layer in enumerate(model.layers):
        final = i == len(model.layers) - 1
        keep = last if final else length
        attn = layer.self_attn
        # the head: B x P
        y = norm(head, layer.input_layernorm)
        k_p, v_p = _head_keys(y, layer, config, cos_p, sin_p)
        if not final:
            head = _head_layer(head, y, k_p, v_p, layer, config, cos_p, sin_p)
        # the questions: B x Q x L
        y = norm(ask, layer.input_layernorm)
        k_q = turn(attn.k_proj(y).view(b, q, length, kv, width), cos_q[..., None, :], sin_q[..., None, :])
        k_q = k_q.permute(0, 3, 1, 2, 4)  # (B, kv, Q, L, w)
        v_q = attn.v_proj(y).view(b, q, length, kv, width).permute(0, 3, 1, 2, 4)
        cos, sin = cos_q[:, :, -keep:, None], sin_q[:, :, -keep:, None]
        ask, y = ask[:, :, -keep:], y[:, :, -keep:]
        q_q = turn(attn.q_proj(y).view(b, q, keep, heads, width), cos, sin)
        q_q = q_q.view(b, q, keep, kv, group, width).permute(0, 3, 1, 4, 2, 5)  # (B, kv, Q, group, keep, w)
        to_head = (q_q.reshape(b, kv, -1, width) @ k_p.transpose(-1, -2)).view(b, kv, q, group, keep, p)
        to_self = (q_q @ k_q.transpose(-1, -2)[:, :, :, None]).masked_fill(hidden[..., -keep:, :], float("-inf"))
        weight = (torch.cat([to_head, to_self], -1).float() * width**-0.5).softmax(-1).to(v_p.dtype)
        mixed = (weight[..., :p].reshape(b, kv, -1, p) @ v_p).view(b, kv, q, group, keep, width)
        mixed = mixed + weight[..., p:] @ v_q[:, :, :, None]
        mixed = mixed.permute(0, 2, 4, 1, 3, 5).reshape(b, q, keep, d)
        ask = _mlp(ask + attn.o_proj(mixed), layer)
    return F.linear(norm(ask, model.norm), model.embed_tokens.weight).float()
