"""Models that come from the hub while visitors are there: pressed twice, by two, stopped, during an answer, no room."""

import shutil
import threading
import time
from collections import namedtuple

import pytest
from huggingface_hub import constants

from app.engine.device import Task
from app.engine.resources import Resources
from app.model_pool.load_job import StoppedError
from app.model_pool.loader import Loader, listed
from app.model_pool.pool import Models
from app.session import Session
from app.settings import Settings
from pruning.models.checkpoint import reach, transfer
from tests.helpers.hub import until

HUB_ID = "maker/tiny-vl"
WEIGHTS = "model.safetensors"


@pytest.fixture
def models(hub, tiny_folder):
    """The tiny model loaded, the same one on the hub on offer."""
    shutil.copytree(tiny_folder, hub.repository(HUB_ID))
    settings = Settings(model=str(tiny_folder), models=HUB_ID, device="cpu")
    loader = Loader(settings)
    allowed = listed(settings.model_ids, loader.fits)
    return Models(allowed, loader.load(allowed[0].model_id), loader, Resources(64 << 20))


def size(hub):
    return (hub.repository(HUB_ID) / WEIGHTS).stat().st_size


def press(models, visitor, seen):
    """A visitor presses the button; what they see, and in the end None or what went wrong, goes into `seen`."""

    def run():
        told = []
        try:
            told += models.open(HUB_ID, visitor)
            told.append(None)
        except ValueError as error:
            told.append(error)
        seen.append((visitor, told))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def works(models, name, saved, visitor="ann"):
    """Whether a model answers."""
    picture = models.resources.pictures.open(saved())[0]
    with models.use(name, visitor) as (engine, _):
        encoded = engine.encoded(Session(name, (picture,), ("is it red?",)))
        return engine.vlm.answer(encoded, "is it red?", max_new_tokens=3)


def test_pressed_twice_and_by_two_it_comes_once(models, hub, saved):
    hub.pause, seen = 0.01, []
    threads = [press(models, visitor, seen) for visitor in ("ann", "ann", "bob")]
    assert until(lambda: hub.sent.get(WEIGHTS, 0) > size(hub) / 5)
    (job,) = models._jobs.values()
    told = job.progress()
    assert told.stage == f"downloading {HUB_ID}"
    assert 0 < told.share < 1
    for thread in threads:
        thread.join(60)
    assert [(visitor, told[-1]) for visitor, told in seen] == [(visitor, None) for visitor, _ in seen]
    assert sorted(visitor for visitor, _ in seen) == ["ann", "ann", "bob"]
    assert hub.sent[WEIGHTS] == size(hub)
    assert works(models, HUB_ID, saved).ids == works(models, models.first, saved).ids


@pytest.mark.slow
@pytest.mark.alone
def test_stop_and_go_on(models, hub):
    hub.pause, task = 0.02, Task()
    loads = models.open(HUB_ID, "ann", task)
    assert any((loading.share or 0) > 0.2 for loading in loads)
    task.set()
    start = time.monotonic()
    with pytest.raises(StoppedError, match="choose it again to go on"):
        next(loads)
    assert time.monotonic() - start < 1
    assert until(lambda: not models._jobs)
    sent, hub.pause = hub.sent[WEIGHTS], 0.0
    assert sent < size(hub)
    list(models.open(HUB_ID, "ann"))
    assert models.state(HUB_ID) == "loaded"
    assert hub.sent[WEIGHTS] - sent < size(hub) * 0.85


@pytest.mark.alone
def test_stop_does_not_wait_for_a_hub_that_hangs(models, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr("pruning.models.checkpoint.hub.tensors", lambda model_id: [])  # see test_hub.py
    hub.hangs, task = {WEIGHTS}, Task()
    loads = models.open(HUB_ID, "ann", task)
    assert any("stopped sending" in loading.stage for loading in loads)
    task.set()
    start = time.monotonic()
    with pytest.raises(StoppedError):
        next(loads)
    assert time.monotonic() - start < 1
    assert until(lambda: not models._jobs)
    assert [entry.listed.name for entry in models.entries() if entry.loaded] == [models.first]


def test_the_first_visitor_stops_and_the_second_gets_it(models, hub):
    hub.pause, task, seen = 0.01, Task(), []
    leaving = models.open(HUB_ID, "ann", task)
    next(leaving)
    other = press(models, "bob", seen)
    assert until(lambda: "bob" in models._jobs[HUB_ID].owners)
    task.set()
    with pytest.raises(StoppedError):
        list(leaving)
    other.join(60)
    assert seen[0][1][-1] is None
    assert hub.sent[WEIGHTS] == size(hub)


def test_it_comes_while_another_answer_is_under_way(models, hub, saved):
    picture = models.resources.pictures.open(saved())[0]
    before = works(models, models.first, saved)
    seen, hub.pause = [], 0.002
    with models.use(models.first, "bob") as (engine, _):
        encoded = engine.encoded(Session(models.first, (picture,), ("is it red?",)))
        chunks = engine.vlm.generate(encoded, "is it red?", max_new_tokens=3)
        first = next(chunks)
        thread = press(models, "ann", seen)
        thread.join(60)
        ids = [first.token_id, *(chunk.token_id for chunk in chunks)]
    assert seen[0][1][-1] is None
    assert tuple(ids) == before.ids


def refused(models, words):
    """Nothing came, and what was there still is."""
    start = time.monotonic()
    with pytest.raises(ValueError, match=words):
        list(models.open(HUB_ID, "ann"))
    assert time.monotonic() - start < 6
    assert [entry.listed.name for entry in models.entries() if entry.loaded] == [models.first]


def test_too_little_memory(models, hub, monkeypatch, saved):
    monkeypatch.setattr("pruning.models.checkpoint.memory.free_bytes", lambda device: 1000)
    refused(models, "tiny-vl needs about .* can be had on cpu")
    assert WEIGHTS not in hub.sent
    works(models, models.first, saved)


def test_too_little_disk(models, hub, monkeypatch, saved):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, transfer.SPARE))
    refused(models, f"{HUB_ID} is 1 MB to download, and there is room for 0 MB .*HF_HOME")
    assert WEIGHTS not in hub.sent
    works(models, models.first, saved)


def test_no_network(models, hub, saved):
    hub.close()
    reach.forget()
    refused(models, "the hub cannot be reached.*connect to the network")
    works(models, models.first, saved)


def test_gated(models, hub):
    hub.gated.add(HUB_ID)
    refused(models, "is gated: accept its terms on .*run `hf auth login`")


@pytest.mark.slow
def test_a_download_that_breaks_off_for_good_goes_on_when_it_is_chosen_again(models, hub):
    hub.breaks = [size(hub) // 2, *[0] * transfer.TRIES]
    refused(models, "broke off.*What has come is kept: choose the model again to go on")
    sent = hub.sent[WEIGHTS]
    list(models.open(HUB_ID, "ann"))
    assert models.state(HUB_ID) == "loaded"
    assert hub.sent[WEIGHTS] - sent < size(hub) * 0.75
