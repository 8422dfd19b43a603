"""Loading: what is refused and with which words, options, progress, and memory that runs out."""

import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.models import SHIPPED, ModelError, limit_threads, load
from pruning.models.devices import choose_device, choose_dtype
from pruning.models.footprint import readable

ATTENTION = "vision_attention@-1"


def copy(folder: Path, target: Path, *leave_out: str) -> Path:
    return Path(shutil.copytree(folder, target / "copy", ignore=shutil.ignore_patterns(*leave_out)))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shard(folder: Path, count: int = 3) -> list[str]:
    """Cut the folder's one file of weights into `count`, with their index; returns their names."""
    weights, files = load_file(folder / "model.safetensors"), []
    names = sorted(weights)
    for i in range(count):
        files.append(f"model-{i + 1:05d}-of-{count:05d}.safetensors")
        save_file({name: weights[name] for name in names[i::count]}, folder / files[-1], {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[i % count] for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return files


# What is loaded


def test_loaded_model_is_ready_and_frozen(any_vlm) -> None:
    assert any_vlm.dtype == torch.float32
    assert not any_vlm.model.training
    assert not any(p.requires_grad for p in any_vlm.model.parameters())
    any_vlm.warmup()


def test_the_shipped_model_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = load("scenes")
    assert (vlm.model_id, vlm.title) == (str(SHIPPED), "scenes-vlm")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    with pytest.raises(ModelError, match=r"config\.json"):  # a folder of that name is meant then
        load("scenes")


def test_import_is_light() -> None:
    code = "import sys, pruning.models; sys.exit('transformers' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_device_and_dtype_choice() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cuda", "mps", "cpu")
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(ValueError, match=r"'tpu9'.*auto, cpu"):
        choose_device("tpu9")
    with pytest.raises(ValueError, match="'cuda:99' is not available"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match=r"'int8'.*float32"):
        choose_dtype("int8", torch.device("cpu"))


def test_threads_are_limited_for_small_models_only(tiny_vlm, monkeypatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    limit_threads(tiny_vlm)
    assert given == [1]
    monkeypatch.setattr("pruning.models.loading.SMALL", 1000)
    limit_threads(tiny_vlm)
    assert given == [1]


def test_bfloat16_answers_too(tiny_folder: Path, noise) -> None:
    vlm = load(tiny_folder, dtype="bfloat16")
    encoded = vlm.encode([noise(90, 60)], frozenset({"scorer", ATTENTION}))
    assert encoded.tokens.features.dtype == torch.float32
    assert vlm.answer(encoded, "what", torch.tensor([0, 2]), max_new_tokens=2).ids


def test_attention_kernel_and_device_map_change_nothing_but_rounding(tiny_folder: Path, tiny_vlm, noise) -> None:
    plain = tiny_vlm.encode([noise(90, 60)])
    expected = tiny_vlm.answer(plain, "what color", max_new_tokens=4).ids
    eager = load(tiny_folder, attention="eager")
    spread = load(tiny_folder, device_map="auto")
    assert (eager.config._attn_implementation, spread.config._attn_implementation) == ("eager", "sdpa")
    for vlm in (eager, spread):
        encoded = vlm.encode([noise(90, 60)])
        torch.testing.assert_close(encoded.tokens.features, plain.tokens.features, rtol=1e-4, atol=1e-4)
        assert vlm.answer(encoded, "what color", max_new_tokens=4).ids == expected


def test_shards_load_like_one_file(tiny_folder: Path, tiny_vlm, tmp_path: Path, noise) -> None:
    folder = copy(tiny_folder, tmp_path)
    shard(folder)
    vlm = load(folder)
    assert "scorer" in vlm.signals
    expected = tiny_vlm.encode([noise(90, 60)]).tokens.features
    torch.testing.assert_close(vlm.encode([noise(90, 60)]).tokens.features, expected, rtol=0, atol=0)


def test_progress_tells_stage_and_share(tiny_folder: Path) -> None:
    said: list[tuple[str, float | None]] = []
    load(tiny_folder, progress=lambda stage, share: said.append((stage, share)))
    assert {stage for stage, _ in said} == {f"loading {tiny_folder.name}"}
    shares = [share for _, share in said if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 10
    from transformers.utils import logging

    assert logging.set_tqdm_hook(None) is None  # the library's own bars are as they were


# What is refused


@pytest.mark.parametrize("model_id", ["no such model", "./absent/folder", Path("a/b")])
def test_unknown_ids_are_named(model_id: str | Path) -> None:
    with pytest.raises(ModelError, match="neither a folder") as caught:
        load(model_id)
    assert str(model_id) in str(caught.value)


def test_folders_that_are_no_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(ModelError, match="is a file"):
        load(tiny_folder / "config.json")
    with pytest.raises(ModelError, match="no weights"):
        load(copy(tiny_folder, tmp_path, "model.safetensors"))


def test_missing_shards_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    files = shard(folder)
    (folder / files[1]).unlink()
    with pytest.raises(ModelError, match=f"1 of 3 files of weights are missing: {files[1]}"):
        load(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="the index of its weights, cannot be read"):
        load(folder)


def test_damaged_checkpoints(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors, a file of its weights, cannot be read"):
        load(folder)
    weights.write_bytes(whole)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = 3
    settings["text_config"].pop("layer_types", None)
    edit(folder / "config.json", text_config=settings["text_config"])
    with pytest.raises(ModelError, match="tensors are missing"):
        load(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="its configuration cannot be read"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "qwen2"}, "text-only"),
        ({"model_type": "blip"}, "mm_encoder_outputs"),
        ({"model_type": "their_own", "auto_map": {"AutoConfig": "theirs.Config"}}, "code from its own repository"),
    ],
    ids=["text-only", "closed", "own-code"],
)
def test_models_of_other_kinds(settings: dict[str, Any], reason: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(ModelError, match=reason) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantization": "2bit"}, "unknown quantization '2bit': use none, 8bit, 4bit"),
        ({"attention": "flash"}, "unknown attention 'flash': use auto, sdpa"),
        ({"device_map": "both"}, "unknown device map 'both': use nothing or one of auto"),
        ({"quantization": "4bit", "device": "cpu"}, "runs on cuda only, not on cpu"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "needs cuda and the package flash-attn"),
    ],
)
def test_options_that_cannot_be(options: dict[str, str], reason: str, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        load(tiny_folder, **options)


@pytest.mark.parametrize(
    ("dtype", "quantization", "attention", "there", "reason"),
    [
        ("bfloat16", "8bit", "auto", False, "pip install bitsandbytes"),
        ("bfloat16", "none", "flash_attention_2", False, "pip install flash-attn"),
        ("float32", "none", "flash_attention_2", True, "bfloat16 or float16 only"),
        ("float16", "4bit", "flash_attention_2", True, None),
    ],
)
def test_packages_on_a_gpu(
    dtype: str, quantization: str, attention: str, there: bool, reason: str | None, monkeypatch
) -> None:
    from pruning.models.opening import check_packages

    for name in ("is_bitsandbytes_available", "is_flash_attn_2_available"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda: there)
    arguments = (torch.device("cuda"), getattr(torch, dtype), quantization, attention)
    if reason is None:
        check_packages(*arguments)
    else:
        with pytest.raises(ModelError, match=reason):
            check_packages(*arguments)


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantization_reaches_the_library(bits: str, tiny_folder: Path, monkeypatch) -> None:
    from pruning.models import opening

    given: dict[str, Any] = {}

    def spy(*args: object, **options: Any) -> None:
        given.update(options)
        raise ImportError("bitsandbytes")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", spy)
    device = torch.device("cuda")
    with pytest.raises(ModelError, match=r"not installed \(bitsandbytes\)"):
        opening.open_model(tiny_folder, "tiny", torch.bfloat16, bits, "auto", {"": device}, None)
    assert given["device_map"] == {"": device}
    assert given["trust_remote_code"] is False
    settings = given["quantization_config"]
    assert (settings.load_in_8bit, settings.load_in_4bit) == (bits == "8bit", bits == "4bit")
    assert bits == "8bit" or settings.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_kernel_that_the_family_lacks_is_named(tiny_folder: Path, monkeypatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise ValueError("TinyVL does not support an attention implementation of this kind yet.")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", refuse)
    with pytest.raises(ModelError, match="attention sdpa is not for this model"):
        load(tiny_folder, attention="sdpa")


# Memory


def test_too_large_a_model_is_refused_before_its_weights_are_read(tiny_folder: Path, monkeypatch) -> None:
    def read(*args: object, **options: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", read)
    monkeypatch.setattr("pruning.models.memory.free_bytes", lambda device: 1_500_000)
    with pytest.raises(ModelError, match=r"needs about \d+ MB in float32 .* but 2 MB are free on cpu: use "):
        load(tiny_folder)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (MemoryError, ""),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
    ids=["cuda", "python", "cpu", "mps"],
)
def test_running_out_of_memory_leaves_nothing_behind(
    kind: type[Exception], words: str, tiny_folder: Path, monkeypatch
) -> None:
    held: list[weakref.ref[torch.nn.Module]] = []

    def fill_up(*args: object, **options: object) -> None:
        model = torch.nn.Linear(10, 10)
        model.itself = [model]  # only the garbage collector can free it
        held.append(weakref.ref(model))
        raise kind(words)

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", fill_up)
    with pytest.raises(ModelError, match=r"did not fit while it was loaded .*smaller model"):
        load(tiny_folder)
    assert held[0]() is None


@pytest.mark.parametrize(("size", "words"), [(16_600_000_000, "16.6 GB"), (999_999_999, "1000 MB"), (0, "0 MB")])
def test_sizes_read_well(size: int, words: str) -> None:
    assert readable(size) == words


# The command line


def test_the_command_line_hands_its_options_on(tiny_folder: Path, tmp_path: Path, noise, monkeypatch, capsys) -> None:
    from pruning.__main__ import main

    given: dict[str, Any] = {}

    def spy(model_id: str, **options: Any) -> None:
        given.update(options)
        raise ModelError("seen")

    monkeypatch.setattr("pruning.__main__.load", spy)
    noise(60, 60).save(tmp_path / "picture.png")
    options = ["--quantization", "4bit", "--attention", "eager", "--device-map", "auto", "--scorer", "some/where"]
    assert main(["answer", str(tmp_path / "picture.png"), "what", "--model", str(tiny_folder), *options]) == 2
    assert "seen" in capsys.readouterr().err
    expected = {"quantization": "4bit", "attention": "eager", "device_map": "auto", "scorer": "some/where"}
    assert {name: given[name] for name in expected} == expected
