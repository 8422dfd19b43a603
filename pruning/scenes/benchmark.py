"""Accuracy on held-out pictures of a world, by question family, for any method at any retention ratio.

An answer is right when the model's greedy answer is the one expected, and nothing after it. That is decided by
forcing the expected answer and comparing every step's most likely token: one batched pass for all methods of a budget
instead of a decoding loop each, with the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from PIL import Image
from torch import Tensor

from pruning.choosing import Asked, Runs, came_to, chooser, needs_of
from pruning.encoding import Again, Encoding, EncodingMethod
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
    def encode(
        self, images: Sequence[Image.Image], needs: frozenset[str] = ..., asked: Encoding | None = None
    ) -> Any: ...
    def tokens(self, encoded: Any, question: str, needs: frozenset[str] = ...) -> VisualTokens: ...
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
    if scenes < 1 or per_family < 1:
        raise ValueError(f"{scenes} scenes with {per_family} questions a family: both must be at least 1.")
    fixed = [label for label, each in methods.items() if isinstance(each, Published | Plan)]
    swept = [(label, r) for r in retentions for label in methods if label not in fixed]
    cells: list[Cell] = [("all tokens", 1.0), *swept, *((label, None) for label in fixed)]
    cells = [cell for cell in cells if cell not in skip]
    came: dict[Cell, list[float]] = {cell: [] for cell in cells}
    rival = next((label for label, each in methods.items() if isinstance(each, EncodingMethod)), None)
    verdicts: dict[Cell, list[bool]] = {cell: [] for cell in cells}
    right = {cell: dict.fromkeys(world.families, 0) for cell in cells}
    asked = dict.fromkeys(world.families, 0)
    needs = frozenset[str]().union(*map(needs_of, methods.values()))
    end = [model.tokenizer.eos_token_id]
    for i in range(scenes):
        picture = world.draw(first + i, *SIZES[i % len(SIZES)])
        images = [Image.fromarray(picture.image)]
        encoded, again = model.encode(images, needs - {"question"}), _again(model, images)
        kept: dict[Cell, Runs] = {}
        for question in world.questions(picture, 0, per_family):
            asked[question.family] += 1
            tokens = model.tokens(encoded, question.text, needs)
            kept.update(_select(tokens, methods, cells[1:], per, kept, model, again))
            for cell, runs in kept.items():
                came[cell].append(came_to(runs, model.layers, tokens.n))
            answer = model.tokenizer(question.answer, add_special_tokens=False).input_ids + end
            selections = [None, *(kept[cell] for cell in cells[1:])]
            found = model.logprobs(encoded, question.text, answer, selections, positions=positions)
            for cell, said in zip(cells, found, strict=True):
                verdicts[cell].append(said.argmax(-1).tolist() == answer)
                right[cell][question.family] += verdicts[cell][-1]
        if progress:
            progress(i + 1, scenes)
    return [
        Row(
            cell[0],
            _mean(came[cell]) if cell[1] is None else cell[1],
            right[cell],
            asked,
            _mean(came[cell]),
            *_split(verdicts[cell], verdicts.get((str(rival), cell[1]))),
        )
        for cell in cells
    ]


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


def _again(model: Model, images: Sequence[Image.Image]) -> Again:
    return lambda asked: model.encode(images, asked=asked)


def _select(
    tokens: VisualTokens,
    methods: Mapping[str, Asked],
    cells: Sequence[Cell],
    per: Scope,
    known: Mapping[Cell, Runs],
    model: Model,
    again: Again,
) -> Iterator[tuple[Cell, Runs]]:
    """What every method keeps in every cell, where that is not known yet or that depends on the question."""
    for label, asked in methods.items():
        mine = [cell for cell in cells if cell[0] == label]
        if "question" not in needs_of(asked) and all(cell in known for cell in mine):
            continue
        wanted = {cell: 1.0 if cell[1] is None else cell[1] for cell in mine}
        choose = chooser(asked, tokens, model.layers, list(wanted.values()), per, again)
        yield from ((cell, choose(retention)) for cell, retention in wanted.items())
