"""Models on the hub, whose answers are simulated: what is fetched, what is not, and its errors in plain words."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file

from pruning.models import ModelError, load
from tests.checkpoints.lora import write_adapter

HUB_ID = "maker/tiny-vl"


def http(kind: type[Exception], status: int = 404) -> Exception:
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=status))


class Hub:
    """A hub whose one repository is a folder; `error` is raised instead of every answer."""

    def __init__(self, folder: Path, cache: Path, error: Exception | None = None) -> None:
        self.folder, self.cache, self.error, self.asked = folder, cache, error, list[str]()

    def sizes(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in sorted(self.folder.iterdir())}

    def answer(self, question: str) -> None:
        self.asked.append(question)
        if self.error:
            raise self.error

    def hf_hub_download(self, repo_id: str, filename: str) -> str:
        self.answer(filename)
        if filename not in self.sizes():
            raise http(errors.RemoteEntryNotFoundError)
        self.cache.mkdir(exist_ok=True)
        return shutil.copy(self.folder / filename, self.cache / filename)

    def snapshot_download(self, repo_id: str, *, allow_patterns: list[str], ignore_patterns: list[str], tqdm_class):
        self.answer("snapshot")
        bars = [tqdm_class(unit="B", total=0, name=f"snapshot{end}") for end in ("", ".transfer")] if tqdm_class else []
        for name, size in self.sizes().items():
            wanted = [any(fnmatch(name, p) for p in patterns) for patterns in (allow_patterns, ignore_patterns)]
            if wanted == [True, False] and not (self.cache / name).exists():
                shutil.copy(self.folder / name, self.cache / name)
                for bar in bars:
                    bar.update(size)
        return str(self.cache)

    def model_info(self, repo_id: str, files_metadata: bool) -> SimpleNamespace:
        self.answer("info")
        files = [SimpleNamespace(rfilename=name, size=size) for name, size in self.sizes().items()]
        return SimpleNamespace(siblings=files)

    def get_safetensors_metadata(self, repo_id: str) -> SimpleNamespace:
        self.answer("headers")
        tensors = load_file(self.folder / "model.safetensors")
        infos = {name: SimpleNamespace(dtype="F32", shape=list(tensor.shape)) for name, tensor in tensors.items()}
        return SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=infos)})

    def try_to_load_from_cache(self, repo_id: str, filename: str) -> str | None:
        return str(self.cache / filename) if (self.cache / filename).is_file() else None


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch) -> Hub:
    made = Hub(Path(shutil.copytree(tiny_folder, tmp_path / "repository")), tmp_path / "cache")
    for name in ("hf_hub_download", "snapshot_download", "model_info", "get_safetensors_metadata"):
        monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", made.try_to_load_from_cache)
    return made


def test_a_hub_id_is_downloaded_without_code(hub: Hub, tiny_vlm, noise) -> None:
    (hub.folder / "modeling_theirs.py").write_text("raise SystemExit('their code ran')")
    (hub.folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (hub.folder / "consolidated.safetensors").write_bytes(b"the same once more")
    said: list[tuple[str, float | None]] = []
    vlm = load(HUB_ID, progress=lambda stage, share: said.append((stage, share)))
    assert (vlm.model_id, vlm.title) == (HUB_ID, "tiny-vl")
    assert "scorer" in vlm.signals
    expected = tiny_vlm.encode([noise(90, 60)]).tokens.features
    torch.testing.assert_close(vlm.encode([noise(90, 60)]).tokens.features, expected)
    fetched = [file for file in hub.sizes() if (hub.cache / file).exists() and file != "config.json"]
    assert not {"modeling_theirs.py", "pytorch_model.bin", "consolidated.safetensors"} & set(fetched)
    shares = [share for stage, share in said if stage == f"downloading {HUB_ID}"]
    sizes = [hub.sizes()[name] for name in fetched]  # the configuration was there already
    assert shares == pytest.approx([sum(sizes[:i]) / sum(sizes) for i in range(len(sizes) + 1)])


def test_what_a_file_system_left_in_a_repository_does_not_count(hub: Hub) -> None:
    weights = load_file(hub.folder / "model.safetensors")
    torch.save(weights, hub.folder / "pytorch_model.bin")
    (hub.folder / "model.safetensors").rename(hub.folder / "._model.safetensors")  # no safetensors but a Finder's twin
    load(HUB_ID)
    assert (hub.cache / "pytorch_model.bin").exists()
    assert not (hub.cache / "._model.safetensors").exists()


def test_a_model_of_the_hub_that_does_not_fit_is_not_downloaded(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr("pruning.models.checkpoint.memory.free_bytes", lambda device: 0)
    with pytest.raises(ModelError, match=f"{HUB_ID} needs about"):
        load(HUB_ID)
    assert "snapshot" not in hub.asked


def test_a_text_only_model_of_the_hub_is_not_downloaded(hub: Hub) -> None:
    (hub.folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ModelError, match=f"{HUB_ID}: .*text-only"):
        load(HUB_ID)
    assert hub.asked == ["config.json"]


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (http(errors.RepositoryNotFoundError), "the hub has no model maker/tiny-vl", "check the spelling"),
        (http(errors.GatedRepoError, 403), "is gated", "accept its terms on https://huggingface.co/maker/tiny-vl"),
        (http(errors.DisabledRepoError, 403), "was disabled", "another model"),
        (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached", "name its folder"),
        (errors.OfflineModeIsEnabled("offline"), "the hub cannot be reached", "unset HF_HUB_OFFLINE"),
        (http(errors.HfHubHTTPError, 500), r"cannot be fetched from the hub \(refused\)", "try again"),
        (OSError(28, "No space left on device"), "the disk is full", "HF_HOME"),
        (TimeoutError(), r"\(TimeoutError\)", "Check the network"),
    ],
    ids=["absent", "gated", "disabled", "no-network", "offline", "server", "disk", "timeout"],
)
def test_what_goes_wrong_on_the_hub_is_told_apart(error: Exception, cause: str, remedy: str, hub: Hub) -> None:
    hub.error = error
    with pytest.raises(ModelError, match=cause) as caught:
        load(HUB_ID)
    assert remedy in str(caught.value)
    assert HUB_ID in str(caught.value)


def test_a_repository_that_is_no_checkpoint(hub: Hub) -> None:
    (hub.folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load(HUB_ID)


def test_a_download_that_breaks_off_says_so(hub: Hub, monkeypatch) -> None:
    def break_off(*args: object, **options: object) -> None:
        raise ConnectionResetError("peer closed")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load(HUB_ID)


def test_without_a_connection_the_cache_serves(hub: Hub, monkeypatch) -> None:
    load(HUB_ID)
    for name in ("model_info", "get_safetensors_metadata"):
        monkeypatch.setattr(huggingface_hub, name, refuse(errors.OfflineModeIsEnabled("offline")))
    assert load(HUB_ID).title == "tiny-vl"


def test_with_no_network_at_all_the_real_client_names_the_remedy(tmp_path: Path) -> None:
    code = "import pruning.models as m; m.load('nobody/nothing')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ModelError: nobody/nothing is not in the hub's cache here, and the hub cannot be reached" in done.stderr


# Adapters


def only_adapter(repository: Hub, base: Path) -> None:
    for file in list(repository.folder.iterdir()):
        file.unlink()
    write_adapter(repository.folder, str(base), base)


def test_a_repository_that_is_an_adapter_alone(hub: Hub, tiny_folder: Path, peft: list[str], monkeypatch) -> None:
    only_adapter(hub, tiny_folder)
    vlm = load(HUB_ID)
    assert (vlm.title, vlm.model_id) == ("tiny-vl", HUB_ID)
    assert peft == [str(hub.cache)]
    monkeypatch.setattr("pruning.models.checkpoint.adapters.available", lambda: False)
    hub.asked.clear()
    with pytest.raises(ModelError, match=f"{HUB_ID} is an adapter, not a whole model.*pip install peft"):
        load(HUB_ID)
    assert "snapshot" not in hub.asked


def test_a_repository_with_an_adapter_beside_its_weights(
    hub: Hub, tiny_folder: Path, peft: list[str], monkeypatch
) -> None:
    write_adapter(hub.folder, HUB_ID, tiny_folder)
    load(HUB_ID)
    assert peft == [str(hub.cache)]
    monkeypatch.setattr("pruning.models.checkpoint.adapters.available", lambda: False)
    hub.asked.clear()
    with pytest.raises(ModelError, match=f"{HUB_ID} holds an adapter beside its weights"):
        load(HUB_ID)
    assert "snapshot" not in hub.asked


def refuse(error: Exception) -> Callable[..., None]:
    def answer(*args: object, **options: object) -> None:
        raise error

    return answer
