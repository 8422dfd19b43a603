"""Whether text or picture dominates in each layer, of the answers that the page shows. Knows the engine, no web."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from app.answers.answering import Asked, answered
from app.engine import remote
from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.evaluation.dominance import Dominance, dominance

if TYPE_CHECKING:
    from pruning.models import Answer


@dataclass(frozen=True)
class Dominances:
    """Whether text or picture dominates in each layer that has attention."""

    layers: Annotated[int, Field(description="layers of the language model")]
    full: Annotated[tuple[Dominance, ...], Field(description="of the answer with all N visual tokens")]
    kept: Annotated[tuple[Dominance, ...], Field(description="of the answer with those that the setting keeps")]


def measured(engine: Engine, session: Session, setting: Setting) -> Dominances | None:
    """Of the last answers, measured once; None before both have been given. Raises ValueError where an answer has no
    words, or the model has an attention that cannot be read.
    """
    if (held := recalled(engine, session, setting)) is not None:
        return held
    pruned = Asked(session, "", engine.runs(session, setting), positions=setting.positions)
    full, kept = _last(engine, Asked(session, "")), _last(engine, pruned)
    if full is None or kept is None:
        return None
    found = Dominances(engine.vlm.layers, _by_layer(engine, *full), _by_layer(engine, *kept))
    engine.remember(session, about(session, setting), found, 512 * engine.vlm.layers)
    return found


def recalled(engine: Engine, session: Session, setting: Setting) -> Dominances | None:
    """What has been measured already."""
    held: Dominances | None = engine.recall(session, about(session, setting))
    return held


def about(session: Session, setting: Setting) -> tuple[Hashable, ...]:
    """What the measurement depends on, beside model and images."""
    return "dominance", session.questions, setting


def _last(engine: Engine, asked: Asked) -> tuple[Asked, Answer] | None:
    """The conversation's last turn and its answer, where all turns have been answered. asked: before its first one."""
    answer = None
    for question in asked.session.checked_questions():
        asked = asked.then(question, answer)
        if (answer := answered(engine, asked)) is None:
            return None
    return None if answer is None else (asked, answer)


def _by_layer(engine: Engine, asked: Asked, answer: Answer) -> tuple[Dominance, ...]:
    sample = asked.sample(engine.encoded(asked.session))
    return tuple(map(dominance, engine.on_device(lambda: remote.attended(engine.handle, sample, answer.ids))))
