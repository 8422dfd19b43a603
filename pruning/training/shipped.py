"""The shape of the model that is trained: a small Qwen2.5-VL, its tokenizer, its image-processor settings.

The tokenizer knows the words that questions are asked with, one token each, and spells everything else: first character
plain, the others marked as going on. So a price or a name is read off character by character.

Rotary bases are small on purpose: with the large models' base the slowest bands, which carry the column, would hardly
turn over a grid of sixteen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pruning.scenes.words import CHARACTERS, WORDS

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
                  "<|image_pad|>", "<|video_pad|>", "<unk>")  # fmt: skip
GOES_ON: Final = "##"
"""Before a character that is not the first of its word."""
PIECES: Final = tuple(
    dict.fromkeys((*SPECIAL, "user", "assistant", *WORDS, *CHARACTERS, *(GOES_ON + c for c in CHARACTERS)))
)
"""The vocabulary: special tokens, words, first characters, further characters."""
CELL: Final = 28
"""Pixels across one visual token: 2 x 2 patches of 14."""

WIDTH: Final = 256
"""Of a visual token and of the language model."""

CHAT_TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def new_model(seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained model, float32, about 8 million parameters."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    ids = {word: i for i, word in enumerate(PIECES)}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(PIECES), "hidden_size": WIDTH, "intermediate_size": 512, "num_hidden_layers": 8,
            "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 20.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"], "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 6, "hidden_size": 192, "intermediate_size": 512, "num_heads": 6, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [1, 3, 5],
            "out_hidden_size": WIDTH, "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.generation_config.do_sample = False
    return model


def save_model(model: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Write what `pruning.models.load` reads: weights, configuration, tokenizer, image processor, chat template."""
    model.save_pretrained(folder)
    new_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_image_processor(), indent=2) + "\n", encoding="utf-8")


def new_tokenizer() -> Any:
    """The tokenizer: words of PIECES whole, everything else character by character."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(WordPiece({word: i for i, word in enumerate(PIECES)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\s+"), "removed"), pre_tokenizers.Split("?", "isolated")]
    )
    raw.decoder = decoders.WordPiece(prefix=GOES_ON, cleanup=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<|endoftext|>", eos_token="<|im_end|>",
        pad_token="<|endoftext|>", additional_special_tokens=list(SPECIAL[1:-1]), clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "size": {"shortest_edge": 112 * 112, "longest_edge": 560 * 560},
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "do_convert_rgb": True,
    }  # fmt: skip
