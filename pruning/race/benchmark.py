"""Accuracy on held-out pictures of a world, by question family, for any method at any retention ratio.

An answer is right when the model's greedy answer is the one expected, and nothing after it. That is decided by
forcing the expected answer and comparing every step's most likely token: one batched pass for all methods of a budget
instead of a decoding loop each, with the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image
from torch import Tensor

from pruning.choosing import Asked, Runs, came_to
from pruning.grids import Scope
from pruning.race.settings import Encoder, Shown, rival_of, settings_of
from pruning.scenes.held_out import held_out
from pruning.scenes.render import HELD_OUT
from pruning.scenes.worlds import SCENES, World

Cell = tuple[str, float | None]
"""A method's label and a retention; None for what comes to one of its own, a published schedule or a plan."""


class Model(Encoder, Protocol):
    """What the benchmark asks of a model; `pruning.models.VLM` has it."""

    tokenizer: Any

    def logprobs(
        self,
        encoded: Any,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Runs | None],
        *,
        positions: Literal["original", "compact"],
    ) -> list[Tensor]: ...


@dataclass(frozen=True)
class Row:
    """One line of the table. `method`: its label, "all tokens" for none; `right` and `asked`: counts by family.

    came_to: mean equivalent retention over the questions. difficult, simple: (right, asked) of the questions that
    another encoding at the same retention gets wrong, and of those it gets right; None where no method asks for one.
    """

    method: str
    retention: float
    right: Mapping[str, int]
    asked: Mapping[str, int]
    came_to: float = 1.0
    difficult: tuple[int, int] | None = None
    simple: tuple[int, int] | None = None

    @property
    def accuracy(self) -> float:
        """Share of all questions answered right."""
        return sum(self.right.values()) / max(sum(self.asked.values()), 1)

    def of(self, family: str) -> float:
        """Share of this family's questions answered right; NaN where none was asked."""
        return self.right[family] / self.asked[family] if self.asked[family] else float("nan")


def run(
    model: Model,
    methods: Mapping[str, Asked],
    retentions: Sequence[float],
    *,
    scenes: int = 240,
    per_family: int = 1,
    per: Scope = "sample",
    first: int = HELD_OUT,
    skip: Collection[Cell] = (),
    progress: Callable[[int, int], None] | None = None,
    world: World = SCENES,
    positions: Literal["original", "compact"] = "original",
) -> list[Row]:
    """Ask about `scenes` held-out pictures of `world` with all tokens and with what each method keeps.

    methods: label -> method of any registry, published schedule or plan; the first one that asks for another encoding
    tells difficult questions from simple ones. A retention is equivalent retention; the
    row of what is fixed has the mean of what it came to. per: what a budget is for. positions: of kept tokens. skip:
    cells to leave out.
    `progress(done, scenes)` is called after each picture. Up to 5 * `per_family` questions a picture. Raises ValueError
    for fewer than one picture or question, a retention outside (0, 1], and as `choose` does.
    """
    settings = settings_of(methods, retentions, skip)
    came: dict[str, list[float]] = {each.name: [] for each in settings}
    rival = rival_of(settings)
    verdicts: dict[str, list[bool]] = {each.name: [] for each in settings}
    right = {each.name: dict.fromkeys(world.families, 0) for each in settings}
    asked = dict.fromkeys(world.families, 0)
    end = [model.tokenizer.eos_token_id]
    for done, (picture, questions) in enumerate(held_out(world, scenes, per_family, first), 1):
        shown = Shown(model, [Image.fromarray(picture.image)], settings, per)
        for question in questions:
            asked[question.family] += 1
            n, chosen = shown.choose(question.text)
            kept = {name: _runs(runs) for name, runs in chosen.items()}
            for name, runs in kept.items():
                came[name].append(came_to(runs, model.layers, n))
            answer = model.tokenizer(question.answer, add_special_tokens=False).input_ids + end
            selections = [kept.get(each.name) for each in settings]
            found = model.logprobs(shown.encoded, question.text, answer, selections, positions=positions)
            for each, said in zip(settings, found, strict=True):
                verdicts[each.name].append(said.argmax(-1).tolist() == answer)
                right[each.name][question.family] += verdicts[each.name][-1]
        if progress:
            progress(done, scenes)
    rivals = {each.retention: verdicts[each.name] for each in settings if each.method == rival}
    return [
        Row(
            each.method,
            _mean(came[each.name]) if each.retention is None else each.retention,
            right[each.name],
            asked,
            _mean(came[each.name]),
            *_split(verdicts[each.name], rivals.get(each.retention)),
        )
        for each in settings
    ]


def _runs(found: Runs | ValueError) -> Runs:
    if isinstance(found, ValueError):
        raise found
    return found


def _mean(came: Sequence[float]) -> float:
    return sum(came) / len(came) if came else 1.0


def _split(
    right: Sequence[bool], rival: Sequence[bool] | None
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(right, asked) of the questions that the rival gets wrong, and of those it gets right."""
    if rival is None:
        return None, None
    difficult = [mine for mine, its in zip(right, rival, strict=True) if not its]
    simple = [mine for mine, its in zip(right, rival, strict=True) if its]
    return (sum(difficult), len(difficult)), (sum(simple), len(simple))
