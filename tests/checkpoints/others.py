"""Families that no file of ours knows: loading measures whether the generic adapter fits them."""

from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


PERCEIVER = {
    "hidden_size": 48,
    "resampler_n_latents": 16,
    "resampler_depth": 2,
    "resampler_n_heads": 4,
    "resampler_head_dim": 12,
    "num_key_value_heads": 2,
}
"""Idefics2's resampler."""


def _tokenizer(image: str, *specials: str, **extra: str) -> Any:
    first = ("<pad>", "</s>", "<user>", "<assistant>", *specials)
    return word_tokenizer(first, CHAT_TEMPLATE.replace("IMAGE", image), eos="</s>", pad="<pad>", **extra)


def _siglip(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
        "initializer_range": 0.2,
        **more,
    }


def tiny_glm4v(folder: Path, *, seed: int = 0) -> Path:
    """Save a random GLM-4.1V: a packed tower as Qwen's, patches merged by a convolution, M-RoPE."""
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration

    marks = ("image", "begin_of_image", "end_of_image", "video", "begin_of_video", "end_of_video")
    tokenizer = _tokenizer("<|begin_of_image|><|image|><|end_of_image|>", *(f"<|{mark}|>" for mark in marks))
    names = ("image", "image_start", "image_end", "video", "video_start", "video_end")
    ids = {f"{n}_token_id": tokenizer.convert_tokens_to_ids(f"<|{m}|>") for n, m in zip(names, marks, strict=True)}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2], "partial_rotary_factor": 0.5}
    config = Glm4vConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 48,
            "image_size": 56,
            "initializer_range": 0.2,
        },
        text_config={**text_settings(tokenizer, rope_parameters=rope), "num_attention_heads": 2},
        **ids,
    )
    images = {
        "image_processor_type": "Glm4vImageProcessor",
        "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": 64 * 2 * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **HALF,
    }
    processor = {"processor_class": "Glm4vProcessor"}
    return save(
        folder,
        lambda: Glm4vForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )


def tiny_deepseek_vl(folder: Path, *, seed: int = 0) -> Path:
    """Save a random DeepSeek-VL: SigLIP over pictures padded to a square."""
    from transformers import DeepseekVLConfig, DeepseekVLForConditionalGeneration

    image = "<image_placeholder>"
    tokenizer = _tokenizer(image, image, image_token=image)
    config = DeepseekVLConfig(
        vision_config={"model_type": "siglip_vision_model", **_siglip(vision_use_head=False)},
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids(image),
    )
    images = {
        "image_processor_type": "DeepseekVLImageProcessor",
        "size": {"height": 64, "width": 64},
        "min_size": 14,
        **HALF,
    }
    processor = {"processor_class": "DeepseekVLProcessor", "num_image_tokens": 64}
    return save(
        folder,
        lambda: DeepseekVLForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )


def tiny_mistral3(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Mistral 3: Pixtral over pictures of any shape, a break token after every row of tokens."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    tokenizer = _tokenizer("[IMG]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = Mistral3Config(
        vision_config={"model_type": "pixtral", **_siglip(image_size=128)},
        text_config={"model_type": "mistral", **text_settings(tokenizer), "head_dim": 12},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    images = {
        "image_processor_type": "PixtralImageProcessor",
        "size": {"longest_edge": 128},
        "patch_size": {"height": 8, "width": 8},
        **HALF,
    }
    processor = {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2}
    return save(
        folder,
        lambda: Mistral3ForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )


def tiny_aya_vision(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Aya Vision: cut into tiles as InternVL3's pictures, with the thumbnail behind them."""
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration

    marks = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "TILE_GLOBAL", *(f"TILE_{i}" for i in range(1, 13)))
    tokenizer = _tokenizer("<image>", "<image>", *marks)
    config = AyaVisionConfig(
        vision_config={"model_type": "siglip_vision_model", **_siglip(vision_use_head=False)},
        text_config={"model_type": "cohere2", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    images = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": True,
        "size": {"height": 64, "width": 64},
        **HALF,
    }
    processor = {"processor_class": "AyaVisionProcessor", "patch_size": 8, "img_size": 64, "downsample_factor": 2}
    return save(
        folder,
        lambda: AyaVisionForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )


def tiny_gemma4(folder: Path, *, seed: int = 0, per_layer: int = 0) -> Path:
    """Save a random Gemma 4: patches told by their places, pooled 2 × 2. per_layer: where it is not 0, layers have
    inputs of so many numbers, share keys, see windows, and pictures both ways.
    """
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    marks = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = _tokenizer("<|image|>", "<|video|>", *marks.values(), **marks)
    names = {"image": "<|image|>", "boi": "<|image>", "eoi": "<image|>", "video": "<|video|>", "audio": "<|audio|>"}
    layers = ["sliding_attention", "full_attention"] * 2
    config = Gemma4Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 16,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 256,
            "initializer_range": 0.2,
        },
        text_config={
            **text_settings(tokenizer),
            "num_hidden_layers": 4,
            "head_dim": 12,
            "global_head_dim": 12,
            "sliding_window": 12 if per_layer else 512,
            "layer_types": layers,
            "hidden_size_per_layer_input": per_layer,
            "vocab_size_per_layer_input": len(tokenizer),
            "num_kv_shared_layers": 2 if per_layer else 0,
            "use_bidirectional_attention": "vision" if per_layer else None,
        },
        eos_token_id=tokenizer.eos_token_id,
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
    )
    images = {
        "image_processor_type": "Gemma4ImageProcessor",
        "patch_size": 4,
        "max_soft_tokens": 70,
        "pooling_kernel_size": 2,
    }
    return save(
        folder,
        lambda: Gemma4ForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config={"processor_class": "Gemma4Processor", "image_seq_length": 70},
    )


def tiny_idefics2(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Idefics2: a resampler whose 16 tokens stand for no place in the picture."""
    from transformers import Idefics2Config, Idefics2ForConditionalGeneration

    tokenizer = _tokenizer("<image>", "<image>", "<fake_token_around_image>", "<end_of_utterance>")
    config = Idefics2Config(
        vision_config=_siglip(),
        perceiver_config=dict(PERCEIVER),
        text_config={"model_type": "mistral", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = {
        "image_processor_type": "Idefics2ImageProcessor",
        "do_image_splitting": False,
        "size": {"shortest_edge": 64, "longest_edge": 64},
        **HALF,
    }
    processor = {"processor_class": "Idefics2Processor", "image_seq_len": 16}
    return save(
        folder,
        lambda: Idefics2ForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )
