"""Models on a hub over loopback, asked by the real client: what is fetched and what not; its errors in plain words."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from pruning.models import ModelError, load
from pruning.models.checkpoint import hub as client
from pruning.models.checkpoint import reach, transfer
from pruning.models.checkpoint.presets import PRESETS
from tests.checkpoints.lora import write_adapter
from tests.checkpoints.support import BUILDERS
from tests.helpers.hub import Hub

HUB_ID = "maker/tiny-vl"
WEIGHTS = "model.safetensors"
CODE = f"import pruning.models as m; print(m.load({HUB_ID!r}).title)"


@pytest.fixture
def hub(hub: Hub, tiny_folder: Path) -> Hub:
    """With a whole checkpoint."""
    shutil.copytree(tiny_folder, hub.repository(HUB_ID))
    return hub


def fetched(home: Path) -> dict[str, Path]:
    """What lies in the cache under names of the repository."""
    return {file.name: file for file in home.glob("hub/models--maker--tiny-vl/snapshots/*/*")}


def parts(home: Path) -> list[Path]:
    return list(home.glob("hub/models--maker--tiny-vl/blobs/*.part"))


def size(hub: Hub, name: str = WEIGHTS) -> int:
    return (hub.repository(HUB_ID) / name).stat().st_size


# What is fetched


def test_a_hub_id_is_downloaded_without_code(hub: Hub, home: Path, tiny_vlm, noise) -> None:
    folder = hub.repository(HUB_ID)
    (folder / "modeling_theirs.py").write_text("raise SystemExit('their code ran')")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same once more")
    said: list[tuple[str, float | None]] = []
    vlm = load(HUB_ID, progress=lambda stage, share: said.append((stage, share)))
    assert (vlm.model_id, vlm.title) == (HUB_ID, "tiny-vl")
    assert "scorer" in vlm.signals
    expected = tiny_vlm.encode([noise(90, 60)]).tokens.features
    torch.testing.assert_close(vlm.encode([noise(90, 60)]).tokens.features, expected)
    assert not {"modeling_theirs.py", "pytorch_model.bin", "consolidated.safetensors"} & set(fetched(home))
    shares = [share for stage, share in said if stage == f"downloading {HUB_ID}"]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(1.0))
    assert len(shares) > 5
    assert hub.sent[WEIGHTS] == size(hub)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({preset.family for preset in PRESETS}))
def test_the_family_of_every_preset_comes_whole(family: str, hub: Hub, home: Path) -> None:
    made = BUILDERS[family](hub.root / "maker" / family)
    vlm = load(f"maker/{family}")
    assert vlm.config.model_type == family
    assert hub.sent[WEIGHTS] == (made / WEIGHTS).stat().st_size


def sharded(hub: Hub) -> list[str]:
    """The repository's weights in files of their own, with an index."""
    from safetensors.torch import save_file

    folder = hub.repository(HUB_ID)
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    index: dict[str, str] = {}
    for i, name in enumerate(names):
        part = dict(list(weights.items())[i::3])
        save_file(part, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return names


def test_shards_come_once_each(hub: Hub, home: Path, tiny_vlm, noise) -> None:
    names = sharded(hub)
    vlm = load(HUB_ID)
    expected = tiny_vlm.encode([noise(90, 60)]).tokens.features
    torch.testing.assert_close(vlm.encode([noise(90, 60)]).tokens.features, expected)
    assert {name: hub.sent[name] for name in names} == {name: size(hub, name) for name in names}


def test_what_a_file_system_left_in_a_repository_does_not_count(hub: Hub, home: Path) -> None:
    folder = hub.repository(HUB_ID)
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).rename(folder / f"._{WEIGHTS}")  # no safetensors but a Finder's twin
    load(HUB_ID)
    assert "pytorch_model.bin" in fetched(home)
    assert f"._{WEIGHTS}" not in fetched(home)


def test_a_model_of_the_hub_that_does_not_fit_is_not_downloaded(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr("pruning.models.checkpoint.memory.free_bytes", lambda device: 0)
    with pytest.raises(ModelError, match=f"{HUB_ID} needs about"):
        load(HUB_ID)
    assert hub.sent == {}


def test_a_text_only_model_of_the_hub_is_not_downloaded(hub: Hub, home: Path) -> None:
    (hub.repository(HUB_ID) / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ModelError, match=f"{HUB_ID}: .*text-only"):
        load(HUB_ID)
    assert set(fetched(home)) == {"config.json"}


# Breaks


@pytest.mark.parametrize("ranges", [True, False], ids=["goes on", "begins anew"])
def test_a_download_that_breaks_off_goes_on(ranges: bool, hub: Hub, home: Path) -> None:
    hub.breaks, hub.ranges = [300_000, 0, 65_536], ranges
    said: list[tuple[str, float | None]] = []
    assert load(HUB_ID, progress=lambda stage, share: said.append((stage, share))).title == "tiny-vl"
    assert any("the hub stopped sending, try 1 of 5" in stage for stage, _ in said)
    assert fetched(home)[WEIGHTS].read_bytes() == (hub.repository(HUB_ID) / WEIGHTS).read_bytes()
    if ranges:
        assert hub.sent[WEIGHTS] < size(hub) + 70_000  # nothing much twice: what lay in buffers
        assert len({span for _, _, span in hub.of(WEIGHTS) if span and not span.startswith("bytes=0-")}) > 1
    assert parts(home) == []


def test_a_hub_that_stops_for_good_says_so_and_what_came_is_kept(hub: Hub, home: Path) -> None:
    hub.breaks = [300_000, *[0] * transfer.TRIES]
    with pytest.raises(ModelError, match=r"download broke off.*What has come is kept: choose the model again"):
        load(HUB_ID)
    (part,) = parts(home)
    kept = part.stat().st_size
    assert kept > 200_000
    shares: list[float] = []
    load(HUB_ID, progress=lambda stage, share: shares.append(share) if "downloading" in stage else None)
    assert shares[0] > 0.3  # and it says how much is there
    assert hub.of(WEIGHTS)[-1][2] in ("", f"bytes={kept}-")
    assert f"bytes={kept}-" in [span for _, _, span in hub.of(WEIGHTS)]
    assert fetched(home)[WEIGHTS].read_bytes() == (hub.repository(HUB_ID) / WEIGHTS).read_bytes()


def test_stop_keeps_what_came(hub: Hub, home: Path) -> None:
    class EnoughError(ValueError):
        pass

    def stop(stage: str, share: float | None) -> None:
        if share and share > 0.3 and "downloading" in stage:
            raise EnoughError

    with pytest.raises(EnoughError):
        load(HUB_ID, progress=stop)
    sent = hub.sent[WEIGHTS]
    (part,) = parts(home)
    assert part.stat().st_size > 0.25 * size(hub)
    load(HUB_ID)
    assert hub.sent[WEIGHTS] - sent < 0.75 * size(hub)


def test_shards_that_came_are_not_fetched_again(hub: Hub, home: Path) -> None:
    names = sharded(hub)
    hub.breaks = [10**9, 1000, *[0] * transfer.TRIES]
    with pytest.raises(ModelError, match="broke off"):
        load(HUB_ID)
    load(HUB_ID)
    assert hub.sent[names[0]] == size(hub, names[0])


def test_a_hub_that_stops_sending_without_a_word(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    hub.pause = 1.0
    start = time.monotonic()
    threading.Timer(1.2, lambda: setattr(hub, "pause", 0.0)).start()
    assert load(HUB_ID).title == "tiny-vl"
    assert time.monotonic() - start < 20


def test_a_slow_hub_tells_how_far_it_is(hub: Hub) -> None:
    hub.pause = 0.005
    told: list[float] = []
    load(HUB_ID, progress=lambda stage, share: told.append(share) if "downloading" in stage else None)
    assert len(set(told)) > 20


def test_what_arrives_damaged_is_thrown_away(hub: Hub, home: Path) -> None:
    hub.flipped = {WEIGHTS}
    with pytest.raises(ModelError, match=rf"{WEIGHTS} arrived damaged \(its SHA-256 is .*thrown away\. Try again"):
        load(HUB_ID)
    assert parts(home) == []
    assert WEIGHTS not in fetched(home)
    hub.flipped = set()
    assert load(HUB_ID).title == "tiny-vl"


def test_a_part_that_was_damaged_here_does_not_stay(hub: Hub, home: Path) -> None:
    hub.breaks = [300_000, *[0] * transfer.TRIES]
    with pytest.raises(ModelError, match="broke off"):
        load(HUB_ID)
    (part,) = parts(home)
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(ModelError, match="arrived damaged"):
        load(HUB_ID)
    assert load(HUB_ID).title == "tiny-vl"


def test_a_hub_in_trouble_is_asked_again(hub: Hub) -> None:
    hub.status = {f"/{WEIGHTS}": 503}
    threading.Timer(0.3, hub.status.clear).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "PAUSE", 0.3)
        assert load(HUB_ID).title == "tiny-vl"


# Refusals


@pytest.mark.parametrize("known", [False, True], ids=["401", "404"])
def test_absent(known: bool, hub: Hub, monkeypatch) -> None:
    if known:
        monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(ModelError, match=r"the hub has no model maker/other, or it is private: .*`hf auth login`"):
        load("maker/other")


def test_gated(hub: Hub, home: Path) -> None:
    hub.gated.add(HUB_ID)
    with pytest.raises(ModelError, match=rf"{HUB_ID} is gated: accept its terms on {hub.url}/{HUB_ID}.*hf auth login"):
        load(HUB_ID)
    home.mkdir(exist_ok=True)
    (home / "token").write_text(hub.token)  # what `hf auth login` writes
    assert load(HUB_ID).title == "tiny-vl"


def test_a_token_that_is_none(hub: Hub, monkeypatch) -> None:
    hub.gated.add(HUB_ID)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelError, match=rf"does not take the token.*{HUB_ID}: run `hf auth login`.*HF_TOKEN"):
        load(HUB_ID)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert load(HUB_ID).title == "tiny-vl"


def test_disabled(hub: Hub) -> None:
    hub.disabled.add(HUB_ID)
    with pytest.raises(ModelError, match=f"{HUB_ID} was disabled on the hub: choose another model"):
        load(HUB_ID)


def test_a_shard_that_is_not_there_is_named(hub: Hub) -> None:
    names = sharded(hub)
    (hub.repository(HUB_ID) / names[1]).unlink()
    with pytest.raises(ModelError, match=names[1]):
        load(HUB_ID)


def test_a_repository_that_is_no_checkpoint(hub: Hub) -> None:
    (hub.repository(HUB_ID) / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load(HUB_ID)


def test_too_little_disk_is_said_before_anything_comes(hub: Hub, home: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, transfer.SPARE + 100_000))
    with pytest.raises(ModelError, match=r"is 1 MB to download, and there is room for 0 MB in .*HF_HOME"):
        load(HUB_ID)
    assert WEIGHTS not in hub.sent


def test_a_disk_that_fills_up_meanwhile(hub: Hub, monkeypatch) -> None:
    def full(*values: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer.Bytes, "add", full)  # where a written piece is counted
    with pytest.raises(ModelError, match=f"the disk is full while {HUB_ID} is downloaded: free space, or set HF_HOME"):
        load(HUB_ID)


def test_trouble_that_lasts(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own tries
    hub.status = {"config.json": 503}
    with pytest.raises(ModelError, match=r"config\.json cannot be fetched from the hub \(.*503.*try again"):
        load(HUB_ID)


# No network


@pytest.fixture
def away(hub: Hub) -> Hub:
    """The hub has gone, after the model came once."""
    load(HUB_ID)
    hub.close()
    reach.forget()
    return hub


def test_without_a_hub_the_cache_serves_at_once(away: Hub) -> None:
    start = time.monotonic()
    assert load(HUB_ID).title == "tiny-vl"
    assert time.monotonic() - start < 5


def test_without_a_hub_what_is_not_here_is_said_at_once(away: Hub, home: Path) -> None:
    said = f"not in the hub's cache here, or not all of it, and the hub cannot be reached ({away.url})"
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load("maker/other")
    assert said in str(caught.value)
    assert "name its folder" in str(caught.value)
    fetched(home)[WEIGHTS].unlink()
    with pytest.raises(ModelError) as caught:
        load(HUB_ID)
    assert said in str(caught.value)
    assert time.monotonic() - start < 5


def test_without_a_hub_shards_that_never_came_are_no_checkpoint(hub: Hub, home: Path) -> None:
    names = sharded(hub)
    hub.breaks = [10**9, 1000, *[0] * transfer.TRIES]
    with pytest.raises(ModelError, match="broke off"):
        load(HUB_ID)
    (hub.repository(HUB_ID) / names[1]).rename(hub.root / "away")
    index = f"{WEIGHTS}.index.json"
    client.fetch(HUB_ID, index)
    hub.close()
    reach.forget()
    with pytest.raises(ModelError, match="not all of it, and the hub cannot be reached"):
        load(HUB_ID)


def test_a_hub_that_hangs_is_given_up_soon(hub: Hub, monkeypatch) -> None:
    hub.hangs = {"/"}
    monkeypatch.setattr(reach, "PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load(HUB_ID)
    assert time.monotonic() - start < 8  # it would hang for 30
    hub.hangs = set()
    reach.forget()
    assert load(HUB_ID).title == "tiny-vl"


def test_one_load_asks_once_whether_the_hub_is_there(hub: Hub) -> None:
    load(HUB_ID)
    assert [path for method, path, _ in hub.asked if (method, path) == ("HEAD", "/api/models")] == ["/api/models"]


def test_a_list_of_files_that_never_comes(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    hub.hangs = {f"/api/models/{HUB_ID}"}
    start = time.monotonic()
    with pytest.raises(ModelError, match="its files cannot be fetched from the hub"):
        load(HUB_ID)
    assert time.monotonic() - start < 10


def test_a_file_that_never_comes_is_told_try_by_try(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(client, "tensors", lambda model_id: [])  # the client waits 10 s for the headers of the weights
    hub.hangs, told = {WEIGHTS}, list[str]()
    with pytest.raises(ModelError, match=r"broke off \(timed out\).*choose the model again"):
        load(HUB_ID, progress=lambda stage, share: told.append(stage))
    tries = range(1, transfer.TRIES + 1)
    assert [stage.rpartition("try ")[2] for stage in told if "try" in stage] == [f"{i} of {tries[-1]}" for i in tries]


@pytest.mark.slow
def test_the_variables_of_the_ecosystem_lead_a_process_of_its_own(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add(HUB_ID)
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "own"), "HF_TOKEN": hub.token, "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "tiny-vl", done.stderr
    assert list((tmp_path / "own").glob(f"hub/models--maker--tiny-vl/snapshots/*/{WEIGHTS}"))
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    asked = len(hub.asked)
    done = subprocess.run([sys.executable, "-c", CODE], env=offline, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "tiny-vl", done.stderr
    assert len(hub.asked) == asked
    offline["HF_HOME"] = str(tmp_path / "empty")
    done = subprocess.run([sys.executable, "-c", CODE], env=offline, capture_output=True, text=True, check=False)
    assert f"ModelError: {HUB_ID} is not in the hub's cache here" in done.stderr
    assert "unset HF_HUB_OFFLINE" in done.stderr


# Adapters


def only_adapter(hub: Hub, base: Path) -> None:
    folder = hub.repository(HUB_ID)
    for file in list(folder.iterdir()):
        file.unlink()
    write_adapter(folder, str(base), base)


def test_a_repository_that_is_an_adapter_alone(
    hub: Hub, home: Path, tiny_folder: Path, peft: list[str], monkeypatch
) -> None:
    only_adapter(hub, tiny_folder)
    vlm = load(HUB_ID)
    assert (vlm.title, vlm.model_id) == ("tiny-vl", HUB_ID)
    assert peft == [str(fetched(home)["adapter_config.json"].parent)]
    monkeypatch.setattr("pruning.models.checkpoint.adapters.available", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "second"))
    hub.sent.clear()
    with pytest.raises(ModelError, match=f"{HUB_ID} is an adapter, not a whole model.*pip install peft"):
        load(HUB_ID)
    assert hub.sent == {}


def test_a_repository_with_an_adapter_beside_its_weights(
    hub: Hub, home: Path, tiny_folder: Path, peft: list[str], monkeypatch
) -> None:
    write_adapter(hub.repository(HUB_ID), HUB_ID, tiny_folder)
    load(HUB_ID)
    assert peft == [str(fetched(home)["adapter_config.json"].parent)]
    monkeypatch.setattr("pruning.models.checkpoint.adapters.available", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "second"))
    hub.sent.clear()
    with pytest.raises(ModelError, match=f"{HUB_ID} holds an adapter beside its weights"):
        load(HUB_ID)
    assert hub.sent == {}
