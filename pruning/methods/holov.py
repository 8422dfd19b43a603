"""HoloV: a share of the budget for every stretch of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning.method import Method, register
from pruning.ops import scaling
from pruning.ops.quotas import share_out, topk_per_part
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens

ATTENTION = "vision_attention@-1"
ENTRIES = 1 << 22  # of similarities at once: 16 MiB
CODE_WEIGHT = 0.09  # of the diversity, in the released code alone


@register
@dataclass(frozen=True)
class HoloV(Method):
    """Cut the raster into stretches and share the budget out by their scores, so that no part of the scene is lost.

    C stretches of M consecutive tokens; inside one, S = cos with a diagonal of 0, μ_i = sum_j S_ij / (M - 1),
    v_i = sum_j (S_ij - μ_i)² / (M - 1);  H_i = γ v_i + a_i, γ = mean|a| / mean|v|, a the CLS attention;
    w_c = (mean H)^τ / sum_c (mean H)^τ;  the stretch keeps its top floor(w_c K) of H. Quotas above M are cut, the
    surplus goes to the others by w_c (M - quota), the last units to the highest w_c.

    https://arxiv.org/abs/2510.02912
    variant "code": H_i = 0.09 γ v_i + a_i, and the stretch keeps its most attended tokens; H sets the quota alone.
    (Its zero rows for quotas above M would miss the budget.) Differs from both: picks come by falling score.
    γ makes the mean of γ v that of a: the quotas follow a alone, unless a stretch has one token, and so no diversity.
    Our adaptation: C = ⌊1024 N / (576 K)⌋ as in the released Qwen2.5-VL code; at LLaVA's N = 576 it is the paper's
    1024 // K. τ = 1 is the released code's.
    """

    name: ClassVar[str] = "holov"
    title: ClassVar[str] = "HoloV"
    paper: ClassVar[str] = "https://arxiv.org/abs/2510.02912"
    venue: ClassVar[str] = "NeurIPS 2025"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = "The number of stretches grows with the picture, as in the released Qwen2.5-VL code."

    tau: Annotated[float, Range(0, 5, 0.1, label="τ", help="0: every stretch the same, more favours the best")] = 1.0
    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: ranked by attention and diversity · code: by attention, as released"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = tokens.signal(ATTENTION).float()
        n, device = tokens.n, attention.device
        crops = min(n, max(1, 1024 * n // (576 * budget)))
        size = torch.full((crops,), n // crops, device=device)
        size[: n % crops] += 1
        crop = torch.repeat_interleave(size)  # (N,)

        def crop_mean(values: Tensor) -> Tensor:
            return torch.zeros(crops, device=device).index_add(0, crop, values) / size

        diversity = _diversity(tokens.features, n // crops, n % crops)
        spread = crop_mean(diversity)
        gamma = torch.where(spread > 0, crop_mean(attention.abs()) / spread, 0.0)
        holistic = attention + gamma[crop] * diversity * (1 if self.variant == "paper" else CODE_WEIGHT)
        weight = crop_mean(holistic).double().clamp(min=0)
        weight = (weight / weight.max()) ** self.tau if bool(weight.any()) else torch.ones_like(weight)
        quota = share_out(budget * weight / weight.sum(), size, budget)
        return Selection(topk_per_part(holistic if self.variant == "paper" else attention, crop, quota), n, holistic)


def _diversity(features: Tensor, size: int, longer: int) -> Tensor:
    """(N,) v: the first `longer` stretches have size + 1 tokens, the others `size`."""
    cut = longer * (size + 1)
    parts = []
    for rows, m in ((features[:cut], size + 1), (features[cut:], size)):
        for stretches in rows.unflatten(0, (-1, m)).split(max(1, ENTRIES // m**2)):  # (C, M, D)
            unit = scaling.unit_rows(stretches.flatten(0, 1)).view_as(stretches)
            own = unit @ unit.mT * (1 - torch.eye(m, device=unit.device))  # (C, M, M)
            mean = own.sum(dim=2, keepdim=True) / max(1, m - 1)
            parts.append((((own - mean) ** 2).sum(dim=2) / max(1, m - 1)).flatten())
    return torch.cat(parts)
