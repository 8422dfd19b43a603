"""What a sequence costs the language model, counted from its shape. Measured times are the model adapter's business.

Notation: n tokens, L layers, h hidden width, m MLP width, H query heads, G key-value heads of width d, V vocabulary.
One multiply-add counts as 2 FLOPs. Norms, rotary positions, softmax and the vision tower are left out.
"""

from typing import Any

import torch


def prefill_flops(config: Any, n_tokens: int) -> int:
    """FLOPs to prefill n tokens and to form the logits of the last one.

        L · [ 2·n·h·(2·H·d + 2·G·d)    projections q, o and k, v
            + 2·n·(n + 1)·H·d          QKᵀ and the weighted sum of V, causal: n(n + 1)/2 pairs, 4·H·d each
            + 6·n·h·m ]                gate, up and down
        + 2·h·V                        vocabulary head, last token alone

    `config` is a Hugging Face configuration, multimodal or text-only, with a gated dense MLP.

    Raises:
        ValueError: n_tokens below 1.
    """
    text, heads, kv_heads, width = _attention_shape(config, n_tokens)
    hidden = text.hidden_size
    projections = 4 * n_tokens * hidden * (heads + kv_heads) * width
    attention = 2 * n_tokens * (n_tokens + 1) * heads * width
    mlp = 6 * n_tokens * hidden * text.intermediate_size
    return int(text.num_hidden_layers * (projections + attention + mlp) + 2 * hidden * text.vocab_size)


def kv_cache_bytes(config: Any, n_tokens: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values of n tokens: 2 · L · G · d · n · bytes per element (grouped-query attention: G < H).

    Raises:
        ValueError: n_tokens below 1.
    """
    text, _, kv_heads, width = _attention_shape(config, n_tokens)
    return int(2 * text.num_hidden_layers * kv_heads * width * n_tokens * dtype.itemsize)


def _attention_shape(config: Any, n_tokens: int) -> tuple[Any, int, int, int]:
    """Text configuration, query heads H, key-value heads G, head width d."""
    if isinstance(n_tokens, bool) or not isinstance(n_tokens, int) or n_tokens < 1:
        raise ValueError(f"token count {n_tokens!r} is not allowed: it must be a whole number of at least 1")
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return text, heads, kv_heads, width
