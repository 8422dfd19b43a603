"""The vision tower's forward pass for pictures of equal size: same weights, same outputs, one product for all windows.

The library loops over windows, one small attention call each; with sides that are multiples of 112 px all windows are
alike and batch. Gradients flow into the model's own parameters. A test holds this pass equal to the library's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8
"""Patches along a window's side (112 px)."""


def windows(images: Tensor) -> Tensor:
    """Cut pictures into windows of patches.

    images: (B, H, W, 3) uint8, sides multiples of 112 -> (B, windows, 64, 588) float32, patches of one visual token
    next to each other, normalised as the shipped image processor does.
    """
    b, h, w, _ = images.shape
    x = images.view(b, h // 112, 4, 2, 14, w // 112, 4, 2, 14, 3).permute(0, 1, 5, 2, 6, 3, 7, 9, 4, 8)
    return (x.reshape(b, -1, WINDOW * WINDOW, 588).float() / 255 - 0.5) / 0.25


def raster(tokens: Tensor, gh: int, gw: int) -> Tensor:
    """(B, N, D) in window order -> (B, N, D) in raster order; gh, gw: visual tokens down and across."""
    b, _, d = tokens.shape
    return tokens.view(b, gh // 4, gw // 4, 4, 4, d).permute(0, 1, 3, 2, 4, 5).reshape(b, gh * gw, d)


@cache
def _rotation(gh: int, gw: int, base: float, width: int) -> tuple[Tensor, Tensor]:
    """cos and sin (windows, 64, head width) of the axial rotary embedding, in window order."""
    ys, xs = torch.meshgrid(torch.arange(2 * gh), torch.arange(2 * gw), indexing="ij")
    place = torch.stack([ys, xs], -1).view(gh // 4, 4, 2, gw // 4, 4, 2, 2).permute(0, 3, 1, 4, 2, 5, 6)
    bands = base ** -(torch.arange(0, width // 2, 2).float() / (width // 2))
    turn = (place.reshape(-1, WINDOW * WINDOW, 2, 1) * bands).flatten(2)
    turn = torch.cat([turn, turn], -1)
    return turn.cos(), turn.sin()


def norm(x: Tensor, layer: Any) -> Tensor:
    """RMS norm in float32 with a layer's own weight and epsilon."""
    return F.rms_norm(x.float(), (x.shape[-1],), layer.weight, layer.variance_epsilon)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, in x's dtype."""
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v over the last two axes; plain products, since CPU SDPA is slow backwards."""
    weight = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).float().softmax(-1)
    return weight.to(v.dtype) @ v


def encode(tower: nn.Module, cut: Tensor, gh: int, gw: int) -> Tensor:
    """cut: what `windows` gives, of pictures of gh x gw visual tokens -> (B, gh * gw, D) in raster order."""
    config: Any = tower.config
    parts: Any = tower
    b, n, p, _ = cut.shape
    heads = config.num_heads
    cos, sin = _rotation(gh, gw, config.rope_parameters["rope_theta"], config.hidden_size // heads)
    cos, sin = cos[:, None].to(cut.device), sin[:, None].to(cut.device)
    # a still picture fills both frames of the patch: its kernel is the sum of the two
    kernel = parts.patch_embed.proj.weight.sum(2).flatten(1)
    x = cut @ kernel.T  # (B, windows, 64, C)
    for i, block in enumerate(parts.blocks):
        qkv = block.attn.qkv(norm(x, block.norm1)).view(b, n, p, 3, heads, -1).permute(3, 0, 1, 4, 2, 5)
        q, k, v = turn(qkv[0], cos, sin), turn(qkv[1], cos, sin), qkv[2]  # (B, windows, heads, 64, d)
        if i in config.fullatt_block_indexes:
            q, k, v = (t.transpose(1, 2).flatten(2, 3) for t in (q, k, v))  # (B, heads, windows * 64, d)
            mixed = attend(q, k, v).transpose(1, 2).reshape(b, n, p, -1)
        else:
            mixed = attend(q, k, v).transpose(2, 3).reshape(b, n, p, -1)
        x = x + block.attn.proj(mixed)
        y = norm(x, block.norm2)
        x = x + block.mlp.down_proj(F.silu(block.mlp.gate_proj(y)) * block.mlp.up_proj(y))
    merged = parts.merger.mlp(norm(x, parts.merger.ln_q).view(b, n * p // 4, -1))
    return raster(merged, gh, gw)
