"""Checkpoints as people have them: they load, or one line says why not and what helps."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning.models import VLM, ModelError, load
from pruning.models.checkpoint.hub import is_id
from tests.helpers.hub import Hub

WEIGHTS = "model.safetensors"
HUB_ID = "maker/tiny-vl"


class Code:
    """Runs what it likes when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "a folder with spaces, ümlauts & signs"))


def same(model: VLM, other: VLM, noise) -> bool:
    features = [each.encode([noise(90, 60)]).tokens.features for each in (model, other)]
    return torch.equal(*features)


def pickled(folder: Path, shards: int = 1) -> dict[str, torch.Tensor]:
    """Put pickles in the place of safetensors."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    if shards == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return weights
    index = {}
    for i, name in enumerate(names):
        part = dict(list(weights.items())[i::shards])
        torch.save(part, folder / name)
        index |= dict.fromkeys(part, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return weights


# They load


def test_folders_with_spaces_and_signs(folder: Path, tiny_vlm, noise) -> None:
    assert same(load(folder), tiny_vlm, noise)
    assert same(load(str(folder)), tiny_vlm, noise)


@pytest.mark.parametrize("what", ["folder", "files"])
def test_symbolic_links(what: str, folder: Path, tmp_path: Path, tiny_vlm, noise) -> None:
    link = tmp_path / "link"
    if what == "folder":
        link.symlink_to(folder)
    else:
        link.mkdir()
        for file in folder.iterdir():
            (link / file.name).symlink_to(file)
    assert same(load(link), tiny_vlm, noise)


@pytest.mark.parametrize("shards", [1, 2])
def test_pickled_weights(shards: int, folder: Path, tiny_vlm, noise) -> None:
    pickled(folder, shards)
    assert same(load(folder), tiny_vlm, noise)


def test_weights_in_8_bits_are_held_dequantised_on_the_cpu(folder: Path, tiny_vlm, noise) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    assert same(load(folder, device="cpu"), tiny_vlm, noise)


def test_a_revision_of_a_model_of_the_hub(hub: Hub, tiny_folder: Path, tiny_vlm, noise) -> None:
    shutil.copytree(tiny_folder, hub.repository(HUB_ID))
    model = load(f"{HUB_ID}@v1.0")
    assert same(model, tiny_vlm, noise)
    asked = [path for _, path, _ in hub.of(HUB_ID)]
    assert f"/api/models/{HUB_ID}/revision/v1.0" in asked
    assert not any("/main/" in path or path.endswith(HUB_ID) for path in asked)
    before = len(hub.asked)
    load(f"{HUB_ID}@v1.0")
    assert not [one for one in hub.asked[before:] if one[0] == "GET" and WEIGHTS in one[1] and not one[2]]  # all of it


def test_names_of_revisions() -> None:
    assert all(is_id(f"{HUB_ID}@{name}") for name in ("main", "v1.0", "refs/pr/7", "0a1b2c3d"))
    assert not any(is_id(f"{HUB_ID}{bad}") for bad in ("@", "@a b", "@../x", "@a@b"))


# They do not


def test_pickles_that_hold_more_than_tensors_are_not_opened(folder: Path) -> None:
    weights = pickled(folder)
    torch.save({**weights, "more": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"hold more than tensors, .* so they are not opened: take safetensors"):
        load(folder)


def test_gguf_is_for_other_programs(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-Q4_K_M.gguf")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "model-Q4_K_M.gguf", alone)
    for source in (folder, alone, alone / "model-Q4_K_M.gguf"):
        with pytest.raises(ModelError, match=r"GGUF file, .* not opened here: take the checkpoint"):
            load(source)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("preprocessor_config.json", "tokenizer_config.json"), "it holds a processor alone, .* that has the model's"),
        (
            ("params.json", "consolidated.safetensors"),
            "it has no config.json, .* in its maker's own format: take the one that was converted",
        ),
        ((), "it has no config.json. Name the folder"),
    ],
    ids=["processor", "maker", "nothing"],
)
def test_folders_that_are_something_else(names: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=f"is no checkpoint: {reason}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (("preprocessor_config.json",), "has no image processor, .* copy it from the original"),
        (("tokenizer.json", "tokenizer_config.json"), "has no tokenizer, .* copy it from the original"),
    ],
    ids=["images", "tokenizer"],
)
def test_weights_without_their_processor(gone: tuple[str, ...], reason: str, folder: Path) -> None:
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(ModelError, match=reason):
        load(folder)


def test_an_address_is_no_id() -> None:
    with pytest.raises(ModelError, match="is an address: name the model by its id, OWNER/NAME"):
        load("https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct")
