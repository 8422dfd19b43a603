"""The patches that an answer hangs on, batch after batch. Knows the engine, not the page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.answers.answering import Asked, answers
from app.canvas.payload import key_of
from app.canvas.state import identity_of
from app.engine import remote
from app.engine.device import Task
from app.engine.engine import Engine
from app.pace import Pace
from app.session import Forced, Session, Setting
from pruning.budget import retention_of
from pruning.choosing import one_shot
from pruning.evaluation.cost import prefill_flops
from pruning.evaluation.verdict import check_meaning, check_words
from pruning.evaluation.why import Found, Way, costliest, needing, removal_losses, returning
from pruning.tokens import Selection

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.models import Answer, Turn
    from pruning.models.values import Positions

MOST = 4096  # sets that are measured, at most


@dataclass(frozen=True)
class Costs:
    """A token of the answer, and the patches whose removal costs its probability most: (patch, how much of it)."""

    text: str
    patches: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Step:
    """What is known so far. key: of images and method that it was found for; full, kept: the answers with all n tokens
    and with the `budget` kept ones, unmerged. tokens: of the answer that is looked at, once they are measured.
    turns: of the conversation. prefills: FLOPs of reading the prompt from its start with 0, 1, … of the patches more,
    or fewer, once they are found.
    stage: "answering", "searching", "tokens", "done", "stopped".
    """

    question: str
    key: str
    n: int
    budget: int
    full: str = ""
    kept: str = ""
    found: Found | None = None
    tokens: tuple[Costs, ...] = ()
    turns: int = 1
    prefills: tuple[int, ...] = ()
    pace: Pace | None = None
    stage: str = "answering"


class Stopped(Exception):  # noqa: N818 - it is no error
    """The visitor stopped the search."""


def run(engine: Engine, session: Session, setting: Setting, task: Task, way: Way | None = None) -> Iterator[Step]:
    """Look for them, for the last question of the conversation as the answers with all tokens led to it.

    way: None: "return" where the kept tokens change the answer, else "need". Ends with stage "stopped" soon after
    `task` is set, knowing what it knows.

    Raises ValueError for a method that does not select before the language model, a picture or question outside of
    the model's world, an answer without words, and as `returning` and `needing` do.
    """
    one_shot(setting.asked)
    questions = session.checked_questions()
    for question in questions:
        check_meaning(engine.in_world(session, question).reason)
    chosen = engine.selection(session, setting)
    alone = Selection(chosen.indices, chosen.n)  # tokens are kept as they are, so that each can be taken away
    kept, n = chosen.indices.tolist(), chosen.n
    key = key_of(setting.asked, identity_of(session, setting))
    step = Step(questions[-1], key, n, len(kept), turns=len(questions))
    yield step
    try:
        asked = Asked(session, questions[0])
        full = _answer(engine, asked, task)
        for question in questions[1:]:
            asked = asked.then(question, full)
            full = _answer(engine, asked, task)
        check_words(full)
        pruned = _answer(engine, replace(asked, runs=alone, positions=setting.positions), task)
        way = way or ("need" if list(full.ids) == list(pruned.ids) else "return")
        step = replace(step, full=full.text, kept=pruned.text, stage="searching")
        yield step
        look, answer, among = (returning, full, list(range(n))) if way == "return" else (needing, pruned, kept)
        forced = _OnDevice(engine, asked.history, task)
        values = (engine.encoded(session), asked.question, answer)
        start = time.perf_counter()
        for found in look(forced, *values, kept, n, positions=setting.positions, most=MOST, cancel=task):
            pace = Pace(time.perf_counter() - start, found.done, found.done + found.left)
            step = replace(step, found=found, pace=pace)
            yield step
        sign, text = (1 if way == "return" else -1), asked.prompt_tokens(engine, engine.encoded(session)) - n
        changed = [text + len(kept) + sign * count for count in range(len(found.patches) + 1)]
        prefills = tuple(prefill_flops(engine.vlm.config, count) for count in changed)
        step = replace(step, stage="tokens", pace=None, prefills=prefills)
        yield step
        losses = removal_losses(forced, *values, among, n, positions=setting.positions)  # (K, T)
        pieces = zip(engine.vlm.pieces(answer.ids), losses.T, strict=True)
        tokens = tuple(Costs(piece, tuple(costliest(lost, among))) for piece, lost in pieces if piece)
        yield replace(step, tokens=tokens, stage="done")
    except Stopped:
        yield replace(step, stage="stopped")


def on_canvas(step: Step) -> tuple[float, Forced]:
    """The retention, and what is forced there, under which the canvas shows what was found: the patches returned to the
    kept ones, or taken away from them.
    """
    assert step.found is not None
    patches = step.found.patches
    if step.found.way == "return":
        return retention_of(step.budget + len(patches), step.n), Forced(step.key, ins=patches)
    return retention_of(step.budget - len(patches), step.n), Forced(step.key, outs=patches)


def _answer(engine: Engine, asked: Asked, task: Task) -> Answer:
    if task.is_set():
        raise Stopped
    *_, answer = answers(engine, asked, task)
    if isinstance(answer, str) or answer.cancelled:
        raise Stopped
    return answer


class _OnDevice:
    """The engine's model as `pruning.evaluation.why` asks it: batch by batch alone on the device. Raises Stopped."""

    def __init__(self, engine: Engine, history: Sequence[Turn], task: Task) -> None:
        self._engine, self._history, self._task = engine, history, task

    def logprobs(
        self,
        encoded: Any,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Tensor | None],
        *,
        positions: Positions,
    ) -> list[Tensor]:
        if self._task.is_set():
            raise Stopped
        values = (encoded, question, answer_ids, selections, self._history, positions)
        return self._engine.on_device(lambda: remote.logprobs(self._engine.handle, *values))
