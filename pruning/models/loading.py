"""Open a checkpoint: a local folder or a hub id, the shipped model by default. Nothing of it is ever executed."""

import re
from pathlib import Path
from typing import Any

import torch

from pruning.models.families import family_of
from pruning.models.processing import Processing, build
from pruning.models.scorer import load_scorer
from pruning.models.values import ModelError
from pruning.models.vlm import VLM

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "models" / "scenes-vlm"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
SMALL = 50_000_000  # parameters
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def load(
    model_id: str | Path = SHIPPED, *, device: str = "auto", dtype: str = "auto", max_visual_tokens: int = 4096
) -> VLM:
    """Load a vision-language model with its tokenizer, image processor and, where it has one, importance scorer.

    Args:
        model_id: a folder, or a hub id such as "Qwen/Qwen2.5-VL-3B-Instruct" (downloaded unless it is cached;
            `HF_HUB_OFFLINE=1` forbids the network). Code in a repository is never run.
        device: "auto" takes the first of cuda, mps, cpu that is there; or "cpu", "mps", "cuda", "cuda:1".
        dtype: "auto" is bfloat16 on cuda, else float32; or "float32", "bfloat16", "float16".
        max_visual_tokens: larger images are scaled down to this many tokens, below the model's own limit (16,384 for
            Qwen2.5-VL, of which the similarity matrix alone would take 1 GB).

    Raises:
        ModelError: a ValueError that names cause and remedy: unknown id, no weights, missing shards or tensors,
            text-only or unsupported model, no chat template.
        ValueError: an unknown device or dtype, or a device that this machine lacks.
    """
    target = choose_device(device)
    source = _source(model_id)
    config = _config(source)
    try:
        family_type = family_of(config)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    processing = _processing(source, config)
    model = _model(source, choose_dtype(dtype, target)).to(target).eval().requires_grad_(False)
    folder = Path(source)
    scorer = load_scorer(folder, config.get_text_config().hidden_size) if folder.is_dir() else None
    return VLM(
        family_type(model, processing),
        scorer.to(target) if scorer else None,
        model_id=str(model_id),
        title=folder.name,
        max_visual_tokens=max_visual_tokens,
    )


def hide_progress() -> None:
    """Draw no progress bars while loading: for output that a program reads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def choose_device(device: str = "auto") -> torch.device:
    """ "auto" -> cuda, mps or cpu, whichever is there first. ValueError for an unknown or absent device."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}: use auto, cpu, mps, cuda or cuda:N") from error
    there = {"cpu": 1, "mps": int(mps), "cuda": torch.cuda.device_count() if cuda else 0}.get(chosen.type, 0)
    if (chosen.index or 0) >= there:
        raise ValueError(f"device {device!r} is not available on this machine: use auto, or cpu")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" -> bfloat16 on cuda, else float32. ValueError for anything but auto and the three float types."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def limit_threads(vlm: VLM) -> None:
    """Give PyTorch one CPU thread where the model is small and runs on the CPU; for programs to call, process-wide.

    A layer of a few million weights is done before a second thread has woken up. Where another process uses the cores,
    threads that wait for each other make it a hundred times slower (measured on two busy cores: 62 s against 0.3 s).
    """
    if vlm.device.type == "cpu" and sum(p.numel() for p in vlm.model.parameters()) < SMALL:
        torch.set_num_threads(1)


def _source(model_id: str | Path) -> str:
    """A folder that holds a checkpoint, or something that can be a hub id."""
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is no checkpoint: it has no config.json. Name the folder that has one.")
        if not any(file for pattern in WEIGHTS for file in folder.glob(pattern) if file.name != "scorer.safetensors"):
            raise ModelError(
                f"{folder} has a config.json but no weights (model.safetensors or its shards): download them into it"
            )
        return str(folder)
    if folder.exists():
        raise ModelError(f"{folder} is a file: name the checkpoint's folder instead")
    if isinstance(model_id, Path) or not HUB_ID.fullmatch(model_id):
        raise ModelError(
            f"{model_id} is neither a folder here nor a hub id such as Qwen/Qwen2.5-VL-3B-Instruct: check the spelling"
        )
    return model_id


def _unreadable(source: str, what: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if Path(source).is_dir():
        return ModelError(f"{source}: {what} cannot be read ({reason}). Copy or download the checkpoint again.")
    return ModelError(
        f"{source}: {what} cannot be fetched ({reason}). Check the name and the network connection, or download the "
        "checkpoint and name its folder."
    )


def _config(source: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(source, "its configuration", error) from error


def _processing(source: str, config: Any) -> Processing:
    try:
        processing = build(source, config)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise _unreadable(source, "its tokenizer or image processor", error) from error
    if processing.template is None:
        raise ModelError(f"{source} has no chat template: use the instruction-tuned checkpoint of this model")
    return processing


def _model(source: str, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unreadable(source, "its weights", error) from error
    faulty = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if faulty:
        raise ModelError(
            f"{source}: {len(faulty)} tensors are missing or of the wrong shape, {faulty[0]} among them. The download "
            "is incomplete or the configuration belongs to another model: fetch the checkpoint again."
        )
    return model
