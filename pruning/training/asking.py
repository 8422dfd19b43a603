"""Questions as the language model meets them: tokenised, batched, answered in one pass, and marked right or wrong.

An answer is forced token by token, so a price of five characters is five predictions and the end a sixth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.scenes.questions import Question, rephrase
from pruning.scenes.worlds import SCENES, World
from pruning.training import decoder
from pruning.training.shipped import PIECES, new_tokenizer

IDS: Final = {piece: i for i, piece in enumerate(PIECES)}
BEFORE: Final = tuple(IDS[w] for w in ("<|im_start|>", "user", "<|vision_start|>"))
AFTER: Final = tuple(IDS[w] for w in ("<|im_end|>", "<|im_start|>", "assistant"))
END: Final = IDS["<|im_end|>"]
END_WEIGHT: Final = 0.3
"""Of the end of an answer, in the loss: for most answers it follows from what was said."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions about a batch of pictures of one world.

    `ids` (B, Q, L) int64, padded on the left, answers included; `real` (B, Q, L) bool: False on padding.
    `said` (B, Q) int64: tokens of each answer; `family` (B, Q): which of the world's families.
    """

    ids: Tensor
    real: Tensor
    said: Tensor
    family: Tensor

    def to(self, device: torch.device) -> Asked:
        """The same on another device."""
        return Asked(*(t.to(device) for t in (self.ids, self.real, self.said, self.family)))

    @property
    def last(self) -> int:
        """Places at which something is said, the end included."""
        return int(self.said.max()) + 1

    def targets(self) -> tuple[Tensor, Tensor]:
        """What is to be said at the last places (B, Q, last), and the weight of each, 0 before the answer."""
        ends = torch.full_like(self.ids[..., :1], END)
        wanted = torch.cat([self.ids[..., self.ids.shape[-1] - self.last + 1 :], ends], -1)
        place = torch.arange(self.last, device=self.ids.device)
        weight = (place >= self.last - 1 - self.said[..., None]).float()
        weight[..., -1] = END_WEIGHT
        return wanted, weight


@cache
def _tokenizer() -> Any:
    return new_tokenizer().backend_tokenizer


@lru_cache(maxsize=100_000)
def pieces(text: str) -> tuple[int, ...]:
    """Ids of `text` as the model's tokenizer gives them."""
    return tuple(_tokenizer().encode(text, add_special_tokens=False).ids)


def tokenise(question: Question) -> tuple[list[int], int]:
    """Ids of everything after the visual tokens, the answer included; and how many of them are the answer."""
    answer = pieces(question.answer)
    return [IDS["<|vision_end|>"], *pieces(question.text), *AFTER, *answer], len(answer)


def ask_all(
    pictures: Sequence[Any], world: World, rng: np.random.Generator, per_picture: int, reworded: float = 0.2
) -> Asked:
    """`per_picture` questions about each picture, families in turn; where one has none the next one asks.

    reworded: share of the scenes' questions that are put in other words.
    """
    rows, said, family = [], [], []
    for picture in pictures:
        start = int(rng.integers(len(world.families)))
        for q in range(per_picture):
            turn = start + q
            while (question := world.ask(picture, rng, world.families[turn % len(world.families)])) is None:
                turn += 1
            if world is SCENES and rng.random() < reworded:
                question = rephrase(question, rng)
            tokens, length = tokenise(question)
            rows.append(tokens)
            said.append(length)
            family.append(turn % len(world.families))
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    real = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, tokens in enumerate(rows):
        ids[i, -len(tokens) :], real[i, -len(tokens) :] = torch.tensor(tokens), True
    shape = (len(pictures), per_picture)
    return Asked(
        ids.view(*shape, -1), real.view(*shape, -1), torch.tensor(said).view(shape), torch.tensor(family).view(shape)
    )


def prompt_positions(gh: int, gw: int) -> Tensor:
    """M-RoPE positions (3, P) int64 of start and visual tokens, as the library's `get_rope_index` gives them."""
    start = len(BEFORE)
    n = torch.arange(gh * gw)
    place = torch.stack([torch.zeros_like(n), n // gw, n % gw]) + start
    return torch.cat([torch.arange(start).expand(3, -1), place], 1)


def answer(model: Any, visual: Tensor, asked: Asked, gh: int, gw: int, kept: Tensor | None = None) -> Tensor:
    """Logits (B, Q, last, vocabulary) at the places that say the answers and the end.

    visual: (B, N, D). kept: (B, K) int64 ascending, the tokens of each picture that are there, at their own positions.
    """
    embed = model.get_input_embeddings()
    b = len(visual)
    start = embed(torch.tensor(BEFORE, device=visual.device)).expand(b, -1, -1)
    first = len(BEFORE) + max(gh, gw)
    at = first + (asked.real.cumsum(-1) - 1).clamp(min=0)
    head_at = prompt_positions(gh, gw).to(visual.device)
    if kept is not None:
        visual = visual.gather(1, kept[..., None].expand(-1, -1, visual.shape[-1]))
        before, place = head_at[:, None, : len(BEFORE)].expand(-1, b, -1), head_at[:, len(BEFORE) :]
        head_at = torch.cat([before, place[:, kept]], -1)  # (3, B, P)
    prompt = torch.cat([start, visual.to(start.dtype)], 1)
    ask_at = at.expand(3, -1, -1, -1)
    return decoder.answer_logits(
        model.model.language_model, prompt, head_at, embed(asked.ids), ask_at, asked.real, asked.last
    )


def place_loss(model: Any, place: nn.Linear, visual: Tensor, gh: int, gw: int) -> Tensor:
    """Squared error of row and column read off the visual tokens after the first layer; `place` is thrown away.

    The tower's positions are relative, so a feature does not know where it is; the language model can tell from the
    distance to the prompt's start. Without this loss it found that out last, and "left of" with it.
    """
    embed = model.get_input_embeddings()
    start = embed(torch.tensor(BEFORE, device=visual.device)).expand(len(visual), -1, -1)
    head_at = prompt_positions(gh, gw).to(visual.device)
    seen = decoder.first_layer(model.model.language_model, torch.cat([start, visual.to(start.dtype)], 1), head_at)
    where = (head_at[1:, len(BEFORE) :].T.float() - len(BEFORE)) / 8 - 1  # (N, 2)
    return F.mse_loss(place(seen[:, len(BEFORE) :]).float(), where.expand(len(visual), -1, -1))


def answer_loss(logits: Tensor, asked: Asked) -> tuple[Tensor, Tensor]:
    """Weighted mean cross entropy of what is said, and whether each whole answer is right (B, Q) bool."""
    wanted, weight = asked.targets()
    each = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none").view(wanted.shape)
    right = ((logits.argmax(-1) == wanted) | (weight == 0)).all(-1)
    return (each * weight).sum() / weight.sum(), right


def by_family(right: Tensor, asked_family: Tensor, world: World) -> dict[str, float]:
    """Accuracy of each of the world's families; NaN for one that was not asked."""
    return {name: right[asked_family == i].float().mean().item() for i, name in enumerate(world.families)}
