"""What the live canvas asks of the server: its data, the selections it cannot know, cards of patches, forced patches.

Knows the engine and the visitor's session, not the page.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.canvas import payload as canvas_payload
from app.engine.engine import Engine
from app.session import Forced, Session, Setting
from pruning.choosing import needs_of, one_shot
from pruning.evaluation.inspection import Card, inspect, nearest_kept
from pruning.evaluation.lives import lives, places, why
from pruning.importance import raw_importance, signals_for
from pruning.overrides import completed
from pruning.plan import Plan
from pruning.signals import ASKING

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.tokens import VisualTokens


def payload(engine: Engine, session: Session, setting: Setting) -> dict[str, Any]:
    """Everything that the canvas needs to draw every retention and λ of the setting's method."""
    identity = identity_of(session, setting)
    key = canvas_payload.key_of(setting.asked, identity)

    def make() -> dict[str, Any]:
        _, methods = canvas_payload.orders_of(setting.asked)
        if setting.one_shot:
            compared(engine, session, setting)
            whole = [engine.selection(session, Setting(one_shot(method), 1.0)) for method in methods]
            orders, scores = [completed(selection) for selection in whole], engine.heat(session, whole[0])
        elif setting.encoding is not None:
            orders, scores = [engine.selection(session, setting).order], None
        else:  # `exact` tells what stays: it takes a pass through the language model, for each retention
            orders, scores = [], importance_of(engine, session, setting)
        media, shown = engine.images(session), engine.shown(session, setting)
        n = engine.encoded(session).tokens.n
        return canvas_payload.payload(media, shown, setting.asked, orders, scores, identity, n)

    return engine.memo(session, ("canvas", key), make, lambda made: sum(len(image["src"]) for image in made["images"]))


def exact(engine: Engine, session: Session, setting: Setting) -> dict[str, Any]:
    """The selection of exactly this setting, forced patches left out: the canvas adds those itself, and is told which
    they are.
    """
    free = replace(setting, forced=Forced())
    tokens = compared(engine, session, setting)
    selection = engine.selection(session, free)
    nearest = nearest_kept(tokens, selection)
    trace = engine.trace(session, free) if setting.staged else None
    identity = identity_of(session, setting)
    return canvas_payload.exact_selection(
        selection, nearest, setting.asked, setting.retention, setting.scope, identity, trace, setting.forced
    )


def compared(engine: Engine, session: Session, setting: Setting) -> VisualTokens:
    """The setting's tokens with the similarities that serve every λ and retention that the canvas may come to."""
    tokens = engine.tokens_for(session, setting)
    _ = tokens.similarity
    if setting.one_shot and (signal := one_shot(setting.asked).compares):
        _ = tokens.similarity_of(signal)
    return tokens


def within_reach(engine: Engine, session: Session, setting: Setting) -> dict[str, Any]:
    """`exact`, or why there is none: a retention out of a schedule's reach is no error of the canvas."""
    try:
        return exact(engine, session, setting)
    except ValueError as error:
        if setting.one_shot:
            raise
        return canvas_payload.out_of_reach(str(error))


def card(engine: Engine, session: Session, setting: Setting, token: object) -> Card:
    """Why one token is kept or dropped. Raises ValueError for a token that is not there."""
    if isinstance(token, float) and token.is_integer():
        token = int(token)
    inspected = inspect(
        engine.tokens_for(session, setting),
        engine.selection(session, setting),
        one_shot(setting.asked) if setting.one_shot else None,
        token,  # type: ignore[arg-type]
        None if setting.encoding is not None else importance_of(engine, session, setting),
    )
    if setting.encoding is not None:
        n = engine.encoded(session).tokens.n
        said = f"a cell of another encoding: all {inspected.kept:,} of it enter in place of the {n:,} tokens"
        return replace(inspected, why=said)
    runs = engine.runs(session, setting)
    if isinstance(runs, Plan):
        of = lives(runs, engine.trace(session, setting))
        return replace(inspected, why=why(of, inspected.token), cuts=places(of, inspected.token))
    if inspected.token in setting.forced.ins:
        return replace(inspected, why="kept: you forced it in", score=None)
    if inspected.token in setting.forced.outs:
        return replace(inspected, why="dropped: you forced it out", score=None)
    return inspected


def importance_of(engine: Engine, session: Session, setting: Setting) -> Tensor:
    """(N,) raw importance: of the method's own source, else of the model's best one."""
    source = getattr(setting.method, "importance", engine.default_source)
    return raw_importance(engine.tokens(session, signals_for(source)), source, setting.method.name)


def with_forced(session: Session, setting: Setting) -> Setting:
    """The setting with what the visitor forced, if that was meant for these images and this method."""
    meant = session.forced.key == canvas_payload.key_of(setting.asked, identity_of(session, setting))
    return replace(setting, forced=session.forced) if session.forced and meant and setting.one_shot else setting


def forced(data: object) -> Forced:
    """What the canvas says is forced. Raises ValueError for anything but lists of whole numbers."""
    said = data if isinstance(data, dict) else {}
    lists = [said.get(name, []) for name in ("in", "out")]
    for values in lists:
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise ValueError(f"forced tokens are {values!r}: they must be a list of whole numbers")
    return Forced(str(said.get("key", "")), tuple(lists[0]), tuple(lists[1]))


def identity_of(session: Session, setting: Setting) -> Hashable:
    """What the orders of a method depend on beside its knobs."""
    asked = setting.staged or needs_of(setting.asked) & ASKING
    size = setting.retention if setting.encoding is not None else None  # each has a grid of its own
    return (session.model_name, session.keys, session.first if asked else "", size)


def fitting(session: Session, setting: Setting) -> Setting:
    """The setting without forced patches that were meant for other images."""
    return with_forced(replace(session, forced=setting.forced), replace(setting, forced=Forced()))
