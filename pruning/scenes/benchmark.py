"""Accuracy on held-out pictures of a world, by question family, for any method at any retention ratio.

An answer is right when the model's greedy answer is the one expected, and nothing after it. That is decided by
forcing the expected answer and comparing every step's most likely token: one batched pass for all methods of a budget
instead of a decoding loop each, with the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from PIL import Image
from torch import Tensor

from pruning.allocation import selector
from pruning.grids import Scope
from pruning.method import Method
from pruning.plan import Plan, needs_before, plan_of
from pruning.scenes.render import HELD_OUT
from pruning.scenes.worlds import SCENES, World
from pruning.staged import StagedMethod
from pruning.tokens import Selection, VisualTokens

SIZES: Final = ((448, 448), (336, 448), (336, 336))
"""Height and width of the pictures, in turn: 256, 192 and 144 visual tokens of 28 px."""


Cell = tuple[str, float]
"""A method's label and a retention."""


class Model(Protocol):
    """What the benchmark asks of a model; `pruning.models.VLM` has it."""

    tokenizer: Any

    @property
    def layers(self) -> int: ...
    def encode(self, images: Sequence[Image.Image], needs: frozenset[str] = ...) -> Any: ...
    def tokens(self, encoded: Any, question: str, needs: frozenset[str] = ...) -> VisualTokens: ...
    def logprobs(
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Sequence[Selection | Plan | None]
    ) -> list[Tensor]: ...


@dataclass(frozen=True)
class Row:
    """One line of the table. `method`: its label, "all tokens" for none; `right` and `asked`: counts by family."""

    method: str
    retention: float
    right: Mapping[str, int]
    asked: Mapping[str, int]

    @property
    def accuracy(self) -> float:
        """Share of all questions answered right."""
        return sum(self.right.values()) / max(sum(self.asked.values()), 1)

    def of(self, family: str) -> float:
        """Share of this family's questions answered right; NaN where none was asked."""
        return self.right[family] / self.asked[family] if self.asked[family] else float("nan")


def run(
    model: Model,
    methods: Mapping[str, Method | StagedMethod],
    retentions: Sequence[float],
    *,
    scenes: int = 240,
    per_family: int = 1,
    per: Scope = "sample",
    first: int = HELD_OUT,
    skip: Collection[Cell] = (),
    progress: Callable[[int, int], None] | None = None,
    world: World = SCENES,
) -> list[Row]:
    """Ask about `scenes` held-out pictures of `world` with all tokens and with what each method keeps.

    methods: label -> method; for those between layers a retention is the mean over the layers, and `per` does not
    count. per: what a budget is for. skip: (label, retention) to leave out. `progress(done, scenes)` is called after
    each picture. Up to 5 * `per_family` questions a picture. Raises ValueError for fewer than one picture or question,
    a retention outside (0, 1], and what methods raise.
    """
    if scenes < 1 or per_family < 1:
        raise ValueError(f"{scenes} scenes with {per_family} questions a family: both must be at least 1.")
    cells = [("all tokens", 1.0), *((label, r) for r in retentions for label in methods if (label, r) not in skip)]
    right = {cell: dict.fromkeys(world.families, 0) for cell in cells}
    asked = dict.fromkeys(world.families, 0)
    needs = frozenset[str]().union(*map(needs_before, methods.values()))
    end = [model.tokenizer.eos_token_id]
    for i in range(scenes):
        picture = world.draw(first + i, *SIZES[i % len(SIZES)])
        encoded = model.encode([Image.fromarray(picture.image)], needs - {"question"})
        kept: dict[Cell, Selection | Plan] = {}
        for question in world.questions(picture, 0, per_family):
            asked[question.family] += 1
            tokens = model.tokens(encoded, question.text, needs)
            kept.update(_select(tokens, methods, cells[1:], per, kept, model))
            answer = model.tokenizer(question.answer, add_special_tokens=False).input_ids + end
            selections = [None, *(kept[cell] for cell in cells[1:])]
            for cell, said in zip(cells, model.logprobs(encoded, question.text, answer, selections), strict=True):
                right[cell][question.family] += said.argmax(-1).tolist() == answer
        if progress:
            progress(i + 1, scenes)
    return [Row(label, retention, right[label, retention], asked) for label, retention in cells]


def _select(
    tokens: VisualTokens,
    methods: Mapping[str, Method | StagedMethod],
    cells: Sequence[Cell],
    per: Scope,
    known: Mapping[Cell, Selection | Plan],
    model: Model,
) -> Iterator[tuple[Cell, Selection | Plan]]:
    """What every method keeps in every cell, where that is not known yet or that depends on the question."""
    for label, method in methods.items():
        retentions = [retention for named, retention in cells if named == label]
        asks = isinstance(method, Method) and "question" in method.needs
        if not asks and all((label, retention) in known for retention in retentions):
            continue
        if isinstance(method, StagedMethod):
            yield from (((label, r), plan_of(method, tokens.n, model.layers, r)) for r in retentions)
            continue
        select = selector(method, tokens, retentions, per)
        for retention in retentions:
            yield (label, retention), select(retention)
