"""The models that visitors may choose: which are loaded, who uses them, who has to leave when another one comes.

No Gradio. A visitor names a model by its name in the operator's list and by nothing else. Loading goes on in a thread
of its own, one at a time; those who want the same model meanwhile wait for the same load. Where a load fails,
everything stays as it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import format_tb
from typing import TYPE_CHECKING

from app.engine import remote
from app.engine.capabilities import Capabilities
from app.engine.device import Task, release_memory
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.model_pool import eviction
from app.model_pool.leases import LoadedModels
from app.model_pool.load_job import Loading, LoadJob, StoppedError
from app.model_pool.loader import Listed, Loader
from pruning.models.checkpoint import presets
from pruning.models.checkpoint.footprint import readable

if TYPE_CHECKING:
    from pruning.models import VLM

LOG = logging.getLogger("idpruner.app")
TICK, TELLS = 0.1, 5  # seconds between two looks at a load; every which of them is told
LOAD = "load"  # kind of the tasks that are stopped with it


@dataclass(frozen=True)
class Entry:
    """A line of the model menu. problem: why it cannot be had now, in a few words. need: bytes, None = not known.
    download: bytes that come from the hub first.
    """

    listed: Listed
    need: int | None
    loaded: bool
    problem: str
    download: int = 0


class Models:
    """Hands out engines. `first` is loaded already, and the first of those allowed."""

    def __init__(self, allowed: Sequence[Listed], first: VLM, loader: Loader, resources: Resources) -> None:
        self.allowed = {model.name: model for model in allowed}
        self.first = allowed[0].name
        self.resources = resources
        self._loader = loader
        self._loaded_models = LoadedModels()
        self._lock = threading.Lock()  # guards the two below, and is held for moments only
        self._jobs: dict[str, LoadJob] = {}
        self._broken: dict[str, str] = {}
        self._one_load = threading.Lock()
        self._add(self.first, first, ())

    # Use

    def checked(self, name: object) -> str:
        """The name of an allowed model; "" is the first. Raises ValueError for any other."""
        if name in ("", None):
            return self.first
        if not isinstance(name, str) or name not in self.allowed:
            raise ValueError(f"model {name!r} is not offered here: choose one of {', '.join(self.allowed)}")
        return name

    @contextmanager
    def use(self, name: str, owner: str) -> Iterator[tuple[Engine, Capabilities]]:
        """A loaded model, which stays loaded until the block ends. Raises ValueError where it was unloaded."""
        name = self.checked(name)
        with self._loaded_models.use(name, owner) as loaded_model:
            if loaded_model is None:
                raise ValueError(
                    f"{self.allowed[name].title} was unloaded to make room for another model: choose it again in the "
                    "model menu"
                )
            yield loaded_model.engine, loaded_model.capabilities

    def state(self, name: object, owner: str | None = None) -> str:
        """ "loaded", "loading" (for this owner, where one is named), "absent". Raises ValueError as `checked` does."""
        name = self.checked(name)
        if name in self._loaded_models:
            return "loaded"
        job = self._jobs.get(name)
        return "loading" if job is not None and (owner is None or owner in job.owners) else "absent"

    def leave(self, owner: str) -> None:
        """The visitor is gone: what they used is free for others."""
        self._loaded_models.leave(owner)

    def entries(self, owner: str = "") -> list[Entry]:
        """The menu, with what can be had now and why not."""
        entries = []
        for model in self.allowed.values():
            need, download = self._loader.need(model.model_id), self._loader.download(model.model_id)
            loaded, problem = model.name in self._loaded_models, "did not load" if model.name in self._broken else ""
            if not loaded and need is not None and not problem:
                try:
                    self._leaving(model, need, {owner})
                except eviction.DoesNotFitError as error:
                    problem = error.short
            if not loaded and not problem and download > self._loader.disk():
                problem = f"{readable(self._loader.disk())} of disk free"
            entries.append(Entry(model, need, loaded, problem, download))
        return entries

    def best(self, owner: str = "") -> Entry | None:
        """The model to go over to for photographs: the best of those offered that can be had now and answer soon."""
        open_now = {entry.listed.model_id: entry for entry in self.entries(owner) if not entry.problem}
        kind = self._loader.device.partition(":")[0]
        best = presets.best_that_fits(lambda preset: preset.model_id in open_now, kind)
        return open_now[best.model_id] if best else None

    # Loading

    def open(self, name: str, owner: str, task: Task | None = None) -> Iterator[Loading]:
        """Load a model unless it is there; yields how far it is, about twice a second, and ends when it is loaded.

        Ends soon after `task` is set; the load itself is called off where no one else waits for it. Raises ValueError
        that names cause and remedy; what was loaded before still is.
        """
        name = self.checked(name)
        with self._lock:
            if name in self._loaded_models:
                return
            if name in self._broken:
                raise ValueError(self._broken[name])
            job = self._jobs.get(name)
            if job is not None:
                job.owners[owner] += 1
            else:
                job = self._jobs[name] = LoadJob(self.allowed[name].title, owner)
                threading.Thread(target=self._run, args=(name, job), name="load", daemon=True).start()
        looks = 0
        while not job.done.wait(TICK):
            if task is not None and task.is_set():
                with self._lock:
                    job.leave(owner)
                raise StoppedError(f"Loading {job.title} was stopped: choose it again to go on")
            looks += 1
            if looks % TELLS == 0:
                yield job.progress()
        if job.error is not None:
            raise job.error

    def open_all(self) -> None:
        """Load every allowed model now, and no other later. What does not load keeps its reason.

        For ZeroGPU Spaces, whose processes know what was loaded when they were forked.
        """
        for name in self.allowed:
            try:
                for _ in self.open(name, ""):
                    pass
            except ValueError as error:
                self._broken[name] = str(error)

    def _run(self, name: str, job: LoadJob) -> None:
        try:
            with self._one_load:
                self._load(name, job)
        except Exception as error:
            if not isinstance(error, ValueError):
                LOG.error("loading failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
            job.error = _bare(error)
        finally:
            with self._lock:
                self._jobs.pop(name, None)
            job.done.set()

    def _load(self, name: str, job: LoadJob) -> None:
        model = self.allowed[name]
        job.tell("looking up its size", None)
        need = self._loader.need(model.model_id, ask_hub=True)
        leaving: list[str] = []
        if need is not None and need > self._loader.free():
            self.resources.memories.clear()  # they lie on the device, and are only there to save time
            leaving = self._leaving(model, need, frozenset(job.owners))
        gone = [name for name in leaving if self._evict(name)]
        failed: Exception | None = None
        try:
            self._add(name, self._loader.load(model.model_id, job.tell), tuple(job.owners))
        except Exception as error:
            failed = _bare(error) if gone else error
        if failed is not None:  # not before the handler is left: the traceback holds what was half loaded
            self._bring_back(gone)
            raise failed

    def _bring_back(self, names: Sequence[str]) -> None:
        """What was unloaded for a model that then did not load."""
        release_memory()
        for name in names:
            try:
                self._add(name, self._loader.load(self.allowed[name].model_id, None), ())
            except Exception as error:  # its visitors are told to choose again
                LOG.error("%s was unloaded and did not load again: %s", name, error)

    def _add(self, name: str, vlm: VLM, owners: Sequence[str]) -> None:
        self._loaded_models.add(name, Engine(vlm, self.resources, name), Capabilities(vlm), owners)

    def _evict(self, name: str) -> bool:
        """Unload a model; False where somebody is still, or again, at work with it."""
        key = self._loaded_models.let_go(name)
        if key is None:
            return False
        remote.release(key)
        for cache in (self.resources.cache, self.resources.memories):
            cache.discard(lambda entry: isinstance(entry, tuple) and key in entry)
        # Behind whatever still runs on the device: an answer whose reader has gone ends with its next token.
        self.resources.device.run(release_memory)
        return True

    def _leaving(self, model: Listed, need: int, owners: Set[str]) -> list[str]:
        """Which models have to go for `model`, as far as it is these visitors' to say. Raises DoesNotFitError."""
        loaded = [
            eviction.Candidate(name, self.allowed[name].title, r.engine.vlm.memory, r.used, busy, name == self.first)
            for name, r, busy in self._loaded_models.seen_by(owners)
        ]
        return eviction.evictions(model.title, need, self._loader.free(), loaded, self._loader.device)


def _bare(error: Exception) -> Exception:
    """The exception without the frames that it went through, and all that they hold."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
