"""Whether a model fits, asked before any of its weights is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from pruning.models.checkpoint import hub, prequantized, presets, sources
from pruning.models.checkpoint.devices import QUANTIZATIONS, check_choice, choose_device, choose_dtype
from pruning.models.checkpoint.footprint import PROMPT_TOKENS, Footprint, Need, Shape, Weights, readable
from pruning.models.values import ModelError

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NOT_QUANTIZED = ("embed", "lm_head", "norm", "position")  # parts of names; other matrices belong to linear layers
MUCH_MORE = 2  # times as many parameters in the configuration as in the weights: no few tensors are missing
BYTES = {"I64": 8, "I32": 4, "I16": 2}  # the others take one: BOOL, U8, I8 and the 8-bit floats


def estimate(
    model_id: str | Path,
    dtype: str = "auto",
    quantization: str = "none",
    *,
    device: str = "auto",
    prompt_tokens: int = PROMPT_TOKENS,
) -> Need | None:
    """What a checkpoint will need, from the headers of its weights; None where only the network could tell.

    Raises:
        ModelError: as `load` does for what is no checkpoint. ValueError: an unknown device, dtype or quantization.
    """
    check_choice("quantization", quantization, QUANTIZATIONS)
    target = choose_device(device)
    source, adapter = sources.resolved(sources.checked(model_id))
    found = footprint(source, [target], adapter)
    return found.need(choose_dtype(dtype, target), quantization, prompt_tokens) if found else None


def footprint(source: Path | str, devices: Sequence[torch.device], adapter: Path | None = None) -> Footprint | None:
    """Weights and shape of what `sources.resolved` found; None for a hub id that cannot be asked for them.

    devices: those that will hold it: on some, weights that come quantised are held dequantised.
    """
    if isinstance(source, Path):
        headers = [header for file in sources.weight_files(source) for header in sources.headers(file)]
        pickled = sum(file.stat().st_size for file in source.glob(sources.PICKLES))
    else:
        headers = hub.tensors(source)
        pickled = 0 if headers else sum(s for f, s in hub.sizes(source).items() if Path(f).match(sources.PICKLES))
    if not headers and not pickled:
        return None
    config = sources.config(source)
    plain = _described(config)
    if prequantized.dequantized(source, config, devices):
        headers = plain or headers
    elif not prequantized.settings(config):
        prequantized.check_packed(source, headers)
        _check_described(source, plain, headers)
    headers += sources.adapter_headers(adapter) if adapter else []
    try:
        shape = Shape.of(config)
    except (AttributeError, RuntimeError, TypeError):  # layers that differ, or names of their own: weights alone count
        shape = Shape(0, 0, 0, 0, 0, 0)
    return Footprint(_weights(headers) if headers else _pickled(pickled, config), shape)


def free_bytes(device: torch.device) -> int:
    """Bytes to be had on a device now: on the CPU what the system, and the process's control groups, leave free."""
    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare  # what PyTorch has set aside it can give out again
    import psutil

    free = min(int(psutil.virtual_memory().available), _cgroup_free())
    if device.type == "mps":
        return min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free


def require(
    title: str, found: Footprint, devices: Sequence[torch.device], dtype: torch.dtype, quantization: str = "none"
) -> None:
    """Raise ModelError, naming need, what is free and the remedies that would do, unless the model fits.

    devices: those that share it.
    """
    need, free = found.need(dtype, quantization), sum(free_bytes(device) for device in devices)
    if need.total <= free:
        return
    half = torch.bfloat16
    lighter = half.itemsize < dtype.itemsize and found.need(half, quantization).total <= free
    remedies = ["dtype bfloat16"] if lighter else []
    if devices[0].type == "cuda":
        narrower = QUANTIZATIONS[QUANTIZATIONS.index(quantization) + 1 :]
        remedies += [f"quantization {bits}" for bits in narrower if found.need(dtype, bits).total <= free]
        if len(devices) == 1 and found.need(dtype).total <= free_bytes(torch.device("cpu")):
            remedies.append("device cpu (slow)")
    smaller = presets.best_that_fits(lambda preset: preset.footprint.need(dtype, quantization).total <= free)
    remedies += [f"a smaller model such as {smaller.model_id}"] if smaller else []
    raise ModelError(
        f"{title} needs about {readable(need.total)} in {str(dtype).removeprefix('torch.')}"
        f"{'' if quantization == 'none' else f' with {quantization} weights'} ({readable(need.weights_bytes)} for the "
        f"weights, the rest for a prompt of {PROMPT_TOKENS:,} tokens), but {readable(free)} are free on "
        f"{' and '.join(map(str, devices))}: use {' or '.join([*remedies, 'a device with more memory'])}"
    )


def _described(config: Any) -> list[sources.Header]:
    """The parameters of a configuration's model, without quantisation; empty where the library cannot build it."""
    from transformers import AutoModelForImageTextToText

    try:
        with torch.device("meta"):  # takes no memory, and less than a tenth of a second
            model = AutoModelForImageTextToText.from_config(config)
    except Exception:  # what is wrong with it is said where it is opened
        return []
    return [(name, "F32", tuple(parameter.shape)) for name, parameter in model.named_parameters()]


def _check_described(source: Path | str, plain: Sequence[sources.Header], headers: Sequence[sources.Header]) -> None:
    """Raise ModelError where weights are far fewer than the configuration has room for, which would all be taken."""
    wanted, held = (sum(math.prod(shape) for _, _, shape in tensors) for tensors in (plain, headers))
    if held and wanted > MUCH_MORE * held:
        raise ModelError(
            f"{source}: by config.json the model has {wanted:,} parameters, but the weights hold {held:,}: they "
            "are of different models, or files of weights are missing. Take both from the same release."
        )


def _weights(headers: Iterable[sources.Header]) -> Weights:
    matrices = others = fixed = 0
    for name, dtype, shape in headers:
        count = math.prod(shape)
        if dtype not in sources.FLOATS:
            fixed += count * BYTES.get(dtype, 1)
        elif len(shape) == 2 and name.endswith("weight") and not any(part in name for part in NOT_QUANTIZED):
            matrices += count
        else:
            others += count
    return Weights(matrices, others, fixed)


def _pickled(size: int, config: Any) -> Weights:
    """From the bytes of pickled weights, which are not opened: stored in the configuration's dtype, float32 without."""
    text = config.get_text_config()
    count = size // (getattr(config, "dtype", None) or torch.float32).itemsize
    embeddings = text.vocab_size * text.hidden_size * (1 if getattr(config, "tie_word_embeddings", True) else 2)
    return Weights(max(0, count - embeddings), min(count, embeddings))


def _cgroup_free() -> int:
    """Bytes below the tightest memory limit of the process's control groups, version 2 or 1; no limit: sys.maxsize.

    Pages that only cache files do not count as used: they go when memory is asked for.
    """
    free = sys.maxsize
    if not OWN_CGROUP.is_file():
        return free
    for line in OWN_CGROUP.read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, limit, used, cache = CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top, (limit, used, cache) = CGROUPS / "memory", names
        else:
            continue
        own = top / path.strip("/")
        for group in (own, *own.parents[: len(own.parts) - len(top.parts)]):
            free = min(free, _left(group, limit, used, cache))
    return free


def _left(group: Path, limit: str, used: str, cache: str) -> int:
    try:
        most, now = (group / limit).read_text().strip(), int((group / used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # the group lies outside of what this container sees, or counts no memory
        return sys.maxsize
    return sys.maxsize if most == "max" else max(0, int(most) - now + int(stat.get(cache, 0)))
