"""What `Pruner` hands to `model.generate`: pruned prompts at their original positions, and the rows that they keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from math import gcd
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pruning.models.batches import Ready, joined
from pruning.models.families.base import Family
from pruning.models.language.forward import cache_name
from pruning.models.values import Kind, ModelError, Rows
from pruning.plan import Plan

TICKETS = count(1)
ROWS = "mm_encoder_outputs"


class PrunedInputs(Mapping[str, Any]):
    """Keyword arguments of `model.generate`, on the model's device; the same ones serve any number of calls.

    Of B prompts of at most n tokens, padded on the left: `input_ids` (B, n) int64, `attention_mask` (B, n) int64,
    `position_ids` (3, B, n) with M-RoPE, else (B, n), int64; `mm_encoder_outputs`, the rows that stand at the
    placeholders of pictures and of clips, made anew for every call, since beam search changes what it is given.
    `inputs_embeds` and the cache are there as None: to give another is to give it twice, which Python refuses.

    Attributes:
        indices: of each prompt (K,) int64, ascending: which of its visual tokens enter the language model.
        counts: of each prompt N, all visual tokens that there were to choose from.
        plans: of each prompt what leaves between layers, None where nothing does.
        ticket: tells these inputs' image rows from all others in the process.
    """

    def __init__(self, family: Family, ready: Sequence[Ready], held: bool) -> None:
        """held: whether they need a `Pruner.stages` block."""
        self._family, self._ready, self._held = family, tuple(ready), held
        self.indices: tuple[Tensor, ...] = tuple(each.indices for each in ready)
        self.counts: tuple[int, ...] = tuple(each.encoded.tokens.n for each in ready)
        self.plans: tuple[Plan | None, ...] = tuple(
            each.kept if isinstance(each.kept, Plan) else None for each in ready
        )
        self.ticket = next(TICKETS)
        self.staging = threading.Lock()  # held while a `Pruner.stages` is open for them
        self._fixed = self._arguments()

    def _arguments(self) -> dict[str, Any]:
        """All but the image rows.

        With gaps in positions of one axis and no mask, a pass without a cache would take the prompt for several that
        are packed, and the library drops a mask of ones. So a column that nobody sees stands before them.
        """
        prompts = [each.prompt for each in self._ready]
        gaps = any(p.positions.ndim == 2 and int(p.positions.max()) >= p.n for p in prompts)
        longest = max(prompt.n for prompt in prompts) + gaps
        device = self._family.model.device
        # Padding repeats a prompt's first token: like no other it leaves a repetition penalty as it is.
        ids = torch.cat([
            torch.cat([p.input_ids[:, :1].expand(1, longest - p.n), p.input_ids], dim=1) for p in prompts
        ])  # fmt: skip
        positions = torch.cat([pad(p.positions, (longest - p.n, 0)) for p in prompts], dim=-2)
        mask = torch.tensor([[0] * (longest - p.n) + [1] * p.n for p in prompts])
        found = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        if marks := self._family.image_marks:
            found[marks] = (torch.isin(ids, torch.tensor(self._family.marked)) & (mask == 1)).long()
        taken: dict[str, Any] = {name: value.to(device) for name, value in found.items()}
        return taken | {"inputs_embeds": None, cache_name(type(self._family.model).forward): None}

    @property
    def ready(self) -> tuple[Ready, ...]:
        """The prompts before they were put together."""
        return self._ready

    @property
    def prompt_length(self) -> int:
        """Columns before the answer: `output[:, inputs.prompt_length :]` are the ids that were generated."""
        return int(self._fixed["input_ids"].shape[1])

    def __getitem__(self, name: str) -> Any:
        return self._rows() if name == ROWS else self._fixed[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._fixed, ROWS))

    def __len__(self) -> int:
        return len(self._fixed) + 1

    def _rows(self) -> dict[Kind, Any]:
        """The encoder's output by kind, split so that the library finds each prompt's rows when it repeats them."""
        if self._held and not self.staging.locked():
            why = "let tokens leave between layers" if any(self.plans) else "need this model's windows kept in place"
            raise ModelError(f"these inputs {why}: call model.generate inside `with pruner.stages(inputs):`")
        apart = [each.rows.by_kind() for each in self._ready]
        kinds = dict.fromkeys(kind for rows in apart for kind in rows)
        return {kind: self._of_kind(kind, [rows[kind] for rows in apart if kind in rows]) for kind in kinds}

    def _of_kind(self, kind: Kind, parts: Sequence[Rows]) -> Any:
        """parts: of every prompt that has rows of this kind."""
        output = self._family.encoder_output(joined(parts), kind)
        counts = [len(part.features) for part in parts]
        rows = output.pooler_output
        if isinstance(rows, Tensor):  # (pictures, tokens, D): as many in each
            output.pooler_output = rows.reshape(-1, gcd(*counts), rows.shape[-1])
        else:
            output.pooler_output = list(torch.cat(list(rows)).split(counts))
            if levels := getattr(output, "deepstack_features", None):
                output.deepstack_features = [list(torch.cat(list(level)).split(counts)) for level in levels]
        output.ticket = self.ticket
        return output
