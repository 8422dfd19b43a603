"""ZOO-Prune: tokens that the projector is sensitive to, spread out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import spreading
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class ZooPrune(Method):
    """Shake what goes into the projector a little; keep the tokens whose output moves most and which differ.

    S_i = 1/m Σ_j |M(x_i + h u_j) - M(x_i - h u_j)| / 2h, with u_1..u_m random unit directions, the same for all tokens;
    Ŝ = min-max(S).  First pick argmax S, then argmax Ŝ_i · (1 - max_{s in S} cos(v_i, v_s)).
    M: the projector, x: features before it, v: after it. No gradient is taken: the differences stand for it.

    https://arxiv.org/abs/2509.24837
    The 2m passes of the projector are nearly all of the cost, and it is the signal's: the picks are one short loop.
    They must be float32, since in half precision h may vanish beside x. Equal sensitivities leave the picks to cos.
    Differs from the paper: no ε in the min-max; one budget for all tiles, where the released code gives each crop of
    LLaVA-NeXT the same share and projects with a low-rank stand-in.
    Our adaptation: where a projector joins several patches, each of them is moved by the same h u (unpublished for
    such models); v, not x, is compared, as released, though its notes speak of the features before the projector.
    """

    name: ClassVar[str] = "zoo_prune"
    title: ClassVar[str] = "ZOO-Prune"
    paper: ClassVar[str] = "https://arxiv.org/abs/2509.24837"
    venue: ClassVar[str] = "CVPR 2026"
    adaptation: ClassVar[str] = (
        "Where the projector joins several patches, all of them are moved alike; the paper does not say how."
    )

    m: Annotated[int, Range(1, 128, 1, label="Directions", help="m; the projector runs twice for each")] = 64
    h: Annotated[float, Range(0.001, 0.1, 0.001, label="Step", help="h, the length of the move")] = 0.01
    seed: Annotated[int, Range(0, 9999, 1, label="Seed", help="another seed draws other directions")] = 0

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pre_projector", "projector"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        sensitivity = self._sensitivity(tokens)
        importance = scaling.minmax(sensitivity)
        weight = importance if bool(importance.any()) else importance + 1
        return Selection(spreading.weighted_farthest_point(weight, tokens, budget), tokens.n, sensitivity)

    def _sensitivity(self, tokens: VisualTokens) -> Tensor:
        """(N,) float32. Raises ValueError when the projector gives another shape, or values that are not finite."""
        projector, width = tokens.signal("projector"), tokens.signal("pre_projector").shape[1]
        # Drawn on the CPU, so that a seed means the same directions on every device.
        directions = torch.randn(self.m, width, generator=torch.Generator().manual_seed(self.seed))
        moved = torch.zeros(tokens.n, device=tokens.features.device)
        change = torch.empty_like(tokens.features)  # written over and over: fresh memory costs more than the sums
        for offset in self.h * scaling.unit_rows(directions).to(moved.device):
            ahead, behind = projector(offset), projector(-offset)
            if not ahead.shape == behind.shape == tokens.features.shape:
                raise ValueError(
                    f"{self.name}: signal 'projector' gives {tuple(ahead.shape)} but must give "
                    f"{tuple(tokens.features.shape)}, one row for each token"
                )
            moved += torch.linalg.vector_norm(torch.sub(ahead, behind, out=change), dim=1)
        if not bool(torch.isfinite(moved).all()):
            raise ValueError(f"{self.name}: signal 'projector' gives NaN or infinite values")
        return moved / (2 * self.h * self.m)
