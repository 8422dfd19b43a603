"""FlashVLM: attention and relevance to the question in one score, then VisPruner's thinning out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops, spreading
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

WORD_TEMPERATURE = 0.05  # of the soft maximum over the words
TAIL = 0.1  # what a relevance below the top share is multiplied by
FLOOR = 1e-6  # of both scores before their logarithm


@register
@dataclass(frozen=True)
class FlashVLM(Method):
    """What the picture stresses and the question asks for, fused; the other half of the budget is kept diverse.

    M_ji = cos(v_j, t_i)·|t_i| / max|t|;  s_j = Σ_i softmax_i(M_ji / 0.05)·M_ji, a soft maximum over the words;
    s <- min-max(softmax_j(s / T)^γ), times 0.1 below the top share p, min-max;  a = min-max(attention);
    score = a^(1-η)·s^η, both at least 1e-6.  The int(K/2) best stay; the others, by falling score, are thinned out as
    in VisPruner (`ops.deduplicate`), on the features before the projector.

    https://arxiv.org/abs/2512.20561
    Differs from the released code: equal scores (η = 1 leaves most at the floor) go by s before it is sharpened; the
    budget is free, where Qwen2.5-VL has at most 196; the lengths |t| count for every model, where for LLaVA they are
    taken after normalising and do nothing.
    Our adaptation: the formula is the released code's, as the paper's own could not be read. The text is the question;
    released are all words of the prompt (LLaVA), or those before the picture (Qwen2.5-VL). A tower without CLS gives
    the attention received, of its last layer that sees the whole picture; with CLIP the code reads layer -2.
    """

    name: ClassVar[str] = "flashvlm"
    title: ClassVar[str] = "FlashVLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2512.20561"
    venue: ClassVar[str] = "arXiv 2025"
    nested: ClassVar[bool] = False
    compares: ClassVar[str] = "pre_projector"
    adaptation: ClassVar[str] = (
        "The formula is the released code's; the text is the question's content words, where the code takes other "
        "parts of the prompt; the last vision layer is read, for the code's with CLIP choose -2."
    )

    eta: Annotated[float, Range(0, 1, 0.05, label="η", help="0 is attention only, 1 relevance only")] = 0.5
    important: Annotated[
        float, Range(0, 1, 0.05, label="Important", help="share of the budget that goes by the score alone")
    ] = 0.5
    temperature: Annotated[float, Range(0.005, 1, 0.005, label="T", help="lower sharpens relevance")] = 0.01
    gamma: Annotated[float, Range(1, 4, 0.1, label="γ", help="higher sharpens relevance")] = 2.5
    top: Annotated[float, Range(0, 1, 0.005, label="p", help="share of tokens whose relevance counts in full")] = 0.005
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}", self.compares, "question"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = scaling.minmax(tokens.signal(f"vision_attention@{self.layer}")).clamp(min=FLOOR)
        matches = self._matches(tokens.features, tokens.signal("question"))
        sharp = scaling.minmax(torch.softmax(matches / self.temperature, dim=0) ** self.gamma)
        counted = torch.where(sharp < sharp.quantile(1 - self.top), TAIL * sharp, sharp)
        relevance = scaling.minmax(counted).clamp(min=FLOOR)
        scores = scaling.minmax(torch.exp((1 - self.eta) * attention.log() + self.eta * relevance.log()))
        important = int(self.important * budget)
        ranking = ops.topk_by_level(scores, matches, tokens.n)
        diverse = spreading.deduplicate(ranking[important:], tokens, self.compares, budget - important)
        return Selection(torch.cat([ranking[:important], diverse]), tokens.n, scores)

    def _matches(self, features: Tensor, question: Tensor) -> Tensor:
        """features (N, D), question (M, D) -> (N,), how well each token matches the words."""
        lengths = torch.linalg.vector_norm(question, dim=1)
        gate = torch.where(lengths.max() > 0, lengths / lengths.max(), torch.zeros_like(lengths))
        match = scaling.unit_rows(features) @ (scaling.unit_rows(question) * gate[:, None]).T  # (N, M)
        return (torch.softmax(match / WORD_TEMPERATURE, dim=1) * match).sum(dim=1)
