"""The parity certificate of what a page shows, or of what a program asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.engine import remote
from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.handover.certificate import Certificate
from pruning.handover.parity import Wanted


def certified(engine: Engine, session: Session, setting: Setting, names: Sequence[str] = ()) -> Certificate:
    """Measured from the pictures on, for the conversation's first question. names: what the pictures' files are called;
    none = as they were uploaded. Raises ValueError as `parity.certificate`, and for a session without a question.
    """
    if not session.questions:
        raise ValueError("A certificate tells what is answered, and no question was asked: ask one first")
    question, forced = session.checked_questions()[0], setting.forced
    names = names or [Path(picture.path).name for picture in session.pictures]
    wanted = Wanted(setting.asked, setting.retention, setting.scope, setting.positions, (forced.ins, forced.outs))
    taken = [picture.film.sampling if picture.film else None for picture in session.pictures]
    values = engine.handle, engine.images(session), names, question, wanted, taken
    return engine.on_device(partial(remote.certificate, *values))
