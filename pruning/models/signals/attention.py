"""Attention, keys and values of a vision layer, computed beside the model's own pass and only when asked for.

The tower keeps its attention kernel (SDPA, FlashAttention): a hook on the wanted layer copies out what went into its
attention module, and everything is formed from that afterwards. The hooks are gone when the `with` block ends, however
it ends.

Shapes: S sequences of P places each (a tile or picture; towers that pack all pictures into one have S = 1 and segments
in it), H heads of width d. Layers may start with one CLS place, which no result contains.
"""

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_ELEMENTS = 1 << 24  # attention weights formed at once: 64 MB of float32


@dataclass(frozen=True)
class Call:
    """What a module was called with: its hidden states, (S, P, C) or packed (P, C), and its keyword arguments."""

    hidden: Tensor
    named: dict[str, Any]


@contextmanager
def capture(modules: Mapping[Any, nn.Module]) -> Iterator[dict[Any, Call]]:
    """While open, record what each module is called with by this thread, under its key in `modules`."""
    seen: dict[Any, Call] = {}
    handles, thread = [], threading.get_ident()
    try:
        for key, module in modules.items():

            def record(*given: Any, key: Any = key) -> None:
                # Another thread's pass may call a hook, even one without named arguments that is just being removed.
                if threading.get_ident() == thread:
                    _module, args, named = given
                    seen[key] = Call(args[0] if args else named["hidden_states"], named)

            handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class LayerAttention:
    """Queries, keys and values of one captured attention module, and what follows from them. All float32.

    Takes modules with one projection `qkv` over packed pictures, rotary positions and `cu_seqlens` (Qwen), and modules
    with `q_proj`, `k_proj`, `v_proj` over separate sequences (CLIP, SigLIP, InternViT). `cls`: places before the first
    patch, 0 or 1.
    """

    @torch.no_grad()
    def __init__(self, attn: Any, call: Call, cls: int) -> None:
        self.cls = cls
        hidden = call.hidden
        if hasattr(attn, "qkv"):
            rotate = importlib.import_module(type(attn).__module__).apply_rotary_pos_emb_vision
            query, key, value = attn.qkv(hidden).reshape(len(hidden), 3, attn.num_heads, -1).unbind(1)  # (P, H, d)
            query, key = rotate(query, key, *call.named["position_embeddings"])
            parts = [x.float().transpose(0, 1)[None] for x in (query, key, value)]
            self.bounds = call.named["cu_seqlens"].tolist()
        else:
            query, key = attn.q_proj(hidden), attn.k_proj(hidden)
            if hasattr(attn, "q_norm"):
                query, key = attn.q_norm(query), attn.k_norm(key)
            shape = (*hidden.shape[:-1], -1, attn.head_dim)
            parts = [x.reshape(shape).float().transpose(1, 2) for x in (query, key, attn.v_proj(hidden))]
            self.bounds = [0, hidden.shape[-2]]
        self.query, self.key, self.value = parts  # (S, H, P, d)
        self.scale = self.query.shape[-1] ** -0.5
        mask = call.named.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
        self.mask = mask  # (S, 1, P, P) to add to the logits, or None

    def keys(self) -> Tensor:
        """(S, P, H·d) without CLS."""
        return self.key.transpose(1, 2).flatten(2)[:, self.cls :]

    def values(self) -> Tensor:
        """(S, P, H·d) without CLS."""
        return self.value.transpose(1, 2).flatten(2)[:, self.cls :]

    @property
    def heads(self) -> int:
        return int(self.key.shape[1])

    @torch.no_grad()
    def score(self) -> Tensor:
        """(S, P, 1) attention from CLS; without CLS attention received: head mean, summed over the segment's queries.

        Segments are those that the layer itself attends in: whole pictures, or windows. Received attention sums to the
        length of its segment.
        """
        if self.cls:
            return self._weights(slice(0, 1), 0, self.bounds[-1])[:, 0, self.cls :, None]
        scores = torch.zeros(len(self.key), self.key.shape[2], 1, device=self.key.device)
        for rows, start, stop in self._chunks():
            scores[:, start:stop, 0] += self._weights(rows, start, stop).sum(1)
        return scores

    @torch.no_grad()
    def map(self, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        """(S, p, p) mean over heads, row = who attends, for the p tokens that `shrink` (S, P, C) -> (S, p, C) pools.

        Queries of a token are averaged, keys summed, so a row sums to 1, or less where CLS takes a share.
        """
        sequences, _, places, _ = self.key.shape
        patches = places - self.cls
        tokens = shrink(torch.zeros(1, patches, 1, device=self.key.device)).shape[1]
        pooled = torch.zeros(sequences, patches, tokens, device=self.key.device)  # (S, queries, p)
        for rows, start, stop in self._chunks():
            weights = torch.zeros(sequences, rows.stop - rows.start, places, device=self.key.device)
            weights[:, :, start:stop] = self._weights(rows, start, stop)
            keys = shrink(weights[:, :, self.cls :].transpose(1, 2)).transpose(1, 2) * (patches / tokens)
            first = max(rows.start, self.cls)
            pooled[:, first - self.cls : rows.stop - self.cls] = keys[:, first - rows.start :]
        return shrink(pooled)

    def _chunks(self) -> Iterator[tuple[slice, int, int]]:
        """(queries, first key, past the last key): pieces of every segment whose weights fit into memory."""
        sequences, heads = self.key.shape[:2]
        for start, stop in pairwise(self.bounds):
            step = max(1, CHUNK_ELEMENTS // (sequences * heads * max(stop - start, 1)))
            for query in range(start, stop, step):
                yield slice(query, min(query + step, stop)), start, stop

    @torch.no_grad()
    def output(self) -> Tensor:
        """(S, P, H·d) what the heads make of the values, CLS included: for comparison with the layer's own."""
        made = torch.zeros_like(self.value)
        for rows, start, stop in self._chunks():
            made[:, :, rows] += self._heads(rows, start, stop) @ self.value[:, :, start:stop]
        return made.transpose(1, 2).flatten(2)

    def _weights(self, rows: slice, start: int, stop: int) -> Tensor:
        """(S, queries, keys) softmax(QKᵀ/√d) of the segment's keys, mean over heads."""
        return self._heads(rows, start, stop).mean(1)

    def _heads(self, rows: slice, start: int, stop: int) -> Tensor:
        """(S, H, queries, keys), each head's own."""
        logits = self.query[:, :, rows] @ self.key[:, :, start:stop].transpose(2, 3) * self.scale
        if self.mask is not None:
            logits = logits + self.mask[:, :, rows, start:stop]
        return torch.softmax(logits, dim=-1)
