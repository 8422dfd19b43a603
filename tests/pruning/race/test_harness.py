"""The plug-in for lmms-eval answers as this library does. With the real package where it is installed; else with a
stand-in of what the plug-in uses of version 0.7: its classes and the shape of a request.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pruning.choosing import Asked, choose, needs_of
from pruning.handover.recipes import recipes
from pruning.handover.wanted import Wanted
from pruning.method import make
from pruning.models import VLM, Sample, load
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.race.data import open_data
from pruning.staged import make_staged
from pruning.video import Sampling, open_media
from tests.helpers import documents
from tests.helpers.clips import film


@dataclass
class TokenCounts:
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts | None = None


@dataclass
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


class Lmms:
    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


def simple_parse_args_string(text: str) -> dict[str, Any]:
    """Parts at commas outside quotes and braces; numbers become such, quotes stay."""
    parts, quote, depth = [""], "", 0
    for sign in text:
        if sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        depth += 0 if quote else (sign in "{[") - (sign in "}]")
        if sign == "," and not quote and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    found: dict[str, Any] = dict(part.split("=", 1) for part in parts)
    for key, value in found.items():
        with suppress(ValueError):
            found[key] = int(value) if value.isnumeric() else float(value)
    return found


class ChatMessages:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        parts = [SimpleNamespace(**{"text": "", "url": None, **part}) for each in messages for part in each["content"]]
        self.messages = [SimpleNamespace(role=each["role"], content=parts) for each in messages[:1]]


STAND_IN = {
    "lmms_eval.api.instance": {"TokenCounts": TokenCounts, "GenerationResult": GenerationResult},
    "lmms_eval.api.model": {"lmms": Lmms},
    "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    "lmms_eval.protocol": {"ChatMessages": ChatMessages},
    "lmms_eval.utils": {"simple_parse_args_string": simple_parse_args_string},
}


@pytest.fixture(scope="module")
def harness() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("lmms_eval") is None:
            for name, values in STAND_IN.items():
                module = ModuleType(name)
                vars(module).update(values)
                patch.setitem(sys.modules, name, module)
            for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.models"):
                patch.setitem(sys.modules, name, ModuleType(name))
        patch.delitem(sys.modules, "pruning.race.harness", raising=False)
        yield importlib.import_module("pruning.race.harness")
        sys.modules.pop("pruning.race.harness", None)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load()


def request(model: Any, image: Any, question: str, **given: Any) -> SimpleNamespace:
    """A request of a chat task, as lmms-eval makes it."""
    docs = model.task_dict.setdefault("mine", {"test": []})["test"]
    docs.append({"image": image, "question": question})

    def to_messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["question"]}]
        return [{"role": "user", "content": content}]

    return SimpleNamespace(args=("", to_messages, given, len(docs) - 1, "mine", "test"))


def test_the_manifest_leads_to_the_class(harness) -> None:
    told = harness.manifest()
    module, _, name = told.chat_class_path.rpartition(".")
    assert (told.model_id, module, hasattr(harness, name)) == ("idpruner_lab", "pruning.race.harness", True)
    assert harness.PrunedModel.is_simple is False
    assert 'idpruner_lab = "pruning.race.harness:manifest"' in documents.text("pyproject.toml")


def test_answers_are_those_of_the_library_with_every_knob_and_every_token_counted(harness, vlm) -> None:
    rows = [row for row in open_data("scenes", scenes=2).rows()][:6]
    model = harness.PrunedModel("scenes", retention=0.1, knobs='{"mmr_lambda": 0.9}', batch_size=4)
    asked = [request(model, row.picture.open(), row.question, max_new_tokens=3 + i % 2) for i, row in enumerate(rows)]
    found = model.generate_until(asked)
    for row, answer in zip(rows, found, strict=True):
        encoded = vlm.encode([row.picture.open()], frozenset({"scorer"}))
        method = make("idpruner", mmr_lambda=0.9)
        tokens = vlm.tokens(encoded, row.question, method.needs)
        kept = choose(method, tokens, vlm.layers, 0.1)
        wanted = vlm.answer_batch([Sample(encoded, row.question, kept)], max_new_tokens=3)[0]
        assert answer.text == wanted.text
        counts = answer.token_counts
        assert (counts.input_tokens, counts.output_tokens) == (wanted.prefill_tokens, len(wanted.ids))


RECIPES = {
    "method": make("idpruner", mmr_lambda=0.9, importance="feature_norm"),
    "between layers": make_staged("fastv"),
    "plan": parse_plan("pre:idpruner:0.4,2:fastv:0.5", lambda name: make(name, mmr_lambda=0.9)),
    "published": PUBLISHED["fastv-3-50"],
}


@pytest.mark.parametrize("asked", RECIPES.values(), ids=RECIPES)
def test_the_recipe_for_it_is_the_setting(harness, vlm, asked: Asked) -> None:
    row = next(iter(open_data("scenes", scenes=1).rows()))
    (recipe,) = (each for each in recipes(Wanted(asked, 0.3, "scenes", "qwen2_5_vl")) if each.name == "lmms_eval")
    told = shlex.split(recipe.text)
    assert told[:4] == ["lmms_eval", "--model", "idpruner_lab", "--model_args"]
    given = importlib.import_module("lmms_eval.utils").simple_parse_args_string(told[4])
    model = harness.PrunedModel(**given)
    found = model.generate_until([request(model, row.picture.open(), row.question, max_new_tokens=3)])[0]
    encoded = vlm.encode([row.picture.open()], needs_of(asked))
    kept = choose(asked, vlm.tokens(encoded, row.question, needs_of(asked)), vlm.layers, 0.3)
    wanted = vlm.answer_batch([Sample(encoded, row.question, kept)], max_new_tokens=3)[0]
    assert (found.text, found.token_counts.input_tokens) == (wanted.text, wanted.prefill_tokens)


def test_a_picture_with_several_questions_is_encoded_once_and_answers_end_where_a_task_says(harness) -> None:
    row = next(iter(open_data("scenes", scenes=1).rows()))
    model = harness.PrunedModel("scenes", method="", batch_size=2)
    calls = []
    encode = model._vlm.encode
    model._vlm.encode = lambda *values, **named: calls.append(1) or encode(*values, **named)
    asked = [request(model, row.picture.open(), row.question, until=[" ", row.answers[0][-1]]) for _ in range(3)]
    assert [each.text for each in model.generate_until(asked)] == [row.answers[0][:-1]] * 3
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "nobody"}, "unknown method"),
        ({"retention": 2}, "retention"),
        ({"knobs": "mmr_lambda=1"}, "is no JSON object"),
        ({"knobs": {"other": 1}}, "other"),
        ({"batch_size": "auto"}, "whole number from 1"),
        ({"positions": "new"}, "positions 'new' are not known"),
    ],
)
def test_what_cannot_run_says_why_before_a_task_begins(harness, given, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        harness.PrunedModel("scenes", **given)


def about(asked: SimpleNamespace, *parts: dict[str, Any]) -> SimpleNamespace:
    """The request with another content."""
    content = [*parts, {"type": "text", "text": "what?"}]
    return SimpleNamespace(args=("", lambda doc: [{"role": "user", "content": content}], *asked.args[2:]))


def test_clips_are_asked_about_as_the_library_does(harness, tiny_folder, tiny_vlm, tmp_path) -> None:
    path, picture = film(tmp_path / "a.mp4", 20, 10, (64, 64)), Image.new("RGB", (84, 56), "red")
    model = harness.PrunedModel(str(tiny_folder), method="random", retention=0.5, fps=5, max_frames=6)
    parts = {"type": "video", "url": str(path)}, {"type": "image", "url": picture}
    found = model.generate_until([about(request(model, picture, "", max_new_tokens=5), *parts)])[0]
    clip = open_media(str(path), Sampling(5, 6))
    assert len(clip.frames) == 6
    encoded = tiny_vlm.encode([picture, clip])
    kept = choose(make("random"), tiny_vlm.tokens(encoded, "what?"), tiny_vlm.layers, 0.5)
    wanted = tiny_vlm.answer_batch([Sample(encoded, "what?", kept)], max_new_tokens=5)[0]
    assert (found.text, found.token_counts.input_tokens) == (wanted.text, wanted.prefill_tokens)


def test_what_is_no_question_about_images_is_refused(harness, monkeypatch, tiny_folder) -> None:
    model = harness.PrunedModel(str(tiny_folder), method="random")
    asked = request(model, Image.new("RGB", (56, 56)), "what?")
    for parts, said in (
        ([{"type": "audio", "url": "a.wav"}], "asks about audio"),
        ([], "asks about no image"),
        ([{"type": "video", "url": [1]}], "gives a video as list"),
        ([{"type": "video", "url": "a.mp4"}], "a.mp4"),
    ):
        with pytest.raises(ValueError, match=said):
            model.generate_until([about(asked, *parts)])
    for refuse in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="output_type is generate_until"):
            refuse([asked])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="one process"):
        harness.PrunedModel("scenes")
