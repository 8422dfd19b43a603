"""From what is asked for to what runs: decided here for the page, the API, the command line and the sweeps.

choose(make("idpruner"), tokens, layers, 0.25)         a Selection: what enters the language model
choose(make_staged("fastv"), tokens, layers, 0.5)      a Plan: FastV's cuts, for half the tokens in the mean of layers
choose(PUBLISHED["fastv-published"], tokens, layers)   a Plan: as its authors ran it
choose(parse_plan("1:fastv:0.5"), tokens, layers)      the Plan itself, its entry made
choose(make_encoding("lower_resolution"), …, again=…)   another encoding of the pictures, all of whose tokens enter

A retention is equivalent retention: the mean over the layers of the share of the visual tokens that is alive. Of what
is chosen before the language model, that is the share kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruning.allocation import select_within, selector
from pruning.budget import check_retention
from pruning.encoding import Again, EncodingMethod, Made, OutOfReachError, encoded_by
from pruning.grids import SCOPES, Scope
from pruning.method import Method, make
from pruning.plan import Plan, plan_of
from pruning.published import Published
from pruning.staged import StagedMethod
from pruning.tokens import Selection, VisualTokens

Fixed = Published | Plan  # what comes to a retention of its own
Asked = Method | StagedMethod | EncodingMethod | Fixed
Runs = Selection | Plan | Made


def choose(
    asked: Asked,
    tokens: VisualTokens,
    layers: int,
    retention: float | None = None,
    per: Scope = "sample",
    again: Again | None = None,
) -> Runs:
    """What runs on these tokens in a model of L layers: a selection, a plan whose entry has been made, or another
    encoding, made by `again`, which only methods before the tower need.

    retention: equivalent; what is fixed ignores it, all else needs it. per: what a budget is for, of methods before the
    language model.

    Raises ValueError for a retention outside (0, 1] or, naming the reachable range, one that a schedule cannot come to;
    for a plan that does not fit the model; for another `per` inside the language model; and what methods raise.
    """
    if isinstance(asked, Method):
        return select_within(asked, tokens, _given(retention), per)
    if isinstance(asked, EncodingMethod):
        return encoded_by(asked, tokens.n, _given(retention), per, again)
    return _plan(asked, tokens.n, layers, retention, per).on(tokens)


def chooser(
    asked: Asked,
    tokens: VisualTokens,
    layers: int,
    retentions: Sequence[float],
    per: Scope = "sample",
    again: Again | None = None,
) -> Callable[[float], Runs]:
    """`choose` for several retentions: a function of one of them. A nested method runs once, here."""
    if isinstance(asked, Method):
        return selector(asked, tokens, retentions, per)
    return lambda retention: choose(asked, tokens, layers, retention, per, again)


def out_of_reach(
    asked: Asked,
    n: int,
    layers: int,
    retention: float | None = None,
    per: Scope = "sample",
    again: Again | None = None,
) -> str:
    """Why n tokens in a model of L layers cannot come to that, its range included; "" where they can.

    Raises ValueError for what cannot be asked of any: a retention outside (0, 1], another `per` between layers.
    """
    if isinstance(asked, Method):
        return ""
    if isinstance(asked, EncodingMethod):
        try:
            encoded_by(asked, n, _given(retention), per, again)
        except OutOfReachError as error:
            return str(error)
        return ""
    _check(asked, retention, per)
    try:
        _plan(asked, n, layers, retention, per)
    except ValueError as error:
        return str(error)
    return ""


def came_to(runs: Runs, layers: int, n: int) -> float:
    """The equivalent retention of what runs, of n tokens in a model of L layers; a plan's entry has been made."""
    if isinstance(runs, Selection):
        return runs.k / n
    if not isinstance(runs, Plan):
        return runs.tokens.n / n
    return runs.equivalent(runs.entered(n), layers, n)


def comes_to(fixed: Fixed, n: int, layers: int) -> float:
    """`came_to` of what is fixed, before it runs. Raises ValueError where it does not fit the model."""
    plan = _plan(fixed, n, layers, None, SCOPES[0])
    return plan.equivalent(plan.entered(n), layers, n)


@dataclass(frozen=True)
class Cell:
    """One point of a comparison. retention: as asked for; of what is fixed, what it comes to."""

    asked: Asked
    retention: float


def cells(
    asked: Sequence[Asked],
    retentions: Sequence[float],
    n: int,
    layers: int,
    per: Scope = "sample",
    again: Again | None = None,
) -> tuple[list[Cell], list[str]]:
    """The points of a comparison over n tokens in a model of L layers, smallest retention first; and what is left out,
    why, a line for each of those asked for: what a schedule, or another encoding, cannot come to.

    What is fixed has one, all else one for every retention. Raises ValueError for a retention outside (0, 1].
    """
    found, left_out = list[Cell](), list[str]()
    ratios = sorted({check_retention(retention) for retention in retentions})
    for each in asked:
        fixed, missed, reason = isinstance(each, Published | Plan), list[str](), ""
        for retention in ratios[:1] if fixed else ratios:
            if why := out_of_reach(each, n, layers, retention, per, again):
                missed.append(f"{retention:g}")
                reason = why
            else:
                at = comes_to(each, n, layers) if isinstance(each, Published | Plan) else retention
                found.append(Cell(each, at))
        if missed:
            where = "" if fixed else f" at {' and '.join([', '.join(missed[:-1])] * (len(missed) > 1) + missed[-1:])}"
            left_out.append(f"{name_of(each)}{where} is left out: {reason}")
    return sorted(found, key=lambda cell: cell.retention), left_out


def one_shot(asked: Asked) -> Method:
    """What is asked for, where it selects once before the language model. Raises ValueError where it does not."""
    if not isinstance(asked, Method):
        raise ValueError(f"{title_of(asked)} prunes inside the language model: choose a method before it for this")
    return asked


def written(asked: Asked, runs: Plan) -> Plan:
    """A plan as it was asked for: what runs has its entry made, and says no more what made it."""
    return asked if isinstance(asked, Plan) else runs


def name_of(asked: Asked) -> str:
    """The key of a method or schedule; a plan as it is written."""
    return str(asked) if isinstance(asked, Plan) else asked.name


def title_of(asked: Asked) -> str:
    """What a reader sees; a plan as it is written."""
    return str(asked) if isinstance(asked, Plan) else asked.title


def methods_of(asked: Asked) -> list[str]:
    """The keys of the methods that it consists of, each once."""
    if isinstance(asked, Plan):
        return asked.names
    return [asked.rule.name if isinstance(asked, Published) else asked.name]


def needs_of(asked: Asked) -> frozenset[str]:
    """Signals of the tower and the question; what a rule between layers reads is captured there."""
    if isinstance(asked, Plan):
        return asked.entry.method.needs if asked.entry else frozenset()
    if isinstance(asked, Published):
        return needs_of(asked.rule)
    if isinstance(asked, StagedMethod):
        return make(asked.first).needs if asked.first else frozenset()
    return asked.needs if isinstance(asked, Method) else frozenset()


def modules_of(asked: Asked) -> frozenset[str]:
    """Trained modules that its rules between layers ask."""
    if isinstance(asked, Plan):
        return frozenset[str]().union(*(cut.rule.modules for cut in asked.cuts))
    rule = asked.rule if isinstance(asked, Published) else asked
    return rule.modules if isinstance(rule, StagedMethod) else frozenset()


def _plan(asked: StagedMethod | Fixed, n: int, layers: int, retention: float | None, per: Scope) -> Plan:
    _check(asked, retention, per)
    if isinstance(asked, StagedMethod):
        return plan_of(asked, n, layers, retention)
    plan = asked.plan(n, layers) if isinstance(asked, Published) else asked
    plan.alive(plan.entered(n), layers)  # refuses what does not fit the model
    return plan


def _check(asked: StagedMethod | Fixed, retention: float | None, per: Scope) -> None:
    if per != SCOPES[0]:
        raise ValueError(f"per {per!r} is for methods before the language model: inside it, name {SCOPES[0]!r}")
    if isinstance(asked, StagedMethod):
        _given(retention)


def _given(retention: float | None) -> float:
    if retention is None:
        raise ValueError("a method needs a retention: the share of visual tokens alive, such as 0.25")
    return check_retention(retention)
