"""A LoRA adapter for the tiny Qwen2.5-VL, written as peft writes it, without peft."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

PROJECTION = "model.language_model.layers.0.self_attn.q_proj"
STORED = "model.layers.0.self_attn.q_proj.weight"  # as the file of weights calls it
RANK, ALPHA = 4, 8


def write_adapter(folder: Path, base: str, weights: Path) -> dict[str, torch.Tensor]:
    """A LoRA of one projection, as peft saves it. Returns the change of that projection's weight."""
    rows, columns = load_file(weights / "model.safetensors")[STORED].shape
    torch.manual_seed(0)
    down, up = torch.randn(RANK, columns), torch.randn(rows, RANK)
    names = {f"base_model.model.{PROJECTION}.lora_A.weight": down, f"base_model.model.{PROJECTION}.lora_B.weight": up}
    save_file(names, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"]}
    settings |= {"base_model_name_or_path": base, "exclude_modules": r".*layers\.[1-9].*"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return {STORED: up @ down * ALPHA / RANK}
