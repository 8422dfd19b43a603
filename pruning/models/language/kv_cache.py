"""Keys and values of what a conversation has said so far, so that its next turn computes only what is new."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pruning.models.language.stages import Stages
from pruning.models.values import Prompt


class ConversationCache:
    """The KV cache of one conversation about one set of kept tokens; empty at first.

    Give it to `VLM.generate` turn after turn. What the new prompt and the remembered tokens have in common from the
    start is kept, the rest is dropped, so the answer is the one that a fresh prefill would give, whatever the memory
    holds. It serves one generation at a time. Where a plan has let tokens leave between layers, they have left for the
    later turns too.
    """

    def __init__(self) -> None:
        self.cache: Any = None
        self._ids: list[int] = []
        self._positions: Tensor | None = None  # (3, 1, n) or (1, n)
        self._mark: int | None = None
        self.stages: Stages | None = None  # what the layers do not hold of these tokens

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held, and of the states of layers that have no keys (linear attention)."""
        layers = [] if self.cache is None else self.cache.layers
        return sum(t.numel() * t.element_size() for layer in layers for t in _held(layer))

    def reuse(self, prompt: Prompt, mark: int) -> int:
        """Tokens of `prompt` that need no computing, at most all but the last; what does not agree is forgotten.

        mark: identifies the visual rows; with others, nothing can be reused.
        """
        common = self._common(prompt) if mark == self._mark else 0
        common = min(common, prompt.n - 1)
        if common <= int(prompt.visual.max()) or not self._crop(common):
            self.forget()
            common = 0
        self._mark = mark
        return common

    def forget(self) -> None:
        """Hold nothing, as at first."""
        self.cache, self._ids, self._positions, self._mark, self.stages = None, [], None, None, None

    def add(self, ids: Tensor, positions: Tensor) -> None:
        """Note that the cache now also holds these tokens, (1, m) at positions (…, 1, m)."""
        self._ids += ids[0].tolist()
        positions = positions.cpu()
        self._positions = positions if self._positions is None else torch.cat([self._positions, positions], dim=-1)

    def _common(self, prompt: Prompt) -> int:
        if self._positions is None:
            return 0
        n = min(len(self._ids), prompt.n)
        same = torch.tensor(self._ids[:n]) == prompt.input_ids[0, :n]
        same &= (self._positions[..., :n] == prompt.positions[..., :n]).reshape(-1, n).all(0)
        return n if bool(same.all()) else int((~same).nonzero()[0])

    def _crop(self, length: int) -> bool:
        """Forget all after `length` tokens. False where the cache cannot."""
        surplus = len(self._ids) - length
        if self.cache is None or length == 0:
            return False
        if surplus:
            if not all(_can_forget(layer) for layer in self.cache.layers):
                return False
            self.cache.crop(-surplus)
        self._ids = self._ids[:length]
        self._positions = None if self._positions is None else self._positions[..., :length]
        return True


def _held(layer: Any) -> list[Tensor]:
    found = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    for states in ("conv_states", "recurrent_states"):
        found += getattr(layer, states, {}).values()
    return [value for value in found if isinstance(value, Tensor)]


def _can_forget(layer: Any) -> bool:
    """Whether the last tokens can be taken out of a cache layer.

    Not where a full window has dropped what came before, nor where every token overwrites a state (linear attention).
    """
    if hasattr(layer, "conv_states"):
        return False
    return not getattr(layer, "is_sliding", False) or layer.get_seq_length() < layer.sliding_window
