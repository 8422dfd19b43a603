"""From a folder of weights to a model on its device: quantised and spread out as asked, or nothing of it held."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import torch

from pruning.models.checkpoint import adapters
from pruning.models.checkpoint.damage import GENERATION, reading, sides, unreadable
from pruning.models.checkpoint.progress import Progress, weights_bar
from pruning.models.scorer import INSIDE
from pruning.models.values import ModelError

LOG = logging.getLogger(__name__)
NOWHERE = "no-adapter"  # where the library is told to look for one: it would let its report hide that of the weights


def check_packages(device: torch.device, dtype: torch.dtype, quantization: str, attention: str) -> None:
    """Raise ModelError where quantisation or attention kernel want a package, a device or a dtype that is not there."""
    from transformers.utils import is_bitsandbytes_available, is_flash_attn_2_available

    if quantization != "none" and device.type != "cuda":
        raise ModelError(f"quantization {quantization} runs on cuda only, not on {device}: leave it at none")
    if quantization != "none" and not is_bitsandbytes_available():
        raise ModelError(
            f"quantization {quantization} needs the package bitsandbytes: `pip install bitsandbytes`, or leave it at "
            "none"
        )
    if attention != "flash_attention_2":
        return
    # Without its package the library would fetch a compiled kernel from the hub: code, so it never comes to that.
    if device.type != "cuda" or not is_flash_attn_2_available():
        raise ModelError(
            "attention flash_attention_2 needs cuda and the package flash-attn: `pip install flash-attn "
            "--no-build-isolation`, or leave it at auto (SDPA, about as fast)"
        )
    if dtype == torch.float32:
        raise ModelError("attention flash_attention_2 runs in bfloat16 or float16 only: take one of them as dtype")


def open_model(
    folder: Path,
    title: str,
    dtype: torch.dtype,
    quantization: str,
    attention: str,
    device_map: str | dict[str, torch.device],
    progress: Progress | None,
    config: Any = None,
    adapter: Path | None = None,
) -> Any:
    """The model in a checkpoint's folder, for inference only: no dropout, no gradients.

    device_map: one of accelerate's policies, or {"": device}. config: in the place of the folder's own. adapter: folder
    of the adapter to apply; one beside the weights is left alone unless it is named here.

    Raises:
        ModelError: damaged, missing or misfitting tensors, an attention kernel that the family lacks, a package that
            the checkpoint's own quantisation needs, or memory ran out, of which then nothing is held.
    """
    from transformers import AutoModelForImageTextToText, GenerationConfig

    options: dict[str, Any] = {} if attention == "auto" else {"attn_implementation": attention}
    if quantization != "none":
        options["quantization_config"] = _bits(quantization, dtype)
    if config is not None:
        options["config"] = config
    if (folder / GENERATION[0]).is_file():  # where it cannot be read, the library would make do without it
        with reading(folder, "its generation settings", GENERATION):
            GenerationConfig.from_pretrained(folder)
    try:
        with weights_bar(progress, f"loading {title}"):
            model, report = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=dtype,
                device_map=device_map,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, with both sizes
                adapter_kwargs={"subfolder": NOWHERE},
                **options,
            )
        _check_report(folder, report)
        if adapter:
            adapters.apply(model, adapter)
    except ModelError:
        raise
    except Exception as error:  # of the model library, of a quantisation's, of what reads the files
        if not _out_of_memory(error):
            raise _refused(folder, attention, error) from error
        first_line = str(error).strip().partition("\n")[0]
    else:
        return model.eval().requires_grad_(False)
    # Not before the handler is left: the error holds the library's frames, and with them the half-loaded model.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise ModelError(
        f"{title} did not fit while it was loaded ({first_line or 'out of memory'}); nothing of it is held now. Free "
        "memory, or use a smaller model, dtype bfloat16, quantization 4bit or another device."
    )


def _bits(quantization: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _out_of_memory(error: Exception) -> bool:
    """Python, CUDA, MPS and PyTorch's CPU allocator each say it in a way of their own."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "allocate memory" in said)
    )


def _refused(folder: Path, attention: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
    if "Weights only load failed" in reason:
        return ModelError(
            f"{folder}: its pickled weights hold more than tensors, and such files can run code, so they are not "
            "opened: take safetensors of the same model"
        )
    if isinstance(error, ImportError):
        return ModelError(f"{folder}: its weights need a package that is not installed ({reason}). Install it.")
    if isinstance(error, ValueError) and attention != "auto" and "attention" in reason.lower():
        return ModelError(f"{folder}: attention {attention} is not for this model ({reason}). Leave it at auto.")
    return unreadable(folder, "its weights", error)


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    """Raise ModelError for tensors that are missing, misfits or an adapter's; tell of those that nothing takes."""
    if misfits := sorted(report["mismatched_keys"]):
        name, stored, wanted = misfits[0]
        raise ModelError(
            f"{folder}: {len(misfits)} tensors are of another size in the weights than by config.json, {name} for "
            f"one: {sides(stored)} in the weights, {sides(wanted)} by the configuration. Weights and configuration "
            "are of different models, or one of them was changed: take both from the same release."
        )
    missing, spare = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if adapted := [name for name in spare if any(mark in name for mark in adapters.MARKS)]:
        raise ModelError(
            f"{folder}: among its weights are tensors of an adapter that was not merged ({len(adapted)}, {adapted[0]} "
            f"for one), which the model would leave out: {adapters.MERGE}"
        )
    if missing:
        other = f"; {len(spare)} that are there belong to no part of it, {spare[0]} for one" if spare else ""
        raise ModelError(
            f"{folder}: {len(missing)} tensors are missing, {missing[0]} among them{other}. The download is incomplete "
            "or the configuration belongs to another model: fetch the checkpoint again."
        )
    if spare := [name for name in spare if INSIDE not in name]:
        LOG.warning("%s: %d tensors are not used by the model, %s among them", folder, len(spare), spare[0])
