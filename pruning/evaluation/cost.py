"""What a sequence costs the language model, counted from its shape. Measured times are the model adapter's business.

Notation: n tokens, L layers, h hidden width, m MLP width, H query heads, G key-value heads of width d, V vocabulary.
One multiply-add counts as 2 FLOPs. Norms, rotary positions, softmax and the vision tower are left out, and so is what
choosing costs. Where tokens leave between layers, n is one number for each layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


def prefill_flops(config: Any, n_tokens: int | Sequence[int]) -> int:
    """FLOPs to prefill n tokens and to form the logits of the last one; n: of every layer, or of each of the L.

        sum over layers [ 2·n·h·(2·H·d + 2·G·d)    projections q, o and k, v
            + 2·n·(n + 1)·H·d                      QKᵀ and the weighted sum of V, causal: n(n + 1)/2 pairs, 4·H·d each
            + 6·n·h·m ]                            gate, up and down
        + 2·h·V                                    vocabulary head, last token alone

    `config` is a Hugging Face configuration, multimodal or text-only, with a gated dense MLP.

    Raises:
        ValueError: a count below 1, or not one for each layer.
    """
    text = config.get_text_config()
    head = 2 * text.hidden_size * text.vocab_size
    return int(head + sum(_layer_flops(config, n) for n in _by_layer(text, n_tokens)))


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs. layer: from 1. alive: visual tokens that it processes; held: those whose keys and values it
    keeps. flops: of the prefill, the vocabulary head left out.
    """

    layer: int
    alive: int
    held: int
    flops: int
    kv_bytes: int


def layer_costs(
    config: Any, alive: Sequence[int], held: Sequence[int], text: int, dtype: torch.dtype
) -> tuple[LayerCost, ...]:
    """Every layer's cost; alive, held: (L,) visual tokens, beside `text` others. ValueError as `prefill_flops`."""
    shape, _, kv_heads, width = _attention_shape(config)
    processed = _by_layer(shape, [text + count for count in alive])
    kept = _by_layer(shape, [text + count for count in held])
    each = 2 * kv_heads * width * dtype.itemsize  # bytes of a token
    return tuple(
        LayerCost(i + 1, alive[i], held[i], _layer_flops(config, n), each * kept[i]) for i, n in enumerate(processed)
    )


def kv_cache_bytes(config: Any, n_tokens: int | Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of keys and values: sum over layers 2 · G · d · n · bytes per element (grouped-query attention: G < H).

    Raises:
        ValueError: a count below 1, or not one for each layer.
    """
    text, _, kv_heads, width = _attention_shape(config)
    return int(2 * kv_heads * width * sum(_by_layer(text, n_tokens)) * dtype.itemsize)


def _layer_flops(config: Any, n: int) -> int:
    text, heads, kv_heads, width = _attention_shape(config)
    projections = 4 * n * text.hidden_size * (heads + kv_heads) * width
    attention = 2 * n * (n + 1) * heads * width
    return int(projections + attention + 6 * n * text.hidden_size * text.intermediate_size)


def _by_layer(text: Any, n_tokens: int | Sequence[int]) -> Sequence[int]:
    """(L,) tokens of each layer."""
    counts = list(n_tokens) if isinstance(n_tokens, Sequence) else [n_tokens] * text.num_hidden_layers
    for n in counts:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"token count {n!r} is not allowed: it must be a whole number of at least 1")
    if len(counts) != text.num_hidden_layers:
        raise ValueError(f"{len(counts)} token counts for {text.num_hidden_layers} layers: give one for each layer")
    return counts


def _attention_shape(config: Any) -> tuple[Any, int, int, int]:
    """Text configuration, query heads H, key-value heads G, head width d."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return text, heads, kv_heads, width
