"""From names and knobs on the command line to methods that the model can serve."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruning.importance import best_source
from pruning.method import METHODS, Method, make
from pruning.models import VLM
from pruning.params import params


def build_method(vlm: VLM, name: str, knobs: Mapping[str, Any]) -> Method:
    """A method by name. Where no importance source is named, the best one that the model has is taken.

    Raises ValueError for an unknown method or knob, or a knob's own rule.
    """
    if "importance" in _declared(name) and "importance" not in knobs:
        knobs = {**knobs, "importance": best_source(vlm.signals)}
    return make(name, **knobs)


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
    left_out = [
        f"{method.title} is left out: {vlm.title} lacks {', '.join(sorted(method.needs - vlm.signals))}"
        for method in methods
        if not method.needs <= vlm.signals
    ]
    served = [method for method in methods if method.needs <= vlm.signals]
    if not served:
        raise ValueError("; ".join([*left_out, "no method is left: choose others"]))
    return served, left_out


def _declared(name: str) -> set[str]:
    return {param.name for param in params(METHODS[name])} if name in METHODS else set()
