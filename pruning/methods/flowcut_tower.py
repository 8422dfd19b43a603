"""FlowCut as published: tokens leave inside the vision tower, while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.methods.flowcut import meaning, strength, survivors
from pruning.ops import scaling
from pruning.ops.quotas import share_out
from pruning.signals import Flow
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class FlowCutTower(Method):
    """Tokens leave between the layers of the vision tower, those first into which little information flows.

    After each layer, over the n tokens alive:  S_j = (A_j / sum A + I_j / sum I)·||v_j||_1,  C = S at first, then
    C <- C/2 + S/2. A_j: attention CLS -> j; I_j = mean_h softmax_j(v_cls^h · v_j^h); v_j: mean of v_j^h over heads h.
    With m layers still to come, m even, the P lowest C leave, P = round((n - K) / √m · (1 - (H(A) / ln n)²)), H the
    entropy; at m = 0 all but the K highest. The next layer sees what is left, so scores and features are others than
    those of a full pass (`flowcut`).

    https://arxiv.org/abs/2505.19536
    Our adaptation: the full pass has been made already, so the tower runs a second time, and saves nothing of its time
    here. Pictures share the budget by their size, and each has its own P, where the release takes the largest. Without
    a CLS token, attention received and the mean value stand in. The cut inside the language model is left out.
    """

    name: ClassVar[str] = "flowcut_tower"
    title: ClassVar[str] = "FlowCut (in the tower)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.19536"
    venue: ClassVar[str] = "NeurIPS 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "The shortened tower runs after the full one, so none of its time is saved here; without CLS, attention "
        "received and the mean value stand in."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"tower"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        tower, device = tokens.signal("tower"), tokens.features.device
        counts = torch.tensor(tower.counts)
        quotas = share_out(counts * budget / tokens.n, counts, budget).tolist()
        scores, kept, rows, start = torch.zeros(tokens.n, device=device), [], [], 0
        for picture, (count, quota) in enumerate(zip(tower.counts, quotas, strict=True)):
            if quota:
                cutting = _Cutting(count, quota, device)
                rows.append(self._checked(tower(picture, cutting.rule), quota, tokens).to(device))
                scores[start : start + count] = cutting.scores
                kept.append(start + cutting.alive)
            start += count
        stays = torch.cat(kept)
        order = ops.topk(scores[stays], budget)
        into = torch.full((tokens.n,), -1, device=device).index_copy(0, stays, stays)
        return Selection(stays[order], tokens.n, scores, into, torch.cat(rows)[order])

    def _checked(self, rows: Tensor, quota: int, tokens: VisualTokens) -> Tensor:
        shape = (quota, tokens.features.shape[1])
        if tuple(rows.shape) != shape or not scaling.all_finite(rows):
            raise ValueError(f"{self.name}: signal 'tower' gave {tuple(rows.shape)}, it must be {shape} and finite")
        return rows


class _Cutting:
    """One picture on its way through the tower. alive: (n,) of its tokens, scores: (count,) C where last alive."""

    def __init__(self, count: int, budget: int, device: torch.device) -> None:
        self.alive, self.scores = torch.arange(count, device=device), torch.zeros(count, device=device)
        self._budget, self._begun = budget, False

    def rule(self, flow: Flow) -> Tensor:
        device = self.alive.device
        attention, values = scaling.share(flow.attention.to(device)), flow.values.to(device)
        cls = values.mean(dim=0) if flow.cls is None else flow.cls.to(device)
        found = (attention + meaning(values, cls)) * strength(values)
        self.scores[self.alive] = (self.scores[self.alive] + found) / 2 if self._begun else found
        self._begun = True
        stays = torch.arange(len(self.alive), device=device)
        if flow.left % 2 == 0:
            stays = ops.topk(self.scores[self.alive], survivors(attention, self._budget, flow.left)).sort().values
        self.alive = self.alive[stays]
        return stays
