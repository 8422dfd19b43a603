"""What rules see at their cuts: captured by hooks while the prompt goes through, and only what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pruning.models.language import finite
from pruning.models.language.rows import attention_rows, distance_rows, key_states, seen_by
from pruning.models.values import ModelError
from pruning.ops.queries import received
from pruning.plan import Cut
from pruning.seen import Received, Transition, tensors_of

Hook = tuple[Any, Callable[..., None]]


class Sight:
    """The signals of one prefill, on the device of `text`, whichever device each layer is on.

    present() gives the places in the prompt of what the layer at work processes.
    """

    def __init__(self, model: Any, cuts: Sequence[Cut], text: Tensor, visual: Tensor, present: Callable[[], Tensor]):
        self._model, self._decoder = model, model.get_decoder()
        self._layers, self._text, self._visual, self._present = self._decoder.layers, text, visual, present
        self._asked = {cut.after: cut.rule.needs for cut in cuts}
        # Of every cut that reads attention: the layers whose attention it reads, and what of it.
        self._sources = [(cut, self._source_of(cut, cuts), names) for cut in cuts if (names := cut.rule.needs & BEFORE)]
        self._seen: dict[tuple[int, str], Any] = {}
        self._transitions: list[Transition] = []
        self._received: dict[str, list[Received]] = {name: [] for name in RECEIVED}

    def hooks(self) -> Iterator[Hook]:
        """(module, forward hook) of everything to capture: a hook takes module, arguments, named ones and result."""
        for cut, layer, names in self._sources:
            yield self._layers[layer].self_attn, self._attention(cut, self._layers[layer], names)
        for i in range(self._last("transitions")):
            yield from self._changes(i)
        for name in sorted(RECEIVED):
            for i in range(self._last(name)):
                if hasattr(self._layers[i], "self_attn"):
                    yield self._layers[i].self_attn, self._sums(i, name)

    def _last(self, name: str) -> int:
        """Layers before the last cut that asks for a signal of all layers so far."""
        return max((after for after, needs in self._asked.items() if name in needs), default=0)

    def signals(self, cut: Cut, hidden: Tensor, named: dict[str, Any]) -> dict[str, Any]:
        """What the rule of a cut asked for. hidden: (1, R, D) what enters the next layer, with its named arguments.

        Raises:
            ModelError: NaN or infinite numbers, or a layer without attention where a rule needs its rows.
        """
        needs, found = cut.rule.needs, {n: v for (after, n), v in self._seen.items() if after == cut.after}
        if needs & NEXT:
            layer = self._layers[cut.after]
            if not hasattr(layer, "self_attn"):
                raise _blind(cut, cut.after + 1)
            inputs = layer.input_layernorm(hidden)
            found |= self._rows(needs, "next_", layer, inputs, named)
        if "hidden" in needs:
            found["hidden"] = hidden[0].float()
        if "normed" in needs:
            found["normed"] = self._decoder.norm(hidden)[0].float()
        if "embeddings" in needs:
            found["embeddings"] = self._seen[0, "embeddings"]
        if "transitions" in needs:
            found["transitions"] = tuple(self._transitions)
        found |= {name: tuple(self._received[name]) for name in needs & RECEIVED}
        found = {name: v.to(self._text.device) if isinstance(v, Tensor) else v for name, v in found.items()}
        self._check(cut, *found.values())
        return found

    def _check(self, cut: Cut, *signals: Any) -> None:
        finite.check((tensor for signal in signals for tensor in tensors_of(signal)), f"The cut '{cut}'", self._model)

    def entered(self, hidden: Tensor) -> None:
        """Note what enters the first layer, (1, n, D) for the whole prompt, where a rule asked for it."""
        if any("embeddings" in needs for needs in self._asked.values()):
            states = hidden[0].to(self._text.device).float()
            self._seen[0, "embeddings"] = (states[self._visual], states[self._text])

    def _source_of(self, cut: Cut, cuts: Sequence[Cut]) -> int:
        """The last layer with attention before a cut, none of whose tokens have left since."""
        start = max((other.after for other in cuts if other.after < cut.after), default=0)
        layers = [i for i in range(start, cut.after) if hasattr(self._layers[i], "self_attn")]
        if not layers:
            raise _blind(cut, cut.after)
        return layers[-1]

    def _attention(self, cut: Cut, layer: Any, names: frozenset[str]) -> Callable[..., None]:
        def note(module: Any, args: tuple[Any, ...], named: dict[str, Any], _result: Any) -> None:
            hidden, rotation = _given(args, named), named["position_embeddings"]
            found = self._rows(names, "", layer, hidden, named)
            if "keys" in names:
                found["keys"] = key_states(module, hidden, rotation).float().transpose(0, 1).flatten(1)
            if "attention" in names:
                found["attention"] = self._function(cut, module, hidden, named)
            self._seen.update({(cut.after, name): value for name, value in found.items()})

        return note

    def _function(self, cut: Cut, module: Any, hidden: Tensor, named: dict[str, Any]) -> Callable[[Tensor], Tensor]:
        """(r,) places among what the layer processes -> (H, r, R) attention, computed when it is asked for."""
        every = _reader(module, hidden, named)

        def rows(places: Tensor) -> Tensor:
            found = every(places).to(self._text.device)
            self._check(cut, found)
            return found

        return rows

    def _sums(self, i: int, name: str) -> Callable[..., None]:
        def note(module: Any, args: tuple[Any, ...], named: dict[str, Any], _result: Any) -> None:
            hidden = _given(args, named)
            rows = _reader(module, hidden, named)
            if name == "received":
                values = received(rows, hidden.shape[1])
            else:
                values = rows(torch.tensor([hidden.shape[1] - 1])).mean((0, 1))
            self._received[name].append(Received(i, self._present(), values.to(self._text.device)))

        return note

    def _rows(self, asked: frozenset[str], kind: str, layer: Any, hidden: Tensor, named: dict[str, Any]) -> Any:
        """Rows of the text: of the layer's attention, or of distance alone, by name."""
        places, found = self._present().to(hidden.device), dict[str, Tensor]()
        text = torch.searchsorted(places, self._text.to(hidden.device))
        given = (layer.self_attn, hidden, named["position_embeddings"])
        sees = seen_by(text, hidden.shape[1], named.get("attention_mask"))
        if f"{kind}last_attention" in asked:
            found[f"{kind}last_attention"] = attention_rows(*given, text[-1:], sees[-1:])[:, 0]
        if f"{kind}text_attention" in asked:
            found[f"{kind}text_attention"] = attention_rows(*given, text, sees)
        if not kind and "gravity" in asked:
            found["gravity"] = distance_rows(*given, text, sees)
        return found

    def _changes(self, i: int) -> Iterator[Hook]:
        """Hooks that note what layer i's two modules add to its tokens, relative to what they are given."""
        layer, inputs, noted = self._layers[i], {}, list[tuple[Tensor, Tensor]]()
        attention = getattr(layer, "self_attn", None) or layer.linear_attn
        # With a norm after the module, what is added is the norm's output.
        behind = hasattr(layer, "post_feedforward_layernorm")
        ends = (layer.post_attention_layernorm, layer.post_feedforward_layernorm) if behind else (attention, layer.mlp)

        def given(which: int) -> Callable[..., None]:
            def note(_module: Any, args: tuple[Any, ...], named: dict[str, Any], _result: Any) -> None:
                inputs[which] = _given(args, named)[0].float()

            return note

        def added(which: int) -> Callable[..., None]:
            def note(_module: Any, _args: Any, _named: Any, result: Any) -> None:
                change, x = (result[0] if isinstance(result, tuple) else result)[0].float(), inputs.pop(which)
                ratio = change.norm(dim=-1) / x.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
                noted.append((ratio, torch.cosine_similarity(change, x, dim=-1)))
                if which == 1:
                    pairs = [torch.stack(pair).to(self._text.device) for pair in zip(*noted, strict=True)]
                    self._transitions.append(Transition(i, self._present(), *pairs))
                    noted.clear()

            return note

        for which, (module, end) in enumerate(zip((attention, layer.mlp), ends, strict=True)):
            yield module, given(which)
            yield end, added(which)


def _reader(module: Any, hidden: Tensor, named: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """(r,) places among what an attention module is given -> (H, r, R) its attention there."""
    rotation, mask = named["position_embeddings"], named.get("attention_mask")

    def rows(places: Tensor) -> Tensor:
        places = places.to(hidden.device)
        return attention_rows(module, hidden, rotation, places, seen_by(places, hidden.shape[1], mask))

    return rows


def _given(args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """(1, R, D) what a module is given."""
    hidden: Tensor = args[0] if args else named["hidden_states"]
    return hidden


BEFORE = frozenset({"last_attention", "text_attention", "keys", "attention", "gravity"})
RECEIVED = frozenset({"received", "received_from_last"})
NEXT = frozenset({"next_last_attention", "next_text_attention"})


def _blind(cut: Cut, layer: int) -> ModelError:
    return ModelError(
        f"the cut '{cut}' reads attention that layer {layer} of this model does not have (it is linear): cut "
        "elsewhere, or choose a rule that reads no attention"
    )
