"""InternVL3 as converted for the model library: InternViT with a CLS place, pixel shuffle, a Qwen2 language model."""

from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIDE, PATCH = 56, 7  # a tile has 8 × 8 patches: 16 tokens


def tiny_internvl(folder: Path, *, seed: int = 0) -> Path:
    """Save a random InternVL3: tiles of 16 tokens, at most 12 of them and a thumbnail."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokenizer = word_tokenizer(
        SPECIALS,
        CHAT_TEMPLATE,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
            "attention_bias": True,
            "initializer_range": 0.2,
        },
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=16,
    )

    def build() -> Any:
        model = InternVLForConditionalGeneration(config)
        embeddings = model.model.vision_tower.embeddings  # zero in a new model, not in a trained one
        for parameter in (embeddings.cls_token, embeddings.position_embeddings):
            parameter.data.normal_(std=0.3)
        return model

    images = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": False,
        "size": {"height": SIDE, "width": SIDE},
        "min_patches": 1,
        "max_patches": 12,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    processor = {"processor_class": "InternVLProcessor", "image_seq_length": 16}
    return save(folder, build, tokenizer, seed, preprocessor_config=images, processor_config=processor)
