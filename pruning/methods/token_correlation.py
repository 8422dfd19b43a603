"""Inspired by token-level correlation-guided compression: plain tiles give up tokens to those full of detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from pruning.method import Method, register
from pruning.ops import merging
from pruning.ops.quotas import share_out, topk_per_part
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

DEEP, SHALLOW = "vision_attention@-1", "vision_attention@-3"
KEYS = "vision_keys@-1"


@register
@dataclass(frozen=True)
class TokenCorrelation(Method):
    """Share the budget out by how little each tile repeats itself; in a tile, take what two layers attend to.

    A token is redundant when at least m others of its tile have cos(k_i, k_j) > θ;  d = 1 - redundant / all.  Tile g of
    n_g tokens keeps a share of K in proportion to n_g d_g: first the top of p_deep, then the top of p_shallow, where p
    is attention from CLS scaled to sum 1 over the tile.

    https://arxiv.org/abs/2407.14439
    Our adaptation, not the published method: no code was released and the text was not at hand. From summaries come
    redundancy by the cosine of keys, a budget per sub-image that follows d, and a draw from CLS attention of a deep and
    a shallower layer. Ours are θ, m, the two layers (-1 and -3), the even split between them, top-k instead of a draw,
    and that what is not drawn is dropped. A picture that is no tile stands for one: alone it keeps all of K.
    """

    name: ClassVar[str] = "token_correlation"
    title: ClassVar[str] = "Correlation-guided (inspired)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2407.14439"
    venue: ClassVar[str] = "arXiv 2024"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = (
        "Only inspired by the paper, which released no code: thresholds, layers and the split between them are ours."
    )

    similar: Annotated[float, Range(0, 1, 0.05, label="θ", help="cosine of two keys above which tokens are alike")] = (
        0.8
    )
    partners: Annotated[int, Range(1, 64, 1, label="m", help="so many alike make a token redundant")] = 8
    deep: Annotated[
        float, Range(0, 1, 0.05, label="Deep share", help="1 = the last layer alone, 0 = layer -3 alone")
    ] = 0.5

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({DEEP, SHALLOW, KEYS})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        tile = tokens.pictures
        size = tile.bincount()
        alike = (tokens.similarity_of(KEYS) > self.similar) & (tile[:, None] == tile)
        redundant = alike.fill_diagonal_(False).sum(dim=1) >= self.partners
        detail = torch.zeros(len(size), device=size.device).index_add(0, tile, (~redundant).float())  # n_g d_g
        detail = torch.where(detail.sum() > 0, detail, size.float())
        quota = share_out(budget * detail / detail.sum(), size, budget)
        first = (quota * self.deep + 0.5).long()
        deep = merging.attention_shares(tokens.signal(DEEP), tile)
        shallow = merging.attention_shares(tokens.signal(SHALLOW), tile)
        by_deep = topk_per_part(deep, tile, first)
        by_shallow = topk_per_part(shallow.index_fill(0, by_deep, -torch.inf), tile, quota - first)
        scores = self.deep * deep + (1 - self.deep) * shallow
        return Selection(torch.cat([by_deep, by_shallow]), tokens.n, scores)
