"""The one map from a method's declared parameters to Gradio components, and back from their values to a method.

A knob that several methods declare alike (the importance source) is one component, shown while any of them is chosen.
λ is no component of its own: it is what the two weight sliders say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.session import Session, Setting
from pruning.choosing import Fixed, methods_of
from pruning.params import LAMBDA, SOURCE, Param, params
from pruning.plan import Plan
from pruning.runnable import REGISTERED, Started, made
from pruning.weights import mmr_lambda

Present = Callable[[Capabilities, Session, Sequence[Any]], Setting]
"""What the controls say now, from the values of `ControlValues`: `Handlers.setting`."""


@dataclass(frozen=True)
class ControlValues:
    """What the setting's controls say, as their components hold it: nothing is checked yet.

    Its fields stand in the order in which the page hands over its components. knobs: in the order of `Controls.knobs`.
    """

    method: Any
    overlay: Any
    scope: Any
    importance: Any
    diversity: Any
    retention: Any
    plan: Any
    positions: Any
    knobs: tuple[Any, ...]

    @classmethod
    def read(cls, values: Sequence[Any]) -> ControlValues:
        """From the values of those components; the only place that knows their order beside the page's layout."""
        method, overlay, scope, importance, diversity, retention, plan, positions, *knobs = values
        return cls(method, overlay, scope, importance, diversity, retention, plan, positions, tuple(knobs))


@dataclass(frozen=True)
class Knob:
    """One control: a declared parameter, and the methods that declare it in just this form."""

    param: Param
    methods: frozenset[str]


class Controls:
    """All controls of all registered methods. Which of them a model can run is its `Capabilities`'s to say."""

    def __init__(self) -> None:
        shared: dict[Param, set[str]] = {}
        for name, cls in REGISTERED.items():
            for param in params(cls):
                if param.name != LAMBDA:
                    shared.setdefault(param, set()).add(name)
        self.knobs = tuple(Knob(param, frozenset(names)) for param, names in shared.items())

    def components(self, method: str, capabilities: Capabilities) -> list[gr.Slider | gr.Dropdown]:
        """One component per knob, in the order of `knobs`; those of other methods are hidden."""
        named = Counter[str]()
        components = []
        for knob in self.knobs:
            named[knob.param.name] += 1
            place = f"-{named[knob.param.name]}" if named[knob.param.name] > 1 else ""
            components.append(
                _component(knob.param, f"knob-{knob.param.name}{place}", method in knob.methods, capabilities)
            )
        return components

    def visibility(self, method: str) -> list[dict[str, Any]]:
        """Updates that show just the chosen method's knobs."""
        return [gr.update(visible=method in knob.methods) for knob in self.knobs]

    def for_model(self, method: str, capabilities: Capabilities) -> list[dict[str, Any]]:
        """The same after a change of model, which offers importance sources of its own."""
        more = {"choices": _sources(capabilities), "value": capabilities.source}
        return [
            gr.update(visible=method in knob.methods, **(more if knob.param.name == SOURCE else {}))
            for knob in self.knobs
        ]

    def defaults(self, capabilities: Capabilities) -> list[Any]:
        return [_start(knob.param, capabilities) for knob in self.knobs]

    def has_lambda(self, method: str) -> bool:
        return method in REGISTERED and REGISTERED[method].has(LAMBDA)

    def method(self, capabilities: Capabilities, values: ControlValues) -> Started:
        """The method that the controls describe. Raises ValueError as `named`."""
        return self.named(capabilities, values.method, values.importance, values.diversity, self._own(values))

    def plan(self, capabilities: Capabilities, values: ControlValues) -> Fixed | None:
        """The plan that stands in the method's place, with those of the method's knobs that its methods have; None
        where there is none. Raises ValueError as `planned`.
        """
        if not values.plan:
            return None
        plan = capabilities.plan(values.plan)
        if not isinstance(plan, Plan):
            return plan
        own = {
            name: value for name, value in self._own(values).items() if any(REGISTERED[m].has(name) for m in plan.names)
        }
        return self.planned(capabilities, values.plan, values.importance, values.diversity, own)

    def _own(self, values: ControlValues) -> dict[str, Any]:
        held = zip(self.knobs, values.knobs, strict=True)
        return {knob.param.name: value for knob, value in held if values.method in knob.methods}

    def named(
        self, capabilities: Capabilities, name: object, importance: object, diversity: object, own: Mapping[str, Any]
    ) -> Started:
        """A method from its knobs by name, as the API gives them; those left out start as the page's do.

        Raises ValueError for a name that is unknown or that this model cannot run, weights or a knob out of range.
        """
        name = capabilities.check(name)
        known = params(REGISTERED[name])
        unknown = sorted(set(own) - {param.name for param in known})
        if unknown:
            raise ValueError(f"{name} has no knob {unknown[0]!r}")
        given = {param.name: own.get(param.name, _start(param, capabilities)) for param in known}
        if REGISTERED[name].has(LAMBDA):
            given[LAMBDA] = mmr_lambda(importance, diversity)
        return made(name, given)

    def planned(
        self, capabilities: Capabilities, text: object, importance: object, diversity: object, own: Mapping[str, Any]
    ) -> Fixed:
        """A plan, or a published schedule by its name, with knobs for those of its methods that have them; the weights
        are λ of those that have one. Raises ValueError as `Capabilities.plan`, and for weights out of range.
        """
        plan = capabilities.plan(text)
        if isinstance(plan, Plan) and any(map(self.has_lambda, methods_of(plan))):
            own = {**own, LAMBDA: mmr_lambda(importance, diversity)}
        return capabilities.plan(text, own) if own else plan


def words(key: str) -> str:
    """ "vision_attention" → "Vision attention"."""
    return key.replace("_", " ").capitalize()


def _start(param: Param, capabilities: Capabilities) -> Any:
    return capabilities.source if param.name == SOURCE else param.default


def _sources(capabilities: Capabilities) -> list[tuple[str, str]]:
    return [(words(source), source) for source in capabilities.sources()]


def _component(param: Param, elem_id: str, visible: bool, capabilities: Capabilities) -> gr.Slider | gr.Dropdown:
    shared: dict[str, Any] = {
        "label": param.label,
        "info": param.help,
        "visible": visible,
        "min_width": 130,
        "elem_id": elem_id,
    }
    if param.kind == "choice":
        choices = (
            _sources(capabilities) if param.name == SOURCE else [(words(choice), choice) for choice in param.choices]
        )
        return gr.Dropdown(choices, value=_start(param, capabilities), filterable=False, **shared)
    return gr.Slider(param.lo, param.hi, value=param.default, step=param.step, buttons=[], **shared)
