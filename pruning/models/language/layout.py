"""Which places of each prompt of a batch the columns of a tensor hold, where the prompts differ in length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad


class Layout:
    """B rows of `width` columns: the last ones of a row are its own, those before them padding that nobody sees.

    rows: of every prompt (R,) int64, ascending: the places in it that its columns hold.
    """

    def __init__(self, rows: Sequence[Tensor], width: int | None = None):
        self.rows, self.width = list(rows), width or max(map(len, rows))

    @property
    def padded(self) -> bool:
        return any(len(row) < self.width for row in self.rows)

    @cached_property
    def valid(self) -> Tensor:
        """(B, width) bool: what is no padding."""
        lengths = torch.tensor([len(row) for row in self.rows], device=self.rows[0].device)
        return torch.arange(self.width, device=lengths.device) >= self.width - lengths[:, None]

    def of(self, at: int, states: Tensor) -> Tensor:
        """(1, R, ...) of (B or 1, width, ...): one prompt's own columns, a view."""
        one = states[at : at + 1] if len(states) > 1 else states
        return one[:, self.width - len(self.rows[at]) :]

    def join(self, states: Sequence[Tensor]) -> Tensor:
        """(B, width, D) of each prompt's own (1, R, D)."""
        if len(states) == 1:
            return states[0]
        return torch.cat([pad(own, (0, 0, self.width - own.shape[1], 0)) for own in states])

    def gather(self, values: Tensor, within: Layout, dim: int = -2) -> Tensor:
        """Values (B or 1, ...) of another layout's columns along `dim`, counted from the end, as those of this one.

        Padding holds any of them.
        """
        if self is within:
            return values
        if len(self.rows) == 1:
            return values.index_select(dim, self._columns(0, within).to(values.device))
        parts = values if len(values) > 1 else values.expand(len(self.rows), *values.shape[1:])
        return torch.stack([
            part.index_select(dim, pad(self._columns(at, within), (self.width - len(self.rows[at]), 0)).to(part.device))
            for at, part in enumerate(parts)
        ])  # fmt: skip

    def mask(self, given: Tensor | None, within: Layout, flat: bool) -> Tensor | None:
        """The attention mask of a layer for this layout, from the one that it is given for another.

        given: None, where every token sees those before it; (B, n); or (B or 1, 1, n, n) bool or added to the logits.
        flat: where None becomes a mask, it is (B, width).
        """
        if given is None and not self.padded:
            return None
        if (given is not None and given.ndim == 2) or (given is None and flat):
            return self.valid.to(torch.long if given is None else given.dtype)
        if given is None:
            seen = torch.ones(self.width, self.width, dtype=torch.bool, device=self.valid.device).tril()
            return self._unpadded(seen.expand(len(self.rows), 1, -1, -1))
        taken = self.gather(self.gather(given, within, -1), within, -2)
        return self._unpadded(taken) if self.padded else taken

    def _unpadded(self, mask: Tensor) -> Tensor:
        """(B, 1, m, m) where padding is seen by nobody, but for itself: a row that sees nothing has no softmax."""
        valid = self.valid.to(mask.device)
        itself = torch.eye(self.width, dtype=torch.bool, device=mask.device)
        open_ = torch.where(valid[:, :, None], valid[:, None, :], itself)[:, None]
        if mask.dtype == torch.bool:
            return torch.where(valid[:, None, :, None], mask & open_, itself)
        mask = torch.where(valid[:, None, :, None], mask, mask.new_zeros(()))
        return mask.masked_fill(~open_, torch.finfo(mask.dtype).min)

    def _columns(self, at: int, within: Layout) -> Tensor:
        """(R,) where in another layout's row each own column stands."""
        there = within.rows[at]
        return within.width - len(there) + torch.searchsorted(there, self.rows[at])
