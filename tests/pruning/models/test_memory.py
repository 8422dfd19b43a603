"""What a model needs, counted against what it really holds; what is free; and the refusal in between."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.evaluation.cost import kv_cache_bytes
from pruning.models import ModelError, load
from pruning.models.checkpoint import memory, prequantized, sources
from pruning.models.checkpoint.footprint import QUANTIZED_BITS, Footprint, Shape, Weights
from pruning.models.checkpoint.memory import estimate, footprint, free_bytes, require
from pruning.models.checkpoint.presets import PRESETS
from tests.checkpoints import tiny_qwen2_vl
from tests.helpers.hub import Hub

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_what_the_loaded_model_holds(tiny_folder: Path, dtype: str) -> None:
    held = sum(p.numel() * p.element_size() for p in load(tiny_folder, dtype=dtype).model.parameters())
    need = estimate(tiny_folder, dtype)
    assert need is not None
    assert need.weights_bytes == held
    assert need.total == need.weights_bytes + need.working_bytes


def test_only_linear_layers_shrink_when_quantised(tiny_folder: Path) -> None:
    linear = other = 0
    for name, module in load(tiny_folder).model.named_modules():
        sizes = {parameter: p.numel() for parameter, p in module.named_parameters(recurse=False)}
        quantised = isinstance(module, torch.nn.Linear) and name != "lm_head"
        linear += sizes.pop("weight", 0) if quantised else 0
        other += sum(sizes.values()) if name != "lm_head" else 0  # tied to the embeddings
    found = footprint(tiny_folder, [CPU])
    assert found is not None
    assert (found.weights.matrices, found.weights.others) == (linear, other)
    for bits, size in (("8bit", 1.0), ("4bit", 0.5)):
        need = estimate(tiny_folder, "bfloat16", bits)
        assert need is not None
        assert need.weights_bytes == pytest.approx(linear * size + other * 2, rel=0.05)


def test_integers_and_8_bit_floats_stay_as_they_are_stored(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.zeros(4, 8, dtype=torch.uint8),
        "a.scale": torch.zeros(4, dtype=torch.int64),
        "b.weight": torch.zeros(3, 5, dtype=torch.float8_e4m3fn),
        "c.weight": torch.zeros(2, 3),
        "norm.weight": torch.zeros(7),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = memory._weights(sources.headers(tmp_path / "model.safetensors"))
    assert found == Weights(matrices=6, others=7, fixed_bytes=32 + 32 + 15)
    assert found.bytes(torch.float16) == 79 + 26


def fp8(folder: Path, block: int = 16) -> Path:
    """The language model's linear layers stored in 8-bit floats with a scale per block, as released checkpoints are."""
    stored = {}
    for name, value in load_file(folder / "model.safetensors").items():
        stored[name] = value
        if name.endswith("_proj.weight") and "visual" not in name:
            rows, columns = (-(-side // block) for side in value.shape)
            stored[name] = value.to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = torch.ones(rows, columns)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    how = {"quant_method": "fp8", "weight_block_size": [block, block], "modules_to_not_convert": ["lm_head", "visual"]}
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "quantization_config": how}))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_held_dequantised_are_estimated_so(
    dtype: str, tiny_folder: Path, tmp_path: Path, noise
) -> None:
    plain = estimate(tiny_folder, dtype)
    folder = fp8(Path(shutil.copytree(tiny_folder, tmp_path / "fp8")))
    vlm, need = load(folder, dtype=dtype), estimate(folder, dtype)
    assert need == plain
    assert need.weights_bytes == sum(p.numel() * p.element_size() for p in vlm.model.parameters())
    assert vlm.answer(vlm.encode([noise(90, 60)]), "what color", max_new_tokens=2).ids


def test_beside_a_gpu_the_cpu_holds_8_bit_floats_dequantised_all_the_same(
    tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = fp8(Path(shutil.copytree(tiny_folder, tmp_path / "fp8")))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *device: (9, 0))
    config, gpu = sources.config(folder), torch.device("cuda", 0)
    assert prequantized.dequantized(folder, config, [CPU])
    assert prequantized.held_plain(config).quantization_config["dequantize"]
    assert not prequantized.dequantized(folder, config, [gpu])
    on_gpu, on_cpu = footprint(folder, [gpu]), footprint(folder, [CPU])
    assert on_gpu is not None
    assert on_cpu is not None
    assert on_gpu.weights.fixed_bytes > 0
    assert on_cpu.weights.fixed_bytes == 0
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *device: (8, 0))  # without 8-bit kernels
    assert prequantized.dequantized(folder, config, [gpu])


def test_pickled_weights_are_counted_by_their_size(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((tiny_folder / name).read_text())
    tensors = load_file(tiny_folder / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    need, exact = estimate(tmp_path, "bfloat16"), estimate(tiny_folder, "bfloat16")
    assert need is not None
    assert exact is not None
    assert need.weights_bytes == pytest.approx(exact.weights_bytes, rel=0.2)  # the file's own frame is counted too


def test_working_memory_by_hand() -> None:
    shape = Shape(layers=2, hidden=10, mlp=30, kv_width=4, vision_hidden=6, vision_mlp=7)
    n = 100
    cache = 2 * 2 * 4 * n
    language, tower = n * (6 * 10 + 3 * 30), 4 * n * (6 * 6 + 3 * 7)
    assert tower > language
    assert shape.working_bytes(torch.bfloat16, n) == 2 * (cache + tower)
    narrow = Shape(2, 10, 30, 4, 1, 1)
    assert narrow.working_bytes(torch.float32, n) == 4 * (cache + language)


def test_shape_comes_from_any_configuration(tiny_folder: Path, tmp_path: Path) -> None:
    first = load(tiny_folder).config
    assert Shape.of(first) == Shape(2, 48, 64, 24, 32, 48)
    second = load(tiny_qwen2_vl(tmp_path / "qwen2-vl")).config
    assert Shape.of(second) == Shape(2, 48, 64, 24, 32, 64)  # its tower's width is called embed_dim
    shape, n = Shape.of(first), 77
    assert 2 * shape.layers * shape.kv_width * n * 4 == kv_cache_bytes(first, n, torch.float32)


def test_an_odd_configuration_leaves_the_weights(tiny_folder: Path, monkeypatch) -> None:
    odd = SimpleNamespace(get_text_config=lambda decoder=False: None)
    monkeypatch.setattr("pruning.models.checkpoint.sources.config", lambda source: odd)
    found = footprint(tiny_folder, [CPU])
    assert found is not None
    assert found.need(torch.float32).working_bytes == 0
    assert found.need(torch.float32).weights_bytes > 0


def test_a_hub_model_is_estimated_from_its_headers(hub: Hub, tiny_folder: Path) -> None:
    shutil.copytree(tiny_folder, hub.repository("maker/tiny"))
    assert estimate("maker/tiny", "bfloat16") == estimate(tiny_folder, "bfloat16")
    assert hub.sent == {}


def test_a_hub_model_of_pickles_is_estimated_from_its_listing(hub: Hub, tiny_folder: Path) -> None:
    folder = hub.repository("maker/tiny")
    folder.mkdir(parents=True)
    shutil.copy(tiny_folder / "config.json", folder)
    for name, size in (("pytorch_model-00001-of-2", 200_000), ("pytorch_model-00002-of-2", 200_000), ("args", 10**7)):
        (folder / f"{name}.bin").write_bytes(bytes(size))
    need = estimate("maker/tiny", "float32")
    assert need is not None
    assert need.weights_bytes == 400_000  # stored in float32, as the configuration says


def test_without_a_connection_nothing_is_known(hub: Hub) -> None:
    hub.close()
    assert estimate("maker/tiny") is None


def test_estimate_refuses_what_load_refuses(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        estimate(tmp_path)
    with pytest.raises(ValueError, match="unknown quantization '3bit'"):
        estimate(tiny_folder, quantization="3bit")
    with pytest.raises(ValueError, match="unknown dtype"):
        estimate(tiny_folder, "float8")


# What is free


@pytest.fixture
def groups(tmp_path: Path, monkeypatch):
    """groups(lines of /proc/self/cgroup, files) with no other limit on memory than these files set."""

    def make(own: str, **files: str) -> int:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name.replace("_dot_", ".")).write_text(text)
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**12))
        return free_bytes(CPU)

    return make


def v2(limit: str, used: int, cached: int, at: str = "") -> dict[str, str]:
    parts = {"max": limit, "current": str(used), "stat": f"anon 5\ninactive_file {cached}\n"}
    return {f"{at}memory_dot_{name}": text for name, text in parts.items()}


def test_a_control_group_s_limit_counts(groups) -> None:
    assert groups("0::/\n", **v2("1000", 400, 50)) == 650
    assert groups("0::/\n", **v2("max", 400, 50)) == 10**12
    assert groups("0::/\n", **v2("300", 400, 50)) == 0


def test_the_tightest_of_nested_groups_counts(groups) -> None:
    files = {**v2("max", 0, 0), **v2("900", 100, 0, "outer__"), **v2("2000", 100, 0, "outer__inner__")}
    assert groups("0::/outer/inner\n", **files) == 800


def test_version_1_groups_count_too(groups) -> None:
    files = {
        "memory__job__memory_dot_limit_in_bytes": "5000",
        "memory__job__memory_dot_usage_in_bytes": "3000",
        "memory__job__memory_dot_stat": "inactive_file 1\ntotal_inactive_file 1000\n",
    }
    assert groups("5:cpu:/\n4:cpuset,memory:/job\n", **files) == 3000


def test_groups_that_cannot_be_seen_limit_nothing(groups) -> None:
    assert groups("4:memory:/elsewhere\n0::/\n") == 10**12


def test_free_memory_here_is_a_sensible_number() -> None:
    assert 10**8 < free_bytes(CPU) < 10**14


def test_a_gpu_s_free_memory_includes_what_pytorch_has_set_aside(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free_bytes(torch.device("cuda", 0)) == 5_400


# The refusal

SMALL = Footprint(Weights(matrices=900, others=100), Shape(1, 1, 1, 1, 1, 1))


def free(monkeypatch, **sizes: int) -> None:
    monkeypatch.setattr("pruning.models.checkpoint.memory.free_bytes", lambda device: sizes[device.type])


def test_what_just_fits_is_let_through(monkeypatch) -> None:
    total = SMALL.need(torch.float32).total
    free(monkeypatch, cpu=total)
    require("tiny", SMALL, [CPU], torch.float32)
    free(monkeypatch, cpu=total - 1)
    with pytest.raises(ModelError, match="tiny needs about"):
        require("tiny", SMALL, [CPU], torch.float32)


def test_devices_share_a_model(monkeypatch) -> None:
    total = SMALL.need(torch.float32).total
    free(monkeypatch, cpu=total - 10, cuda=10)
    require("tiny", SMALL, [torch.device("cuda", 0), CPU], torch.float32)
    with pytest.raises(ModelError, match="are free on cuda:0 and cpu"):
        require("tiny", SMALL, [torch.device("cuda", 0), torch.device("cpu")], torch.float64)


def preset(name: str) -> Footprint:
    (found,) = (p for p in PRESETS if p.model_id.endswith(name))
    return found.footprint


def test_remedies_are_those_that_would_do(monkeypatch) -> None:
    model, gpu = preset("Qwen2.5-VL-7B-Instruct"), [torch.device("cuda", 0)]
    free(monkeypatch, cuda=8 * 10**9, cpu=10**9)
    with pytest.raises(ModelError) as caught:
        require("Qwen/Qwen2.5-VL-7B-Instruct", model, gpu, torch.bfloat16)
    said = str(caught.value)
    assert said.startswith("Qwen/Qwen2.5-VL-7B-Instruct needs about 17.0 GB in bfloat16 (16.6 GB for the weights, ")
    assert "a prompt of 2,048 tokens), but 8.0 GB are free on cuda:0: use quantization 4bit or " in said
    assert "8bit" not in said  # would not fit either
    assert "device cpu" not in said
    assert "a smaller model such as Qwen/Qwen2.5-VL-3B-Instruct" in said
    free(monkeypatch, cuda=8 * 10**9, cpu=32 * 10**9)
    with pytest.raises(ModelError, match=r"use quantization 4bit or device cpu \(slow\) or a smaller"):
        require("7B", model, gpu, torch.bfloat16)
    free(monkeypatch, cuda=18 * 10**9, cpu=0)
    with pytest.raises(ModelError, match=r"in float32 .*use dtype bfloat16 or quantization 8bit or quantization 4bit"):
        require("7B", model, gpu, torch.float32)
    free(monkeypatch, cuda=3 * 10**9, cpu=0)
    with pytest.raises(ModelError, match=r"in bfloat16 with 4bit weights .*use a smaller model such as"):
        require("7B", model, gpu, torch.bfloat16, "4bit")
    free(monkeypatch, cpu=0)
    with pytest.raises(ModelError, match="0 MB are free on cpu: use a device with more memory"):
        require("7B", model, [CPU], torch.bfloat16)


def test_known_sizes() -> None:
    """Published: a 7B Qwen2.5-VL takes some 16.6 GB in bfloat16 and 6 GB in NF4."""
    model = preset("Qwen2.5-VL-7B-Instruct")
    assert model.weights.bytes(torch.bfloat16) == pytest.approx(16.6e9, rel=0.01)
    assert 5e9 < model.weights.bytes(torch.bfloat16, "4bit") < 7e9
    assert QUANTIZED_BITS["4bit"] == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=0.01)


@pytest.mark.parametrize("name", ["Glm4v", "Glm4vMoe", "Glm46V", "Qwen2_5_VL", "Qwen3VL"])
def test_a_tower_s_mlp_is_as_wide_as_its_blocks_have_it(name: str) -> None:
    import transformers

    config = getattr(transformers, f"{name}Config")()
    with torch.device("meta"):
        tower = transformers.AutoModel.from_config(config.vision_config)
    widths = {
        layer.out_features
        for path, layer in tower.named_modules()
        if isinstance(layer, torch.nn.Linear) and path.startswith("blocks.0.mlp.")
    }
    assert Shape.of(config).vision_mlp in widths - {Shape.of(config).vision_hidden}
