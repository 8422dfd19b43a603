"""A released checkpoint's settings with narrow layers, few of them and a small vocabulary; all else stays as released.

Sizes of heads stay too, and with them everything that rotary positions are told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.checkpoints.saving import word_tokenizer

Settings = dict[str, Any]
HEADS = {"num_attention_heads": 2, "num_heads": 2}
NARROW = {"intermediate_size": 64, "block_ff_dim": 96, "moe_intermediate_size": 32, "hidden_size_per_layer_input": 16}
FEW = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
VISUAL = 64  # entries of a vocabulary of its own that a tower looks pictures up in
PADDED = 8  # entries of the vocabulary that no token has, as in every released one


@dataclass(frozen=True)
class Released:
    """What the files of a released checkpoint say.

    model: its id. source: where they were read, a repository, path and commit where these are known.
    config: `config.json`. files: the others, by name. layers: how many are left of the language model. blocks: of the
    tower. marks: special tokens. ids: name of a setting, wherever it stands -> its token or tokens. names: attributes
    of the tokenizer. heads: of the language model, where its settings leave width and heads to the library: their size.
    tokens: what a picture of 150 × 90 pixels becomes. unk: as `word_tokenizer` takes it.
    """

    model: str
    source: str
    config: Settings
    files: dict[str, Settings]
    marks: tuple[str, ...]
    ids: dict[str, str | list[str]]
    template: str
    tokens: int
    eos: str
    pad: str
    bos: str | None = None
    unk: str | None = "<unk>"
    names: dict[str, str] = field(default_factory=dict)
    layers: int = 2
    blocks: int = 2
    heads: int = 0


def save(released: Released, folder: Path, *, seed: int = 0) -> Path:
    """Save a random checkpoint with the files of a released one, as they are written there."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokenizer = word_tokenizer(
        (*dict.fromkeys((released.pad, released.eos, *released.marks)),),
        released.template,
        eos=released.eos,
        pad=released.pad,
        bos=released.bos,
        unk=released.unk,
        **released.names,
    )
    number = tokenizer.convert_tokens_to_ids
    ids = {name: number(token) for name, token in released.ids.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config = _numbered(_reduced(released, len(tokenizer) + PADDED), ids)
    (folder / "config.json").write_text(json.dumps(config))
    made = AutoConfig.from_pretrained(folder)
    for part in (made, *(getattr(made, name) for name in made.sub_configs)):
        if part is not None:
            part.initializer_range = 0.1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(made, dtype=torch.float32)
        for (
            parameter
        ) in model.parameters():  # weights that are zero, or nearly, in a new model and not in a trained one
            if float(parameter.detach().abs().max()) < 1e-6:
                parameter.data.normal_(std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    for name, settings in released.files.items():
        (folder / f"{name}.json").write_text(json.dumps(_numbered(settings, ids)))
    return folder


def _reduced(released: Released, vocabulary: int) -> Settings:
    config = dict(released.config)
    nested = "text_config" in config
    text = _text(config["text_config"] if nested else config, released, vocabulary)
    wide = text["hidden_size"]
    parts: Settings = {"text_config": text} if nested else text
    if "vocab_size" in config:
        parts = {**parts, "vocab_size": vocabulary}
    if nested and "hidden_size" in config:
        parts = {**parts, "hidden_size": wide}
    parts["vision_config"] = _tower(config["vision_config"], released.blocks, wide)
    if "alignment_intermediate_size" in config:
        parts["alignment_intermediate_size"] = 64
    if "audio_config" in config:
        parts["audio_config"] = {
            **config["audio_config"],
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "output_proj_dims": wide,
        }
    if isinstance(layers := config.get("vision_feature_layer"), list):
        depth = _depth(config["vision_config"])
        parts["vision_feature_layer"] = [-max(1, round(-layer * released.blocks / depth)) for layer in layers]
    if "insert_layer_id" in config:
        parts["insert_layer_id"] = round(config["insert_layer_id"] * released.blocks / _depth(config["vision_config"]))
    return {**config, **parts}


def _text(real: Settings, released: Released, vocabulary: int) -> Settings:
    heads = real.get("num_attention_heads", 32)
    size = real.get("head_dim") or released.heads or real["hidden_size"] // heads
    text = {
        **real,
        **_where_there(real, {**HEADS, **NARROW, **FEW}),
        "num_hidden_layers": released.layers,
        "vocab_size": vocabulary,
    }
    text |= {
        "num_attention_heads": 2,
        "num_key_value_heads": 1 if real.get("num_key_value_heads", heads) < heads else 2,
        "intermediate_size": 64,
    }
    text["hidden_size"] = 48 if real.get("head_dim") else 2 * size
    if "layer_types" in real:
        text["layer_types"] = real["layer_types"][: released.layers]
    if "num_kv_shared_layers" in real:
        text["num_kv_shared_layers"] = real["num_kv_shared_layers"] * released.layers // real["num_hidden_layers"]
    if "vocab_size_per_layer_input" in real:
        text["vocab_size_per_layer_input"] = vocabulary
    return text


def _tower(real: Settings, blocks: int, wide: int) -> Settings:
    depth = _depth(real)
    heads = real.get("num_attention_heads") or real["num_heads"]
    width = "embed_dim" if "embed_dim" in real else "hidden_size"  # where both are there, the latter is the model's
    size = real[width] // heads
    tower = {**real, **_where_there(real, {**HEADS, **NARROW, "num_key_value_heads": 2})}
    tower |= _where_there(real, {"out_hidden_size": wide, "vocab_size": VISUAL})
    tower |= {
        "hidden_size": wide,
        width: 2 * size,
        "intermediate_size": 64,
        "depth" if "depth" in real else "num_hidden_layers": blocks,
    }
    for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
        if name in real:
            tower[name] = [(i + 1) * blocks // depth - 1 for i in real[name]]
    return tower


def _depth(tower: Settings) -> int:
    return int(tower.get("depth") or tower.get("num_hidden_layers", 12))


def _where_there(real: Settings, values: Mapping[str, int]) -> Settings:
    return {name: value for name, value in values.items() if real.get(name)}


def _numbered(settings: Any, ids: Mapping[str, Any]) -> Any:
    """With the numbers that the tokens have in the small vocabulary."""
    if not isinstance(settings, dict):
        return settings
    return {
        name: ids[name] if name in ids and value is not None else _numbered(value, ids)
        for name, value in settings.items()
    }
