"""What a model takes in memory, computed from its shape: no file is read here and no device asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

PROMPT_TOKENS = 2048  # a picture of about 1,600 × 1,000 pixels in Qwen2.5-VL, with its question and answer
GLM_TOWERS = ("glm4v_vision", "glm4v_moe_vision")  # whose `intermediate_size` is the merger's, their blocks' is another
PATCHES = 4  # encoder patches behind one visual token, in most families
QUANTIZED_BITS = {"none": 0.0, "8bit": 8.0, "4bit": 4.13}
"""Bits of a quantised weight. 4 bits: NF4 with one scale for 64 weights, the scales quantised to 8 bits in turn."""


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes on its device: `weights_bytes` all the time, `working_bytes` while it answers."""

    weights_bytes: int
    working_bytes: int

    @property
    def total(self) -> int:
        return self.weights_bytes + self.working_bytes


@dataclass(frozen=True)
class Weights:
    """How many numbers a checkpoint holds, by what becomes of them.

    Attributes:
        matrices: weights of linear layers, which quantisation shrinks.
        others: every other floating-point number: embeddings, vocabulary head, norms, convolutions.
        fixed_bytes: tensors that stay as they are stored (integers; weights that come quantised).
    """

    matrices: int
    others: int
    fixed_bytes: int = 0

    def bytes(self, dtype: torch.dtype, quantization: str = "none") -> int:
        """Bytes on the device, held in `dtype` but for what is quantised."""
        bits = QUANTIZED_BITS[quantization] or dtype.itemsize * 8
        return round(self.matrices * bits / 8) + self.others * dtype.itemsize + self.fixed_bytes


@dataclass(frozen=True)
class Shape:
    """What the working memory follows from: layers L, hidden width h, MLP width m, key-value width G·d, and the hidden
    and MLP width of the vision tower.
    """

    layers: int
    hidden: int
    mlp: int
    kv_width: int
    vision_hidden: int
    vision_mlp: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a multimodal Hugging Face configuration."""
        text, vision = config.get_text_config(), config.vision_config
        heads = text.num_attention_heads
        head = getattr(text, "head_dim", None) or text.hidden_size // heads
        # In Qwen2-VL's tower `hidden_size` is the width of its output.
        width = getattr(vision, "embed_dim", None) or vision.hidden_size
        mlp = getattr(vision, "intermediate_size", None) or round(width * getattr(vision, "mlp_ratio", 4))
        if vision.model_type in GLM_TOWERS:
            mlp = vision.out_hidden_size
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        wide = text.intermediate_size  # of some families one for each layer
        widest = max(wide) if isinstance(wide, list | tuple) else wide
        return cls(text.num_hidden_layers, text.hidden_size, widest, kv_heads * head, width, mlp)

    def working_bytes(self, dtype: torch.dtype, prompt_tokens: int = PROMPT_TOKENS) -> int:
        """Bytes beside the weights for a prompt of n tokens, of b bytes a number:

            2 · L · G·d · n · b                                   the KV cache
            + max(n · (6h + 3m), 4n · (6h' + 3m')) · b            one layer of the language model, or of the tower

        A layer holds its input, its norm, queries, keys, values and output (6h at most) and the three MLP products at
        once; the tower is through before the language model begins, on 4 patches a token. Attention weights are never
        formed (SDPA, FlashAttention); with `attention="eager"` they come on top.
        """
        layer = prompt_tokens * (6 * self.hidden + 3 * self.mlp)
        tower = PATCHES * prompt_tokens * (6 * self.vision_hidden + 3 * self.vision_mlp)
        cache = 2 * self.layers * self.kv_width * prompt_tokens
        return (cache + max(layer, tower)) * dtype.itemsize


@dataclass(frozen=True)
class Footprint:
    """A model's weights and shape: what it needs in any dtype and quantisation."""

    weights: Weights
    shape: Shape

    def need(self, dtype: torch.dtype, quantization: str = "none", prompt_tokens: int = PROMPT_TOKENS) -> Need:
        return Need(self.weights.bytes(dtype, quantization), self.shape.working_bytes(dtype, prompt_tokens))


def readable(size: int) -> str:
    """ "16.6 GB", "7 MB": decimal units, as disks and GPUs are sold."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
