"""Which methods a model can run, and with what: decided here for the page, the API and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from pruning.encoding import ENCODING, RESOLUTION, EncodingMethod, make_encoding
from pruning.importance import best_source
from pruning.method import METHODS, Method, make
from pruning.params import SOURCE

WORDS = {
    "scorer": "a trained importance scorer",
    "vision_attention": "attention of the vision tower",
    "vision_attention_map": "attention of the vision tower",
    "vision_keys": "keys of the vision tower",
    "vision_values": "values of the vision tower",
    "pre_projector": "features before the projector",
    "patch_entropy": "the picture's entropy",
    "question": "the question",
    "projector": "the model's projector",
    RESOLUTION: "an option that makes fewer visual tokens of a picture",
}
REMEDY = "Choose another method, or another model"


def method_for(signals: Set[str], name: str, knobs: Mapping[str, Any] | None = None) -> Method:
    """A method by name, for a model with these signals; where no importance source is named, with the best of them.

    Raises ValueError for an unknown method or knob, or a knob's own rule.
    """
    given = dict(knobs or {})
    if SOURCE not in given and name in METHODS and METHODS[name].has(SOURCE):
        given[SOURCE] = best_source(signals)
    return make(name, **given)


def why_not(method: Method | EncodingMethod, title: str, offers: Set[str]) -> str:
    """Why a model of this title cannot run the method; "" where it can. offers: its signals and other encodings."""
    missing = sorted(method.needs - offers)
    if not missing:
        return ""
    kind = missing[0].partition("@")[0]
    return f"{method.title} needs {WORDS.get(kind, kind)} ({missing[0]}), which {title} does not provide"


def check_runs(name: str, title: str, offers: Set[str]) -> str:
    """The name of a method that the model can run as it starts. Raises ValueError for one that is unknown or cannot."""
    method = make_encoding(name) if name in ENCODING else method_for(offers, name)
    if reason := why_not(method, title, offers):
        raise ValueError(f"{reason}. {REMEDY}")
    return name
