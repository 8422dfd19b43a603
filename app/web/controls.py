"""The one map from a method's declared parameters to the panel of knobs, and back from what that holds to a method.

A knob that several methods declare alike (the importance source) is one control, shown while any of them is chosen. λ
is none of its own: it is what the two weight sliders say.

All knobs are one component: whatever a page asks for carries the settings, and Gradio reads, searches and sends its
inputs one by one, also those that nobody sees.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.session import Session, Setting
from app.web import scripts
from pruning.choosing import Fixed, methods_of
from pruning.params import LAMBDA, SOURCE, Param, Value, params
from pruning.plan import Plan
from pruning.runnable import REGISTERED, Started, made
from pruning.weights import mmr_lambda

Present = Callable[[Capabilities, Session, Sequence[Any]], Setting]
"""What the controls say now, from the values of `ControlValues`: `Handlers.setting`."""


@dataclass(frozen=True)
class ControlValues:
    """What the setting's controls say, as their components hold it: nothing is checked yet.

    Its fields stand in the order in which the page hands over its components. knobs: of the panel, what a visitor set,
    by the `Knob.key`.
    """

    method: Any
    overlay: Any
    scope: Any
    importance: Any
    diversity: Any
    retention: Any
    plan: Any
    positions: Any
    knobs: Mapping[str, Any]

    @classmethod
    def read(cls, values: Sequence[Any]) -> ControlValues:
        """From the values of those components; the only place that knows their order beside the page's layout.

        Raises ValueError for a panel that holds no knobs by their keys.
        """
        method, overlay, scope, importance, diversity, retention, plan, positions, knobs = values
        return cls(method, overlay, scope, importance, diversity, retention, plan, positions, held(knobs))


def held(panel: object) -> Mapping[str, Any]:
    """What a visitor set, by the `Knob.key`, from the value of the panel of knobs.

    Raises ValueError where a program sent something else.
    """
    said = panel.get("held") if isinstance(panel, Mapping) else None
    if not isinstance(said, Mapping):
        raise ValueError(f"knobs = {panel!r} is not allowed: it must be an object such as {{'held': {{'seed': 7}}}}")
    return said


@dataclass(frozen=True)
class Knob:
    """One control: a declared parameter, and the methods that declare it in just this form. key: its name on the page,
    with a number where methods declare knobs of one name differently.
    """

    key: str
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
        named = Counter[str]()
        self.knobs = tuple(Knob(_key(param, named), param, frozenset(names)) for param, names in shared.items())

    def component(self, method: str, capabilities: Capabilities) -> gr.HTML:
        """The panel of knobs. Its `input` tells that a knob stands at another value."""
        return gr.HTML(
            self.panel(method, {}),
            specs=self.specs(capabilities),
            html_template="",
            js_on_load=scripts.start("knobs"),
            elem_id="knobs",
            apply_default_css=False,
            padding=False,
        )

    def panel(self, method: str, held: Mapping[str, Any]) -> dict[str, Any]:
        """The panel's value: which knobs are to be seen, and what visitors set. What nobody set is where it starts."""
        return {"shown": [knob.key for knob in self.knobs if method in knob.methods], "held": dict(held)}

    def specs(self, capabilities: Capabilities) -> str:
        """What the panel has to know of each knob for good, as JSON: a string is not looked into at every event."""
        return json.dumps({knob.key: _spec(knob.param, capabilities) for knob in self.knobs}, ensure_ascii=False)

    def for_model(self, method: str, capabilities: Capabilities, held: Mapping[str, Any]) -> dict[str, Any]:
        """The panel after a change of model, which offers importance sources of its own."""
        own = {knob.key for knob in self.knobs if knob.param.name == SOURCE}
        kept = {key: value for key, value in held.items() if key not in own}
        return gr.update(value=self.panel(method, kept), specs=self.specs(capabilities))

    def keyed(self, method: str, knobs: Mapping[str, Any]) -> dict[str, Value]:
        """A method's knobs by their keys, from those by their names; unknown ones are left out. Raises ValueError for a
        value that is not allowed.
        """
        own = [knob for knob in self.knobs if method in knob.methods and knob.param.name in knobs]
        return {knob.key: knob.param.check(knobs[knob.param.name]) for knob in own}

    def has_lambda(self, method: str) -> bool:
        return method in REGISTERED and REGISTERED[method].has(LAMBDA)

    def method(self, capabilities: Capabilities, values: ControlValues) -> Started:
        """The method that the controls describe. Raises ValueError as `named`."""
        own = self._own(values)
        return self.named(capabilities, values.method, values.importance, values.diversity, own)

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
        """What was set of the method's knobs, by name."""
        own = [knob for knob in self.knobs if values.method in knob.methods and knob.key in values.knobs]
        return {knob.param.name: values.knobs[knob.key] for knob in own}

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


def _key(param: Param, named: Counter[str]) -> str:
    named[param.name] += 1
    return param.name if named[param.name] == 1 else f"{param.name}-{named[param.name]}"


def _spec(param: Param, capabilities: Capabilities) -> dict[str, Any]:
    words_of = {"label": param.label, "help": param.help, "start": _start(param, capabilities)}
    if param.kind != "choice":
        return {**words_of, "least": param.lo, "most": param.hi, "step": param.step}
    listed = _sources(capabilities) if param.name == SOURCE else [(words(choice), choice) for choice in param.choices]
    return {**words_of, "choices": listed}
