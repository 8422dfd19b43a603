"""What is to be written for other programs, and what is written: values, and a method as Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field

from pruning.choosing import Asked
from pruning.encoding import EncodingMethod
from pruning.grids import SCOPES, Scope
from pruning.method import Method
from pruning.models.checkpoint import sources
from pruning.models.values import POSITIONS, Positions
from pruning.params import SOURCE
from pruning.plan import Plan
from pruning.published import Published
from pruning.staged import StagedMethod
from pruning.video import Sampling

IMAGE, CLIP, QUESTION = "photo.png", "clip.mp4", "What is in the picture?"
Knobbed = Method | StagedMethod | EncodingMethod


@dataclass(frozen=True)
class Wanted:
    """A setting, and the model that it was found with.

    asked: what runs, its plan's entry not made yet. retention: says nothing where that has a schedule of its own.
    model: folder or hub id. model_type: as its configuration has it. forced: tokens that were forced by hand.
    weights: of scorer and trained pruner, as `VLM.weights`.
    """

    asked: Asked
    retention: float
    model: str
    model_type: str
    per: Scope = SCOPES[0]
    positions: Positions = POSITIONS[0]
    question: str = QUESTION
    image: str = IMAGE
    forced: int = 0
    sampling: Sampling | None = None
    weights: Mapping[str, str] = field(default_factory=dict)

    @property
    def fixed(self) -> bool:
        """Whether it comes to a retention of its own."""
        return isinstance(self.asked, Plan | Published)

    @property
    def staged(self) -> bool:
        """Whether tokens leave between layers."""
        return isinstance(self.asked, Plan | Published | StagedMethod)


@dataclass(frozen=True)
class Recipe:
    """A setting, written for one program."""

    name: Annotated[str, Field(description="key of the program that it is for")]
    title: Annotated[str, Field(description="the program in words")]
    language: Annotated[str, Field(description="of the text: python, bash or yaml")]
    text: Annotated[str, Field(description='ready to paste; "" where the setting cannot be served there')]
    note: Annotated[str, Field(description="what will differ there, or why it cannot be served there")]


def short_name(model_id: str) -> str:
    """What a recipe calls a model: the shipped one by its short name, all others by their folder or hub id.

    >>> short_name("owner/model")
    'owner/model'
    """
    return next((name for name, folder in sources.NAMED.items() if str(folder) == model_id), model_id)


def refused(name: str, title: str, language: str, reason: str) -> Recipe:
    return Recipe(name, title, language, "", f"Cannot be served there, because {reason}.")


def knobs_of(method: Knobbed) -> dict[str, Any]:
    """The knobs that say something: the importance source, which a model may start with another of, and all that are
    not as the method starts.

    >>> from pruning.method import make
    >>> knobs_of(make("idpruner", mmr_lambda=0.7))
    {'importance': 'scorer', 'mmr_lambda': 0.7}
    """
    values = {each.name: (getattr(method, each.name), each.default) for each in fields(method)}
    return {name: value for name, (value, start) in values.items() if name == SOURCE or value != start}


def methods_in(asked: Asked) -> list[Knobbed]:
    """The methods with knobs that it consists of; none of a published schedule, whose knobs are its own."""
    if isinstance(asked, Published):
        return []
    return list(asked.methods) if isinstance(asked, Plan) else [asked]


def python(asked: Asked) -> tuple[list[str], str]:
    """Lines that import, and the expression that makes it.

    >>> from pruning.method import make
    >>> python(make("idpruner", mmr_lambda=0.7))[1]
    "make('idpruner', importance='scorer', mmr_lambda=0.7)"
    """
    if isinstance(asked, Published):
        return ["from pruning.published import PUBLISHED"], f"PUBLISHED[{asked.name!r}]"
    if isinstance(asked, Plan):
        knobs = {method.name: told for method in asked.methods if (told := knobs_of(method))}
        if not knobs:
            return ["from pruning.plan import parse_plan"], f"parse_plan({str(asked)!r})"
        lines = ["from pruning.plan import parse_plan", "from pruning.method import make"]
        lines.append("from pruning.staged import make_staged")
        own = f"**{knobs!r}.get(name, {{}})"
        made = f"lambda name: make(name, {own}), lambda name: make_staged(name, {own})"
        return lines, f"parse_plan({str(asked)!r}, {made})"
    home, maker = "method", "make"
    if isinstance(asked, StagedMethod):
        home, maker = "staged", "make_staged"
    elif isinstance(asked, EncodingMethod):
        home, maker = "encoding", "make_encoding"
    arguments = "".join(f", {name}={value!r}" for name, value in knobs_of(asked).items())
    return [f"from pruning.{home} import {maker}"], f"{maker}({asked.name!r}{arguments})"
