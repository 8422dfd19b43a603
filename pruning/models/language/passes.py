"""The two kinds of passes through stages, as hooks before the layers: over the prompt, and over what follows it.

They know what a decoder layer of the model library takes: states of shape (1, n, D) first, all else by name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pruning.models.language.sight import Sight
from pruning.plan import Cut
from pruning.seen import Seen

if TYPE_CHECKING:
    from pruning.models.language.stages import Stages


class StoppedError(Exception):
    """Somebody asked to stop while the prompt went through the layers."""


class First:
    """The pass over the prompt: cuts are made, and what each layer is given is shortened."""

    def __init__(self, stages: Stages, cancel: threading.Event | None):
        self.stages, self.cancel = stages, cancel
        device = stages.model.device
        self.rows = torch.arange(stages.prompt.n, device=device)  # places in the prompt that are still processed
        self.carried = self.rows  # those that the states between two layers hold
        self.tokens = stages.tokens.to(device)
        self.visual = stages.prompt.visual.to(device)  # place of each token alive
        self.sight = Sight(
            stages.model, list(stages.cuts.values()), stages.text.to(device), self.visual, lambda: self.rows
        )
        stages.order, stages.scores, stages.gone = [], [], []

    def before(self, i: int) -> Callable[..., Any]:
        def shorten(_layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if self.cancel is not None and self.cancel.is_set():
                raise StoppedError
            hidden = args[0] if args else named["hidden_states"]
            if i == 0:
                self.sight.entered(hidden)
            cut = self.stages.cuts.get(i)
            if cut is None and len(self.rows) == self.stages.prompt.n:
                self._hold(i)
                return None
            hidden = hidden.index_select(1, torch.searchsorted(self.carried, self.rows).to(hidden.device))
            if cut is not None:
                hidden = self._cut(cut, hidden, _shortened(named, self.rows))
            self._hold(i)
            if i >= self.stages.levels:
                self.carried = self.rows
            if i == self.stages.depth - 1 and self.stages.evict_early:
                self._evict(named.get("cache", named.get("past_key_values")))
            named = _shortened(named, self.rows)
            return ((hidden, *args[1:]), named) if args else ((), {**named, "hidden_states": hidden})

        return shorten

    def others(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        yield from self.sight.hooks()
        if self.stages.cuts:
            yield from ((layer, self._restore) for layer in self.stages.layers[: self.stages.levels])

    def _restore(self, _layer: Any, args: tuple[Any, ...], _named: Any, result: Any) -> Any:
        """A layer's result at its rows among all: DeepStack adds to the states of the whole prompt."""
        if len(self.rows) == len(self.carried):
            return None
        out = result[0] if isinstance(result, tuple) else result
        full = out.new_zeros(out.shape[0], len(self.carried), out.shape[2]).index_copy(1, self.rows.to(out.device), out)
        return (full, *result[1:]) if isinstance(result, tuple) else full

    def _hold(self, i: int) -> None:
        missing = torch.ones(self.stages.prompt.n, dtype=torch.bool, device=self.rows.device)
        missing[self.rows] = False
        assert len(self.stages.gone) == i, "a layer ran twice"
        self.stages.gone.append(missing.nonzero()[:, 0])

    def _evict(self, cache: Any) -> None:
        """Before the last layer: those below it, which are done, keep what it will hold, and no more."""
        every = torch.arange(self.stages.prompt.n, device=self.rows.device)
        for layer, gone in zip(cache.layers, self.stages.gone[:-1], strict=False):
            held = every[~torch.isin(every, gone)]
            at = torch.searchsorted(held, self.rows).to(layer.keys.device)
            layer.keys, layer.values = layer.keys.index_select(-2, at), layer.values.index_select(-2, at)
        self.stages.gone = [self.stages.gone[-1]] * self.stages.depth

    def _cut(self, cut: Cut, hidden: Tensor, named: dict[str, Any]) -> Tensor:
        """Let the rule choose; returns the states of what stays, (1, R, D)."""
        stages, before = self.stages, self.rows
        signals = self.sight.signals(cut, hidden, named)
        if "entry_scores" in cut.rule.needs and stages.entry_scores is not None:
            signals["entry_scores"] = stages.entry_scores.to(before.device)[self.tokens].float()
        seen = Seen(
            cut.after,
            stages.depth,
            stages.n,
            self.tokens,
            before,
            torch.searchsorted(before, self.visual),
            torch.searchsorted(before, stages.text.to(before.device)),
            stages.images.to(before.device)[self.tokens],
            len(stages.order),
            signals,
        )
        choice = cut.rule.choose(seen, stages.counts[cut.after])
        if choice.scores is not None:
            scores = torch.full((stages.n,), torch.nan)
            scores[self.tokens.cpu()] = choice.scores.float().cpu()
            stages.scores.append((cut.after, scores))
        if choice.merged is not None and choice.merged_rows is not None:
            at = seen.visual[choice.merged].to(hidden.device)
            hidden = hidden.index_copy(1, at, choice.merged_rows.to(hidden)[None])
        stays = torch.ones(len(before), dtype=torch.bool, device=before.device)
        stays[seen.visual] = False
        kept = choice.order.to(before.device).sort().values
        stays[seen.visual[kept]] = True
        self.rows, self.tokens, self.visual = before[stays], self.tokens[kept], self.visual[kept]
        stages.order.append((cut.after, self.tokens.cpu()))
        return hidden[:, stays.to(hidden.device)]


class Later:
    """A pass over tokens that follow: every layer sees what it holds, at its original distance."""

    def __init__(self, stages: Stages, past: int):
        self.stages, self.past = stages, past

    def others(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        return iter(())

    def before(self, i: int) -> Callable[..., Any]:
        def mask(layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            hidden = args[0] if args else named["hidden_states"]
            attention = getattr(layer, "self_attn", None)
            given, steps = named.get("attention_mask"), hidden.shape[1]
            if attention is None or (given is None and steps == 1 and not getattr(attention, "is_sliding", False)):
                return None
            if given is None and "flash" in (self.stages.model.config._attn_implementation or ""):
                return None  # aligned by its end, which is right for any number of keys
            cache: Any = named.get("cache", named.get("past_key_values"))  # its name up to 5.23
            allowed = self._allowed(i, steps, cache.get_mask_sizes(steps, i)[0], cache.layers[i], hidden.device)
            if given is not None and given.dtype != torch.bool:
                allowed = hidden.new_zeros(allowed.shape).masked_fill(~allowed, torch.finfo(hidden.dtype).min)
            return args, {**named, "attention_mask": allowed[None, None]}

        return mask

    def _allowed(self, i: int, steps: int, kv: int, held: Any, device: torch.device) -> Tensor:
        """(steps, kv) bool: what each new token sees of the keys of layer i, by original places."""
        stored = torch.ones(self.past + steps, dtype=torch.bool, device=device)
        stored[self.stages.gone[i].to(device)] = False
        places = stored.nonzero()[-kv:, 0]
        rows = torch.arange(self.past, self.past + steps, device=device)[:, None]
        allowed = places <= rows
        return allowed & (rows - places < held.sliding_window) if held.is_sliding else allowed


def _shortened(named: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """A layer's named arguments for the places `rows` of the prompt alone."""
    found = dict(named)

    def take(value: Tensor, dim: int) -> Tensor:
        return value.index_select(dim, rows.to(value.device))

    found["position_embeddings"] = tuple(take(part, -2) for part in named["position_embeddings"])
    if isinstance(positions := named.get("position_ids"), Tensor):
        found["position_ids"] = take(positions, -1)
    if isinstance(mask := named.get("attention_mask"), Tensor):
        found["attention_mask"] = take(take(mask, -1), -2) if mask.ndim == 4 else take(mask, -1)
    return found
