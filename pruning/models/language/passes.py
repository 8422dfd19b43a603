"""The two kinds of passes through stages, as hooks before the layers: over the prompts, and over what follows them.

They know what a decoder layer of the model library takes: states of shape (B, n, D) first, all else by name. Prompts of
a batch are padded on the left, and so is what is left of them: the last columns of a row are always its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pruning.models.language.cutting import Cutting
from pruning.models.language.layout import Layout
from pruning.models.language.rotation import Rotation
from pruning.models.language.windows import window_of

if TYPE_CHECKING:
    from pruning.models.language.stages import Stages


class StoppedError(Exception):
    """Somebody asked to stop while the prompt went through the layers."""


class First:
    """The pass over the prompts: cuts are made, and what each layer is given is shortened."""

    def __init__(self, stages: Stages, cancel: threading.Event | None):
        self.stages, self.cancel, device = stages, cancel, stages.model.device
        self.whole = Layout([torch.arange(c.prompt.n, device=device) for c in stages.courses], stages.longest)
        self.layout = self.whole  # what the layer at work processes
        self.carried = self.whole  # what the states between two layers hold
        self.rows = [Cutting(each, stages.model, partial(self._present, at)) for at, each in enumerate(stages.courses)]
        self.rotation = Rotation(stages.model) if stages.renumbers else None
        # (1, n) or (3, 1, n) of each prompt: its positions in the layer at work; of what has left, any.
        self.numbers = [course.prompt.positions.to(device) for course in stages.courses]
        self.anew = False  # whether they are others than those of the prompt
        stages.held, stages.behind = [], []

    def _present(self, at: int) -> Tensor:
        return self.layout.rows[at]

    def before(self, i: int) -> Callable[..., Any]:
        def shorten(layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if self.cancel is not None and self.cancel.is_set():
                raise StoppedError
            hidden = args[0] if args else named["hidden_states"]
            if i == 0:
                for at, row in enumerate(self.rows):
                    row.sight.entered(self.whole.of(at, hidden))
            cutting = any(i in course.cuts for course in self.stages.courses)
            if not cutting and self.layout is self.whole:
                self.stages.held.append(self.layout)
                self.stages.behind.append(None)
                mask = self._near(layer, named.get("attention_mask"))
                return None if mask is named.get("attention_mask") else (args, {**named, "attention_mask": mask})
            if self.carried is not self.layout:
                hidden = self.layout.gather(hidden, self.whole)
            if cutting:
                hidden = self._cut(i, hidden, self._shortened(layer, named))
            assert len(self.stages.held) == i, "a layer ran twice"
            self.stages.held.append(self.layout)
            self.stages.behind.append(self._behind() if self.anew else None)
            if i >= self.stages.levels:
                self.carried = self.layout
            if i == self.stages.depth - 1 and any(course.evict_early for course in self.stages.courses):
                self._evict(named.get("cache", named.get("past_key_values")))
            named = self._shortened(layer, named)
            return ((hidden, *args[1:]), named) if args else ((), {**named, "hidden_states": hidden})

        return shorten

    def others(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        for at, row in enumerate(self.rows):
            yield from ((module, self._own(at, hook)) for module, hook in row.sight.hooks())
        if self.rotation is not None:
            yield from self.rotation.hooks()
        if any(course.cuts for course in self.stages.courses):
            yield from ((layer, self._restore) for layer in self.stages.layers[: self.stages.levels])

    def _own(self, at: int, hook: Callable[..., None]) -> Callable[..., None]:
        """A hook that is shown one prompt of a batch alone, without padding."""

        def shown(module: Any, args: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            shown_named = {name: self._alone(at, value) for name, value in named.items()}
            hook(module, self._alone(at, args), shown_named, self._alone(at, result))

        return shown if self.whole.padded or len(self.rows) > 1 else hook

    def _alone(self, at: int, value: Any) -> Any:
        """States (B, m, D) and masks (B, 1, m, m), in tuples too, of one prompt without padding; all else as it is."""
        if isinstance(value, tuple):
            return tuple(self._alone(at, part) for part in value)
        width = self.layout.width
        if isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] == width:
            return self.layout.of(at, value)
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-2:] == (width, width):
            gap = width - len(self.layout.rows[at])
            return value[at if len(value) > 1 else 0][None, :, gap:, gap:]
        return value

    def _restore(self, _layer: Any, args: tuple[Any, ...], _named: Any, result: Any) -> Any:
        """A layer's result at its rows among all: DeepStack adds to the states of the whole prompts."""
        if self.layout is self.whole:
            return None
        out = result[0] if isinstance(result, tuple) else result
        full = out.new_zeros(out.shape[0], self.whole.width, out.shape[2])
        for at, rows in enumerate(self.layout.rows):
            self.whole.of(at, full).index_copy_(1, rows.to(out.device), self.layout.of(at, out))
        return (full, *result[1:]) if isinstance(result, tuple) else full

    def _cut(self, i: int, hidden: Tensor, named: dict[str, Any]) -> Tensor:
        """Let the rules choose; returns the states of what stays, (B, m, D), and makes their layout the present one.

        named: the next layer's arguments, as they are before the cut.
        """
        states, rows = [], []
        for at, row in enumerate(self.rows):
            own = self.layout.of(at, hidden)
            cut, present = self.stages.courses[at].cuts.get(i), self.layout.rows[at]
            if cut is not None:
                own, present = row.cut(cut, own, present, {name: self._alone(at, x) for name, x in named.items()})
                if self.stages.courses[at].renumbers(cut):
                    positions = self.stages.courses[at].numbered(row.tokens).to(present.device)
                    self.numbers[at], self.anew = self.numbers[at].index_copy(-1, present, positions), True
            states.append(own)
            rows.append(present)
        self.layout = Layout(rows)
        return self.layout.join(states)

    def _at(self) -> Tensor:
        """(B, m) or (3, B, m): where what is left stands in the layer at work; of padding, 0."""
        return torch.cat([
            pad(numbers[..., rows], (self.layout.width - len(rows), 0))
            for numbers, rows in zip(self.numbers, self.layout.rows, strict=True)
        ], dim=-2)  # fmt: skip

    def _behind(self) -> Tensor:
        """(B, 1) or (3, B, 1): by how much what follows the prompts comes earlier in the layer at work."""
        last = [
            course.prompt.positions[..., -1:].to(numbers.device) - numbers[..., -1:]
            for course, numbers in zip(self.stages.courses, self.numbers, strict=True)
        ]
        return torch.cat(last, dim=-2)

    def _evict(self, cache: Any) -> None:
        """Before the last layer: those below it, which are done, keep what it will hold, and no more."""
        for i, held in enumerate(self.stages.held[:-1]):
            rows = [
                last if course.evict_early else own
                for course, last, own in zip(self.stages.courses, self.layout.rows, held.rows, strict=True)
            ]
            after, layer = Layout(rows), cache.layers[i]
            layer.keys, layer.values = after.gather(layer.keys, held), after.gather(layer.values, held)
            self.stages.held[i] = after

    def _shortened(self, layer: Any, named: dict[str, Any]) -> dict[str, Any]:
        """A layer's named arguments for the present layout."""
        found = dict(named)
        pair = named["position_embeddings"]
        if isinstance(positions := named.get("position_ids"), Tensor):
            found["position_ids"] = self.layout.gather(positions, self.whole, dim=-1)
        if self.anew and self.rotation is not None:
            at = self._at()
            found["position_embeddings"] = self.rotation.call(pair).at(at, pair[0].device)
            if isinstance(positions, Tensor) and positions.ndim == at.ndim:
                found["position_ids"] = at.to(positions.device)
        else:
            found["position_embeddings"] = tuple(self.layout.gather(x, self.whole) for x in pair)
        kernel = self.stages.model.config._attn_implementation or ""
        flat = "flash" in kernel or not hasattr(layer, "self_attn")  # who take no mask of pairs
        found["attention_mask"] = self._near(layer, self.layout.mask(named.get("attention_mask"), self.whole, flat))
        return found

    def _near(self, layer: Any, mask: Tensor | None) -> Tensor | None:
        """The mask of a layer with a window, which the library counts by what is left, counted by where that stood."""
        window = window_of(layer) if self.stages.gaps else None
        if window is None:
            return mask
        width = self.layout.width
        stood = torch.stack([
            pad(course.stood.to(rows.device)[rows], (width - len(rows), 0))
            for course, rows in zip(self.stages.courses, self.layout.rows, strict=True)
        ])  # fmt: skip
        near = (stood[:, :, None] - stood[:, None, :] < window)[:, None]
        if mask is None:
            return near & torch.ones(width, width, dtype=torch.bool, device=near.device).tril()
        near = near.to(mask.device)
        return mask & near if mask.dtype == torch.bool else mask.masked_fill(~near, torch.finfo(mask.dtype).min)


class Later:
    """A pass over tokens that follow: every layer sees what it holds, at its original distance."""

    def __init__(self, stages: Stages, past: int):
        self.stages, self.said = stages, past - stages.longest
        self.rotation = Rotation(stages.model) if stages.renumbers else None

    def others(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        return iter(()) if self.rotation is None else self.rotation.hooks()

    def before(self, i: int) -> Callable[..., Any]:
        mask = self._mask(i)

        def renumber(layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            behind = self.stages.behind[i]
            if behind is None or self.rotation is None:
                return mask(layer, args, named)
            pair = named["position_embeddings"]
            call = self.rotation.call(pair)
            at = call.positions - behind.to(call.positions.device)
            named = {**named, "position_embeddings": call.at(at, pair[0].device)}
            if isinstance(given := named.get("position_ids"), Tensor) and given.ndim == at.ndim:
                named["position_ids"] = at.to(given.device)
            return mask(layer, args, named) or (args, named)

        return renumber

    def _mask(self, i: int) -> Callable[..., Any]:
        """A hook before layer i: it sees what it holds. Returns None where nothing of it changes."""

        def mask(layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            hidden = args[0] if args else named["hidden_states"]
            attention = getattr(layer, "self_attn", None)
            given, steps, padded = named.get("attention_mask"), hidden.shape[1], self.stages.held[i].padded
            flash = "flash" in (self.stages.model.config._attn_implementation or "")
            plain = steps == 1 and not getattr(attention, "is_sliding", False)
            # A flash kernel aligns keys by their end, which is right for any number of them.
            if attention is None or (given is None and not padded and (plain or flash)):
                return None
            cache: Any = named.get("cache", named.get("past_key_values"))  # its name up to 5.23
            held = cache.layers[i]
            allowed = self._allowed(i, steps, cache.get_mask_sizes(steps, i)[0], held, hidden.device)
            if flash:
                return args, {**named, "attention_mask": allowed.any(1).long() if padded else None}
            if given is not None and given.dtype != torch.bool:
                allowed = hidden.new_zeros(allowed.shape).masked_fill(~allowed, torch.finfo(hidden.dtype).min)
            return args, {**named, "attention_mask": allowed[:, None]}

        return mask

    def _allowed(self, i: int, steps: int, kv: int, held: Any, device: torch.device) -> Tensor:
        """(B, steps, kv) bool: what each new token sees of the keys of layer i, by original places."""
        rows, stood, longest = [], [], self.stages.held[i].width + self.said + steps
        gone = min(self.said, 0)  # of the prompt's end, where a conversation goes on otherwise
        for course, row in zip(self.stages.courses, self.stages.held[i].rows, strict=True):
            n = course.prompt.n
            following = torch.arange(n + gone, n + self.said + steps, device=row.device)
            rows.append(torch.cat([row[: len(row) + gone], following]).to(device))
            original = course.stood.to(row.device)
            since = original[-1] + 1 + following - n
            stood.append(torch.cat([original[row[: len(row) + gone]], since]).to(device))
        places = torch.stack([pad(row, (longest - len(row), 0), value=-1) for row in rows])
        keys, at = places[:, None, -kv:], places[:, -steps:, None]
        allowed = (keys >= 0) & (keys <= at)
        if not held.is_sliding:
            return allowed
        original = torch.stack([pad(row, (longest - len(row), 0)) for row in stood])
        return allowed & (original[:, -steps:, None] - original[:, None, -kv:] < held.sliding_window)
