"""The models in memory: how many events are at work with each, and which visitors used it lately."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.engine.capabilities import Capabilities
from app.engine.engine import Engine

LATELY = 300.0  # seconds after which a model that somebody used counts as left
WIND_UP = 10.0  # seconds that a visitor's own work with a model may take to end before the model goes


@dataclass
class LoadedModel:
    """leases: visitor -> events of theirs at work now; users: visitor -> when they used it last, monotonic seconds."""

    engine: Engine
    capabilities: Capabilities
    leases: Counter[str] = field(default_factory=Counter)
    users: dict[str, float] = field(default_factory=dict)

    @property
    def used(self) -> float:
        return max(self.users.values(), default=0.0)

    def busy_for(self, owners: Set[str]) -> bool:
        """Whether unloading it would take it from anybody else."""
        now = time.monotonic()
        recent = {who for who, when in self.users.items() if now - when < LATELY}
        return bool((recent | {who for who, count in self.leases.items() if count}) - owners)


class LoadedModels:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._held: dict[str, LoadedModel] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def add(self, name: str, engine: Engine, capabilities: Capabilities, owners: Sequence[str]) -> None:
        """A model has come, for these visitors."""
        with self._lock:
            self._held[name] = LoadedModel(engine, capabilities, users=dict.fromkeys(owners, time.monotonic()))

    @contextmanager
    def use(self, name: str, owner: str) -> Iterator[LoadedModel | None]:
        """The model, which stays until the block ends; None where it is not there."""
        with self._lock:
            loaded_model = self._held.get(name)
            if loaded_model is not None:
                loaded_model.leases[owner] += 1
                self._leave(owner)  # a visitor uses one model: the one they ask now
                loaded_model.users[owner] = time.monotonic()
        try:
            yield loaded_model
        finally:
            if loaded_model is not None:
                with self._lock:
                    loaded_model.leases[owner] -= 1
                    loaded_model.leases += Counter()  # without those who have none
                    self._lock.notify_all()

    def leave(self, owner: str) -> None:
        """The visitor is gone."""
        with self._lock:
            self._leave(owner)

    def let_go(self, name: str) -> str | None:
        """Take a model off the list once nobody works with it; its key, which is all that is left here."""
        with self._lock:
            leases = self._held[name].leases
            idle = self._lock.wait_for(lambda: not leases.total(), WIND_UP)
            return self._held.pop(name).engine.handle if idle else None

    def seen_by(self, owners: Set[str]) -> list[tuple[str, LoadedModel, bool]]:
        """(name, model, whether unloading it would take it from anybody but these visitors)."""
        with self._lock:
            return [(name, loaded_model, loaded_model.busy_for(owners)) for name, loaded_model in self._held.items()]

    def _leave(self, owner: str) -> None:
        for loaded_model in self._held.values():
            loaded_model.users.pop(owner, None)
