"""DToP, adapted: what a small head is sure of leaves first, but of every class a few stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning.method import Method, register
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class DToP(Method):
    """Keep of every class that a trained head predicts the surest tokens as its context, then the least sure ones.

    p_i = max over classes c of P(c | token i); the k surest tokens of every predicted class come first, the r-th surest
    of each class before any (r+1)-th, then all others by ascending p_i.

    https://arxiv.org/abs/2308.01045
    Our adaptation: the paper segments, in the tower of a plain ViT, and writes the classes of the tokens that leave to
    its canvas. A vision-language model has no such classes. What carries over is that easy tokens leave early and every
    class keeps k = 5; the head is a linear one on what the language model receives, the cut lies before it, and the
    budget takes the place of the threshold p0. No number here can be put beside one of the paper's. Its own form is
    `leaving`, which `benchmarks.exits` measures.
    """

    name: ClassVar[str] = "dtop"
    title: ClassVar[str] = "DToP (adapted)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2308.01045"
    venue: ClassVar[str] = "ICCV 2023"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Made for segmentation: here a linear head, once, before the language model; a budget replaces the threshold."
    )

    per_class: Annotated[
        int, Range(0, 20, 1, label="Per class", help="surest tokens of every class that stay as context; 0: none")
    ] = 5

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"dtop"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        sure, classes = tokens.signal("dtop").softmax(1).max(1)
        return Selection(ordered(sure, classes, self.per_class)[:budget], tokens.n, 1 - sure)

    def reason(self, tokens: VisualTokens, token: int) -> str:
        sure, shown = tokens.signal("dtop")[token].softmax(0).max(0)
        first = f"{self.per_class} surest tokens stay" if self.per_class > 1 else "surest token stays"
        rule = f"of every class the {first} first, then the least sure of all"
        if not self.per_class:
            rule = "the least sure of all stay first"
        return f"class {int(shown) + 1} with probability {float(sure):.2f}; {rule}"


def ordered(sure: Tensor, classes: Tensor, per_class: int) -> Tensor:
    """(N,) int64, all tokens: the `per_class` surest of every class, classes in turns, then the others, the least sure
    first. sure (N,) float32, classes (N,) int64. Of two that are as sure the one with the lower index comes first.

    >>> ordered(torch.tensor([.9, .8, .7, .6, .5, .4]), torch.tensor([0, 0, 0, 1, 1, 1]), 1).tolist()
    [0, 3, 5, 4, 2, 1]
    """
    surest = sure.argsort(descending=True, stable=True)
    turn = torch.empty_like(surest)
    for found in classes.unique():
        own = surest[classes[surest] == found]
        turn[own] = torch.arange(len(own))
    context = surest[turn[surest] < per_class]
    context = context[turn[context].argsort(stable=True)]
    others = sure.argsort(stable=True)
    return torch.cat([context, others[turn[others] >= per_class]])


def leaving(sure: Tensor, classes: Tensor, threshold: float, per_class: int) -> Tensor:
    """(N,) bool, which tokens stop between two layers of a tower in the paper's own form: those surer than the
    threshold, but for the `per_class` surest of every class, which go on as its context. sure, classes: as `ordered`.

    >>> leaving(torch.tensor([.9, .8, .7, .6, .5, .4]), torch.tensor([0, 0, 0, 1, 1, 1]), 0.55, 1).tolist()
    [False, True, True, False, False, False]
    """
    stops = sure > threshold
    for found in classes.unique():
        own = (classes == found).nonzero()[:, 0]
        stops[own[sure[own].argsort(descending=True, stable=True)[:per_class]]] = False
    return stops
