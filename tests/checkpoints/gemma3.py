"""Gemma 3: SigLIP over one square picture, average pooling, sliding windows in every other language layer."""

from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

SPECIALS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
SIDE, PATCH = 64, 4  # 16 × 16 patches, 4 × 4 to a token: 16 tokens
WINDOW = 12  # shorter than an image


def tiny_gemma3(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Gemma 3 of three language layers: windowed, whole, windowed."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    tokenizer = word_tokenizer(
        SPECIALS,
        CHAT_TEMPLATE,
        eos="<end_of_turn>",
        pad="<pad>",
        bos="<bos>",
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
    )
    names = {"image": "image_soft_token", "boi": "start_of_image", "eoi": "end_of_image"}
    config = Gemma3Config(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        text_config={
            **text_settings(tokenizer),
            "num_hidden_layers": 3,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        mm_tokens_per_image=16,
        **{f"{name}_token_index": tokenizer.convert_tokens_to_ids(f"<{token}>") for name, token in names.items()},
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<eos>")],
    )

    def build() -> Any:
        model = Gemma3ForConditionalGeneration(config)
        weight = model.model.multi_modal_projector.mm_input_projection_weight  # zero in a new model
        weight.data.normal_(std=0.3)
        model.get_input_embeddings().weight.data *= 0.1  # else the last token alone decides the next
        return model

    images = {
        "image_processor_type": "Gemma3ImageProcessor",
        "do_pan_and_scan": None,
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
    }
    processor = {"processor_class": "Gemma3Processor", "image_seq_length": 16}
    return save(folder, build, tokenizer, seed, preprocessor_config=images, processor_config=processor)
