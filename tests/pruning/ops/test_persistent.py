"""The kernel that stays on the GPU: in Triton's interpreter, where Triton is installed; and what happens elsewhere.

The interpreter has to be asked for before Triton is imported, so it has a process of its own.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pruning import ops
from pruning.ops import device_loops, lazy, persistent, rows, scaling
from pruning.ops.spilling import spilling

LAMBDAS = (0.0, 0.3, 0.5, 1.0)
COMPARED = """
import torch
from pruning import ops
from pruning.ops import persistent, scaling

LAMBDAS = (0.0, 0.3, 0.5, 1.0)
for n, k in ((1, 1), (2, 2), (16, 16), (17, 5), (65, 65), (300, 75)):
    made = torch.Generator().manual_seed(n)
    importance, features = torch.rand(n, generator=made), torch.randn(n, 8, generator=made)
    features[n // 2 :] = features[: n - n // 2].clone()  # every one twice
    similarity, weights = scaling.cosine_similarity(features), torch.tensor(LAMBDAS)[:, None]
    first = importance.argmax()
    picks = persistent.greedy_mmr(weights * importance, 1 - weights, similarity, first, k)
    assert torch.equal(picks, ops.mmr_sweep(importance, similarity, k, LAMBDAS)), n
    own = persistent.greedy_mmr(importance[None], importance[None], similarity, first, k)[0]
    assert torch.equal(own, ops.weighted_farthest_point(importance, similarity, k)), n
    among = torch.arange(n) % 2 == int(first) % 2
    pool = torch.where(among, torch.zeros(n), -torch.inf)[None]
    few = min(k, int(among.sum()))
    some = persistent.greedy_mmr(pool, torch.ones(1, 1), similarity, first, few)[0]
    assert torch.equal(some, ops.farthest_point(similarity, few, first, among)), n
print("the same")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: the extra gpu")
def test_its_picks_are_those_of_the_cpu() -> None:
    settings = {**os.environ, "TRITON_INTERPRET": "1"}
    ran = subprocess.run([sys.executable, "-c", COMPARED], env=settings, capture_output=True, text=True)
    assert ran.stdout.strip() == "the same", ran.stderr


def given(n: int) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(n)
    importance, features = torch.rand(n, generator=made), torch.randn(n, 8, generator=made)
    return importance, scaling.cosine_similarity(features), torch.tensor(LAMBDAS)[:, None]


def test_no_other_device_is_served() -> None:
    assert not persistent.serves(torch.zeros(1, 4))
    assert not persistent.serves(torch.zeros(1, 4, device="meta"))


def test_a_gpu_that_it_does_not_compile_for_is_asked_once_and_picks_the_same(monkeypatch, caplog) -> None:
    importance, similarity, weights = given(33)
    asked, device = list[int](), similarity.device

    def fails(*values: object) -> Tensor:
        asked.append(1)
        raise RuntimeError("PTX version 8.7 does not support this GPU")

    monkeypatch.setattr(persistent, "_refused", set())
    monkeypatch.setattr(persistent, "serves", lambda values: values.device not in persistent._refused)
    monkeypatch.setattr(persistent, "greedy_mmr", fails)
    with caplog.at_level(logging.WARNING, "idpruner.ops"):
        for _ in range(2):
            relevance = weights * importance
            picks = device_loops.greedy_mmr(relevance, 1 - weights, similarity, importance.argmax(), 9)
            assert torch.equal(picks, ops.mmr_sweep(importance, similarity, 9, LAMBDAS))
    assert len(asked) == 1
    assert [record.message for record in caplog.records] == [
        f"no kernel for the greedy loop on {device} (RuntimeError): it takes launches for each pick"
    ]


def test_a_gpu_that_is_full_says_so(monkeypatch) -> None:
    def full(*values: object) -> Tensor:
        raise torch.OutOfMemoryError("full")

    importance, similarity, weights = given(9)
    monkeypatch.setattr(persistent, "serves", lambda values: True)
    monkeypatch.setattr(persistent, "greedy_mmr", full)
    with pytest.raises(torch.OutOfMemoryError):
        device_loops.greedy_mmr(weights * importance, 1 - weights, similarity, importance.argmax(), 4)


class Elsewhere(Tensor):
    """Values that say they lie on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("meta")

    def cpu(self, *_: object, **__: object) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


def test_without_room_for_a_matrix_the_cpu_selects() -> None:
    found = list[Tensor]()

    @spilling
    def rule(importance: Tensor, k: int, *, features: Tensor) -> Tensor:
        if isinstance(importance, Elsewhere):
            raise torch.OutOfMemoryError("no room for N×N")
        assert not isinstance(features, Elsewhere)
        found.append(importance.topk(k).indices)
        return found[-1]

    scores = torch.tensor([0.1, 0.9, 0.5])
    picks = rule(scores.as_subclass(Elsewhere), 2, features=torch.ones(3, 1).as_subclass(Elsewhere))
    assert found[0].tolist() == [1, 2]
    assert (picks.device.type, picks.shape) == ("meta", (2,)), "they go back to where the values lie"


def test_a_cpu_without_room_says_so() -> None:
    calls = list[int]()

    @spilling
    def rule(importance: Tensor) -> Tensor:
        calls.append(1)
        raise torch.OutOfMemoryError("no room at all")

    with pytest.raises(torch.OutOfMemoryError):
        rule(torch.ones(3))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("room", "rule"),
    [(lazy, name) for name in ("mmr", "farthest_point", "weighted_farthest_point", "thin_out")]
    + [(rows, name) for name in ("least_similar", "dpp", "deduplicate")],
)
def test_every_rule_from_features_spills(room: ModuleType, rule: str) -> None:
    assert hasattr(getattr(room, rule), "__wrapped__")
