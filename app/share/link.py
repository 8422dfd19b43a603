"""Links that restore a setting: the page's own address with readable parameters. `share.reading` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from app.engine.capabilities import Capabilities
from app.examples import EXAMPLES, Example
from app.session import Session, Setting
from pruning.choosing import name_of
from pruning.grids import Scope
from pruning.handover.ours import KNOB
from pruning.models.values import Positions
from pruning.params import Param, Value, params
from pruning.runnable import REGISTERED

NAMES = ("model", "example", "question", "method", "importance", "diversity", "retention", "overlay", "per", "plan",
         "positions", "fps", "frames")  # fmt: skip
UPLOAD = "upload"  # stands for pictures that are no examples: they stay where they were uploaded
LONGEST, TURNS = 12_000, 8  # characters of a link, questions of a conversation


@dataclass(frozen=True)
class Link:
    """What a link says; None and empty for what it leaves open.

    example: UPLOAD for pictures that are not in it. plan: as it is written, or the name of a published schedule. fps,
    frames: which frames are taken of clips; of each second, and the most in all.
    """

    model: str | None = None
    example: str | None = None
    questions: tuple[str, ...] = ()
    method: str | None = None
    importance: float | None = None
    diversity: float | None = None
    retention: float | None = None
    overlay: str | None = None
    per: Scope | None = None
    plan: str | None = None
    positions: Positions | None = None
    knobs: Mapping[str, Value] = field(default_factory=dict)
    fps: float | None = None
    frames: int | None = None


def of(session: Session, setting: Setting, weights: tuple[float, float], overlay: str) -> Link:
    """The link to what a page shows. weights: importance and diversity, as they stand on the page."""
    example = example_of(session)
    knobs = {p.name: getattr(setting.method, p.name) for p in knobs_of(setting.method.name)}
    taken = session.films[0].sampling if session.films else None
    return Link(
        session.model_name, example.name if example else UPLOAD, session.questions[:TURNS],
        setting.method.name, *weights, setting.retention, overlay, setting.scope,
        None if setting.plan is None else name_of(setting.plan), setting.positions, knobs,
        taken.rate if taken else None, taken.frames if taken else None,
    )  # fmt: skip


def example_of(session: Session) -> Example | None:
    """The example that the session is about; None where its pictures are others."""
    paths = [picture.path for picture in session.pictures]
    return next((example for example in EXAMPLES if paths == [example.path]), None)


def write(link: Link) -> str:
    """The link as a query string, without the question mark. Raises ValueError where the questions are too long."""
    fields = [(name, getattr(link, name)) for name in NAMES if name != "question"]
    fields[2:2] = [("question", question) for question in link.questions]
    fields += [(KNOB + name, value) for name, value in link.knobs.items()]
    query = urlencode([(name, value) for name, value in fields if value is not None], errors="replace")
    if len(query) > LONGEST:
        raise ValueError(f"The link would have {len(query):,} characters, more than {LONGEST:,}: shorten the question")
    return query


def settle(link: Link, capabilities: Capabilities, default: str) -> tuple[Link, list[str]]:
    """The link as one model can have it: its method runs there, its importance source exists; and words on every value
    that is not taken.

    default: the method that stands where the link names none.
    """
    refused = []
    default = default if default in capabilities.methods else capabilities.methods[0]
    try:
        name = capabilities.check(link.method or default)
    except ValueError as error:
        refused.append(f"method = {link.method!r} ({error})")
        name, link = default, replace(link, knobs={})
    try:
        _ = link.plan and capabilities.plan(link.plan)
    except ValueError as error:
        refused.append(f"plan = {link.plan!r} ({error})")
        link = replace(link, plan=None)
    knobs = dict(link.knobs)
    source = knobs.get("importance")
    if source is not None and source not in capabilities.sources():
        refused.append(f"knob.importance = {source!r} ({capabilities.title} has {', '.join(capabilities.sources())})")
        del knobs["importance"]
    return replace(link, method=name, knobs=knobs), refused


def knobs_of(method: str) -> list[Param]:
    """A method's knobs but λ, which is what the weights say."""
    return [param for param in params(REGISTERED[method]) if param.name != "mmr_lambda"]
