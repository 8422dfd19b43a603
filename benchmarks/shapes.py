"""Models of true shape with random weights, made on the device: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from PIL import Image

from pruning.models import SHIPPED, VLM, Scorer
from pruning.models.checkpoint.processing import build
from pruning.models.families import family_of

CELL = 28  # pixels across a visual token


@dataclass(frozen=True)
class Shape:
    """A Qwen2.5-VL: language layers, width, MLP, heads, key-value heads; vision layers, width, MLP."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    vision_layers: int
    vision_hidden: int = 1280
    vision_mlp: int = 3420
    vocabulary: int = 151_936


SHAPES = {
    "qwen2.5-vl-7b": Shape(28, 3584, 18944, 28, 4, 32, vocabulary=152_064),
    "qwen2.5-vl-3b": Shape(36, 2048, 11008, 16, 2, 32),
    "qwen2.5-vl-0.5b": Shape(24, 896, 4864, 14, 2, 32),  # no such checkpoint: Qwen2.5-0.5B with the same tower
    "tiny": Shape(2, 64, 96, 4, 2, 2, vision_hidden=128, vision_mlp=48, vocabulary=200),  # for a smoke test
}


def build_model(name: str, device: torch.device, dtype: torch.dtype, vision_depth: int | None, most: int) -> VLM:
    """A model of random weights with the shipped one's tokenizer, for pictures of at most `most` visual tokens."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    shape, config = SHAPES[name], AutoConfig.from_pretrained(SHIPPED)
    text, vision = config.text_config, config.vision_config
    head = shape.hidden // shape.heads
    text.update({
        "num_hidden_layers": shape.layers, "layer_types": ["full_attention"] * shape.layers,
        "max_window_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": shape.mlp,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary, "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                            "mrope_section": [head // 8, head // 16 * 3, head // 2 - head // 8 - head // 16 * 3]},
    })  # fmt: skip
    depth = vision_depth or shape.vision_layers
    vision.update({
        "depth": depth, "hidden_size": shape.vision_hidden, "intermediate_size": shape.vision_mlp, "num_heads": 16,
        "out_hidden_size": shape.hidden, "fullatt_block_indexes": list(range(depth - 1, 0, -8)),
    })  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype).eval().requires_grad_(False)
        scorer = Scorer(shape.hidden, shape.hidden // 2).eval().requires_grad_(False)
    processing = build(str(SHIPPED), config)
    processing.image_processor.size = {"shortest_edge": CELL * CELL, "longest_edge": most * CELL * CELL}
    family = family_of(config)(model, processing)
    return VLM(family, scorer, model_id=name, title=name, max_visual_tokens=most)


def picture(tokens: int) -> Image.Image:
    """Noise that gives exactly so many visual tokens, as square as can be. ValueError where only a thin strip could."""
    high = next(side for side in range(isqrt(tokens), 0, -1) if tokens % side == 0)
    if tokens // high > 4 * high:
        raise ValueError(f"{tokens} visual tokens make no picture near a square: take 1296, 4096 or the like")
    size = (high * CELL, tokens // high * CELL, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
