"""From names and knobs on the command line to methods that the model can serve."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruning.choosing import Asked, Fixed, title_of
from pruning.encoding import ENCODING
from pruning.method import METHODS
from pruning.models import VLM
from pruning.params import params
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.runnable import asked_for, check_runs, plan_for, why_not
from pruning.staged import STAGED

ALL, INSIDE = "all", "inside"


def build_plan(vlm: VLM, text: str, knobs: Mapping[str, Any]) -> Fixed:
    """The plan or published schedule of a text. ValueError as `plan_for`, and for a method that cannot run."""
    for name in plan_names(text):
        if name in METHODS:
            check_runs(name, vlm.title, vlm.signals)
    return plan_for(vlm.signals, text, knobs)


def plan_names(text: str) -> list[str]:
    """The methods of a plan, each once; none where it is a published schedule, whose knobs are its own."""
    return [] if text in PUBLISHED else parse_plan(text).names


def own(names: str | Sequence[str], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the knobs that the method, or one of several, has: several methods share one command line."""
    declared = set().union(*map(_declared, [names] if isinstance(names, str) else names))
    return {key: value for key, value in knobs.items() if key in declared}


def listed(names: Sequence[str]) -> list[str]:
    """The names, each once; "all" stands for every method before the language model, "inside" for every one in it that
    works on one picture.
    """
    groups = {ALL: sorted(METHODS), INSIDE: sorted(name for name, each in STAGED.items() if each.images == 1)}
    return list(dict.fromkeys(each for name in names for each in groups.get(name, [name])))


def usable(
    vlm: VLM, names: Sequence[str], knobs: Mapping[str, Any], images: int | None = None
) -> tuple[list[Asked], list[str]]:
    """The methods of these names that the model can serve, and for each other one why it is left out.

    images: how many a question is about; None = not known yet. Raises ValueError when none is left, or as `asked_for`
    does.
    """
    methods = [asked_for(vlm.signals, name, own(name, knobs)) for name in listed(names)]
    offers = vlm.signals | vlm.encodings
    reasons = {each: why_not(each, vlm.title, offers, images) for each in methods}
    left_out = [f"{title_of(each)} is left out: {reason}" for each, reason in reasons.items() if reason]
    served = [each for each, reason in reasons.items() if not reason]
    if not served:
        raise ValueError("; ".join([*left_out, "no method is left: choose others"]))
    return served, left_out


def _declared(name: str) -> set[str]:
    cls = METHODS.get(name) or STAGED.get(name) or ENCODING.get(name)
    return {param.name for param in params(cls)} if cls else set()
