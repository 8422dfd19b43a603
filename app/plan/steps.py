"""What the chart of a plan shows, and the text of a plan that composes two methods. Knows the engine, no web."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.choosing import Fixed
from pruning.plan import Cut, Entry, Plan, plan_of
from pruning.published import PUBLISHED, Published
from pruning.staged import StagedMethod


@dataclass(frozen=True)
class Step:
    """One cut: layers that have run, the method's key and title, tokens that stay, layers that it needs before it."""

    after: int
    method: str
    title: str
    count: int
    earliest: int


@dataclass(frozen=True)
class Steps:
    """A plan in numbers. entry: the method that chooses the `entered` of n tokens; None where all enter."""

    n: int
    layers: int
    entry: str | None
    entered: int
    cuts: tuple[Step, ...]
    evict: bool
    equivalent: float


def steps(engine: Engine, session: Session, setting: Setting) -> Steps | None:
    """The steps of the setting's plan; None where tokens leave before the language model alone. Raises ValueError where
    it does not fit the model, or for a retention out of reach.
    """
    asked = setting.asked
    if not isinstance(asked, Published | Plan | StagedMethod):
        return None
    n, layers = engine.encoded(session).tokens.n, engine.vlm.layers
    if isinstance(asked, StagedMethod):
        return numbers(plan_of(asked, n, layers, setting.retention), n, layers)
    return numbers(asked, n, layers)


def numbers(fixed: Fixed, n: int, layers: int) -> Steps:
    """A plan or schedule over n tokens in a model of L layers. Raises ValueError where it does not fit the model."""
    plan = fixed.plan(n, layers) if isinstance(fixed, Published) else fixed
    entered = plan.entered(n)
    counts = plan.counts(entered, layers)
    cuts = tuple(
        Step(cut.after, cut.rule.name, cut.rule.title, count, cut.rule.earliest)
        for cut, count in zip(plan.cuts, counts, strict=True)
    )
    entry = plan.entry.method.name if plan.entry else None
    return Steps(n, layers, entry, entered, cuts, plan.evict_early, plan.equivalent(entered, layers, n))


def composed(entry: Entry, rule: StagedMethod, layers: int) -> str:
    """The plan of an entry and a rule's published cuts after it: each keeps the share of those alive that it did."""
    shape = rule.shape(layers) if layers > rule.earliest else ()
    shares = pairwise([1.0, *(share for _, share in shape)])
    cuts = [
        Cut(after, rule, round(share / before, 4)) for (after, _), (before, share) in zip(shape, shares, strict=True)
    ]
    return str(Plan(tuple(cuts), entry))


def schedules(method: str) -> list[Published]:
    """Published schedules, those of this method first."""
    return sorted(PUBLISHED.values(), key=lambda each: each.rule.name != method)
