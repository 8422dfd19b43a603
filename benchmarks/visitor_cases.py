"""Visitors with a picture and questions of their own, and what the library answers to each of their settings.

All of it is computed before anybody visits, so that checking what the server says costs nothing while it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pruning.budget import keep_count
from pruning.method import METHODS, Method, make
from pruning.models import VLM, Encoded
from pruning.params import params
from pruning.scenes import HELD_OUT, Scene, questions, render
from pruning.scenes.held_out import SIZES
from pruning.tokens import Selection
from pruning.weights import mmr_lambda

# IDPruner most of all; beside it methods with and without λ, question, attention and merging.
POPULAR = ("idpruner", "idpruner", "idpruner", "greedy_importance", "divprune", "cdpruner", "visionzip", "random")
QUESTIONS = 2  # of each family
FIRST = HELD_OUT + 500_000  # seeds that neither training nor the table of accuracies uses


@dataclass(frozen=True)
class Call:
    """Something a visitor did: seconds that they waited, and what went wrong, "" for nothing.

    error: it failed, and its seconds do not count; wrong: what came is not what the library gives.
    """

    what: str
    seconds: float
    error: str = ""
    wrong: str = ""


@dataclass(frozen=True)
class Case:
    """A setting as the endpoints take it, and what is right for it. order: (K,) the kept tokens as picked; full, kept:
    the answers with all and with the kept tokens.
    """

    given: Mapping[str, Any]
    order: Sequence[int]
    full: str
    kept: str

    def problem(self, endpoint: str, result: Mapping[str, Any]) -> str:
        """What is wrong with the result of an endpoint; "" where nothing is, and for those that are not checked."""
        if endpoint == "/select":
            right: Any = (list(self.order), sorted(self.order))
            got: Any = (_near(result["order"], self.order), result["indices"])
        elif endpoint == "/answer":
            right = (len(self.order), self.full, self.kept)
            got = (result["budget"], result["full"]["text"], result["kept"]["text"])
        elif endpoint == "/inspect":
            right, got = (self.order[0], 1), (result["token"], result["rank"])
        else:
            return ""
        return "" if got == right else f"{endpoint} with {dict(self.given)} gave {got}, the library gives {right}"


def _near(got: Sequence[int], right: Sequence[int]) -> list[int]:
    """`right` where each pick stands at most two places from where it should: scores that are closer than float32 tells
    change places between one selection and a sweep (`pruning.spreading`). Else `got`.
    """
    places = {token: place for place, token in enumerate(right)}
    near = len(got) == len(right) and all(abs(places.get(token, -9) - place) <= 2 for place, token in enumerate(got))
    return list(right if near else got)


@dataclass(frozen=True)
class Visitor:
    """Whose picture lies where, and what they will ask about it."""

    seed: int
    picture: Path
    cases: tuple[Case, ...]


def invite(vlm: VLM, folder: Path, visitors: int, cases: int) -> list[Visitor]:
    """That many visitors, each with another scene, written to `folder`, and so many settings."""
    invited = []
    for place in range(visitors):
        scene = render(FIRST + place, *SIZES[place % len(SIZES)])
        picture = folder / f"visitor-{place}.png"
        Image.fromarray(scene.image).save(picture)
        invited.append(Visitor(place, picture, _cases(vlm, scene, np.random.default_rng(place), cases)))
    return invited


def _cases(vlm: VLM, scene: Scene, rng: np.random.Generator, count: int) -> tuple[Case, ...]:
    asked = [question.text for question in questions(scene, 0, QUESTIONS)]
    drawn = [_drawn(rng, asked) for _ in range(count)]
    needs = frozenset[str]().union(*(method_of(given).needs for given in drawn)) - {"question"}
    encoded = vlm.encode([Image.fromarray(scene.image)], needs)
    full = {question: vlm.answer(encoded, question).text for question in {given["question"] for given in drawn}}
    return tuple(_case(vlm, encoded, given, full[given["question"]]) for given in drawn)


def _drawn(rng: np.random.Generator, asked: Sequence[str]) -> dict[str, Any]:
    """A random setting."""
    method = str(rng.choice(POPULAR))
    return {
        "question": str(rng.choice(asked)),
        "method": method,
        "importance": round(float(rng.uniform(0.05, 1)), 2),
        "diversity": round(float(rng.uniform(0.05, 1)), 2),
        "retention": round(float(rng.uniform(0.05, 0.9)), 2),
        "knobs": {"seed": int(rng.integers(1000))} if method == "random" else {},
    }


def _case(vlm: VLM, encoded: Encoded, given: Mapping[str, Any], full: str) -> Case:
    selection = selected(vlm, encoded, given)
    return Case(given, selection.order.tolist(), full, vlm.answer(encoded, given["question"], selection).text)


def selected(vlm: VLM, encoded: Encoded, given: Mapping[str, Any]) -> Selection:
    """What the library keeps under a setting."""
    method = method_of(given)
    tokens = vlm.tokens(encoded, given["question"], method.needs)
    return method.select(tokens, keep_count(tokens.n, given["retention"]))


def method_of(given: Mapping[str, Any]) -> Method:
    """The method of a setting, with its knobs and the λ of its weights."""
    name, knobs = given["method"], dict(given["knobs"])
    if any(param.name == "mmr_lambda" for param in params(METHODS[name])):
        knobs["mmr_lambda"] = mmr_lambda(given["importance"], given["diversity"])
    return make(name, **knobs)
