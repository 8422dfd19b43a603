"""Budgets for the sample, for each image, for each tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pruning import Grid, Method, Selection, VisualTokens, make
from pruning.allocation import novel_budgets, select_within, selector
from pruning.budget import keep_count
from tests.helpers.samples import EVERY, sample

GRIDS = (
    Grid(1, 2, 3, 0, role="thumbnail"),
    Grid(1, 3, 4, 6, role="tile", box=(0, 0, 0.5, 1)),
    Grid(1, 3, 4, 18, role="tile", box=(0.5, 0, 1, 1)),
    Grid(1, 5, 2, 30, image=1),
)
BOUNDS = {"sample": [(0, 40)], "image": [(0, 30), (30, 40)], "tile": [(0, 6), (6, 18), (18, 30), (30, 40)]}
BOUNDS["frame"] = BOUNDS["tile"]  # of pictures


@pytest.mark.parametrize("per", sorted(BOUNDS))
@pytest.mark.parametrize("name", ["idpruner", "uniform", "random", "divprune"])
def test_every_part_gets_its_own_share(per: str, name: str) -> None:
    tokens, method = sample(40, grids=GRIDS), make(name)
    kept = select_within(method, tokens, 0.25, per)
    for start, stop in BOUNDS[per]:
        inside = [i - start for i in kept.order.tolist() if start <= i < stop]
        assert len(inside) == keep_count(stop - start, 0.25)
        part = tokens.part(tuple(g for g in GRIDS if start <= g.start < stop))
        assert inside == method.select(part, len(inside)).order.tolist()
    assert kept.k == sum(keep_count(stop - start, 0.25) for start, stop in BOUNDS[per])


@pytest.mark.parametrize("per", sorted(BOUNDS))
@pytest.mark.parametrize("name", ["idpruner", "uniform"])
def test_a_selector_selects_as_each_ratio_alone_would(per: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, method, ratios = sample(40, grids=GRIDS), make(name), (0.1, 0.25, 1.0)
    expected = [select_within(method, tokens, ratio, per).order.tolist() for ratio in ratios]
    asked, select = [], Method.select

    def counted(self: Method, tokens: VisualTokens, budget: int) -> Selection:
        asked.append(budget)
        return select(self, tokens, budget)

    monkeypatch.setattr(Method, "select", counted)
    selects = selector(method, tokens, ratios, per)
    assert [selects(ratio).order.tolist() for ratio in ratios] == expected
    nested_once = name == "idpruner" and per == "sample"
    assert len(asked) == (1 if nested_once else len(BOUNDS[per]) * len(ratios))


CLIP = (Grid(4, 2, 5), Grid(1, 3, 4, 40, image=1))


def test_every_frame_of_a_clip_has_its_share() -> None:
    kept = select_within(make("divprune"), sample(52, grids=CLIP), 0.25, "frame")
    assert kept.indices.div(10, rounding_mode="floor").clamp(max=4).bincount().tolist() == [3, 3, 3, 3, 3]


def moving(seed: int = 0) -> VisualTokens:
    """Of four frames the second repeats the first, the third is another scene, the fourth drifts on; and a picture."""
    draw = torch.Generator().manual_seed(seed)
    first, third = torch.randn(2, 10, 12, generator=draw)
    fourth = third + 0.5 * torch.randn(10, 12, generator=draw)
    rows = torch.cat([first, first, third, fourth, torch.randn(12, 12, generator=draw)])
    return sample(52, grids=CLIP, rows=rows)


def test_a_budget_by_novelty_goes_where_frames_change() -> None:
    tokens = moving()
    budgets = novel_budgets(tokens, 20)
    x = tokens.features.numpy().reshape(52, 12)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = [
        1.0,
        *(float(np.mean([1 - unit[10 * f + p] @ unit[10 * f + p - 10] for p in range(10)])) for f in (1, 2, 3)),
        1.0,
    ]
    assert wanted[1] == pytest.approx(0, abs=1e-6)
    exact = [1 + 15 * w / sum(wanted) for w in wanted]
    assert int(budgets.sum()) == 20
    assert budgets[1] == 1
    assert all(abs(b - e) <= 1 for b, e in zip(budgets.tolist(), exact, strict=True))
    kept = select_within(make("idpruner"), tokens, 20 / 52, "novelty")
    assert kept.indices.div(10, rounding_mode="floor").clamp(max=4).bincount().tolist() == budgets.tolist()
    assert kept.scores is not None


def test_a_budget_by_novelty_of_less_than_a_token_a_frame_leaves_frames_out() -> None:
    for name in ("idpruner", "visionzip"):
        kept = select_within(make(name), moving(), 3 / 52, "novelty")
        assert kept.k == 3
        assert not bool(((kept.indices >= 10) & (kept.indices < 20)).any())
        assert kept.scores is None
        assert kept.merge_into is None or set(kept.merge_into.tolist()) == {-1, *kept.order.tolist()}
    assert novel_budgets(moving(), 52).tolist() == [10, 10, 10, 10, 12]


def test_parts_take_turns_in_the_pick_order() -> None:
    order = select_within(make("idpruner"), sample(40, grids=GRIDS), 0.25, "tile").order.tolist()
    owners = [next(i for i, (start, stop) in enumerate(BOUNDS["tile"]) if start <= pick < stop) for pick in order]
    assert owners == [0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3]  # two picks of 6, three of 12, three of 10


def test_a_part_has_the_signals_of_its_tokens() -> None:
    tokens = sample(40, grids=GRIDS)
    part = tokens.part(GRIDS[1:3])
    assert part.n == 24
    assert [grid.start for grid in part.grids] == [0, 12]
    assert [grid.role for grid in part.grids] == ["tile", "tile"]
    for name in EVERY:
        whole, own = tokens.signal(name), part.signal(name)
        if name == "question":
            assert own is whole
        elif name == "tower":
            stay_all = torch.ones_like(whole.run(1, lambda flow: torch.arange(len(flow.attention))))
            assert own.counts == (12, 12)
            assert torch.equal(own(0, lambda flow: torch.arange(1)), whole(1, lambda flow: torch.arange(1)))
            assert len(stay_all) == 12
        elif name == "projector":
            torch.testing.assert_close(own(torch.zeros(9)), part.features)
        elif name.startswith("vision_attention_map"):
            assert torch.equal(own, whole[6:30, 6:30])
        else:
            assert torch.equal(own, whole[6:30])


def test_a_part_is_made_and_compared_once_for_all_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, method = sample(40, grids=GRIDS), make("vispruner")
    first = select_within(method, tokens, 0.5, "tile")
    compared = []
    monkeypatch.setattr("pruning.tokens.cosine_similarity", compared.append)
    assert torch.equal(select_within(method, tokens, 0.5, "tile").order, first.order)
    select_within(method, tokens, 0.25, "tile")
    assert compared == []
    assert tokens.part(GRIDS[1:2]) is tokens.part(GRIDS[1:2])
    assert tokens.part(GRIDS[:1]) is not tokens.part(GRIDS[:3]), "an image begins where its first tile does"


def test_the_matrices_of_parts_are_weighed() -> None:
    tokens = sample(40, grids=GRIDS, needs={"pre_projector"})
    entries = 40 * (12 + 9) + 2 * sum(n**2 for n in (40, 30, 6, 12, 12, 10))  # the second image is one tile
    assert tokens.nbytes == 4 * entries


def test_merged_rows_stay_with_their_tokens() -> None:
    tokens, method = sample(40, grids=GRIDS), make("visionzip")
    kept = select_within(method, tokens, 0.5, "tile")
    for start, stop in BOUNDS["tile"]:
        part = tokens.part(tuple(g for g in GRIDS if start <= g.start < stop))
        alone = method.select(part, keep_count(part.n, 0.5))
        here = [i for i, pick in enumerate(kept.order.tolist()) if start <= pick < stop]
        assert torch.equal(kept.rows[here], alone.rows)
        own = kept.merge_into[start:stop]
        assert torch.equal(torch.where(own < 0, own, own - start), alone.merge_into)


def test_an_unknown_scope_is_named() -> None:
    with pytest.raises(ValueError, match=r"'pixel'.*sample, image, tile"):
        select_within(make("random"), sample(40, grids=GRIDS), 0.25, "pixel")  # type: ignore[arg-type]


@pytest.mark.parametrize("retention", [0, 1.5, float("nan")])
def test_a_bad_retention_is_refused_in_every_scope(retention: float) -> None:
    for per in BOUNDS:
        with pytest.raises(ValueError, match="retention"):
            select_within(make("random"), sample(40, grids=GRIDS), retention, per)  # type: ignore[arg-type]
