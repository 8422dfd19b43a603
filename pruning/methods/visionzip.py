"""VisionZip: dominant tokens as they are, the others merged into contextual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from pruning import ops
from pruning.method import Method, register
from pruning.ops import merging, scaling
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class VisionZip(Method):
    """Keep the tokens that attention dwells on; fold what is left into a few evenly spaced ones.

    s_j = attention from CLS to j.  Dominant: top-(K - C) of s.  Of the R others in raster order every (R // C)-th is a
    contextual target, C in all; each other token m goes to the target t with the highest cos(k_t, k_m), and
    x_t' = x_t + mean of its x_m.  k: the layer's keys, mean over heads.

    https://arxiv.org/abs/2412.04467
    C is a share of the budget: 10 of 64, 20 of 128, 30 of 192 in the paper. Layer: -2 with CLIP in the paper; -1 in the
    authors' form for Qwen2.5-VL, whose layer -2 sees windows only. Merging "sum" is the released form, target plus mean
    of its members; "mean" averages target and members alike, as some ports do.
    Differs from the released code: CLS is no visual token here and takes no place among the dominant ones.
    Our adaptation: rows are merged after the projector, as in that form for Qwen2.5-VL; with CLIP the paper merges
    before it.
    """

    name: ClassVar[str] = "visionzip"
    title: ClassVar[str] = "VisionZip"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.04467"
    venue: ClassVar[str] = "CVPR 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Merges after the projector, as its authors do for Qwen2.5-VL; for LLaVA they do before."
    )

    contextual: Annotated[
        float, Range(0, 0.5, 0.01, label="Contextual", help="share of the budget for tokens that absorb the others")
    ] = 0.16
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -1
    merge: Annotated[
        Literal["sum", "mean"],
        Choice(label="Merging", help="sum: token + mean of what it absorbs, as released · mean: of all of them"),
    ] = "sum"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}", f"vision_keys@{self.layer}"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        scores = tokens.signal(f"vision_attention@{self.layer}").float()
        keys = scaling.unit_rows(tokens.signal(f"vision_keys@{self.layer}").float().mean(dim=1))
        count = min(int(budget * self.contextual + 0.5), budget - 1)
        dominant = ops.topk(scores, budget - count)
        left = torch.ones(tokens.n, dtype=torch.bool, device=scores.device)
        left[dominant] = False
        others = left.nonzero()[:, 0]
        targets = others[:: max(1, len(others) // max(1, count))][:count]
        order = torch.cat([dominant, targets])
        rows = tokens.features[order]
        merge_into = torch.full((tokens.n,), -1, device=scores.device)
        merge_into[order] = order
        if count:
            left[targets] = False
            members = left.nonzero()[:, 0]
            nearest = (keys[members] @ keys[targets].T).argmax(dim=1)  # index among the targets
            merge_into[members] = targets[nearest]
            own = torch.arange(count, device=scores.device)
            if self.merge == "mean":
                both = torch.cat([members, targets])
                rows[-count:] = merging.group_mean(tokens.features[both], torch.cat([nearest, own]), count)
            else:
                rows[-count:] += merging.group_mean(tokens.features[members], nearest, count)
        return Selection(order, tokens.n, scores, merge_into, rows)
