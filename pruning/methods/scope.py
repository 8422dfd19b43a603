"""SCOPE: saliency times newly covered ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pruning import ops
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class Scope(Method):
    """Each pick is the token that is salient and resembles most of what no kept token resembles yet.

    c_u = max_{s in S} cos(x_u, x_s), 0 at first;  gain(v) = Σ_u max(0, cos(x_u, x_v) - c_u);
    pick argmax gain(v) · A_v^α.  x: features before the projector, A: attention from CLS.
    α = 0 is plain facility location.

    https://arxiv.org/abs/2510.24214
    α = 1 as in the released scripts. A is divided by its sum, which changes no pick. Where no salient token adds
    coverage, the rest follows by gain · A^α as for the first pick.
    Layer: -2 with CLIP in the paper. Differs from the paper: the released option to add A^α instead is left out, since
    the sum would hang on the number of heads; one budget for all tiles, where the released code shares it out.
    Our adaptation: a tower without CLS gives the attention received, of its last layer that sees the whole picture.
    """

    name: ClassVar[str] = "scope"
    title: ClassVar[str] = "SCOPE"
    paper: ClassVar[str] = "https://arxiv.org/abs/2510.24214"
    venue: ClassVar[str] = "NeurIPS 2025"
    adaptation: ClassVar[str] = (
        "A tower without CLS gives the attention received instead; the last layer is read, for the paper's choose -2."
    )

    alpha: Annotated[float, Range(0, 2, 0.05, label="α", help="0 is coverage only, more follows attention more")] = 1.0
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}", "pre_projector"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        saliency = scaling.share(tokens.signal(f"vision_attention@{self.layer}")) ** self.alpha
        similarity = tokens.similarity_of("pre_projector")
        alone = similarity.clamp(min=0).sum(dim=1) * saliency
        return Selection(ops.coverage(similarity, budget, saliency), tokens.n, alone)
