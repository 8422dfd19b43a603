"""AIM, its merging half: similar neighbours merged pairwise until the budget is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from pruning.method import Method, register
from pruning.ops import merging
from pruning.params import Choice
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class AIM(Method):
    """Halve the tokens again and again by bipartite matching, each pair of similar tokens becoming their mean.

    One round: sources at even places, targets at odd ones; the r sources with the highest cos(x_s, x_t) to any target
    go into it; a target becomes the mean of itself and its sources.  r = half of the tokens, in the last round as many
    as are too many.

    https://arxiv.org/abs/2412.03248
    Compared are the features after the projector, the paper's form for video, or the keys of the last vision layer, its
    form for images, merged in step. It merges to 25 % and 12.5 %; here to K.
    Every frame, image or tile merges by itself and gets the budget's share by its size; at a budget below their number
    some get nothing and are dropped.
    Our adaptation: the merging before the language model only, not the pruning inside it (PageRank over its attention);
    rows are merged after the projector for images too.
    """

    name: ClassVar[str] = "aim"
    title: ClassVar[str] = "AIM (merging)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.03248"
    venue: ClassVar[str] = "ICCV 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Its merging before the language model alone, after the projector; the paper goes on to prune inside."
    )

    matching: Annotated[
        Literal["features", "keys"],
        Choice(
            label="Matching",
            help="features: after the projector, as for video · keys: of the last vision layer, as for images",
        ),
    ] = "features"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_keys@-1"} if self.matching == "keys" else ())

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        keys = tokens.signal("vision_keys@-1").flatten(1) if self.matching == "keys" else None
        merge_into = torch.full((tokens.n,), -1, device=tokens.features.device)
        orders, rows = [], []
        start = 0
        for size in tokens.pictures.bincount().tolist():
            stop = start + size
            share = budget * stop // tokens.n - budget * start // tokens.n
            if share:
                own = slice(start, stop)
                matched = None if keys is None else keys[own]
                order, into, merged = merging.bipartite_merge(tokens.features[own], share, matched)
                orders.append(order + start)
                rows.append(merged)
                merge_into[own] = into + start
            start = stop
        return Selection(torch.cat(orders), tokens.n, None, merge_into, torch.cat(rows))
