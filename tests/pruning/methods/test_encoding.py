"""What every method promises that asks for another encoding, and pooling against means by hand."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch

from pruning.choosing import came_to, cells, choose, chooser, needs_of, out_of_reach
from pruning.encoding import ENCODING, FRAMES, Encoding, OutOfReachError, encoded_by, make_encoding
from pruning.grids import Grid
from pruning.method import METHODS, make
from pruning.runnable import asked_for, check_runs, why_not
from pruning.staged import STAGED
from tests.helpers.samples import features, sample

every_method = pytest.mark.parametrize("name", sorted(ENCODING))


@every_method
def test_declares_what_a_reader_needs(name):
    method = make_encoding(name)
    assert ENCODING[name] is type(method)
    assert name not in METHODS
    assert name not in STAGED
    assert method.title
    assert method.stage == "pre_tower"
    assert bool(method.paper) == bool(method.venue)
    assert not (type(method).__doc__ or "").startswith(f"{type(method).__name__}(")
    assert dataclasses.replace(method) == method
    assert method.needs == {method.axis} == {method.encoding(9, 3).axis}
    assert method.clips == (method.axis == FRAMES)


@every_method
def test_asks_for_the_budget_and_no_more(name):
    method = make_encoding(name)
    asked = [method.encoding(200, budget).most for budget in range(1, 201)]
    assert asked == sorted(asked)
    assert all(most <= budget for budget, most in enumerate(asked, start=1))
    assert asked[-1] == 200, "all tokens are the pictures as they are"


@every_method
@pytest.mark.parametrize("budget", [0, 11, -1, True, 2.0, "3"])
def test_refuses_budgets_outside_1_to_n(name, budget):
    with pytest.raises(ValueError, match="from 1 to 10"):
        make_encoding(name).encoding(10, budget)


@pytest.mark.parametrize("most", [0, -1, True, 2.0, "3", None])
def test_an_encoding_of_no_tokens_is_none(most):
    with pytest.raises(ValueError, match=re.escape(f"an encoding of {most!r} tokens")):
        Encoding(most)


@every_method
def test_has_one_budget_for_all_pictures(name):
    method, asked = make_encoding(name), []
    assert encoded_by(method, 30, 0.5, "sample", asked.append) is None
    assert asked == [method.encoding(30, 15)]
    with pytest.raises(OutOfReachError, match="name 'sample'"):
        encoded_by(method, 30, 0.5, "image", asked.append)
    with pytest.raises(ValueError, match="retention"):
        encoded_by(method, 30, 0.0, "sample", asked.append)
    with pytest.raises(ValueError, match=f"{method.title} asks for another encoding"):
        encoded_by(method, 30, 0.5, "sample", None)


@every_method
def test_one_call_serves_it_too(name):
    """As methods, staged ones and plans: what runs, what it came to, why it cannot."""
    tokens, method = sample(40), asked_for({"scorer"}, name)
    assert needs_of(method) == frozenset()

    def again(asked):
        if asked.most < 10:
            raise OutOfReachError("the fewest are 10")
        return SimpleNamespace(tokens=sample(asked.most - 2))

    made = choose(method, tokens, 8, 0.5, again=again)
    assert (made.tokens.n, came_to(made, 8, tokens.n)) == (18, 0.45)
    assert chooser(method, tokens, 8, [0.5], again=again)(0.5).tokens.n == 18
    assert out_of_reach(method, 40, 8, 0.5, again=again) == ""
    assert out_of_reach(method, 40, 8, 0.1, again=again) == "the fewest are 10"
    found, left_out = cells([method], [0.1, 0.5], 40, 8, again=again)
    assert [(cell.asked, cell.retention) for cell in found] == [(method, 0.5)]
    assert left_out == [f"{name} at 0.1 is left out: the fewest are 10"]
    with pytest.raises(ValueError, match="needs a retention"):
        choose(method, tokens, 8, again=again)


@every_method
def test_why_a_model_cannot_run_it(name):
    method = make_encoding(name)
    reason = why_not(method, "Fixed", frozenset({"question"}))
    assert reason.startswith(f"{method.title} needs a")
    assert f"({method.axis})" in reason
    assert reason.endswith("which Fixed does not provide")
    with pytest.raises(ValueError, match="Choose another method"):
        check_runs(name, "Fixed", frozenset())
    assert check_runs(name, "Free", method.needs) == name


def test_unknown_names_and_knobs_are_refused():
    with pytest.raises(ValueError, match="unknown encoding method 'higher'; known encoding methods: fewer_frames, low"):
        make_encoding("higher")
    with pytest.raises(ValueError, match="has no knob 'size'"):
        make_encoding("lower_resolution", size=3)


# Pooling


@pytest.mark.parametrize(("high", "wide", "k"), [(12, 16, 2), (12, 16, 4), (6, 9, 3), (5, 10, 5), (4, 6, 1)])
def test_pooling_of_whole_squares_is_their_mean(high, wide, k):
    """Against the squares cut out one by one."""
    rows = features(high * wide)
    selection = make("pooling").select(sample(high * wide, grids=(Grid(1, high, wide),), rows=rows, needs=()),
                                       high * wide // k**2)  # fmt: skip
    picture, squares, groups = rows.view(high, wide, -1), [], torch.empty(high, wide, dtype=torch.int64)
    for y in range(0, high, k):
        for x in range(0, wide, k):
            squares.append(picture[y : y + k, x : x + k].flatten(0, 1).mean(0))
            groups[y : y + k, x : x + k] = (y + (k - 1) // 2) * wide + x + (k - 1) // 2
    torch.testing.assert_close(selection.rows, torch.stack(squares))
    assert torch.equal(selection.merge_into, groups.flatten())


def test_pooling_divides_any_grid_into_rectangles_of_nearly_equal_sides():
    high, wide = 7, 10
    tokens = sample(70, grids=(Grid(1, high, wide),), needs=())
    for k in range(1, 71):
        into = make("pooling").select(tokens, k).merge_into.view(high, wide)
        heights, sizes = set(), []
        for token in into.unique().tolist():
            y, x = (into == token).nonzero(as_tuple=True)
            tall, broad = int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1
            assert tall * broad == len(y), "a rectangle"
            heights.add(tall)
            sizes.append(len(y))
        assert max(heights) - min(heights) <= 1
        assert sum(sizes) == 70
        assert max(sizes) <= 4 * 70 / k


def test_pooling_shares_the_budget_out_by_size_and_drops_what_gets_nothing():
    grids = (Grid(1, 4, 8), Grid(1, 2, 2, 32, image=1))
    tokens = sample(36, grids=grids, needs=())
    selection = make("pooling").select(tokens, 9)
    assert [int((selection.indices < 32).sum()), int((selection.indices >= 32).sum())] == [8, 1]
    torch.testing.assert_close(selection.rows[-1], tokens.features[32:].mean(0))
    few = make("pooling").select(tokens, 1)
    assert few.merge_into.tolist().count(-1) in (4, 32)


def test_pooling_keeps_frames_apart_while_it_can():
    tokens = sample(24, grids=(Grid(4, 2, 3),), needs=())
    frames = torch.arange(24) // 6
    for k in (4, 8, 13):
        into = make("pooling").select(tokens, k).merge_into
        assert torch.equal(frames[into], frames)
    halves = make("pooling").select(tokens, 2)
    torch.testing.assert_close(halves.rows, tokens.features.view(2, 12, -1).mean(1))
