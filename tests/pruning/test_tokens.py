import dataclasses
import math
import weakref

import pytest
import torch

from pruning.grids import Grid
from pruning.ops.scaling import cosine_similarity
from pruning.tokens import Selection, VisualTokens
from tests.helpers.samples import features, sample


def test_grids_must_cover_the_features_in_order():
    VisualTokens(features(10), (Grid(1, 2, 3), Grid(2, 1, 2, 6)))
    for grids in [(), (Grid(1, 3, 3),), (Grid(1, 2, 3), Grid(2, 1, 2, 5)), (Grid(2, 1, 2, 6), Grid(1, 2, 3))]:
        with pytest.raises(ValueError, match="grid"):
            VisualTokens(features(10), grids)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(6), torch.zeros(6, 2, dtype=torch.float64), torch.zeros(6, 2).half(), torch.zeros(0, 2)],
)
def test_features_must_be_n_by_d_float32(wrong):
    with pytest.raises(ValueError, match=r"\(N, D\) float32"):
        VisualTokens(wrong, (Grid(1, 2, 3),))


@pytest.mark.parametrize("numbers", [(0, 2, 2, 0), (1, 0, 2, 0), (1, 2, -1, 0), (1, 2, 2, -1)])
def test_grid_refuses_empty_sides(numbers):
    with pytest.raises(ValueError, match="not a grid"):
        Grid(*numbers)


def test_a_missing_signal_is_named_with_those_that_are_there():
    tokens = sample(4)
    with pytest.raises(ValueError, match=r"'depth'.*question, scorer, tower, vision_attention@-1"):
        tokens.signal("depth")


def test_with_signals_adds_replaces_and_keeps_what_was_computed():
    tokens = sample(4)
    similarity = tokens.similarity
    more = tokens.with_signals({"scorer": torch.zeros(4)}, depth=torch.ones(4))
    assert more.signal("depth").sum() == 4
    assert more.signal("scorer").sum() == 0
    assert tokens.signal("scorer").abs().sum() > 0
    assert "depth" not in tokens.signals
    assert more.similarity is similarity
    with pytest.raises(TypeError):
        more.signals["depth"] = torch.zeros(4)


@pytest.mark.parametrize("name", ["pre_projector", "vision_keys@-1"])
def test_similarity_of_a_signal_is_the_cosine_of_its_rows(name):
    tokens = sample(9)
    rows = tokens.signal(name).double().flatten(1).tolist()
    found = tokens.similarity_of(name)
    assert found.dtype == torch.float32
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
                sum(x * x for x in a) * sum(y * y for y in b)
            )
            assert found[i, j].item() == pytest.approx(cosine, abs=1e-6)


def test_similarities_are_computed_once_for_all_tokens_with_the_same_signals():
    tokens = sample(9)
    asked = tokens.with_signals(depth=torch.ones(9))
    found = asked.similarity_of("pre_projector")
    assert asked.similarity_of("pre_projector") is found
    assert tokens.similarity_of("pre_projector") is found, "what the derived tokens compute, the first ones have"
    assert tokens.similarity is asked.similarity
    assert dataclasses.replace(tokens).similarity_of("pre_projector") is not found
    assert {x.data_ptr() for x in tokens.compared} == {
        x.data_ptr() for x in (tokens.signal("pre_projector"), tokens.features)
    }


def test_a_signal_that_is_replaced_has_a_similarity_of_its_own():
    tokens = sample(9)
    before = tokens.similarity_of("pre_projector").clone()
    other = tokens.with_signals(pre_projector=features(9, 5, seed=3))
    assert torch.equal(other.similarity_of("pre_projector"), cosine_similarity(features(9, 5, seed=3)))
    assert torch.equal(tokens.similarity_of("pre_projector"), before)


def test_similarities_go_with_their_tokens():
    tokens = sample(9)
    held = [weakref.ref(tokens.similarity), weakref.ref(tokens.similarity_of("pre_projector"))]
    assert all(ref() is not None for ref in held)
    del tokens
    assert [ref() for ref in held] == [None, None]


def test_tokens_are_compared_by_what_a_cache_weighs():
    tokens = sample(9, needs={"scorer", "pre_projector", "vision_keys@-1"})
    weight = 4 * 9 * (12 + 1 + 9 + 10 + 3 * 9)  # features, scorer, pre_projector, 2 heads of 5; three matrices
    assert tokens.nbytes == weight
    tokens.similarity_of("vision_keys@-1")
    assert tokens.nbytes == weight
    with pytest.raises(ValueError, match=r"'scorer'.*COMPARED"):
        tokens.similarity_of("scorer")
    with pytest.raises(ValueError, match="'vision_keys@-2' is missing"):
        tokens.similarity_of("vision_keys@-2")


def test_selection_derives_indices_mask_and_prefix():
    selection = Selection(torch.tensor([5, 0, 3]), 6, scores=torch.arange(6.0))
    assert selection.k == 3
    assert selection.indices.tolist() == [0, 3, 5]
    assert selection.mask.tolist() == [True, False, False, True, False, True]
    shorter = selection.prefix(2)
    assert (shorter.order.tolist(), shorter.indices.tolist(), shorter.n) == ([5, 0], [0, 5], 6)
    assert shorter.scores is selection.scores


@pytest.mark.parametrize(
    "order",
    [
        torch.tensor([1, 1]),
        torch.tensor([6]),
        torch.tensor([-1, 2]),
        torch.tensor([], dtype=torch.int64),
        torch.arange(7),
        torch.tensor([[1]]),
        torch.tensor([1], dtype=torch.int32),
        torch.tensor([1.0]),
    ],
)
def test_selection_refuses_what_is_no_pick_order(order):
    with pytest.raises(ValueError, match="order must"):
        Selection(order, 6)


def test_selection_checks_the_shapes_beside_the_order():
    with pytest.raises(ValueError, match="scores must be"):
        Selection(torch.tensor([1]), 3, scores=torch.zeros(2))
    with pytest.raises(ValueError, match="merge_into must be"):
        Selection(torch.tensor([1]), 3, merge_into=torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("k", [0, 4, -1])
def test_prefix_stays_within_the_picks(k):
    with pytest.raises(ValueError, match="prefix"):
        Selection(torch.tensor([5, 0, 3]), 6).prefix(k)


MERGED = {"merge_into": torch.tensor([0, 0, 2]), "rows": torch.tensor([[2.0, 0.0], [0.5, 0.5]])}


def test_a_merging_selection_has_no_shorter_prefix():
    merging = Selection(torch.tensor([2, 0]), 3, **MERGED)
    assert merging.prefix(2).merge_into is merging.merge_into
    with pytest.raises(ValueError, match="merges"):
        merging.prefix(1)


def test_merged_rows_follow_the_ascending_order():
    assert Selection(torch.tensor([2, 0]), 3, **MERGED).merged.tolist() == [[0.5, 0.5], [2.0, 0.0]]
    assert Selection(torch.tensor([2, 0]), 3).merged is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": None}, "both merge_into and rows"),
        ({"merge_into": None}, "both merge_into and rows"),
        ({"rows": torch.ones(3, 2)}, r"rows must be \(2, D\) float32"),
        ({"rows": torch.ones(2, 2).double()}, r"rows must be \(2, D\) float32"),
        ({"merge_into": torch.tensor([0, 1, 2])}, "must hold kept tokens"),
        ({"merge_into": torch.tensor([2, 0, 2])}, "absorb itself"),
    ],
)
def test_merges_that_contradict_themselves(change, reason):
    with pytest.raises(ValueError, match=reason):
        Selection(torch.tensor([2, 0]), 3, **{**MERGED, **change})


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 1.0), (0.5, 0.0, 0.2, 1.0), (0.0, 1.0, 1.0, 0.0)])
def test_a_grid_covers_some_of_its_image(box):
    with pytest.raises(ValueError, match="x0 < x1"):
        Grid(1, 2, 2, box=box)


def test_pictures_are_tiles_thumbnails_images_and_frames():
    grids = (Grid(1, 1, 2, role="thumbnail"), Grid(1, 1, 3, 2, role="tile"), Grid(2, 1, 2, 5, image=1))
    assert VisualTokens(features(9), grids).pictures.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]
