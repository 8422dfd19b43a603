"""Qwen3-VL and Qwen3.5: 32 × 32 pixels to a token, interleaved M-RoPE."""

from pathlib import Path
from typing import Any

from tests.checkpoints.qwen_vl import CHAT_TEMPLATE, SPECIALS
from tests.checkpoints.saving import save, text_settings, word_tokenizer

VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 48,
    "num_position_embeddings": 64,
    "initializer_range": 0.2,
}


def _images(max_tokens: int) -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "size": {"shortest_edge": 4 * 32 * 32, "longest_edge": max_tokens * 32 * 32},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def tiny_qwen3_vl(folder: Path, *, max_tokens: int = 64, seed: int = 0) -> Path:
    """Save a random Qwen3-VL: 3 vision blocks, the first two of which also feed the language model."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = word_tokenizer(SPECIALS, CHAT_TEMPLATE, eos="<|im_end|>", pad="<|endoftext|>")
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        vision_config={**VISION, "deepstack_visual_indexes": [0, 1]},
        text_config={**text_settings(tokenizer, rope_parameters=rope), "num_hidden_layers": 3, "head_dim": 12},
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()},
        tie_word_embeddings=False,
    )
    return save(
        folder,
        lambda: Qwen3VLForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=_images(max_tokens),
    )


def tiny_qwen3_5(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Qwen3.5: linear attention in two of three language layers, whose state cannot be rolled back."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    tokenizer = word_tokenizer(SPECIALS, CHAT_TEMPLATE, eos="<|im_end|>", pad="<|endoftext|>")
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 2, 2],
        "mrope_interleaved": True,
        "partial_rotary_factor": 1.0,
    }
    config = Qwen3_5Config(
        vision_config=VISION,
        text_config={
            **text_settings(tokenizer, rope_parameters=rope),
            "num_hidden_layers": 3,
            "head_dim": 12,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()},
    )
    return save(
        folder, lambda: Qwen3_5ForConditionalGeneration(config), tokenizer, seed, preprocessor_config=_images(64)
    )
