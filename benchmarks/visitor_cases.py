"""Visitors with a picture and questions of their own, and what the library answers to each of their settings.

All of it is computed before anybody visits, so that checking what the server says costs nothing while it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    """A setting as the endpoints take it, and what is right for it. order: (K,) the kept tokens as picked; swept: the
    same by the similarity matrix, which is there once the page has asked for it: scores that are closer than float32
    tells may change places (`pruning.spreading`). full, kept: the answers with all and with the kept tokens.
    """

    given: Mapping[str, Any]
    order: Sequence[int]
    full: str
    kept: str
    swept: Sequence[int] = ()

    def problem(self, endpoint: str, result: Mapping[str, Any]) -> str:
        """What is wrong with the result of an endpoint; "" where nothing is, and for those that are not checked."""
        if endpoint == "/select":
            got: Any = (result["order"], result["indices"])
            either = [(list(order), sorted(order)) for order in (self.order, self.swept)]
            right: Any = either[got == either[1]]
        elif endpoint == "/answer":
            right = (len(self.order), self.full, self.kept)
            got = (result["budget"], result["full"]["text"], result["kept"]["text"])
        elif endpoint == "/inspect":
            right, got = (self.order[0], 1), (result["token"], result["rank"])
        else:
            return ""
        return "" if got == right else f"{endpoint} with {dict(self.given)} gave {got}, the library gives {right}"


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
    selection, swept = selected(vlm, encoded, given), selected(vlm, encoded, given, swept=True)
    kept = vlm.answer(encoded, given["question"], selection).text
    return Case(given, selection.order.tolist(), full, kept, swept.order.tolist())


def selected(vlm: VLM, encoded: Encoded, given: Mapping[str, Any], swept: bool = False) -> Selection:
    """What the library keeps under a setting; swept: with the similarity matrix there."""
    method = method_of(given)
    tokens = replace(vlm.tokens(encoded, given["question"], method.needs))  # nothing that others have computed
    if swept:
        _ = tokens.similarity
    return method.select(tokens, keep_count(tokens.n, given["retention"]))


def method_of(given: Mapping[str, Any]) -> Method:
    """The method of a setting, with its knobs and the λ of its weights."""
    name, knobs = given["method"], dict(given["knobs"])
    if any(param.name == "mmr_lambda" for param in params(METHODS[name])):
        knobs["mmr_lambda"] = mmr_lambda(given["importance"], given["diversity"])
    return make(name, **knobs)
