"""Tiny, randomly initialised checkpoints, written to disk like any released one (under a second, well below 1 MB).

They answer nonsense. What they prove is the plumbing: loading, positions, pruning, signals, streaming.
"""

import json
from pathlib import Path
from typing import Any

WORDS = (
    "what which color colour is are the a an of on in how many there any yes no left right above below circle square "
    "star triangle ring cross red green blue yellow purple orange white black zero one two three four five six seven "
    "eight nine number digit say does it you user assistant system helpful . , ? !"
)
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<unk>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*SPECIALS, *WORDS.split())))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = Lowercase(), Whitespace()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _save_processor(folder: Path, max_tokens: int) -> None:
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": max_tokens * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _text_config(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }


def _save(folder: Path, model: Any, tokenizer: Any, max_tokens: int) -> None:
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _save_processor(folder, max_tokens)


def _token_ids(tokenizer: Any) -> dict[str, Any]:
    names = ("image", "video", "vision_start", "vision_end")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    ids = {f"{n}_token_id": tokenizer.convert_tokens_to_ids(t) for n, t in zip(names, tokens, strict=True)}
    return {**ids, "tie_word_embeddings": True}


def tiny_qwen2_5_vl(folder: Path, *, max_tokens: int = 64, scorer: bool = True, seed: int = 0) -> Path:
    """Save a random Qwen2.5-VL: 3 vision blocks (the last attends over the whole image), 2 language layers.

    `initializer_range` is large, so that answers depend on the picture and on the question.
    """
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
        text_config={**_text_config(tokenizer), "initializer_range": 0.2},
        **_token_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        _save(folder, model, tokenizer, max_tokens)
        if scorer:
            weights = {
                f"{part}_proj.{name}": torch.randn(shape) * 0.3
                for part in ("q", "k")
                for name, shape in (("weight", (24, 48)), ("bias", (24,)))
            }
            save_file(weights, folder / "scorer.safetensors")
            (folder / "scorer.json").write_text(json.dumps({"dim": 48, "hidden": 24}))
    return folder


def tiny_qwen2_vl(folder: Path, *, max_tokens: int = 64, seed: int = 0) -> Path:
    """Save a random Qwen2-VL: no windows in its vision tower, and no importance scorer."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tokenizer = _tokenizer()
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2, "num_heads": 2},
        text_config={**_text_config(tokenizer), "initializer_range": 0.2},
        **_token_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save(folder, Qwen2VLForConditionalGeneration(config), tokenizer, max_tokens)
    return folder
