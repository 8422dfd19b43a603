"""Schedules as their authors ran them, by name: where tokens leave, how many stay, and where that is written.

PUBLISHED["sparsevlm-64"].plan(n, layers)    SparseVLM's lists for a mean of 64 of 576 tokens, at this model's depth

Every published method inside the language model has its own, `KEY-published`; `OTHERS` are further ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pruning.plan import Cut, Plan, plan_of
from pruning.schedules import at_depth
from pruning.staged import STAGED, StagedMethod, make_staged

SUFFIX = "-published"
LLAVA = 576  # visual tokens of LLaVA-1.5


@dataclass(frozen=True)
class Published:
    """A fixed schedule: its equivalent retention is what it comes to, not what is asked for.

    name: its key, of no method. title: what a reader sees. about: the setting that it was published for. source: a
    link to where. cuts: (layers that have run, share of N that stays) in a model of `depth` layers; () = its rule's.
    """

    name: str
    title: str
    rule: StagedMethod
    about: str
    source: str
    cuts: tuple[tuple[int, float], ...] = ()
    depth: int = 32

    def plan(self, n: int, layers: int) -> Plan:
        """Its cuts for n tokens in a model of L layers, at the same relative depth. ValueError as `schedule`."""
        own = plan_of(self.rule, n, layers)
        if not self.cuts:
            return own
        cuts = at_depth(self.cuts, self.depth, layers)
        return Plan(tuple(Cut(after, self.rule, max(1, int(n * share + 1e-9))) for after, share in cuts))


class _Published(Mapping[str, Published]):
    """Read anew each time: a method that is registered later has its schedule too."""

    def __getitem__(self, name: str) -> Published:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Published]:
        own = [_own(name) for name, method in STAGED.items() if method.paper]
        return {schedule.name: schedule for schedule in (*own, *(other() for other in OTHERS))}


PUBLISHED: Mapping[str, Published] = _Published()


@dataclass(frozen=True)
class Other:
    """A further schedule of a method: what follows its key in the name, and the values of a `Published`.

    counts: (layers that have run, tokens that stay of `of`).
    """

    method: str
    label: str
    about: str
    source: str
    counts: tuple[tuple[int, float], ...]
    of: int = LLAVA
    depth: int = 32

    def __call__(self) -> Published:
        rule, name = make_staged(self.method), f"{self.method}-{self.label}"
        cuts = tuple((after, count / self.of) for after, count in self.counts)
        return Published(name, f"{rule.title}, {self.about}", rule, self.about, self.source, cuts, self.depth)


def _own(name: str) -> Published:
    rule = make_staged(name)
    return Published(f"{name}{SUFFIX}", f"{rule.title} as published", rule, rule.venue, rule.paper)


FASTV = "https://github.com/pkunlp-icler/FastV"
SPARSEVLM = "https://github.com/Gumpest/SparseVLMs"
ADAPTINFER = "https://github.com/weiczh02/AdaptInfer-base"

OTHERS = (
    Other("fastv", "3-50", "LLaVA-1.5 7B, K = 3, half", FASTV, ((3, 0.5),), of=1),
    Other("fastv", "3-25", "K = 3, a quarter", FASTV, ((3, 0.25),), of=1),
    # With the recycled tokens, as the release counts them.
    Other("sparsevlm", "192", "LLaVA-1.5, 192 tokens", SPARSEVLM, ((3, 309), (7, 204), (16, 113))),
    Other("sparsevlm", "128", "LLaVA-1.5, 128 tokens", SPARSEVLM, ((3, 312), (7, 117), (16, 39))),
    Other("sparsevlm", "96", "LLaVA-1.5, 96 tokens", SPARSEVLM, ((3, 249), (7, 55), (16, 27))),
    Other("sparsevlm", "64", "LLaVA-1.5, 64 tokens", SPARSEVLM, ((3, 82), (7, 32), (16, 18))),
    Other("adaptinfer", "64", "LLaVA-1.5 7B, 64 tokens", ADAPTINFER, ((2, 133), (11, 27), (21, 3))),
    Other("adaptinfer", "48", "LLaVA-1.5 7B, 48 tokens", ADAPTINFER, ((2, 80), (11, 24), (21, 2))),
    # Shares of what is left, each times the one before.
    Other("adaptinfer", "qwen-50", "Qwen2-VL 2B, 50 %", ADAPTINFER, ((1, 0.7), (10, 0.63), (20, 0.189)), 1, 28),
    Other("adaptinfer", "qwen-30", "Qwen2-VL 2B, 30 %", ADAPTINFER, ((1, 0.5), (10, 0.3), (20, 0.09)), 1, 28),
    Other("adaptinfer", "qwen-10", "Qwen2-VL 2B, 10 %", ADAPTINFER, ((1, 0.17), (10, 0.102), (20, 0.0306)), 1, 28),
)
