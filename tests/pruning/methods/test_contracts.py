"""What every registered method promises, with its default knobs and at both ends of every knob."""

from __future__ import annotations

import dataclasses
import itertools
import re
from functools import cache

import pytest
import torch

from pruning import METHODS, Grid, Method, VisualTokens, make
from pruning.evaluation.synthetic import Projector
from pruning.models.trained import KINDS
from pruning.params import params
from pruning.signals import COMPARED, FUNCTIONS, SHAPES, Tower
from tests.helpers.samples import EVERY, LAYERED, features, moved, sample, tiles

# Methods whose picks follow a token's place and not only the token. Everybody else is checked; these say why.
BOUND_TO_PLACES = {
    "random": "draws places",
    "uniform": "spreads places over the grid",
    "hiprune": "keeps the neighbours of its anchors",
    "holov": "cuts the raster into stretches",
    "visionzip": "spreads its contextual tokens over the raster",
    "prumerge": "as PruMerge+ adds an even grid",
    "pooling": "means over cells of the grid",
    "aim": "matches tokens at even places with those at odd ones",
    "vflowopt": "recycles cells of the grid",
    "evs": "below one frame keeps an even grid",
    "dycoke": "thins whole frames to even grids",
    "quota": "spreads its picks over each frame",
    "uniform_frames": "spreads places over frames",
}
# Methods whose rows share tokens: a kept token may hold some of a token that the picture shows in another one.
SHARED_ROWS = {
    "prumerge": "each kept token takes in its nearest others, which may be kept themselves",
    "recoverable": "centres may take in the same leftovers",
    "flowcut_tower": "all rows come out of a tower that has seen fewer tokens, and none takes in another",
}


def settings_of(name: str) -> list[Method]:
    """The default, and each knob alone at every choice or at both limits."""
    found = {make(name)}
    for param in params(METHODS[name]):
        values = param.choices if param.kind == "choice" else (param.lo, param.hi)
        found |= {make(name, **{param.name: value}) for value in values}
    return sorted(found, key=repr)


ALL = [pytest.param(method, id=repr(method)) for name in sorted(METHODS) for method in settings_of(name)]
every_setting = pytest.mark.parametrize("method", ALL)
every_method = pytest.mark.parametrize("method", [pytest.param(make(name), id=name) for name in sorted(METHODS)])


@cache
def given(n: int, needs: frozenset[str], grids: tuple[Grid, ...] | None = None) -> VisualTokens:
    """Shared between tests, which may not change it: that is a contract of its own."""
    return sample(n, needs=needs, grids=grids)


def budgets(n: int) -> list[int]:
    """All where they are few, else both ends and some between."""
    return list(range(1, n + 1)) if n <= 12 else sorted({1, 2, 5, n // 10, n // 4, n // 2, n - 2, n - 1, n})


def check(method: Method, tokens: VisualTokens, k: int) -> torch.Tensor:
    """The selection keeps what it promises; returns the pick order."""
    selection = method.select(tokens, k)
    k = min(k, method.limit(tokens))
    assert selection.k == k
    assert selection.n == tokens.n
    assert len(set(selection.order.tolist())) == k
    if selection.scores is not None:
        assert selection.scores.dtype == torch.float32
        assert bool(torch.isfinite(selection.scores).all())
    assert (selection.rows is not None) == method.merges
    if selection.rows is not None and selection.merge_into is not None:
        assert selection.merge_into.dtype == torch.int64
        assert torch.equal(selection.merge_into[selection.order], selection.order)
        assert set(selection.merge_into.tolist()) <= {*selection.order.tolist(), -1}
        assert selection.rows.shape == (k, tokens.features.shape[1])
        assert bool(torch.isfinite(selection.rows).all())
    return selection.order


# --- what a reader is told ---


@every_method
def test_declares_what_a_reader_needs(method):
    cls = type(method)
    doc = cls.__doc__ or ""
    assert METHODS[cls.name] is cls
    assert re.fullmatch(r"[a-z][a-z0-9_]*", cls.name)
    assert cls.title
    assert doc
    assert not doc.startswith(f"{cls.__name__}("), "the docstring is the one that dataclass makes"
    assert cls.stage in ("pre_llm", "in_llm")
    assert bool(cls.paper) == bool(cls.venue), "a published method has both, a baseline neither"
    if cls.paper:
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", cls.paper)
        assert cls.paper in doc
        assert re.fullmatch(r"[A-Za-z][A-Za-z ]* 20\d\d", cls.venue)
    if cls.adaptation:
        assert re.fullmatch(r"[^\n]{10,240}\.", cls.adaptation), "one sentence that the page shows"
        assert "adaptation" in doc.lower(), "what the sentence says in short, the docstring says in full"
    assert cls.trained == bool(method.needs & {"scorer", *KINDS})
    assert not (cls.merges and cls.nested), "a selection that merged has no prefix"


@every_setting
def test_is_a_value(method):
    assert dataclasses.replace(method) == method
    assert hash(dataclasses.replace(method)) == hash(method)


@every_setting
def test_needs_signals_that_exist(method):
    assert isinstance(method.needs, frozenset)
    for need in method.needs:
        kind, at, layer = need.partition("@")
        assert kind in (*SHAPES, *FUNCTIONS)
        assert bool(at) == (kind in LAYERED), f"{need}: a layer goes with {', '.join(LAYERED)} and with nothing else"
        assert not at or re.fullmatch(r"-?\d+", layer)


def test_a_knob_s_name_goes_with_one_kind_of_value():
    """Methods share one option of the command line where their knobs share a name."""
    kinds: dict[str, set[bool]] = {}
    for method in METHODS.values():
        for param in params(method):
            kinds.setdefault(param.name, set()).add(param.kind == "choice")
    assert [name for name, found in kinds.items() if len(found) > 1] == []


@every_method
def test_its_default_runs_on_a_tower_of_three_layers(method):
    layers = [int(need.partition("@")[2]) for need in method.needs if "@" in need]
    assert all(-3 <= layer <= 2 for layer in layers)


def test_every_exception_is_one():
    """A name that keeps the promise after all would hide the next mistake."""
    for name in BOUND_TO_PLACES:
        assert not all(follows_its_tokens(method) for method in settings_of(name)), name
    for name in SHARED_ROWS:
        assert not all(changes_only_what_is_shown(method) for method in settings_of(name)), name


# --- exactly K, whatever comes in ---


@every_setting
@pytest.mark.parametrize("n", [1, 2, 7, 66])
def test_keeps_exactly_k_distinct_tokens(method, n):
    for k in budgets(n):
        order = check(method, given(n, method.needs), k)
    most = method.limit(given(n, method.needs))
    assert len(order) == most
    assert most == n or not method.nested, "a budget of its own, but every prefix is promised"


PLACES = {
    "one row": (Grid(1, 1, 30),),
    "one column": (Grid(1, 30, 1),),
    "video": (Grid(5, 2, 3),),
    "several images": (Grid(1, 2, 3), Grid(3, 2, 2, 6, image=1), Grid(1, 6, 2, 18, image=2)),
    "thirty images": tuple(Grid(1, 1, 1, i, image=i) for i in range(30)),
    "thumbnail and tiles": tiles(30),
    "thumbnail, tiles and another image": tiles(33),
    "tiles, then the thumbnail": (
        Grid(1, 2, 6, role="tile", box=(0.0, -0.1, 0.5, 1.1)),
        Grid(1, 2, 6, 12, role="tile", box=(0.5, -0.1, 1.0, 1.1)),
        Grid(1, 2, 3, 24, role="thumbnail"),
    ),
    "tiles of different sizes": (
        Grid(1, 1, 1, role="thumbnail"),
        Grid(1, 4, 5, 1, role="tile", box=(0.0, 0.0, 0.8, 1.0)),
        Grid(1, 9, 1, 21, role="tile", box=(0.8, 0.0, 1.0, 1.0)),
    ),
    "tiles without a thumbnail": (
        Grid(1, 3, 5, role="tile", box=(0.0, 0.0, 1.0, 0.5)),
        Grid(1, 3, 5, 15, role="tile", box=(0.0, 0.5, 1.0, 1.0)),
    ),
}


@every_setting
def test_keeps_exactly_k_on_any_grids(method):
    for grids in PLACES.values():
        n = grids[-1].stop
        for k in (1, 4, 9, n - 1, n):
            check(method, given(n, method.needs, grids), k)


N = 24
GRID = (Grid(1, 4, 6),)
ZEROS = features(N)
ZEROS[::3] = 0
ROWS = {
    "duplicates": features(4).repeat(6, 1),
    "one vector": torch.ones(N, 12),
    "opposite": torch.cat([features(12), -features(12)]),
    "some zero norms": ZEROS,
    "all zero": torch.zeros(N, 12),
    "huge": features(N) * 1e15,
    "tiny": features(N) * 1e-15,
    "one wide": features(N, 1),
}


@every_setting
def test_keeps_exactly_k_of_strange_features(method):
    for rows in ROWS.values():
        tokens = sample(N, grids=GRID, needs=method.needs, rows=rows)
        for k in (1, 7, 23, 24):
            check(method, tokens, k)


def constant(value: torch.Tensor) -> torch.Tensor:
    return torch.full_like(value, 2.0)


def alike(value: torch.Tensor) -> torch.Tensor:
    """Every token has the first one's values."""
    return value[:1].expand_as(value).clone()


STRANGE = {
    "zero": torch.zeros_like,
    "constant": constant,
    "alike": alike,
    "duplicates": lambda value: value[torch.arange(len(value)) % 4 % len(value)],
    "one token has it all": lambda value: value * (torch.arange(len(value)) == 1).view(-1, *[1] * (value.ndim - 1)),
    "tiny": lambda value: value * 1e-30,
    "huge": lambda value: value * 1e15,
    "negative": lambda value: -value.abs(),
}


@every_setting
@pytest.mark.parametrize("rows", ["as they are", "one vector"])
def test_keeps_exactly_k_of_strange_signals(method, rows):
    tokens = sample(N, grids=GRID, needs=method.needs, rows=ROWS.get(rows))
    for strange in STRANGE.values():
        signals = {name: value if name in FUNCTIONS else strange(value) for name, value in tokens.signals.items()}
        for k in (1, 7, 23, 24):
            check(method, tokens.with_signals(signals), k)


# --- the same again ---


@every_setting
def test_is_deterministic_and_leaves_its_inputs_and_the_random_state_untouched(method):
    tokens = sample(40, needs=method.needs)
    untouched = sample(40, needs=method.needs)
    similarity = tokens.similarity.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = method.select(tokens, 13)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    for again in (method.select(tokens, 13), dataclasses.replace(method).select(untouched, 13)):
        assert torch.equal(again.order, first.order)
        assert method.merges is False or torch.equal(again.rows, first.rows)
    fresh = sample(40, needs=method.needs)
    assert torch.equal(tokens.features, fresh.features)
    assert torch.equal(tokens.similarity, similarity)
    for name in method.needs:
        if name.partition("@")[0] in COMPARED:
            assert torch.equal(tokens.similarity_of(name), fresh.similarity_of(name))
    assert set(tokens.signals) == set(fresh.signals)
    for name, value in tokens.signals.items():
        if isinstance(value, Tower):
            continue
        parts = [vars(x) if isinstance(x, Projector) else {"": x} for x in (value, fresh.signal(name))]
        assert all(torch.equal(parts[0][part], parts[1][part]) for part in parts[1])


@every_method
def test_compares_its_tokens_once_for_all_budgets(method, monkeypatch):
    tokens = sample(40, needs=method.needs)
    first = method.select(tokens, 13)

    def again(features):
        raise RuntimeError("an (N, N) matrix is computed that is there")

    monkeypatch.setattr("pruning.ops.scaling.cosine_similarity", again)
    monkeypatch.setattr("pruning.tokens.cosine_similarity", again)
    assert torch.equal(method.select(tokens, 13).order, first.order)
    method.select(tokens, 7)


def strided(value: torch.Tensor) -> torch.Tensor:
    """The same numbers, apart in memory and with their axes the other way round."""
    turned = value.permute(tuple(reversed(range(value.ndim)))).contiguous()
    apart = torch.stack([turned, turned], dim=-1)[..., 0]
    return apart.permute(tuple(reversed(range(value.ndim))))


@every_method
def test_reads_tensors_of_any_layout(method):
    """A slice of a tensor, as the tokens of one tile are, is not contiguous."""
    tokens = sample(40, needs=method.needs)
    apart = {name: value if name in FUNCTIONS else strided(value) for name, value in tokens.signals.items()}
    spread = VisualTokens(strided(tokens.features), tokens.grids, apart)
    assert torch.equal(method.select(spread, 13).order, method.select(tokens, 13).order)


@every_setting
def test_a_larger_budget_starts_with_the_smaller_one_s_picks_where_declared(method):
    same = []
    for tokens in (given(50, method.needs), given(50, method.needs, tiles(50))):
        longest = method.select(tokens, 50)
        same += [torch.equal(method.select(tokens, k).order, longest.order[:k]) for k in range(1, 51, 3)]
    if method.nested:
        assert all(same)
    elif method == make(method.name) and not method.merges:  # the same picks may still merge otherwise
        assert not all(same), "declared as not nested without a reason"


def follows_its_tokens(method: Method) -> bool:
    tokens = given(40, method.needs)
    places = torch.randperm(40, generator=torch.Generator().manual_seed(3))  # new place i holds old token places[i]
    before, after = method.select(tokens, 15), method.select(moved(tokens, places), 15)
    if not torch.equal(places[after.order], before.order):
        return False
    if before.rows is None or before.merge_into is None:
        return True
    into = after.merge_into
    back = torch.where(into < 0, into, places[into.clamp(min=0)])
    return torch.equal(back, before.merge_into[places]) and torch.allclose(after.rows, before.rows, atol=1e-5)


@every_setting
def test_follows_its_tokens_when_they_change_places(method):
    if method.name not in BOUND_TO_PLACES:
        assert follows_its_tokens(method)


# --- merging ---


@every_setting
def test_keeping_everything_merges_nothing(method):
    if method.merges:
        tokens = given(30, method.needs)
        selection = method.select(tokens, 30)
        assert torch.equal(selection.merge_into, torch.arange(30))
        torch.testing.assert_close(selection.merged, tokens.features)


def changes_only_what_is_shown(method: Method) -> bool:
    for seed, k in itertools.product(range(5), (6, 30, 60)):
        tokens = sample(66, seed=seed, needs=method.needs)
        selection = method.select(tokens, k)
        absorbed = torch.bincount(selection.merge_into[selection.merge_into >= 0], minlength=66)
        alone = absorbed[selection.order] == 1
        if not torch.allclose(selection.rows[alone], tokens.features[selection.order[alone]], rtol=1e-5, atol=1e-5):
            return False
    return True


@every_setting
def test_a_kept_token_changes_only_where_the_picture_shows_it(method):
    """A kept token that absorbed no other reaches the language model as it was."""
    if method.merges and method.name not in SHARED_ROWS:
        assert changes_only_what_is_shown(method)


@every_method
def test_a_method_that_merges_merges(method):
    """On one sample at least: how much is merged may depend on the data."""
    if method.merges:
        still = features(11).repeat(6, 1) + 0.01 * features(66)  # a clip in which nothing moves
        samples = [sample(66, seed=seed, needs=method.needs) for seed in range(4)]
        samples.append(sample(66, grids=(Grid(6, 1, 11),), needs=method.needs, rows=still))
        found = [(tokens, method.select(tokens, 33)) for tokens in samples]
        changed = [s for tokens, s in found if not torch.allclose(s.rows, tokens.features[s.order])]
        assert changed
        assert method.name == "flowcut_tower" or all(int((s.merge_into >= 0).sum()) > 33 for s in changed), (
            "no token went into another"
        )


# --- what is refused, and how ---


@every_setting
def test_asks_for_no_more_than_it_needs_and_reads_all_of_it(method, monkeypatch):
    tokens = given(20, frozenset(EVERY) | method.needs)
    only = given(20, method.needs)
    assert torch.equal(method.select(only, 6).order, method.select(tokens, 6).order)
    read = []
    signal = VisualTokens.signal
    monkeypatch.setattr(VisualTokens, "signal", lambda self, name: read.append(name) or signal(self, name))
    method.select(only, 6)
    monkeypatch.undo()
    for need in method.needs:
        assert read.count(need) > 1, f"{need} is asked for, but only the check of `select` reads it"
        rest = {name: value for name, value in only.signals.items() if name != need}
        with pytest.raises(ValueError, match=f"'{need}' is missing"):
            method.select(VisualTokens(only.features, only.grids, rest), 6)


@every_setting
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_refuses_features_and_signals_that_are_not_finite(method, bad):
    rows = features(10)
    rows[4, 2] = bad
    tokens = given(10, method.needs)
    with pytest.raises(ValueError, match=rf"{method.name}: features \(10, 12\) hold NaN or infinite"):
        method.select(VisualTokens(rows, (Grid(1, 1, 10),), tokens.signals), 3)
    for need in method.needs - FUNCTIONS:
        broken = tokens.signal(need).clone()
        broken.view(-1)[1] = bad
        with pytest.raises(ValueError, match=rf"{method.name}: signal '{need}' .*NaN"):
            method.select(tokens.with_signals({need: broken}), 3)


@every_setting
def test_refuses_signals_of_a_wrong_shape(method):
    tokens = given(10, method.needs)
    for need in method.needs - FUNCTIONS:
        value = tokens.signal(need)
        short = value[:, 1:] if need == "question" else value[1:]
        for wrong in (short, value[..., None], value[:0], value.tolist()):
            shape = tuple(wrong.shape) if isinstance(wrong, torch.Tensor) else ()
            with pytest.raises(ValueError, match=rf"{method.name}: signal '{need}' has shape {re.escape(str(shape))}"):
                method.select(tokens.with_signals({need: wrong}), 3)


@every_setting
def test_refuses_a_projector_that_is_none(method):
    if "projector" in method.needs:
        tokens = given(10, method.needs)
        wrong = (
            torch.zeros(10, 12),
            lambda offset: torch.zeros(9, 12),
            lambda offset: torch.full((10, 12), torch.nan),
        )
        for projector in wrong:
            with pytest.raises(ValueError, match=rf"{method.name}: signal 'projector'"):
                method.select(tokens.with_signals(projector=projector), 3)


@every_setting
def test_refuses_a_tower_that_is_none(method):
    if "tower" in method.needs:
        tokens = given(10, method.needs)
        wrong = (
            torch.zeros(10, 12),
            Tower(lambda picture, rule: torch.zeros(3, 12), (9,)),
            Tower(lambda picture, rule: torch.zeros(2, 12), (10,)),
            Tower(lambda picture, rule: torch.full((3, 12), torch.nan), (10,)),
        )
        for tower in wrong:
            with pytest.raises(ValueError, match=rf"{method.name}: signal 'tower'"):
                method.select(tokens.with_signals(tower=tower), 3)


@every_method
@pytest.mark.parametrize("budget", [0, 11, -1, True, 2.0, "3"])
def test_refuses_budgets_outside_1_to_n(method, budget):
    with pytest.raises(ValueError, match="from 1 to 10"):
        method.select(given(10, method.needs), budget)
