"""One prompt on its way through the layers: its rules choose, and what they chose is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pruning.grids import rows_and_columns
from pruning.models.language.sight import Sight
from pruning.models.language.trace import CutTrace
from pruning.plan import Cut
from pruning.seen import Choice, Seen

if TYPE_CHECKING:
    from pruning.models.language.stages import Course


class Cutting:
    """What is left of one prompt, and what its rules see. present() gives the places in it that are processed now."""

    def __init__(self, course: Course, model: Any, present: Callable[[], Tensor]):
        self.course, device = course, model.device
        course.made, course.choices = [], {}
        self.tokens, self.visual = course.tokens.to(device), course.prompt.visual.to(device)
        self.text = course.text.to(device)
        self.sight = Sight(model, list(course.cuts.values()), self.text, self.visual, present)

    def cut(self, cut: Cut, hidden: Tensor, before: Tensor, named: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Let the rule choose: the states of what stays, (1, R', D), and the places of that in the prompt, (R',).

        hidden: (1, R, D) at the places `before` (R,); named: the next layer's arguments for these.
        """
        choice = self.course.choices.get(cut.after) or self._chosen(cut, hidden, before, named)
        places = torch.searchsorted(before, self.visual)
        if choice.merged is not None and choice.merged_rows is not None:
            hidden = hidden.index_copy(1, places[choice.merged].to(hidden.device), choice.merged_rows.to(hidden)[None])
        stays = torch.ones(len(before), dtype=torch.bool, device=before.device)
        stays[places] = False
        kept = choice.order.to(before.device).sort().values
        stays[places[kept]] = True
        self.tokens, self.visual = self.tokens[kept], self.visual[kept]
        return hidden[:, stays.to(hidden.device)], before[stays]

    def _chosen(self, cut: Cut, hidden: Tensor, before: Tensor, named: dict[str, Any]) -> Choice:
        """What the rule chooses, noted for other rows of the same prompt."""
        signals = self.sight.signals(cut, hidden, named)
        if "entry_scores" in cut.rule.needs and self.course.entry_scores is not None:
            signals["entry_scores"] = self.course.entry_scores.to(before.device)[self.tokens].float()
        if "places" in cut.rule.needs:
            signals["places"] = rows_and_columns(self.course.grids).to(before.device)[self.tokens]
        signals |= {name: self.course.modules[name] for name in cut.rule.modules}
        seen = Seen(
            cut.after,
            self.course.layers,
            self.course.n,
            self.tokens,
            before,
            torch.searchsorted(before, self.visual),
            torch.searchsorted(before, self.text),
            self.course.images.to(before.device)[self.tokens],
            len(self.course.made),
            signals,
        )
        # A cut with a budget of its own may have left fewer than the plan counts on.
        choice = cut.rule.choose(seen, min(self.course.counts[cut.after], len(self.tokens)))
        self.course.made.append(_traced(seen, cut, choice))
        self.course.choices[cut.after] = choice
        return choice


def _traced(seen: Seen, cut: Cut, choice: Choice) -> CutTrace:
    alive, scores = seen.tokens.cpu(), None
    if choice.scores is not None:
        scores = torch.full((seen.n,), torch.nan)
        scores[alive] = choice.scores.float().cpu()
    merged = alive[:0] if choice.merged is None else alive[choice.merged.cpu()]
    return CutTrace(cut.after, cut.rule, alive, alive[choice.order.cpu()], scores, merged)
