"""Which methods a model can run, and with what: decided here for the page, the API and the command line."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Set
from typing import Any

from pruning.choosing import Asked, Fixed, methods_of, modules_of, needs_of, title_of
from pruning.encoding import ENCODING, FRAMES, RESOLUTION, EncodingMethod, make_encoding
from pruning.importance import best_source
from pruning.method import METHODS, Method, make
from pruning.params import SOURCE
from pruning.plan import Plan, parse_plan
from pruning.published import PUBLISHED
from pruning.staged import STAGED, StagedMethod, make_staged

WORDS = {
    "scorer": "a trained importance scorer",
    "vision_attention": "attention of the vision tower",
    "vision_attention_map": "attention of the vision tower",
    "vision_keys": "keys of the vision tower",
    "vision_values": "values of the vision tower",
    "pre_projector": "features before the projector",
    "patch_entropy": "the picture's entropy",
    "covipal": "a trained module, of `--pruner` or beside the checkpoint,",
    "dtop": "a trained module, of `--pruner` or beside the checkpoint,",
    "atp_llava": "a trained module, of `--pruner` or beside the checkpoint,",
    "qtsplus": "a trained module, of `--pruner` or beside the checkpoint,",
    "question": "the question",
    "projector": "the model's projector",
    "tower": "a vision tower between whose layers tokens can leave, one without windows, tiles and merged patches,",
    RESOLUTION: "an option that makes fewer visual tokens of a picture",
    FRAMES: "a model that takes clips",
}
REMEDY = "Choose another method, or another model"
Started = Method | StagedMethod | EncodingMethod
REGISTERED: Mapping[str, type[Started]] = ChainMap(METHODS, STAGED, ENCODING)  # type: ignore[arg-type]
"""Every method by name: those before the language model, those between its layers, those before the tower."""


def method_for(signals: Set[str], name: str, knobs: Mapping[str, Any] | None = None) -> Method:
    """A method by name, for a model with these signals; where no importance source is named, with the best of them.

    Raises ValueError for an unknown method or knob, or a knob's own rule.
    """
    given = dict(knobs or {})
    if SOURCE not in given and name in METHODS and METHODS[name].has(SOURCE):
        given[SOURCE] = best_source(signals)
    return make(name, **given)


def asked_for(signals: Set[str], name: str, knobs: Mapping[str, Any] | None = None) -> Asked:
    """A method of any registry, or a published schedule, by name; what `choosing.choose` takes.

    Raises ValueError for an unknown name or knob, or a knob's own rule.
    """
    if name in PUBLISHED:
        if knobs:
            raise ValueError(f"{name} is published with knobs of its own: leave out {', '.join(map(repr, knobs))}")
        return PUBLISHED[name]
    if name not in REGISTERED:
        known = f"methods: {', '.join(sorted(METHODS))}; inside the language model: {', '.join(sorted(STAGED))}"
        known += f"; before the tower: {', '.join(sorted(ENCODING))}"
        raise ValueError(f"unknown method {name!r}; {known}; published schedules: {', '.join(sorted(PUBLISHED))}")
    return started(signals, name, knobs)


def started(signals: Set[str], name: str, knobs: Mapping[str, Any] | None = None) -> Started:
    """`method_for`, for methods of any registry."""
    return method_for(signals, name, knobs) if name in METHODS else made(name, knobs or {})


def made(name: str, knobs: Mapping[str, Any]) -> Started:
    """A method of any registry with just these knobs. Raises ValueError as `method_for`."""
    if name in ENCODING:
        return make_encoding(name, **knobs)
    return make_staged(name, **knobs) if name in STAGED else make(name, **knobs)


def plan_for(signals: Set[str], text: str, knobs: Mapping[str, Any] | None = None) -> Fixed:
    """A plan from text, each of its methods with those of the knobs that it has; or a published schedule by its name.

    Raises ValueError for a bad plan, a knob that none of its methods has, or a knob's own rule.
    """
    given = dict(knobs or {})
    if text in PUBLISHED:
        asked_for(signals, text, given)
        return PUBLISHED[text]
    used = set[str]()

    def own(name: str) -> dict[str, Any]:
        found = {knob: value for knob, value in given.items() if name in REGISTERED and REGISTERED[name].has(knob)}
        used.update(found)
        return found

    plan = parse_plan(
        text,
        lambda name: method_for(signals, name, own(name)),
        lambda name: make_staged(name, **own(name)),
    )
    if unknown := sorted(given.keys() - used):
        raise ValueError(f"no method of the plan '{text}' has a knob {', '.join(map(repr, unknown))}: leave it out")
    return plan


def why_not(asked: Asked, title: str, offers: Set[str], images: int | None = None) -> str:
    """Why a model of this title cannot run what is asked for on so many images; "" where it can. Between layers that is
    what chooses the tokens that enter, if anything does, and how many images a rule needs.

    offers: the model's signals and other encodings. images: None = not known yet.
    """
    needs = asked.needs if isinstance(asked, EncodingMethod) else needs_of(asked) | modules_of(asked)
    missing = sorted(needs - offers)
    if missing:
        kind = missing[0].partition("@")[0]
        entry = asked.entry.method if isinstance(asked, Plan) and asked.entry else None
        who = entry.title if entry is not None and missing[0] in entry.needs else title_of(asked)
        return f"{who} needs {WORDS.get(kind, kind)} ({missing[0]}), which {title} does not provide"
    rules = [STAGED[name]() for name in methods_of(asked) if name in STAGED]
    return next((why for rule in rules if images is not None and (why := rule.too_few(images))), "")


def check_runs(name: str, title: str, offers: Set[str]) -> str:
    """The name of a method that the model can run as it starts. Raises ValueError for one that is unknown or cannot."""
    method = started(offers, name)
    if reason := why_not(method, title, offers):
        raise ValueError(f"{reason}. {REMEDY}")
    return name
