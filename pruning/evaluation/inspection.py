"""Why one token was kept or dropped: what an engineer asks before they trust a pruner.

Everything follows from the tokens, the selection and the method; no language model is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.grids import place_of
from pruning.method import Method, ScoreMethod
from pruning.ops.scaling import minmax
from pruning.tokens import Selection, VisualTokens


@dataclass(frozen=True)
class CutPlace:
    """One token at a cut between layers.

    rank: from 1, among the `alive`, of which `kept` stayed; score: what it was ranked by. None where the rule has none.
    """

    after: int
    rank: int | None
    score: float | None
    alive: int
    kept: int


@dataclass(frozen=True)
class Card:
    """What is known of one token.

    token:      its index among the N         image, row, column: its place, from 0; role: of its grid (tokens.Grid)
    frame:      of a clip, from 0, of `frames`; 0 of 1 for a picture. before, after: the cosine to the token at the same
                place of the frame before and after; None where there is none
    rank:       its place in the pick order, from 1; None where it was dropped
    importance: raw; `normalised` the same from 0 to 1, `percentile` the share of tokens that are less important, 0-100
    nearest:    the kept token, other than itself, that is most similar; `similarity` the cosine to it, `nearest_rank`
                that token's rank; None where nothing else was kept
    score:      λ·importance - (1 - λ)·similarity when it was last considered, for methods with λ: as it was picked, or
                for a dropped token before the last pick
    merged_into: the kept token that absorbed it; None where it was dropped whole or kept
    why:        one sentence
    cuts:       its place at every cut of a plan that it came to
    placed:     whether it is known where it lies (`Grid.placed`); else row and column say nothing
    """

    token: int
    image: int
    row: int
    column: int
    role: str
    rank: int | None
    kept: int
    importance: float | None
    normalised: float | None
    percentile: float | None
    nearest: int | None
    nearest_rank: int | None
    similarity: float | None
    score: float | None
    merged_into: int | None
    why: str
    cuts: tuple[CutPlace, ...] = ()
    placed: bool = True
    frame: int = 0
    frames: int = 1
    before: float | None = None
    after: float | None = None


def inspect(
    tokens: VisualTokens, selection: Selection, method: Method | None, token: int, importance: Tensor | None = None
) -> Card:
    """The card of one token under a selection that `method` made of `tokens`; None: a plan did, and its lives tell why.

    importance: (N,) raw importance, of the method's own source where it has one; None where there is none.
    Raises ValueError for an index outside 0..N-1 or importance of another length.
    """
    if isinstance(token, bool) or not isinstance(token, int):
        raise ValueError(f"a token is named by its index, a whole number from 0 to {tokens.n - 1}, not {token!r}")
    grid, row, column = place_of(tokens.grids, token)
    if importance is not None and importance.shape != (tokens.n,):
        raise ValueError(f"importance must be ({tokens.n},), not {tuple(importance.shape)}")
    each = grid.gh * grid.gw
    frame = (token - grid.start) // each
    view = _View(tokens, selection, method, None if importance is None else minmax(importance))
    rank = view.rank(token)
    nearest, similarity = view.nearest(token, selection.k)
    raw = None if importance is None else float(importance[token])
    return Card(
        token=token,
        image=grid.image,
        row=row,
        column=column,
        role=grid.role,
        placed=grid.placed,
        rank=rank,
        kept=selection.k,
        importance=raw,
        normalised=None if view.importance is None else float(view.importance[token]),
        percentile=None if importance is None else 100 * float((importance < importance[token]).float().mean()),
        nearest=nearest,
        nearest_rank=None if nearest is None else view.rank(nearest),
        similarity=similarity,
        score=view.score(token),
        merged_into=view.absorber(token),
        why=view.why(token),
        frame=frame,
        frames=grid.t,
        before=None if frame == 0 else float(tokens.similarity[token, token - each]),
        after=None if frame == grid.t - 1 else float(tokens.similarity[token, token + each]),
    )


def nearest_kept(tokens: VisualTokens, selection: Selection) -> Tensor:
    """(N,) float32: each token's cosine to the kept token, other than itself, that is most similar to it; NaN where no
    other one is kept.
    """
    found = tokens.similarity[:, selection.order].clone()
    found[selection.order, torch.arange(selection.k)] = -torch.inf
    best = found.amax(dim=1)
    return torch.where(best.isfinite(), best, torch.nan)


@dataclass(frozen=True)
class _View:
    tokens: VisualTokens
    selection: Selection
    method: Method | None
    importance: Tensor | None  # (N,) from 0 to 1

    @property
    def weight(self) -> float | None:
        return None if self.method is None else self.method.lambda_

    def rank(self, token: int) -> int | None:
        found = (self.selection.order == token).nonzero()
        return int(found[0]) + 1 if len(found) else None

    def absorber(self, token: int) -> int | None:
        into = self.selection.merge_into
        return None if into is None or int(into[token]) in (-1, token) else int(into[token])

    def nearest(self, token: int, among: int) -> tuple[int | None, float | None]:
        """The most similar of the first `among` picks, other than the token itself, and the cosine to it."""
        picks = self.selection.order[:among]
        picks = picks[picks != token]
        if not len(picks):
            return None, None
        values = self.tokens.similarity[token, picks]
        best = int(values.argmax())
        return int(picks[best]), float(values[best])

    def considered(self, token: int) -> int:
        """Picks that were made when the token was last considered."""
        rank = self.rank(token)
        return (self.selection.k if rank is None else rank) - 1

    def score(self, token: int) -> float | None:
        weight = self.weight
        if self.method is None or weight is None or self.importance is None or not self.method.nested:
            return None
        before = self.considered(token)
        if before == 0:
            return float(weight * self.importance[token])
        _, similarity = self.nearest(token, before)
        return float(weight * self.importance[token] - (1 - weight) * (similarity or 0.0))

    def why(self, token: int) -> str:
        rank, into = self.rank(token), self.absorber(token)
        if into is not None:
            return f"merged into {self._patch(into)}, which was kept"
        if rank is None:
            return f"dropped: {self._why_dropped(token)}"
        return f"kept as {ordinal(rank)}: {self._why_kept(token, rank)}"

    def _why_kept(self, token: int, rank: int) -> str:
        if own := self._own(token):
            return own
        if isinstance(self.method, ScoreMethod):
            return f"{ordinal(rank)} highest score of {self.tokens.n:,}"
        if self.importance is not None and self.weight is not None:
            left = torch.ones(self.tokens.n, dtype=torch.bool)
            left[self.selection.order[: rank - 1]] = False
            if float(self.importance[token]) >= float(self.importance[left].max()):
                return "most important of what was left"
        nearest, similarity = self.nearest(token, rank - 1)
        if nearest is None:
            return f"the token that {self._title} starts with"
        return f"at most {similarity:.2f} similar to what was kept before it ({self._patch(nearest)})"

    def _why_dropped(self, token: int) -> str:
        if own := self._own(token):
            return own
        scores = self.selection.scores
        if isinstance(self.method, ScoreMethod) and scores is not None:
            place = int((scores > scores[token]).sum()) + 1
            return f"its score is {ordinal(place)} of {self.tokens.n:,}, and {self.selection.k:,} were kept"
        nearest, similarity = self.nearest(token, self.selection.k)
        if nearest is None or similarity is None:
            return f"{self._title} kept one other token"
        likeness = f"{similarity:.2f} similar to {self._patch(nearest)}, kept as {ordinal(self.rank(nearest) or 1)}"
        weight = self.weight
        if weight is None or self.importance is None:
            return likeness
        last = int(self.selection.order[-1])
        _, last_similarity = self.nearest(last, self.selection.k - 1)
        unimportant = weight * float(self.importance[last] - self.importance[token])
        redundant = (1 - weight) * (similarity - (last_similarity or 0.0))
        if unimportant <= redundant:
            return likeness
        return (
            f"importance {float(self.importance[token]):.2f}, the last one kept has "
            f"{float(self.importance[last]):.2f}; it is {likeness}"
        )

    def _own(self, token: int) -> str:
        return "" if self.method is None else self.method.reason(self.tokens, token)

    @property
    def _title(self) -> str:
        return "the plan" if self.method is None else self.method.title

    def _patch(self, token: int) -> str:
        grid, row, column = place_of(self.tokens.grids, token)
        several = len({g.image for g in self.tokens.grids}) > 1
        if not grid.placed:
            return f"token {token - grid.start + 1}" + (f" of image {grid.image + 1}" if several else "")
        where = {"tile": " of the tiles", "thumbnail": " of the thumbnail", "whole": ""}[grid.role]
        if grid.t > 1:
            where = f" of frame {(token - grid.start) // (grid.gh * grid.gw) + 1}"
        return f"patch ({row + 1}, {column + 1}){where}" + (f" of image {grid.image + 1}" if several else "")


def ordinal(number: int) -> str:
    """1 -> 1st, 2 -> 2nd, 11 -> 11th."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
