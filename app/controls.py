"""The one map from a method's declared parameters to Gradio components, and back from their values to a method.

A knob that several methods declare alike (the importance source) is one component, shown while any of them is chosen.
λ is no component of its own: it is what the two weight sliders say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine import Engine
from pruning.method import METHODS, Method, make
from pruning.params import Param, params
from pruning.weights import mmr_lambda

LAMBDA = "mmr_lambda"


@dataclass(frozen=True)
class Knob:
    """One control: a declared parameter, and the methods that declare it in just this form."""

    param: Param
    methods: frozenset[str]


def image_input(value: str | None = None, **options: Any) -> gr.Image:
    """An image component that hands over the file as it came: what it holds is checked by `pruning.images` alone.

    The method is replaced on the instance: for a subclass, Gradio writes a stub file beside this one.
    """
    component = gr.Image(value, type="filepath", **options)
    component.preprocess = lambda payload: payload.path if payload is not None else None
    return component


class Board:
    """All controls of all methods that the engine's model can serve."""

    def __init__(self, engine: Engine) -> None:
        self.source = engine.default_source
        self.signals = engine.vlm.signals
        self.refused: dict[str, str] = {}
        self.methods: list[str] = []
        for name in METHODS:
            missing = sorted(self._default(name).needs - self.signals)
            if missing:
                self.refused[name] = f"{METHODS[name].title} needs {', '.join(missing)}"
            else:
                self.methods.append(name)
        shared: dict[Param, set[str]] = {}
        for name in self.methods:
            for param in params(METHODS[name]):
                if param.name != LAMBDA:
                    shared.setdefault(param, set()).add(name)
        self.knobs = tuple(Knob(param, frozenset(names)) for param, names in shared.items())

    def menu(self) -> list[tuple[str, str]]:
        """(title, key) of every method that can run, in the registry's order."""
        return [(METHODS[name].title, name) for name in self.methods]

    def components(self, method: str) -> list[gr.Slider | gr.Dropdown]:
        """One component per knob, in the order of `knobs`; those of other methods are hidden."""
        return [self._component(knob, method in knob.methods) for knob in self.knobs]

    def visibility(self, method: str) -> list[dict[str, Any]]:
        """Updates that show just the chosen method's knobs."""
        return [gr.update(visible=method in knob.methods) for knob in self.knobs]

    def defaults(self) -> list[Any]:
        return [self._start(knob.param) for knob in self.knobs]

    def has_lambda(self, method: str) -> bool:
        return method in METHODS and any(param.name == LAMBDA for param in params(METHODS[method]))

    def method(self, name: object, importance: object, diversity: object, values: Sequence[Any]) -> Method:
        """The method that the controls describe. Raises ValueError for an unknown name, weights or a knob out of
        range.
        """
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"unknown method {name!r}: choose one of {', '.join(self.methods)}")
        if name in self.refused:
            raise ValueError(f"{self.refused[name]}, which this model does not provide: choose another method")
        given = dict(zip(self.knobs, values, strict=True))
        own: dict[str, Any] = {knob.param.name: value for knob, value in given.items() if name in knob.methods}
        if self.has_lambda(name):
            own[LAMBDA] = mmr_lambda(importance, diversity)
        return make(name, **own)

    def named(self, name: object, importance: object, diversity: object, own: Mapping[str, Any]) -> Method:
        """The same from knobs by name, as the API gives them; those left out keep their defaults."""
        if isinstance(name, str) and name in METHODS:
            unknown = sorted(set(own) - {param.name for param in params(METHODS[name])})
            if unknown:
                raise ValueError(f"{name} has no knob {unknown[0]!r}")
        values = [own.get(knob.param.name, self._start(knob.param)) for knob in self.knobs]
        return self.method(name, importance, diversity, values)

    def _default(self, name: str) -> Method:
        declared = {param.name for param in params(METHODS[name])}
        return make(name, importance=self.source) if "importance" in declared else make(name)

    def _start(self, param: Param) -> Any:
        return self.source if param.name == "importance" else param.default

    def _component(self, knob: Knob, visible: bool) -> gr.Slider | gr.Dropdown:
        param = knob.param
        if param.kind == "choice":
            choices = [(words(c), c) for c in param.choices if param.name != "importance" or self._offers(c)]
            return gr.Dropdown(choices, value=self._start(param), label=param.label, info=param.help, visible=visible,
                               filterable=False, min_width=130, elem_id=f"knob-{param.name}")  # fmt: skip
        return gr.Slider(param.lo, param.hi, value=param.default, step=param.step, label=param.label, info=param.help,
                         visible=visible, min_width=130, elem_id=f"knob-{param.name}", buttons=[])  # fmt: skip

    def _offers(self, source: str) -> bool:
        from pruning.importance import signals_for

        return signals_for(source) <= self.signals


def words(key: str) -> str:
    """ "vision_attention" → "Vision attention"."""
    return key.replace("_", " ").capitalize()
