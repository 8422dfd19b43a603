"""Whether text or the picture dominates in a layer: MDI and AEI of "When Language Overrules", arXiv 2508.10552."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from pruning.models.language.modality import Attended


@dataclass(frozen=True)
class Dominance:
    """One layer. Attention is that of the answer's tokens to the prompt, mean over heads and these tokens."""

    layer: Annotated[int, Field(description="the layer, from 0")]
    text_attention: Annotated[float, Field(description="A_T, attention that the prompt's text receives")]
    visual_attention: Annotated[float, Field(description="A_O, attention that its visual tokens receive")]
    text_tokens: Annotated[int, Field(description="text tokens of the prompt")]
    visual_tokens: Annotated[int, Field(description="visual tokens alive in the layer")]
    mdi: Annotated[
        float | None,
        Field(description="modality dominance index (A_T/|T|)/(A_O/|O|), 1 = balanced; null where A_O is 0"),
    ]
    aei_text: Annotated[
        float | None,
        Field(description="attention efficiency index of the text: its share of attention over its share of tokens"),
    ]
    aei_visual: Annotated[float | None, Field(description="the same of the visual tokens; mdi = aei_text/aei_visual")]


def dominance(layer: Attended) -> Dominance:
    """MDI = (A_T/|T|) / (A_O/|O|); AEI_T = (A_T/(A_T+A_O)) / (|T|/(|T|+|O|)), AEI_O alike.

    Rows are the answer's tokens, keys those of the prompt: what goes to tokens of the answer counts for neither.
    """
    text, visual, t, o = layer.text, layer.visual, layer.text_tokens, layer.visual_tokens
    whole, tokens = text + visual, t + o
    return Dominance(
        layer=layer.layer,
        text_attention=text,
        visual_attention=visual,
        text_tokens=t,
        visual_tokens=o,
        mdi=(text / t) / (visual / o) if visual > 0 and t else None,
        aei_text=(text / whole) / (t / tokens) if whole > 0 and t else None,
        aei_visual=(visual / whole) / (o / tokens) if whole > 0 and o else None,
    )
