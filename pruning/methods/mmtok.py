"""MMTok: cover the question's words and the picture at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from pruning import ops
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class MMTok(Method):
    """Every word of the question and every token of the picture should have a kept token that stands for it.

    P_ij = cos(t_i, v_j), Q_ij = cos(x_i, x_j), each row a distribution over the candidates j:
    P <- softmax_j(P / τ_t) / m, Q <- softmax_j(Q / τ_v) / N;
    f(S) = Σ_i max_{j in S} P_ij + α Σ_i max_{j in S} Q_ij, maximised greedily (1 - 1/e of the optimum).
    t_1..t_m: word embeddings of the question, v: projected tokens, x: features before the projector.

    https://arxiv.org/abs/2508.18264
    τ_t is the released code's for Qwen2.5-VL; it has 0.02 for LLaVA. Where nothing adds to f any more (α = 0), the rest
    follows by what each token covers alone.
    Differs from the paper: no second model that writes a preliminary answer to be covered too (optional there); one
    budget for all tiles, where the released code gives each crop of LLaVA-NeXT the same share.
    Our adaptation: the text is the question's content words for every model, as in the released code for LLaVA; for
    Qwen2.5-VL that takes the whole question.
    """

    name: ClassVar[str] = "mmtok"
    title: ClassVar[str] = "MMTok"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.18264"
    venue: ClassVar[str] = "ICLR 2026"
    adaptation: ClassVar[str] = (
        "Covers the question's content words for every model; the released code does so for LLaVA only."
    )

    alpha: Annotated[float, Range(0, 2, 0.05, label="α", help="weight of the picture against the question")] = 0.5
    tau_text: Annotated[
        float, Range(0.005, 1, 0.005, label="τ text", help="temperature of word-to-token similarity")
    ] = 0.01
    tau_visual: Annotated[
        float, Range(0.05, 1, 0.05, label="τ visual", help="temperature of token-to-token similarity")
    ] = 0.2

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pre_projector", "question"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        words = scaling.unit_rows(tokens.signal("question"))
        alike = tokens.similarity_of("pre_projector")  # symmetric: its columns are its rows
        text = torch.softmax(scaling.unit_rows(tokens.features) @ words.T / self.tau_text, dim=0) / len(words)  # (N, m)
        visual = torch.softmax(alike / self.tau_visual, dim=0) / tokens.n  # (N, N)
        cover = torch.cat([text, self.alpha * visual], dim=1)  # row j: what candidate j covers
        return Selection(ops.coverage(cover, budget), tokens.n, cover.sum(dim=1))
