"""The card of a token, against a replay of the greedy rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pruning import Grid, Selection, VisualTokens, make
from pruning.evaluation.inspection import inspect, nearest_kept, ordinal
from pruning.grids import place_of
from pruning.ops.scaling import minmax
from tests.helpers.samples import sample

GRID = (Grid(1, 5, 8),)


def replay(tokens, order, importance, weight):
    """Score of every token when it was last considered, by running the picks again in numpy."""
    imp, sim = minmax(importance).numpy().astype(np.float64), tokens.similarity.numpy().astype(np.float64)
    scores: dict[int, float] = {}
    for step in range(len(order)):
        before = order[:step]
        for i in range(len(imp)):
            if i not in before:
                scores[i] = weight * imp[i] - (1 - weight) * max((sim[i, s] for s in before), default=0.0)
    return scores


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_rank_importance_and_score(weight: float) -> None:
    tokens, method = sample(40, grids=GRID), make("idpruner", mmr_lambda=weight)
    importance = tokens.signal("scorer")
    selection = method.select(tokens, 9)
    scores = replay(tokens, selection.order.tolist(), importance, weight)
    for token in range(40):
        card = inspect(tokens, selection, method, token, importance)
        picked = selection.order.tolist()
        assert card.rank == (picked.index(token) + 1 if token in picked else None)
        assert (card.row, card.column) == divmod(token, 8)
        assert card.score == pytest.approx(scores[token], abs=1e-5)
        assert card.importance == pytest.approx(float(importance[token]))
        assert card.percentile == pytest.approx(100 * sum(float(i) < card.importance for i in importance) / 40)
        others = [s for s in picked if s != token]
        assert card.similarity == pytest.approx(max(float(tokens.similarity[token, s]) for s in others))
        assert float(tokens.similarity[token, card.nearest]) == pytest.approx(card.similarity)
        assert picked[card.nearest_rank - 1] == card.nearest
        assert card.similarity == pytest.approx(float(nearest_kept(tokens, selection)[token]))


def plain(rows, importance):
    features = torch.tensor(rows)
    return VisualTokens(features, (Grid(1, 1, len(features)),), {"scorer": torch.tensor(importance)})


def test_tokens_that_are_not_on_a_grid_are_named_by_their_number() -> None:
    method = make("idpruner")
    for placed, name in ((True, "patch (1, 1)"), (False, "token 1")):
        features = torch.tensor([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]])
        grids = (Grid(1, 1, 3, placed=placed),)
        tokens = VisualTokens(features, grids, {"scorer": torch.tensor([1.0, 0.9, 0.8])})
        selection = method.select(tokens, 2)
        card = inspect(tokens, selection, method, 1, tokens.signal("scorer"))
        assert name in card.why
        assert card.placed is placed


def test_the_sentence_names_the_reason() -> None:
    tokens = plain([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [0.7, 0.7]], [1.0, 0.9, 0.8, 0.0])
    method = make("idpruner")
    selection = method.select(tokens, 2)
    assert selection.order.tolist() == [0, 2]
    why = [inspect(tokens, selection, method, i, tokens.signal("scorer")).why for i in range(4)]
    assert why[0] == "kept as 1st: most important of what was left"
    assert why[1] == "dropped: 1.00 similar to patch (1, 1), kept as 1st"
    assert why[2] == "kept as 2nd: at most 0.00 similar to what was kept before it (patch (1, 1))"
    assert why[3].startswith("dropped: importance 0.00, the last one kept has 0.80; it is 0.71 similar to patch (1, ")


def test_other_methods_say_what_they_look_at() -> None:
    tokens = plain([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [0.7, 0.7]], [1.0, 0.9, 0.8, 0.0])
    scored = make("vision_selector")
    kept = scored.select(tokens, 2)
    assert inspect(tokens, kept, scored, 1).why == "kept as 2nd: 2nd highest score of 4"
    assert inspect(tokens, kept, scored, 3).why == "dropped: its score is 4th of 4, and 2 were kept"
    assert inspect(tokens, kept, scored, 3).score is None
    spread = make("divprune")
    kept = spread.select(tokens, 2)
    first = int(kept.order[0])
    assert inspect(tokens, kept, spread, first).why == "kept as 1st: the token that DivPrune starts with"
    assert "similar to" in inspect(tokens, kept, spread, 3).why


def test_a_method_with_a_reason_of_its_own_gives_it() -> None:
    """DToP compares no tokens, so likeness to what was kept before says nothing of its picks."""
    logits = torch.tensor([[0.0, 3.0], [0.0, 1.0], [2.0, 0.0]])
    tokens = plain([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]], [1.0, 0.9, 0.8]).with_signals(dtop=logits)
    method = make("dtop", per_class=1)
    kept = method.select(tokens, 2)
    rule = "of every class the surest token stays first, then the least sure of all"
    assert inspect(tokens, kept, method, 0).why == f"kept as 1st: class 2 with probability 0.95; {rule}"
    assert inspect(tokens, kept, method, 1).why == f"dropped: class 2 with probability 0.73; {rule}"
    rule = "of every class the 5 surest tokens stay first, then the least sure of all"
    assert inspect(tokens, kept, make("dtop"), 2).why == f"kept as 2nd: class 1 with probability 0.88; {rule}"
    alone = make("dtop", per_class=0)
    assert inspect(tokens, alone.select(tokens, 1), alone, 1).why.endswith("0.73; the least sure of all stay first")


def test_qtsplus_tells_what_the_question_takes():
    rows = torch.tensor([[0.2, 0.4], [0.5, 0.4], [0.3, 0.4]])
    tokens = plain([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]], [1.0, 0.9, 0.8]).with_signals(qtsplus=rows)
    kept = make("qtsplus").select(tokens, 1)
    rule = "to the question, the most relevant first; by its own budget 2 of the 3 tokens would stay"
    assert inspect(tokens, kept, make("qtsplus"), 1).why == f"kept as 1st: relevance 0.500 {rule}"
    assert inspect(tokens, kept, make("qtsplus"), 0).why.endswith(f"relevance 0.200 {rule}")


def test_a_merged_token_names_its_absorber() -> None:
    tokens = plain([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]], [1.0, 0.9, 0.8])
    merged = Selection(torch.tensor([2, 0]), 3, merge_into=torch.tensor([0, 0, 2]), rows=tokens.features[[2, 0]])
    card = inspect(tokens, merged, make("random"), 1)
    assert card.merged_into == 0
    assert card.why == "merged into patch (1, 1), which was kept"
    assert inspect(tokens, merged, make("random"), 0).merged_into is None


def test_tiles_and_images_are_named() -> None:
    grids = (Grid(1, 2, 3, role="thumbnail"), Grid(1, 2, 3, 6, role="tile"), Grid(1, 3, 2, 12, image=1))
    tokens, method = sample(18, grids=grids), make("idpruner")
    selection = method.select(tokens, 4)
    cards = [inspect(tokens, selection, method, i, tokens.signal("scorer")) for i in range(18)]
    assert [(c.image, c.role, c.row, c.column) for c in (cards[4], cards[11], cards[17])] == [
        (0, "thumbnail", 1, 1),
        (0, "tile", 1, 2),
        (1, "whole", 2, 1),
    ]
    named = " ".join(card.why for card in cards)
    assert "of image " in named
    assert "of the tiles of image 1" in named or "of the thumbnail of image 1" in named


def test_one_kept_token_has_no_neighbour() -> None:
    tokens, method = sample(5), make("idpruner")
    selection = method.select(tokens, 1)
    card = inspect(tokens, selection, method, int(selection.order[0]), tokens.signal("scorer"))
    assert (card.nearest, card.similarity, card.nearest_rank) == (None, None, None)
    alone = nearest_kept(tokens, selection).isnan()
    assert alone.nonzero().flatten().tolist() == selection.order.tolist()


@pytest.mark.parametrize("token", [-1, 40, 1.5, True, "3"])
def test_tokens_that_do_not_exist(token) -> None:
    tokens, method = sample(40, grids=GRID), make("random")
    with pytest.raises(ValueError, match="from 0 to 39"):
        inspect(tokens, method.select(tokens, 3), method, token)


def test_importance_of_another_length() -> None:
    tokens, method = sample(40, grids=GRID), make("random")
    with pytest.raises(ValueError, match=r"\(40,\), not \(3,\)"):
        inspect(tokens, method.select(tokens, 3), method, 0, torch.ones(3))


def test_places_and_ordinals() -> None:
    assert place_of((Grid(2, 2, 3), Grid(1, 2, 2, 12)), 7)[1:] == (0, 1)  # second frame
    assert [ordinal(i) for i in (1, 2, 3, 4, 11, 12, 13, 21, 102, 1112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "1,112th")
    ]
