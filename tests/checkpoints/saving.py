"""What every tiny checkpoint shares: a tokenizer of whole words, a small language model, files like released ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = (
    "what which color colour is are the a an of on in how many there any yes no left right above below circle square "
    "star triangle ring cross red green blue yellow purple orange white black zero one two three four five six seven "
    "eight nine number digit say does it you user assistant system helpful . , ? !"
)


def word_tokenizer(
    specials: Sequence[str],
    template: str | None,
    *,
    eos: str,
    pad: str,
    bos: str | None = None,
    unk: str | None = "<unk>",
    **extra: str,
) -> Any:
    """One token per known word, the special tokens first; `bos` is put before every text.

    unk: the token by which the tokenizer says that it does not know a name; None: it has none, as those of bytes.
    extra: names of further special tokens, such as image_token="<image>".
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = dict.fromkeys((*specials, "<unk>"))
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*names, *WORDS.split())))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = Lowercase(), Whitespace()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in names])
    if bos is not None:
        core.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=unk,
        pad_token=pad,
        eos_token=eos,
        bos_token=bos,
        extra_special_tokens=extra,
    )
    tokenizer.chat_template = template
    return tokenizer


def text_settings(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Settings of a language model, 48 wide, two layers. Large initial weights: answers depend on the picture."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
        **more,
    }


def save(folder: Path, build: Any, tokenizer: Any, seed: int, **files: dict[str, Any]) -> Path:
    """Save the model that `build()` makes, its tokenizer, and each of `files` as <name>.json."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, settings in files.items():
        (folder / f"{name}.json").write_text(json.dumps(settings))
    return folder
