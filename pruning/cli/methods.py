"""From names and knobs on the command line to methods that the model can serve."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruning.method import METHODS, Method
from pruning.models import VLM
from pruning.params import params
from pruning.runnable import method_for, why_not


def build_method(vlm: VLM, name: str, knobs: Mapping[str, Any]) -> Method:
    """A method by name. Where no importance source is named, the best one that the model has is taken.

    Raises ValueError for an unknown method or knob, or a knob's own rule.
    """
    return method_for(vlm.signals, name, knobs)


def own(name: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the knobs that the method has: several methods share one command line."""
    declared = _declared(name)
    return {key: value for key, value in knobs.items() if key in declared}


def listed(names: Sequence[str]) -> list[str]:
    """The names, each once; "all" stands for every method."""
    return sorted(METHODS) if "all" in names else list(dict.fromkeys(names))


def usable(vlm: VLM, names: Sequence[str], knobs: Mapping[str, Any]) -> tuple[list[Method], list[str]]:
    """The methods of these names that the model can serve, and for each other one why it is left out.

    Raises ValueError when none is left, or as `build_method` does.
    """
    methods = [build_method(vlm, name, own(name, knobs)) for name in listed(names)]
    reasons = {method: why_not(method, vlm.title, vlm.signals) for method in methods}
    left_out = [f"{method.title} is left out: {reason}" for method, reason in reasons.items() if reason]
    served = [method for method, reason in reasons.items() if not reason]
    if not served:
        raise ValueError("; ".join([*left_out, "no method is left: choose others"]))
    return served, left_out


def _declared(name: str) -> set[str]:
    return {param.name for param in params(METHODS[name])} if name in METHODS else set()
