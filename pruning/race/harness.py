"""The plug-in for lmms-eval: any of its tasks with this project's pruning, batch by batch.

    lmms_eval --model idpruner_lab --model_args pretrained=…,method=idpruner,retention=0.25 --tasks …

lmms-eval finds `manifest` by the entry point `lmms_eval.models`. Nothing else imports this module, as lmms-eval is no
dependency; it was written for its version 0.7.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.protocol import ChatMessages
from PIL import Image

from pruning.budget import check_retention
from pruning.choosing import Asked, name_of
from pruning.grids import SCOPES, Scope
from pruning.images import open_image
from pruning.models import SHIPPED, Sample, load
from pruning.models.values import POSITIONS, Positions, check_positions
from pruning.race.settings import ALL, Setting, Shown
from pruning.rgb import as_rgb
from pruning.runnable import REMEDY, asked_for, plan_for, why_not
from pruning.video import Clip, open_media

Medium = Image.Image | Clip

OTHER = "choose a task whose output_type is generate_until"
ABOUT = "idpruner_lab answers questions about images and clips"
NEW_TOKENS = 128  # of an answer, where a task does not say


def manifest() -> ModelManifest:
    """What lmms-eval is told of the plug-in."""
    return ModelManifest(model_id="idpruner_lab", chat_class_path=f"{__name__}.PrunedModel")


class PrunedModel(lmms):  # type: ignore[misc]
    """A model of which only the kept visual tokens go through the language model. Greedy, in one process.

    pretrained: a folder, a hub id, or scenes. method: of any registry, or a published schedule; "" for all tokens.
    plan: in the method's place. What has a comma stands in quotes, since lmms-eval parts its arguments there. knobs: of
    the method, as JSON. per: what a budget is for. positions: of kept tokens.
    fps, max_frames: of clips, each second and in all; as the checkpoint says where they are not given.
    batch_size: prompts that go through the language model at once. Raises ValueError for what the model cannot run.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = str(SHIPPED),
        method: str = "idpruner",
        retention: float = 0.25,
        knobs: str | Mapping[str, Any] = "",
        plan: str = "",
        per: Scope = SCOPES[0],
        positions: Positions = POSITIONS[0],
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        scorer: str = "",
        pruner: str = "",
        fps: float | None = None,
        max_frames: int | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("idpruner_lab runs in one process: start lmms_eval without accelerate or torchrun")
        self._vlm = load(
            _bare(pretrained),
            device=device,
            dtype=dtype,
            attention=attention,
            scorer=_bare(scorer),
            pruner=_bare(pruner),
        )
        self._setting = _setting(self._vlm, method, _bare(plan), _knobs(knobs), retention)
        self._per, self._positions = per, check_positions(positions)
        self._sampling = self._vlm.sampling.but(fps, max_frames)
        self._together = _whole(batch_size)
        self._shown: tuple[str, Shown] | None = None

    def generate_until(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """An answer to every request, in order, with its counts of tokens: those that the language model read, visual
        ones that were kept among them, and those that it wrote.
        """
        found: list[GenerationResult] = []
        for first in range(0, len(requests), self._together):
            found += self._answered(requests[first : first + self._together])
        return found

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError(
            "idpruner_lab answers tasks that generate; choose one whose output_type is generate_until"
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError(f"idpruner_lab answers one round: {OTHER}")

    def _answered(self, requests: Sequence[Any]) -> list[GenerationResult]:
        samples, stops, by_limit = list[Sample](), list[list[str]](), dict[int, list[int]]()
        for i, request in enumerate(requests):
            _, to_messages, given, doc_id, task, split = request.args
            media, question = self._asked(ChatMessages(messages=to_messages(self.task_dict[task][split][doc_id])))
            samples.append(self._sample(media, question))
            by_limit.setdefault(int(given.get("max_new_tokens", NEW_TOKENS)), []).append(i)
            until = given.get("until") or []
            stops.append([until] if isinstance(until, str) else list(until))
        found: dict[int, GenerationResult] = {}
        for limit, places in by_limit.items():
            answers = self._vlm.answer_batch([samples[i] for i in places], max_new_tokens=limit)
            for i, answer in zip(places, answers, strict=True):
                counts = TokenCounts(input_tokens=answer.prefill_tokens, output_tokens=len(answer.ids))
                found[i] = GenerationResult(text=_until(answer.text, stops[i]), token_counts=counts)
        return [found[i] for i in range(len(requests))]

    def _asked(self, messages: ChatMessages) -> tuple[list[Medium], str]:
        """The images, then the clips, each in their order, and all that is said: our prompts have them so."""
        media: list[Medium] = []
        for message in messages.messages:
            for part in message.content:
                if part.type == "image":
                    media.append(_image(part.url))
                elif part.type == "video":
                    media.append(self._clip(part.url))
                elif part.type != "text":
                    raise ValueError(f"the task asks about {part.type}: {ABOUT}")
        if not media:
            raise ValueError(f"the task asks about no image: {ABOUT}")
        return sorted(media, key=lambda medium: isinstance(medium, Clip)), "\n".join(_texts(messages))

    def _clip(self, given: Any) -> Medium:
        if self._vlm.no_clips:
            raise ValueError(self._vlm.no_clips)
        if not isinstance(given, str | os.PathLike):
            raise ValueError(f"the task gives a video as {type(given).__name__}: idpruner_lab reads files")
        return open_media(os.fspath(given), self._sampling)

    def _sample(self, media: Sequence[Medium], question: str) -> Sample:
        digest = hashlib.sha256(b"".join(map(_content, media))).hexdigest()
        if self._shown is None or self._shown[0] != digest:  # questions about one picture follow each other
            self._shown = digest, Shown(self._vlm, media, [self._setting], self._per)
        shown = self._shown[1]
        _, chosen = shown.choose(question)
        kept = chosen.get(self._setting.name)
        if isinstance(kept, ValueError):
            raise kept
        return Sample(shown.encoded, question, kept, positions=self._positions)


def _setting(vlm: Any, method: str, plan: str, knobs: Mapping[str, Any], retention: float) -> Setting:
    if not method and not plan:
        return Setting(ALL, None, 1.0)
    asked: Asked = plan_for(vlm.signals, plan, knobs) if plan else asked_for(vlm.signals, method, knobs)
    if reason := why_not(asked, vlm.title, vlm.signals | vlm.encodings):
        raise ValueError(f"{reason}. {REMEDY}")
    return Setting(name_of(asked), asked, check_retention(retention))


def _knobs(given: str | Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = json.loads(given) if isinstance(given, str) and given else given or {}
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(f"knobs={given!r} is no JSON object: write knobs='{{\"mmr_lambda\": 0.5}}'")
    return found


def _bare(text: str) -> str:
    """Without the quotes in which what has a comma is given."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] in "\"'" else text


def _whole(batch_size: int | str) -> int:
    if str(batch_size).isdigit() and int(batch_size) > 0:
        return int(batch_size)
    raise ValueError(f"batch_size={batch_size!r} is not allowed: name a whole number from 1")


def _texts(messages: ChatMessages) -> Iterator[str]:
    for message in messages.messages:
        if message.role == "assistant":
            raise ValueError("the task gives earlier answers, and idpruner_lab asks single questions: --num_fewshot 0")
        yield from (part.text.strip() for part in message.content if part.type == "text" and part.text.strip())


def _image(given: Any) -> Image.Image:
    return as_rgb(given)[0] if isinstance(given, Image.Image) else open_image(given)


def _content(medium: Medium) -> bytes:
    frames = medium.frames if isinstance(medium, Clip) else [medium]
    return b"".join(f"{frame.size}".encode() + frame.tobytes() for frame in frames)


def _until(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the words that end it."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
