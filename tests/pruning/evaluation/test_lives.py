"""Until where tokens live under a plan, as one plain value and in words."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from pruning.choosing import choose, needs_of
from pruning.evaluation.lives import BY, endurance, lives, survivors, why
from pruning.evaluation.metrics import hopkins, importance_retention
from pruning.evaluation.plane import survivors_point
from pruning.models import VLM
from pruning.plan import parse_plan
from pruning.staged import STAGED, StagedMethod, make_staged
from pruning.tokens import Selection
from tests.helpers.modules import equipped

QUESTION = "What color is the star?"
ON_ONE = sorted(name for name, method in STAGED.items() if method.images == 1)


@pytest.fixture(scope="module")
def encoded(tiny_vlm: VLM, noise):
    needs = frozenset().union(*(needs_of(make_staged(name)) for name in ON_ONE)) - {"question"}
    return tiny_vlm.encode([noise(224, 168)], needs)


def told(vlm: VLM, encoded, plan):
    retention = 0.25 if isinstance(plan, StagedMethod) and plan.drops_all else 0.75
    plan = choose(plan, encoded.tokens, vlm.layers, retention)
    return plan, vlm.answer(encoded, QUESTION, plan, max_new_tokens=1).trace


def test_a_plan_is_told_token_by_token(tiny_vlm: VLM, encoded) -> None:
    n = encoded.tokens.n
    plan, trace = told(tiny_vlm, encoded, parse_plan("pre:feature_norm:0.5,1:fastv:0.5"))
    of = lives(plan, trace)
    assert json.loads(json.dumps(asdict(of))) == asdict(of)
    entered, (cut,) = plan.entering.k, of.cuts
    assert (of.n, of.layers, of.alive, of.held) == (n, 2, [entered, entered // 2], [entered, entered // 2])
    assert of.equivalent_retention == pytest.approx((entered + entered // 2) / (2 * n))
    assert (cut.after, cut.method, cut.alive, cut.kept) == (1, "fastv", entered, entered // 2)
    assert [lived is not None for lived in of.lives] == plan.entering.mask.tolist()
    for token in range(n):
        rank, score = cut.ranks[token], cut.scores[token]
        if of.lives[token] is None:
            assert (rank, score) == (None, None)
            assert why(of, token) == f"never entered the language model: {entered} of {n} did"
            continue
        better = sum(other is not None and other > score for other in cut.scores)
        assert rank == better + 1
        assert of.lives[token] == (2 if rank <= cut.kept else 1)
        place = f" of {entered} by the last token's attention, {entered // 2} stayed"
        start = "stayed through all layers: after layer 1 " if rank <= cut.kept else "dropped after layer 1: "
        assert why(of, token).startswith(start)
        assert why(of, token).endswith(place)
    with pytest.raises(ValueError, match=f"a whole number from 0 to {n - 1}, not {n}"):
        why(of, n)


def test_what_does_not_rank_has_no_ranks(tiny_vlm: VLM, encoded) -> None:
    n = encoded.tokens.n
    of = lives(*told(tiny_vlm, encoded, parse_plan("0:random_inner:0.5,1:dart:0.2")))
    first, second = of.cuts
    assert (first.by, set(first.ranks), set(first.scores)) == (None, {None}, {None})
    assert set(second.ranks) == {None}, "DART looks at what is alike"
    assert sum(score is not None for score in second.scores) == second.alive == n // 2
    gone = of.lives.index(0)
    assert why(of, gone) == f"dropped before the first layer: {n // 2} of {n} stayed"
    assert why(of, of.lives.index(1)) == f"dropped after layer 1: {second.kept} of {n // 2} stayed"
    whole = lives(*told(tiny_vlm, encoded, parse_plan("1:fastv:1.0")))
    assert set(whole.lives) == {2}
    nothing = lives(*told(tiny_vlm, encoded, replace(parse_plan("1:fastv:0.5"), cuts=())))
    assert why(nothing, 0) == "stayed through all layers: nothing leaves between them"


@pytest.mark.parametrize("name", ON_ONE)
def test_every_method_is_told(tiny_vlm: VLM, encoded, name: str) -> None:
    of = lives(*told(equipped(tiny_vlm), encoded, make_staged(name)))
    for cut in of.cuts:
        assert (cut.by is None) == all(score is None for score in cut.scores)
        assert cut.kept == sum(lived is not None and lived > cut.after for lived in of.lives)
    if name == "atp_llava":
        assert of.cuts[0].by == "how far they stand above a learned threshold"
    elif make_staged(name).needs & {"last_attention", "text_attention"}:
        assert BY["last_attention"] in of.cuts[0].by or BY["text_attention"] in of.cuts[0].by
        assert any(rank == 1 for rank in of.cuts[0].ranks)
    if cut.by is not None:
        assert cut.by in {*BY.values()} or " and " in cut.by, "in words"


def test_where_all_leave_those_that_live_longest_are_what_is_kept(tiny_vlm: VLM, encoded) -> None:
    plan, trace = told(tiny_vlm, encoded, make_staged("aim_inner"))
    assert trace.alive[-1] == 0
    assert torch.equal(survivors(trace).mask, plan.entering.mask)
    order = endurance(trace).tolist()
    assert sorted(order) == list(range(encoded.tokens.n))
    assert set(order[: plan.entering.k]) == set(plan.entering.indices.tolist())


def test_the_plane_shows_what_is_alive_after_the_last_cut(tiny_vlm: VLM, encoded) -> None:
    _, trace = told(tiny_vlm, encoded, method := make_staged("fastv"))
    kept, importance = survivors(trace), torch.rand(encoded.tokens.n, generator=torch.Generator().manual_seed(1))
    assert isinstance(kept, Selection)
    assert kept.k == trace.alive[-1]
    point = survivors_point(method, 0.75, 18, kept.order, encoded.tokens, importance)
    assert (point.method, point.title, point.retention, point.budget) == ("fastv", "FastV", 0.75, 18)
    assert point.importance_retention == pytest.approx(importance_retention(importance, kept.order))
    assert point.hopkins == pytest.approx(hopkins(encoded.tokens.similarity, kept.order), nan_ok=True)
