"""Checkpoints that come quantised: whether this machine can run them, and whether it holds them dequantised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from pruning.models.checkpoint.damage import sides
from pruning.models.checkpoint.sources import FLOATS, Header
from pruning.models.values import ModelError

GPU_ONLY = ("eetq", "fbgemm_fp8", "fp_quant", "higgs", "nvfp4", "spqr", "vptq")  # by the model library's own checks
UNPACKED = ("fp8", "mxfp4", "mxfp8")  # whose kernels are a GPU's: on the CPU they run once they are dequantised
OTHERWISE = "choose the same model in bfloat16 or float32"


def settings(config: Any) -> dict[str, Any]:
    """How a configuration says that its weights are quantised, in the library's words; empty where they are not."""
    found = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(decoder=True), "quantization_config", None
    )
    if found is None:
        return {}
    return dict(found if isinstance(found, dict) else found.to_dict())


def dequantized(source: Path | str, config: Any, devices: Sequence[torch.device], quantization: str = "none") -> bool:
    """Whether weights that come quantised will be held as plain floating-point numbers on these devices.

    Raises:
        ModelError: a quantisation that the model library does not know, that wants a GPU, or a package.
    """
    own = settings(config)
    if not own:
        return False
    method = _method(own)
    if quantization != "none" and not method.startswith("bitsandbytes"):
        raise ModelError(f"{source} comes quantised already ({method}): leave quantization at none")
    gpu = any(device.type == "cuda" for device in devices)
    if method in GPU_ONLY and not gpu:
        raise ModelError(
            f"{source} is quantised with {method}, which runs on a GPU only, not on {devices[0]}: take device cuda, or "
            f"{OTHERWISE}"
        )
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    if method not in AUTO_QUANTIZER_MAPPING:
        raise ModelError(
            f"{source} is quantised with {method}, which the model library does not know: update it (`pip install "
            f"--upgrade transformers`), or {OTHERWISE}"
        )
    if method in UNPACKED and not gpu:
        return True
    try:
        quantizer = AutoHfQuantizer.from_config(deepcopy(own), pre_quantized=True)
        quantizer.validate_environment(device_map={"": devices[0]}, weights_only=True)
    except Exception as error:  # each method has checks of its own
        reason = " ".join(str(error).split())
        remedy = "install it" if isinstance(error, ImportError) else "take another device"
        raise ModelError(
            f"{source} is quantised with {method}, which cannot run here ({reason}): {remedy}, or {OTHERWISE}"
        ) from error
    return bool(getattr(quantizer.quantization_config, "dequantize", False))


def held_plain(config: Any) -> Any:
    """The configuration of a model that is to be held dequantised, whatever else this machine has."""
    changed = deepcopy(config)
    holder = changed if getattr(changed, "quantization_config", None) else changed.get_text_config(decoder=True)
    if _method(settings(config)) in UNPACKED:
        holder.quantization_config = {**settings(config), "dequantize": True}
    return changed


def check_packed(source: Path | str, headers: Iterable[Header]) -> None:
    """Raise ModelError for packed weights, of which the configuration does not say how to read them."""
    packed = next(((n, d, s) for n, d, s in headers if "weight" in n.rpartition(".")[2] and d not in FLOATS), None)
    if packed:
        name, dtype, shape = packed
        raise ModelError(
            f"{source}: its weights are quantised ({name} is {dtype} of {sides(shape)}), but its config.json has no "
            "quantization_config that says how to read them: take the config.json that was saved with them, or "
            f"{OTHERWISE}"
        )


def _method(own: dict[str, Any]) -> str:
    for bits in ("4bit", "8bit"):
        if own.get(f"load_in_{bits}"):
            return f"bitsandbytes_{bits}"
    return str(own.get("quant_method"))
