"""A plan: which visual tokens leave where. What a setting comes to, in one language for all stages.

parse_plan("pre:idpruner:0.4,3:fastv:0.5")   IDPruner keeps 40 % before the language model; of these, FastV's rule keeps
                                             half after three layers
plan_of(make_staged("fastv"), n, layers, 0.5)  FastV's own cuts, for a mean of half the tokens over all layers

A share is of the tokens alive at that place, a whole number is a number of tokens. Layers are counted: "after 3" means
that three layers process what was there before, and all others what stays; after 0 lies before the first layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from pruning.budget import keep_count
from pruning.method import Method, make
from pruning.schedules import equivalent
from pruning.staged import StagedMethod, alive_of, make_staged
from pruning.tokens import Selection, VisualTokens

BEFORE, EVICT = "pre", "evict"
FORM = "a plan looks like 'pre:idpruner:0.4,3:fastv:0.5': WHERE:METHOD:HOW_MANY, in order, separated by commas"


@dataclass(frozen=True)
class Cut:
    """After `after` layers have run, `rule` chooses which tokens stay: a share of those alive, or a number of them.

    Raises ValueError for an `after` below what the rule needs, or a `keep` of more than all, or of none where the rule
    does not drop all.
    """

    after: int
    rule: StagedMethod
    keep: float | int

    def __post_init__(self) -> None:
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 0:
            raise ValueError(f"a cut after layer {self.after!r} is not allowed: it must be a whole number from 0")
        if self.rule.all_or_none and (self.keep or isinstance(self.keep, bool)):
            raise ValueError(
                f"the cut after layer {self.after} cannot keep {self.keep!r}: {self.rule.name} drops all tokens or "
                "none; write 0"
            )
        if self.keep or isinstance(self.keep, bool) or not self.rule.drops_all:
            check_keep(self.keep, f"the cut after layer {self.after}")
        if self.after < self.rule.earliest:
            raise ValueError(
                f"{self.rule.name} after layer {self.after} is not allowed: it reads what layers did, so cut after "
                f"layer {self.rule.earliest} or later; before them, name a method of one shot: 'pre:METHOD:SHARE'"
            )

    def __str__(self) -> str:
        return f"{self.after}:{self.rule.name}:{self.keep}"


@dataclass(frozen=True)
class Entry:
    """A one-shot method that chooses what enters the language model: a share of all tokens, or a number of them."""

    method: Method
    keep: float | int

    def __post_init__(self) -> None:
        check_keep(self.keep, "the entry of the plan")

    def __str__(self) -> str:
        return f"{BEFORE}:{self.method.name}:{self.keep}"


@dataclass(frozen=True)
class Plan:
    """Cuts between layers, in order, and what enters the language model.

    entry: the method that chooses it. entering: its choice, once made (`on`), or any other selection; None = all.
    evict_early: once the prompt has gone through, the early layers forget what has left later too. That frees memory
    and changes the answer: new tokens no longer see in early layers what late layers dropped.
    Raises ValueError for cuts out of order, or counts that grow.
    """

    cuts: tuple[Cut, ...] = ()
    entry: Entry | None = None
    entering: Selection | None = None
    evict_early: bool = False

    def __post_init__(self) -> None:
        for one, other in pairwise(self.cuts):
            if other.after <= one.after:
                raise ValueError(
                    f"the cut '{other}' follows '{one}': cuts must be in the order of the layers, each after more "
                    "layers than the one before it"
                )
        for cut in self.cuts[:-1]:
            if not cut.keep:
                raise ValueError(f"nothing can follow '{cut}': no token is left after it")
        steps: list[Entry | Cut] = [self.entry, *self.cuts] if self.entry else [*self.cuts]
        for above, below in pairwise(steps):
            if isinstance(above.keep, int) and isinstance(below.keep, int) and below.keep > above.keep:
                raise ValueError(f"'{below}' keeps more tokens than '{above}' leaves: counts can only fall")

    def __str__(self) -> str:
        return ",".join([*([str(self.entry)] if self.entry else []), *map(str, self.cuts), *[EVICT] * self.evict_early])

    @property
    def methods(self) -> list[Method | StagedMethod]:
        """Its methods, each once."""
        entry: list[Method | StagedMethod] = [self.entry.method] if self.entry else []
        return list(dict.fromkeys([*entry, *(cut.rule for cut in self.cuts)]))

    @property
    def names(self) -> list[str]:
        """Their keys, each once."""
        return list(dict.fromkeys(method.name for method in self.methods))

    def on(self, tokens: VisualTokens) -> Plan:
        """The plan with its entry made on these tokens. Raises what the method raises."""
        if self.entry is None:
            return self
        return replace(self, entry=None, entering=self.entry.method.select(tokens, self.entered(tokens.n)))

    def entered(self, n: int) -> int:
        """How many of n tokens enter the language model. Raises ValueError where more should."""
        if self.entry is not None:
            return counted(self.entry.keep, n, "the entry of the plan")
        return n if self.entering is None else self.entering.k

    def counts(self, n: int, layers: int) -> tuple[int, ...]:
        """Tokens that stay at each cut, of n that enter a model of L layers.

        Raises ValueError for a cut beyond the model, or one that keeps more tokens than are alive.
        """
        found = []
        for cut in self.cuts:
            if cut.after >= layers:
                raise ValueError(
                    f"the cut '{cut}' lies beyond the model: it has {layers} layers, so the last cut that saves "
                    f"anything is after layer {layers - 1}"
                )
            n = counted(cut.keep, n, f"the cut '{cut}'")
            found.append(n)
        return tuple(found)

    def alive(self, n: int, layers: int) -> tuple[int, ...]:
        """(L,) visual tokens that each layer processes, of n that enter. Raises ValueError as `counts`."""
        counts = self.counts(n, layers)
        return alive_of([(cut.after, count) for cut, count in zip(self.cuts, counts, strict=True)], n, layers)

    def held(self, n: int, layers: int) -> tuple[int, ...]:
        """(L,) visual tokens whose keys and values each layer keeps once the prompt has gone through."""
        alive = self.alive(n, layers)
        return (alive[-1],) * layers if self.evict_early else alive

    def equivalent(self, n: int, layers: int, of: int | None = None) -> float:
        """Mean over the layers of the share of `of` tokens (None: of n) that is alive, n of them entering."""
        counts = self.counts(n, layers)
        return equivalent([cut.after for cut in self.cuts], counts, n, layers) * n / (of or n)


def plan_of(method: StagedMethod, n: int, layers: int, retention: float | None = None) -> Plan:
    """A staged method's own cuts, for an equivalent retention; None: as published. ValueError as `schedule`.

    n: visual tokens of the sample, which all enter a model of so many layers unless the method has a first half.

    >>> str(plan_of(make_staged("fastv"), 64, 8, 0.5)), str(plan_of(make_staged("fastv"), 64, 8))
    ('2:fastv:21', '2:fastv:32')
    """
    cuts = method.schedule(n, layers, retention)
    entry = Entry(make(method.first), cuts[0][1]) if cuts and method.first else None
    return Plan(tuple(Cut(after, method, count) for after, count in cuts[1 if entry else 0 :]), entry)


def parse_plan(
    text: str,
    one_shot: Callable[[str], Method] = make,
    staged: Callable[[str], StagedMethod] = make_staged,
) -> Plan:
    """A plan from text, `evict` as its last part for `evict_early`.

    Args:
        text: WHERE:METHOD:HOW_MANY, separated by commas. one_shot, staged: what makes a method of a name.

    Raises:
        ValueError: names the part and the rule.

    >>> plan = parse_plan("pre:idpruner:0.5,2:fastv:8")
    >>> plan.names, plan.entered(64), plan.alive(32, layers=4)
    (['idpruner', 'fastv'], 32, (32, 32, 8, 8))
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the plan {text!r} says nothing: {FORM}")
    entry, cuts = None, list[Cut]()
    parts = text.split(",")
    evict = parts[-1].strip() == EVICT and len(parts) > 1
    for number, part in enumerate(parts[:-1] if evict else parts):
        where, *rest = (piece.strip() for piece in part.split(":"))
        if len(rest) != 2:
            raise ValueError(f"{part.strip()!r} is no part of a plan: {FORM}")
        keep = _keep(rest[1], part.strip())
        if where == BEFORE:
            if number:
                raise ValueError(f"{part.strip()!r} comes after a cut: '{BEFORE}' can only be the first part of a plan")
            entry = Entry(one_shot(rest[0]), keep)
        elif where.isascii() and where.isdigit() and len(where) < 6:
            cuts.append(Cut(int(where), staged(rest[0]), keep))
        else:
            raise ValueError(
                f"{where!r} in {part.strip()!r} is no place: write '{BEFORE}' or the number of layers before the cut"
            )
    return Plan(tuple(cuts), entry, evict_early=evict)


def check_keep(keep: object, where: str) -> None:
    """Raise ValueError unless it is a share within (0, 1] or a whole number of at least 1.

    >>> check_keep(0.25, "the entry of the plan")
    >>> check_keep(0, "the entry of the plan")
    Traceback (most recent call last):
        ...
    ValueError: the entry of the plan cannot keep 0: it must be a share above 0 ...
    """
    number = isinstance(keep, int | float) and not isinstance(keep, bool) and math.isfinite(keep)
    if not number or keep <= 0 or (isinstance(keep, float) and keep > 1):  # type: ignore[operator]
        raise ValueError(
            f"{where} cannot keep {keep!r}: it must be a share above 0 and at most 1, such as 0.5, or a number of "
            "tokens, such as 64"
        )


def counted(keep: float | int, alive: int, where: str) -> int:
    """Tokens that stay of those alive. Raises ValueError where more should.

    >>> counted(0.25, 64, "the entry of the plan"), counted(8, 64, "the entry of the plan")
    (16, 8)
    """
    if isinstance(keep, float) and keep:
        return keep_count(alive, keep)
    if keep > alive:
        raise ValueError(
            f"{where} cannot keep {keep} tokens: {alive} are alive there; name at most as many, or a share"
        )
    return int(keep)


def _keep(text: str, part: str) -> float | int:
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        raise ValueError(
            f"{text!r} in {part!r} is no number: write a share such as 0.5, or a number of tokens"
        ) from None


def lifetimes(order: Sequence[tuple[int, Tensor]], entered: Tensor, n: int, layers: int) -> Tensor:
    """(N,) int64: how many layers process each token; 0 = it never entered.

    order: (layers that have run, original indices alive from there on) of every cut. entered: (K,) original indices.

    >>> import torch
    >>> lifetimes([(2, torch.tensor([1]))], torch.tensor([0, 1]), n=3, layers=5).tolist()
    [2, 5, 0]
    """
    lives = entered.new_zeros(n)
    for (start, alive), (stop, _) in pairwise([(0, entered), *order, (layers, entered)]):
        lives[alive] += stop - start
    return lives
