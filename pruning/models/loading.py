"""Open a checkpoint: a local folder or a hub id, the shipped model by default. Nothing of it is ever executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pruning.models.checkpoint import adapters, hub, memory, prequantized, sources
from pruning.models.checkpoint.damage import CONFIG, IMAGES, reading
from pruning.models.checkpoint.devices import (
    ATTENTIONS,
    DEVICE_MAPS,
    QUANTIZATIONS,
    check_choice,
    choose_device,
    choose_dtype,
)
from pruning.models.checkpoint.opening import check_packages, open_model
from pruning.models.checkpoint.processing import Processing, build
from pruning.models.checkpoint.progress import Progress
from pruning.models.checkpoint.refusals import AbsentError
from pruning.models.checkpoint.sources import SHIPPED
from pruning.models.families import family_of
from pruning.models.families.base import Family
from pruning.models.language import template, vocabulary
from pruning.models.proof.adapter import prove
from pruning.models.scorer import beside, load_scorer
from pruning.models.trained import beside as pruners_beside
from pruning.models.trained import load_pruner
from pruning.models.values import ModelError
from pruning.models.vlm import VLM
from pruning.models.world import beside as beside_world

SMALL = 50_000_000  # parameters
THINKER = "_thinker"  # the part of a model that also speaks which is opened; its files say what the whole is
TRIAL = (168, 112)  # pixels of the picture that shows whether the image processor's settings can be worked with
DEFAULT_VISUAL_TOKENS = 4096


def load(
    model_id: str | Path = SHIPPED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    attention: str = "auto",
    device_map: str = "",
    scorer: str = "",
    pruner: str = "",
    max_visual_tokens: int = DEFAULT_VISUAL_TOKENS,
    progress: Progress | None = None,
) -> VLM:
    """Load a vision-language model with its tokenizer, image processor and, where it has one, importance scorer.

    Args:
        model_id: a folder, "scenes" for the model that ships with the project, or a hub id such as
            "Qwen/Qwen2.5-VL-3B-Instruct" (downloaded unless it is cached; `HF_HUB_OFFLINE=1` forbids the network). Code
            in a repository is never run. An adapter beside the weights is applied by peft; so is one alone, on the
            model that it names, with that model's tokenizer.
        device: "auto" takes the first of cuda, mps, cpu that is there; or "cpu", "mps", "cuda", "cuda:1".
        dtype: "auto" is bfloat16 on cuda, else float32; or "float32", "bfloat16", "float16".
        quantization: "8bit" or "4bit" (NF4) through bitsandbytes, on cuda only; or "none".
        attention: kernel of the language model and the tower: "auto" leaves it to the model library (SDPA); or "sdpa",
            "eager", "flash_attention_2". Signals are captured beside it, whichever it is.
        device_map: "" holds the whole model on `device`; "auto", "balanced", "balanced_low_0" and "sequential" spread
            it over all GPUs and the CPU, as accelerate does.
        scorer: folder or hub id of importance scorer weights; "" takes the one that comes with the checkpoint.
        pruner: folder of modules that were trained to prune this model; "" takes those that come with the checkpoint.
        max_visual_tokens: larger images are scaled down to this many tokens, below the model's own limit (16,384 for
            Qwen2.5-VL, of which the similarity matrix alone would take 1 GB).
        progress: called with the stage in words and the share done, from any thread.

    Raises:
        ModelError: a ValueError that names cause and remedy: unknown id, no network, no weights, missing shards or
            tensors, a file that cannot be read, text-only or unsupported model, no chat template or one that fails, a
            tokenizer of another model, not enough memory (before and while loading; nothing of the model stays held), a
            package that is not installed, an adapter that cannot be applied, a quantisation that cannot run here, a
            scorer or trained pruner of another model.
        ValueError: an unknown option, or a device that this machine lacks.
    """
    target = choose_device(device)
    chosen = choose_dtype(dtype, target)
    check_choice("quantization", quantization, QUANTIZATIONS)
    check_choice("attention", attention, ATTENTIONS)
    check_choice("device map", device_map, DEVICE_MAPS)
    check_packages(target, chosen, quantization, attention)
    given = sources.checked(model_id)
    title = sources.known_name(given).rpartition("/")[2]
    source, adapter = sources.resolved(given)
    try:
        config = sources.config(source)
    except AbsentError as error:
        adapter = adapters.fetched(str(source), error)
        source = sources.base_model(adapter)
        config = sources.config(source)
    family_type, width = _understood(source, config)
    devices = _devices(target, device_map)
    plain = prequantized.dequantized(source, config, devices, quantization)
    folder = _fitting(source, devices, chosen, quantization, adapter, progress)
    adapter = adapter or (folder if adapters.beside(folder) else None)
    processing = _processing(folder, config)
    world = beside_world(folder)
    importance = load_scorer(scorer, width) if scorer else beside(folder, width)
    held = prequantized.held_plain(config) if plain else config if config.model_type.endswith(THINKER) else None
    model = open_model(
        folder, title, chosen, quantization, attention, device_map or {"": target}, progress, held, adapter
    )
    vlm = VLM(
        family_type(model, processing),
        importance.to(model.device) if importance else None,
        model_id=str(sources.named(model_id)),
        title=title,
        max_visual_tokens=max_visual_tokens,
        world=world,
        pruners=load_pruner(pruner, model) if pruner else pruners_beside(folder, model),
        weights={"scorer": scorer, "pruner": pruner},
    )
    try:
        vocabulary.check(vlm.family)
        if family_type.proves or config.model_type not in family_type.model_types:
            prove(vlm)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    if config.model_type in family_type.model_types:
        with reading(folder, "its image processor", IMAGES):
            vlm.family.layout(vlm.family.preprocess([Image.new("RGB", TRIAL, "grey")], DEFAULT_VISUAL_TOKENS))
    return vlm


def hide_progress() -> None:
    """Draw no progress bars while loading: for output that a program reads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def limit_threads(vlm: VLM) -> None:
    """Give PyTorch one CPU thread where the model is small and runs on the CPU; for programs to call, process-wide.

    A layer of a few million weights is done before a second thread has woken up. Where another process uses the cores,
    threads that wait for each other make it a hundred times slower (measured on two busy cores: 62 s against 0.3 s).
    """
    if vlm.device.type == "cpu" and sum(p.numel() for p in vlm.model.parameters()) < SMALL:
        torch.set_num_threads(1)


def _understood(source: Path | str, config: Any) -> tuple[type[Family], int]:
    """The adapter of the model's family, and the language model's width."""
    try:
        with reading(source, "its configuration", CONFIG):
            return family_of(config), int(config.get_text_config().hidden_size)
    except ModelError as error:
        raise error if str(source) in str(error) else ModelError(f"{source}: {error}") from error


def _fitting(
    source: Path | str,
    devices: list[torch.device],
    dtype: torch.dtype,
    quantization: str,
    adapter: Path | None,
    progress: Progress | None,
) -> Path:
    """The checkpoint's folder, downloaded where it is on the hub, once it is known to fit on the devices."""
    found = memory.footprint(source, devices, adapter)
    if found:
        memory.require(str(source), found, devices, dtype, quantization)
    if isinstance(source, Path):
        return source
    adapters.check_listed(source)
    folder = hub.download(source, progress)
    sources.checked(folder)
    found = memory.footprint(folder, devices, adapter)
    if found:
        memory.require(source, found, devices, dtype, quantization)
    return folder


def _devices(target: torch.device, device_map: str) -> list[torch.device]:
    """Those that will hold the model: a device map fills all GPUs first, then the CPU."""
    if not device_map:
        return [target]
    return [*(torch.device("cuda", i) for i in range(torch.cuda.device_count())), torch.device("cpu")]


def _installing(need: str) -> str:
    """How to install what a processor needs. torchvision is made for one PyTorch each: the present one stays."""
    if "torchvision" not in need.lower():
        return "Install what is missing"
    return f"Install it for the PyTorch that is here: pip install torch=={torch.__version__.split('+')[0]} torchvision"


def _processing(folder: Path, config: Any) -> Processing:
    try:
        processing = build(str(folder), config)
    except ImportError as error:
        need = " ".join(str(error).split()).split(". ")[0]
        raise ModelError(f"{folder}: {need}. {_installing(need)}, or choose a model of another family.") from error
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{folder}: {error}. Choose a model of another family.") from error
    if processing.template is None:
        raise ModelError(
            f"{folder} has no chat template, so how it wants to be asked is not known: use the instruction-tuned "
            "checkpoint of this model, where there is one"
        )
    try:
        template.check(processing.tokenizer, processing.template, processing.placeholder)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return processing
