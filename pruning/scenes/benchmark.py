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

from pruning.choosing import Asked, Runs, came_to, chooser, needs_of
from pruning.grids import Scope
from pruning.plan import Plan
from pruning.published import Published
from pruning.scenes.render import HELD_OUT
from pruning.scenes.worlds import SCENES, World
from pruning.tokens import VisualTokens

SIZES: Final = ((448, 448), (336, 448), (336, 336))
"""Height and width of the pictures, in turn: 256, 192 and 144 visual tokens of 28 px."""


Cell = tuple[str, float | None]
"""A method's label and a retention; None for what comes to one of its own, a published schedule or a plan."""


class Model(Protocol):
    """What the benchmark asks of a model; `pruning.models.VLM` has it."""

    tokenizer: Any

    @property
    def layers(self) -> int: ...
    def encode(self, images: Sequence[Image.Image], needs: frozenset[str] = ...) -> Any: ...
    def tokens(self, encoded: Any, question: str, needs: frozenset[str] = ...) -> VisualTokens: ...
    def logprobs(
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Sequence[Runs | None]
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
) -> list[Row]:
    """Ask about `scenes` held-out pictures of `world` with all tokens and with what each method keeps.

    methods: label -> method of either registry, published schedule or plan. A retention is equivalent retention; the
    row of what is fixed has the mean of what it came to. per: what a budget is for. skip: cells to leave out.
    `progress(done, scenes)` is called after each picture. Up to 5 * `per_family` questions a picture. Raises ValueError
    for fewer than one picture or question, a retention outside (0, 1], and as `choose` does.
    """
    if scenes < 1 or per_family < 1:
        raise ValueError(f"{scenes} scenes with {per_family} questions a family: both must be at least 1.")
    fixed = [label for label, each in methods.items() if isinstance(each, Published | Plan)]
    swept = [(label, r) for r in retentions for label in methods if label not in fixed]
    cells: list[Cell] = [("all tokens", 1.0), *swept, *((label, None) for label in fixed)]
    cells = [cell for cell in cells if cell not in skip]
    came: dict[Cell, list[float]] = {cell: [] for cell in cells}
    right = {cell: dict.fromkeys(world.families, 0) for cell in cells}
    asked = dict.fromkeys(world.families, 0)
    needs = frozenset[str]().union(*map(needs_of, methods.values()))
    end = [model.tokenizer.eos_token_id]
    for i in range(scenes):
        picture = world.draw(first + i, *SIZES[i % len(SIZES)])
        encoded = model.encode([Image.fromarray(picture.image)], needs - {"question"})
        kept: dict[Cell, Runs] = {}
        for question in world.questions(picture, 0, per_family):
            asked[question.family] += 1
            tokens = model.tokens(encoded, question.text, needs)
            kept.update(_select(tokens, methods, cells[1:], per, kept, model))
            for cell, runs in kept.items():
                came[cell].append(came_to(runs, model.layers, tokens.n))
            answer = model.tokenizer(question.answer, add_special_tokens=False).input_ids + end
            selections = [None, *(kept[cell] for cell in cells[1:])]
            for cell, said in zip(cells, model.logprobs(encoded, question.text, answer, selections), strict=True):
                right[cell][question.family] += said.argmax(-1).tolist() == answer
        if progress:
            progress(i + 1, scenes)
    return [Row(cell[0], _retention(cell, came[cell]), right[cell], asked) for cell in cells]


def _retention(cell: Cell, came: Sequence[float]) -> float:
    """As asked for; of what is fixed the mean of what it came to."""
    return sum(came) / max(len(came), 1) if cell[1] is None else cell[1]


def _select(
    tokens: VisualTokens,
    methods: Mapping[str, Asked],
    cells: Sequence[Cell],
    per: Scope,
    known: Mapping[Cell, Runs],
    model: Model,
) -> Iterator[tuple[Cell, Runs]]:
    """What every method keeps in every cell, where that is not known yet or that depends on the question."""
    for label, asked in methods.items():
        mine = [cell for cell in cells if cell[0] == label]
        if "question" not in needs_of(asked) and all(cell in known for cell in mine):
            continue
        wanted = {cell: 1.0 if cell[1] is None else cell[1] for cell in mine}
        choose = chooser(asked, tokens, model.layers, list(wanted.values()), per)
        yield from ((cell, choose(retention)) for cell, retention in wanted.items())
