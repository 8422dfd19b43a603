"""Which patches an answer hangs on, with the shipped model on a held-out scene and with a model of plain rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pruning.evaluation.why import needing, removal_losses, returning
from pruning.models import SHIPPED, VLM, load
from pruning.scenes.render import HELD_OUT, render

N = 20
QUESTION = "what shape is the blue object?"


@dataclass(frozen=True)
class Said:
    text: str
    ids: tuple[int, ...]


class Rules:
    """Says 1, 2 where at least two of the patches 3, 8 and 15 are there, else 0, 2; patch 8 makes it surer."""

    def __init__(self) -> None:
        self.positions = set[str]()

    def logprobs(
        self,
        encoded: Any,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Tensor | None],
        *,
        positions: str,
    ) -> list[Tensor]:
        self.positions.add(positions)
        return [self.forced(set(range(N)) if kept is None else set(kept.tolist())) for kept in selections]

    def forced(self, kept: set[int]) -> Tensor:
        sure = len(kept & {3, 8, 15}) + 0.25 * (8 in kept)
        logits = torch.tensor([[1.5, sure, 0.0], [0.0, 0.0, 9.0]])
        return logits.log_softmax(-1)


FULL = Said("yes", (1, 2))


def test_every_set_is_measured_at_the_positions_that_are_asked_for() -> None:
    for look in (returning, needing):
        model = Rules()
        list(look(model, None, "?", FULL, [0, 3, 8], N, positions="compact"))
        assert model.positions == {"compact"}
    model = Rules()
    removal_losses(model, None, "?", FULL, [0, 3, 8], N, positions="compact")
    assert model.positions == {"compact"}


def test_the_smallest_set_is_returned() -> None:
    *_, found = returning(Rules(), None, "?", FULL, [0, 15], N)
    assert found.patches == (8,), "3 would do as well, and is less sure"
    assert found.reached
    assert found.minimal
    assert found.candidates == N - 2
    assert len(found.fidelities) == 2
    assert 0 < found.fidelities[0] < found.fidelities[1] <= 1
    *_, none = returning(Rules(), None, "?", FULL, [8, 15], N)
    assert (none.patches, none.reached, none.done) == ((), True, 1)


def test_the_smallest_set_is_needed() -> None:
    *_, found = needing(Rules(), None, "?", FULL, [0, 3, 8, 15], N)
    assert len(found.patches) == 2
    assert set(found.patches) < {3, 8, 15}
    assert found.reached
    assert found.minimal
    assert found.fidelities[0] == pytest.approx(1)
    assert list(found.fidelities) == sorted(found.fidelities, reverse=True)
    *_, lucky = needing(Rules(), None, "?", Said("no", (0, 2)), [0, 1, 2], N)
    assert (lucky.patches, lucky.reached) == ((), False), "it says so whatever it sees"


def test_losses_are_those_of_one_patch_at_a_time() -> None:
    kept = [15, 0, 3, 8]
    losses = removal_losses(Rules(), None, "?", FULL, kept, N, batch=2)
    assert losses.shape == (4, 2)
    before = Rules().forced(set(kept)).exp()
    for row, gone in zip(losses, kept, strict=True):
        after = Rules().forced(set(kept) - {gone}).exp()
        assert row.tolist() == pytest.approx((before - after)[[0, 1], [1, 2]].tolist())
    assert losses[:, 0].argmax() == 3, "patch 8 costs most"
    assert losses[1].tolist() == [0, 0]


@pytest.mark.parametrize("look", [returning, needing, removal_losses])
@pytest.mark.parametrize(
    ("kept", "answer", "match"),
    [
        ([], FULL, "at least one"),
        ([1, 1], FULL, "each once"),
        ([1, N], FULL, "numbered 0 to 19"),
        ([1, 2], Said(" ", (2,)), "without words"),
    ],
)
def test_bad_input_is_named(look: Any, kept: list[int], answer: Said, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        list(look(Rules(), None, "?", answer, kept, N))


def test_nothing_to_look_among_is_named() -> None:
    with pytest.raises(ValueError, match="keep fewer"):
        next(returning(Rules(), None, "?", FULL, range(N), N))
    with pytest.raises(ValueError, match="keep more"):
        next(needing(Rules(), None, "?", FULL, [1], N))
    with pytest.raises(ValueError, match="keep more"):
        removal_losses(Rules(), None, "?", FULL, [1], N)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load(str(SHIPPED))


def test_the_shipped_model_says_it_again_with_what_was_returned(vlm: VLM) -> None:
    scene = render(HELD_OUT, 448, 448)
    encoded = vlm.encode([Image.fromarray(scene.image)])
    n, blue = encoded.tokens.n, next(i for i, each in enumerate(scene.objects) if each.color == "blue")
    cells = encoded.rects.round().astype(int)
    shows = [bool((scene.owner[t:b, x:r] == blue + 1).any()) for x, t, r, b in cells]
    mine = scene.objects[blue]
    away = [abs((x + r) / 2 - mine.x) + abs((t + b) / 2 - mine.y) > 2 * mine.size for x, t, r, b in cells]
    full, kept = vlm.answer(encoded, QUESTION), [i for i in range(n) if away[i]][::6]
    assert full.text == scene.objects[blue].shape
    assert vlm.answer(encoded, QUESTION, torch.tensor(kept)).text != full.text
    *_, found = returning(vlm, encoded, QUESTION, full, kept, n)
    assert found.reached
    assert found.minimal
    more = sorted([*kept, *found.patches])
    again = vlm.answer(encoded, QUESTION, torch.tensor(more))
    assert list(again.ids) == list(full.ids), "generation says what forcing told"
    assert all(shows[i] for i in found.patches)
    *_, needed = needing(vlm, encoded, QUESTION, again, more, n)
    assert needed.reached
    rest = [i for i in more if i not in needed.patches]
    assert vlm.answer(encoded, QUESTION, torch.tensor(rest)).text != full.text
