"""Qwen2-VL and Qwen2.5-VL."""

import json
from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer() -> Any:
    return word_tokenizer(SPECIALS, CHAT_TEMPLATE, eos="<|im_end|>", pad="<|endoftext|>")


def _images(max_tokens: int) -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": max_tokens * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _text(tokenizer: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
    return text_settings(tokenizer, rope_parameters=rope)


def _token_ids(tokenizer: Any) -> dict[str, Any]:
    names = ("image", "video", "vision_start", "vision_end")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    ids = {f"{n}_token_id": tokenizer.convert_tokens_to_ids(t) for n, t in zip(names, tokens, strict=True)}
    return {**ids, "tie_word_embeddings": True}


def tiny_qwen2_5_vl(folder: Path, *, max_tokens: int = 64, scorer: bool = True, seed: int = 0) -> Path:
    """Save a random Qwen2.5-VL: 3 vision blocks (the last attends over the whole image), 2 language layers."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _tokenizer()
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 48,
            "fullatt_block_indexes": [2],
            "initializer_range": 0.2,
        },
        text_config=_text(tokenizer),
        **_token_ids(tokenizer),
    )
    images = _images(max_tokens)
    save(folder, lambda: Qwen2_5_VLForConditionalGeneration(config), tokenizer, seed, preprocessor_config=images)
    if scorer:
        generator = torch.Generator().manual_seed(seed)
        weights = {
            f"{part}_proj.{name}": torch.randn(shape, generator=generator) * 0.3
            for part in ("q", "k")
            for name, shape in (("weight", (24, 48)), ("bias", (24,)))
        }
        save_file(weights, folder / "scorer.safetensors")
        (folder / "scorer.json").write_text(json.dumps({"dim": 48, "hidden": 24}))
    return folder


def tiny_qwen2_vl(folder: Path, *, max_tokens: int = 64, seed: int = 0) -> Path:
    """Save a random Qwen2-VL: no windows in its vision tower, and no importance scorer."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tokenizer = _tokenizer()
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2, "num_heads": 2},
        text_config=_text(tokenizer),
        **_token_ids(tokenizer),
    )
    images = _images(max_tokens)
    return save(folder, lambda: Qwen2VLForConditionalGeneration(config), tokenizer, seed, preprocessor_config=images)
