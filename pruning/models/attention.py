"""Attention received in a vision block, computed beside the model's own pass and only when asked for.

The tower keeps its attention kernel (SDPA, FlashAttention): a hook on the wanted block copies out what went into its
attention layer, and the map is formed from that afterwards. The hooks are gone when the `with` block ends, however
it ends.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_ELEMENTS = 1 << 24  # attention weights formed at once: 64 MB of float32


@contextmanager
def capture_inputs(
    blocks: Sequence[nn.Module], layers: Iterable[int]
) -> Iterator[dict[int, tuple[Tensor, dict[str, Any]]]]:
    """While open, record what `blocks[layer].attn` is called with: layer -> (hidden (P, C), keyword arguments)."""
    seen: dict[int, tuple[Tensor, dict[str, Any]]] = {}
    handles = []
    try:
        for layer in layers:

            def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer) -> None:
                seen[layer] = (args[0], kwargs)

            attn: Any = blocks[layer].attn
            handles.append(attn.register_forward_pre_hook(record, with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def received(attn: Any, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Attention each patch receives: softmax(QKᵀ/√d), mean over heads, sum over the queries of its own segment.

    Segments are those that the block itself attends in (`cu_seqlens`): whole images in a full-attention block, windows
    in the others. Q and K carry their rotary positions.

    Args:
        attn: a Qwen2-VL / Qwen2.5-VL vision attention module. hidden: (P, C) its input. kwargs: its keyword arguments.

    Returns:
        (P,) float32 in the block's own patch order; the values of a segment sum to its length.
    """
    rotate = importlib.import_module(type(attn).__module__).apply_rotary_pos_emb_vision
    patches = hidden.shape[0]
    query, key, _ = attn.qkv(hidden).reshape(patches, 3, attn.num_heads, -1).unbind(1)  # (P, heads, d)
    query, key = (x.float().transpose(0, 1) for x in rotate(query, key, *kwargs["position_embeddings"]))
    scores = torch.zeros(patches, device=hidden.device)
    bounds = kwargs["cu_seqlens"].tolist()
    for start, stop in pairwise(bounds):
        if start == stop:
            continue
        step = max(1, CHUNK_ELEMENTS // (attn.num_heads * (stop - start)))
        keys = key[:, start:stop].transpose(1, 2)  # (heads, d, segment)
        for q in range(start, stop, step):
            weights = torch.softmax(query[:, q : min(q + step, stop)] @ keys * attn.scaling, dim=-1)
            scores[start:stop] += weights.mean(0).sum(0)
    return scores
