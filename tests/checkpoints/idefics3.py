"""Idefics3 and SmolVLM: SigLIP over tiles, pixel shuffle in the connector, a Llama language model."""

from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
IMAGE_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *ROWS)
CHAT_TEMPLATE = (
    "START{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def _vision(side: int, patch: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
        "initializer_range": 0.2,
    }


def _images(kind: str, side: int) -> dict[str, Any]:
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_image_splitting": True,
        "do_pad": True,
        "size": {"longest_edge": 4 * side},
        "max_image_size": {"longest_edge": side},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 1,
    }


def tiny_idefics3(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Idefics3: tiles of 8 × 8 patches and 16 tokens, at most 4 × 4 of them and the whole image."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    start = "<|begin_of_text|>"
    template = CHAT_TEMPLATE.replace("START", start)
    tokenizer = word_tokenizer(
        ("<|end_of_text|>", start, *IMAGE_TOKENS), template, eos="<end_of_utterance>", pad="<|end_of_text|>", bos=start
    )
    config = Idefics3Config(
        vision_config=_vision(64, 8),
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": 16}
    return save(
        folder,
        lambda: Idefics3ForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=_images("Idefics3", 64),
        processor_config=processor,
    )


def tiny_smolvlm(folder: Path, *, seed: int = 0) -> Path:
    """Save a random SmolVLM: tiles of 12 × 12 patches and 4 pixels that no patch fits into; 3 × 3 make a token."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    template = CHAT_TEMPLATE.replace("START", "<|im_start|>")
    tokenizer = word_tokenizer(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_TOKENS),
        template,
        eos="<end_of_utterance>",
        pad="<|im_end|>",
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config = SmolVLMConfig(
        vision_config=_vision(100, 8),
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=3,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = {"processor_class": "SmolVLMProcessor", "image_seq_len": 16}
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 100}}
    return save(
        folder,
        lambda: SmolVLMForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config={**_images("SmolVLM", 100), "video_sampling": sampling},
        processor_config=processor,
    )
