"""From names and knobs on the command line to methods that the model can serve."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruning.encoding import ENCODING, EncodingMethod, make_encoding
from pruning.method import METHODS, Method
from pruning.models import VLM
from pruning.params import params
from pruning.plan import Plan, parse_plan
from pruning.runnable import method_for, why_not
from pruning.staged import STAGED, StagedMethod, make_staged


def build_method(vlm: VLM, name: str, knobs: Mapping[str, Any]) -> Method:
    """A method by name. Where no importance source is named, the best one that the model has is taken.

    Raises ValueError for an unknown method or knob, or a knob's own rule.
    """
    return method_for(vlm.signals, name, knobs)


def build_any(vlm: VLM, name: str, knobs: Mapping[str, Any]) -> Method | StagedMethod | EncodingMethod:
    """A method of any registry by name. Raises ValueError as above."""
    if name in STAGED:
        return make_staged(name, **knobs)
    return make_encoding(name, **knobs) if name in ENCODING else build_method(vlm, name, knobs)


def build_plan(vlm: VLM, text: str, knobs: Mapping[str, Any]) -> Plan:
    """A plan from text, each of its methods with those of the knobs that it has.

    Raises ValueError for a bad plan, a knob that none of its methods has, or a knob's own rule.
    """
    names = {piece.strip() for part in text.split(",") for piece in part.split(":")}
    unknown = sorted(set(knobs).difference(*map(_declared, names)))
    if unknown:
        raise ValueError(f"no method of the plan '{text}' has a knob {', '.join(map(repr, unknown))}: leave it out")
    return parse_plan(
        text,
        lambda name: build_method(vlm, name, own(name, knobs)),
        lambda name: make_staged(name, **own(name, knobs)),
    )


def own(name: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the knobs that the method has: several methods share one command line."""
    declared = _declared(name)
    return {key: value for key, value in knobs.items() if key in declared}


def listed(names: Sequence[str]) -> list[str]:
    """The names, each once; "all" stands for every method before the language model."""
    return sorted(METHODS) if "all" in names else list(dict.fromkeys(names))


def usable(vlm: VLM, names: Sequence[str], knobs: Mapping[str, Any]) -> tuple[list[Method | EncodingMethod], list[str]]:
    """The methods of these names that the model can serve, and for each other one why it is left out.

    Raises ValueError when none is left, or as `build_method` does.
    """
    encoding = [name for name in names if name in ENCODING]
    wanted = listed([name for name in names if name not in ENCODING])
    methods: list[Method | EncodingMethod] = [build_method(vlm, name, own(name, knobs)) for name in wanted]
    methods += [make_encoding(name, **own(name, knobs)) for name in dict.fromkeys(encoding)]
    reasons = {method: why_not(method, vlm.title, vlm.signals | vlm.encodings) for method in methods}
    left_out = [f"{method.title} is left out: {reason}" for method, reason in reasons.items() if reason]
    served = [method for method, reason in reasons.items() if not reason]
    if not served:
        raise ValueError("; ".join([*left_out, "no method is left: choose others"]))
    return served, left_out


def _declared(name: str) -> set[str]:
    cls = METHODS.get(name) or STAGED.get(name) or ENCODING.get(name)
    return {param.name for param in params(cls)} if cls else set()
