"""The benchmark counts what a model really says about held-out scenes."""

from dataclasses import dataclass

import pytest
import torch
from PIL import Image

from pruning import make
from pruning.budget import keep_count
from pruning.encoding import make_encoding
from pruning.grids import Grid
from pruning.race.benchmark import run
from pruning.scenes.questions import VOCABULARY, questions
from pruning.scenes.render import HELD_OUT, render
from pruning.tokens import VisualTokens


class Reader:
    """Knows the answer to each question and says it while token 0 is kept; says "no" otherwise."""

    layers = 4
    words = ("<end>", *VOCABULARY)

    class tokenizer:  # noqa: N801
        eos_token_id = 0

        def __new__(cls, text: str, add_special_tokens: bool = True) -> object:
            return type("Ids", (), {"input_ids": [Reader.words.index(text)]})

    def encode(self, images: list[Image.Image], needs: frozenset[str] = frozenset()) -> VisualTokens:
        width, height = images[0].size
        grid = Grid(1, height // 28, width // 28)
        return VisualTokens(torch.eye(grid.count), (grid,))

    def tokens(self, encoded: VisualTokens, question: str, needs: frozenset[str] = frozenset()) -> VisualTokens:
        return encoded

    def logprobs(self, encoded, question, answer_ids, selections, positions="original"):  # type: ignore[no-untyped-def]
        said = []
        for kept in selections:
            ids = answer_ids if kept is None or 0 in kept.order else [self.words.index("no"), 0]
            said.append(torch.nn.functional.one_hot(torch.tensor(ids), len(self.words)).float())
        return said


def test_the_benchmark_counts_by_family() -> None:
    calls: list[tuple[int, int]] = []
    methods = {"uniform": make("uniform"), "random": make("random", seed=3)}
    rows = run(Reader(), methods, [0.5, 0.1], scenes=6, progress=lambda i, n: calls.append((i, n)))
    assert [(r.method, r.retention) for r in rows] == [
        ("all tokens", 1.0), ("uniform", 0.5), ("random", 0.5), ("uniform", 0.1), ("random", 0.1)]  # fmt: skip
    assert rows[0].accuracy == 1.0
    assert rows[0].of("reading") == 1.0
    for row in rows[1:]:  # right where token 0 stays, and where "no" is the truth anyway
        expected = 0
        for i in range(6):
            scene = render(HELD_OUT + i, *((448, 448), (336, 448), (336, 336))[i % 3])
            tokens = Reader().encode([Image.fromarray(scene.image)])
            stays = 0 in methods[row.method].select(tokens, keep_count(tokens.n, row.retention)).order
            expected += sum(stays or q.answer == "no" for q in questions(scene, 0))
        assert sum(row.right.values()) == expected
    assert calls[-1] == (6, 6)
    assert sum(rows[0].asked.values()) == len([q for i in range(6) for q in questions(
        render(HELD_OUT + i, *((448, 448), (336, 448), (336, 336))[i % 3]), 0)])  # fmt: skip


def test_the_benchmark_asks_for_what_the_methods_need_and_hands_on_what_they_merged() -> None:
    asked: list[tuple[str, frozenset[str]]] = []
    merged: list[bool] = []

    class Spy(Reader):
        def encode(self, images, needs=frozenset()):  # type: ignore[no-untyped-def]
            asked.append(("encode", needs))
            return super().encode(images, needs)

        def tokens(self, encoded, question, needs=frozenset()):  # type: ignore[no-untyped-def]
            asked.append(("tokens", needs))
            signals = {name: torch.ones(encoded.n) for name in ("scorer", "vision_attention@-1")}
            question = torch.eye(encoded.n)[: 1 + len(asked) % 2]
            return encoded.with_signals(signals, question=question)

        def logprobs(self, encoded, question, answer_ids, selections, positions="original"):  # type: ignore[no-untyped-def]
            merged.extend(kept is not None and kept.rows is not None for kept in selections)
            return super().logprobs(encoded, question, answer_ids, selections)

    methods = {name: make(name) for name in ("idpruner", "aim")}
    methods["relevance"] = make("idpruner", importance="relevance")
    run(Spy(), methods, [0.5], scenes=1)
    assert set(asked) == {("encode", frozenset({"scorer"})), ("tokens", frozenset({"scorer", "question"}))}
    assert asked[0][0] == "encode"
    assert merged == [False, False, True, False] * (len(asked) - 1)


def test_the_benchmark_gives_every_tile_its_own_budget() -> None:
    kept: list[torch.Tensor] = []

    class Tiled(Reader):
        def encode(self, images, needs=frozenset()):  # type: ignore[no-untyped-def]
            tiles = tuple(Grid(1, 4, 4, 16 * i, role="tile") for i in range(3))
            return VisualTokens(torch.eye(48), tiles)

        def logprobs(self, encoded, question, answer_ids, selections, positions="original"):  # type: ignore[no-untyped-def]
            kept.extend(chosen.indices for chosen in selections[1:])
            return super().logprobs(encoded, question, answer_ids, selections)

    run(Tiled(), {"divprune": make("divprune")}, [0.25], scenes=1, per="tile")
    assert kept
    assert all((indices // 16).bincount().tolist() == [4, 4, 4] for indices in kept)


def test_the_benchmark_refuses_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="0 scenes"):
        run(Reader(), {}, [0.5], scenes=0)


@dataclass
class Coarse:
    tokens: VisualTokens


class Blurred(Reader):
    """Gets every second question right in another encoding, and in all others what the reader does."""

    def encode(self, images, needs=frozenset(), asked=None):  # type: ignore[no-untyped-def]
        self.turn = 0
        made = super().encode(images, needs)
        return made if asked is None else Coarse(VisualTokens(made.features[: asked.most], (Grid(1, 1, asked.most),)))

    def logprobs(self, encoded, question, answer_ids, selections, positions="original"):  # type: ignore[no-untyped-def]
        self.turn += 1
        plain = [None if isinstance(kept, Coarse) else kept for kept in selections]
        said = super().logprobs(encoded, question, answer_ids, plain)
        wrong = torch.nn.functional.one_hot(torch.tensor([1, 0]), len(self.words)).float()
        coarse = [isinstance(kept, Coarse) and self.turn % 2 for kept in selections]
        return [wrong if blurred else logits for blurred, logits in zip(coarse, said, strict=True)]


def test_questions_that_another_encoding_gets_wrong_are_difficult() -> None:
    methods = {"lower": make_encoding("lower_resolution"), "uniform": make("uniform"), "random": make("random", seed=3)}
    rows = run(Blurred(), methods, [0.25], scenes=3)
    everything, lower, *others = rows
    total = sum(everything.asked.values())
    assert everything.difficult is everything.simple is None
    assert lower.came_to == pytest.approx(0.25)
    assert lower.difficult == (0, lower.difficult[1])
    assert lower.simple == (lower.simple[1], lower.simple[1])
    assert 0 < lower.difficult[1] < total
    for row in others:
        assert [row.difficult[1], row.simple[1]] == [lower.difficult[1], lower.simple[1]]
        assert row.difficult[0] + row.simple[0] == sum(row.right.values())
    assert all(row.difficult is None for row in run(Blurred(), {"uniform": make("uniform")}, [0.25], scenes=1))
