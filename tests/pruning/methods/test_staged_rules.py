"""The rules of staged methods: numpy oracles from their formulas, and contracts over all of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pruning.methods.sparsevlm import density_peaks
from pruning.staged import SIGNALS, STAGED, Seen, StagedMethod, Transition, make_staged

HEADS, TEXT, WIDTH = 3, 5, 8


def attention(rows: int, n: int, generator: torch.Generator) -> Tensor:
    """(H, rows, n) causal softmax rows of the last `rows` of n tokens."""
    logits = torch.randn(HEADS, rows, n, generator=generator)
    later = torch.arange(n) > torch.arange(n - rows, n)[:, None]
    return logits.masked_fill(later, -torch.inf).softmax(-1)


def seen(alive: int = 12, seed: int = 0, layers: int = 8, constant: bool = False) -> Seen:
    """A cut after 4 layers: 2 words, a line end after every 4th of `alive` tokens, and the text."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randperm(3 * alive, generator=generator)[:alive].sort().values
    rows = torch.cat([torch.tensor([0, 1]), 2 + tokens, 2 + 3 * alive + torch.arange(TEXT)])
    visual, n = torch.arange(2, 2 + alive), len(rows)
    rows_of_text = attention(TEXT, n, generator)
    if constant:
        rows_of_text = torch.full_like(rows_of_text, 1 / n)
    states = torch.ones(n, WIDTH) if constant else torch.randn(n, WIDTH, generator=generator)
    more = 0 if constant else torch.rand(2, n, generator=generator)
    signals = {
        "text_attention": rows_of_text,
        "next_text_attention": rows_of_text.flip(0).contiguous(),
        "last_attention": rows_of_text[:, -1],
        "next_last_attention": rows_of_text[:, -1].flip(0).contiguous(),
        "keys": states * 2,
        "hidden": states,
        "normed": states,
        "embeddings": (states[visual], states[-TEXT:]),
        "transitions": tuple(
            Transition(i, rows, torch.ones(2, n) + more * i, torch.zeros(2, n) + more) for i in range(4)
        ),
    }
    assert signals.keys() == SIGNALS.keys()
    return Seen(4, layers, 3 * alive, tokens, rows, visual, torch.arange(n - TEXT, n), signals)


def best(scores: np.ndarray, k: int) -> set[int]:
    """The k highest; ties to the lower index."""
    return set(sorted(range(len(scores)), key=lambda j: (-scores[j], j))[:k])


# Oracles, in plain loops


def fastv(cut: Seen, k: int, name: str = "last_attention") -> set[int]:
    rows = cut.signals[name].double().numpy()
    return best(np.array([sum(head[j] for head in rows) / len(rows) for j in cut.visual.tolist()]), k)


def pyramiddrop(cut: Seen, k: int) -> set[int]:
    return fastv(cut, k, "next_last_attention")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def dart(cut: Seen, k: int, variant: str = "paper") -> set[int]:
    keys, x = cut.signals["keys"].double().numpy(), cut.signals["normed"].double().numpy()
    norm = np.abs(keys).sum(1)
    visual, text = cut.visual.tolist(), cut.text.tolist()
    pivots = sorted(visual, key=lambda i: -norm[i])[: min(4, k)]
    words = sorted(text, key=lambda i: -norm[i])[:4]
    chosen, left = list(pivots), k - len(pivots)
    for number, pivot in enumerate([*pivots, *words]):
        total = len(pivots) + len(words)
        share = left // total + (number < left % total)
        if variant == "code":
            open_now = k - len(chosen)
            share = open_now if number == total - 1 else min(k // 8, open_now)
        free = [v for v in visual if v not in chosen]
        chosen += sorted(free, key=lambda v: cosine(x[v], x[pivot]))[:share]
    return {visual.index(v) for v in chosen}


def adaptinfer(cut: Seen, k: int) -> set[int]:
    scores = np.zeros(len(cut.visual))
    for head in cut.signals["text_attention"].double().numpy():
        block = np.array([[row[i] for i in cut.text.tolist()] for row in head])
        both = block + block.T - np.diag(np.diag(block))
        for i, weight in enumerate(both.sum(0)):
            scores += weight * head[i, cut.visual.numpy()]
    return best(scores, k)


def softmax(values: np.ndarray) -> np.ndarray:
    grown = np.exp(values - values.max())
    return grown / grown.sum()


def transprune(cut: Seen, k: int, variant: str = "paper", alpha: float = 0.5) -> set[int]:
    places = cut.rows.tolist()
    value = np.zeros(len(cut.visual))
    for step in cut.signals["transitions"]:
        if step.layer < round(cut.layers * 6 / 32):
            continue
        where = [step.rows.tolist().index(places[v]) for v in cut.visual.tolist()]
        for ratio, angle in zip(step.ratio.double().numpy(), step.cosine.double().numpy(), strict=True):
            value += (ratio * softmax(1 - (np.abs(angle) if variant == "paper" else angle)))[where]
    seen_by_text = cut.signals["next_text_attention"].double().numpy().mean((0, 1))[cut.visual.numpy()]
    return best(alpha * value / value.sum() + (1 - alpha) * seen_by_text / seen_by_text.sum(), k)


def sparsevlm(cut: Seen, k: int) -> set[int]:
    """Without recycling."""
    visual, text = (part.double().numpy() for part in cut.signals["embeddings"])
    relevance = np.mean([softmax(np.array([v @ t for t in text])) for v in visual], axis=0)
    raters = [i for i, r in enumerate(relevance) if r > relevance.mean()]
    rows = cut.signals["text_attention"].double().numpy()
    return best(rows[:, raters].mean((0, 1))[cut.visual.numpy()], k)


ORACLES = {
    "fastv": fastv,
    "pyramiddrop": pyramiddrop,
    "dart": dart,
    "adaptinfer": adaptinfer,
    "transprune": transprune,
    "sparsevlm": sparsevlm,
}


def kept(method: StagedMethod, cut: Seen, k: int) -> set[int]:
    order = method.choose(cut, k).order.tolist()
    assert len(order) == len(set(order)) == k
    return set(order)


def test_every_published_staged_method_has_an_oracle() -> None:
    assert {name for name, method in STAGED.items() if method.paper} == set(ORACLES)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_a_rule_keeps_what_its_formula_says(name: str, seed: int) -> None:
    method = make_staged(name, **({"recycle": "no"} if name == "sparsevlm" else {}))
    cut = seen(40, seed)
    for k in (1, 3, 9, 25, 40):
        assert kept(method, cut, k) == ORACLES[name](cut, k)


@pytest.mark.parametrize("seed", range(3))
def test_the_released_forms_keep_what_theirs_says(seed: int) -> None:
    cut = seen(40, seed)
    for k in (5, 9, 25):
        assert kept(make_staged("dart", variant="code"), cut, k) == dart(cut, k, "code")
        assert kept(make_staged("transprune", variant="code", alpha=1.0), cut, k) == transprune(cut, k, "code", 1.0)


# Values worked out by hand


def small(alive: int, text: int, **signals: object) -> Seen:
    rows = torch.arange(alive + text)
    return Seen(1, 4, alive, rows[:alive], rows, rows[:alive], rows[alive:], signals)


def test_fastv_by_hand() -> None:
    row = torch.tensor([[0.10, 0.30, 0.05, 0.20, 0.35]])
    assert kept(make_staged("fastv"), small(4, 1, last_attention=row), 2) == {1, 3}


def test_adaptinfer_by_hand() -> None:
    rows = torch.tensor([[[0.4, 0.2, 0.4, 0.0], [0.3, 0.1, 0.25, 0.35]]])
    scores = make_staged("adaptinfer").choose(small(2, 2, text_attention=rows), 1).scores
    # S = [[.4, .25], [.25, .35]], so u = .65, .60
    assert scores.tolist() == pytest.approx([0.65 * 0.4 + 0.6 * 0.3, 0.65 * 0.2 + 0.6 * 0.1])


def test_transprune_by_hand() -> None:
    step = Transition(0, torch.arange(3), torch.tensor([[1.0, 2, 1]]), torch.tensor([[0.5, -0.2, 0.9]]))
    paper, code = (make_staged("transprune", variant=variant)._value(step).tolist() for variant in ("paper", "code"))
    assert paper == pytest.approx([0.331, 0.894, 0.222], abs=1e-3)
    assert code == pytest.approx([0.271, 1.093, 0.182], abs=1e-3)


def test_sparsevlm_s_raters_by_hand() -> None:
    visual, text = torch.eye(2), torch.tensor([[2.0, 0], [0, 1], [0, 0]])
    cut = small(2, 3, embeddings=(visual, text))
    assert make_staged("sparsevlm")._raters(cut).tolist() == [True, True, False]


def test_one_recycled_token_alone_stays_what_it_was() -> None:
    cut = seen(12)
    choice = make_staged("sparsevlm").choose(cut, 11)
    assert len(choice.merged) == 1
    torch.testing.assert_close(choice.merged_rows, cut.signals["hidden"][cut.visual[choice.merged]])


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_recycled_tokens_are_those_of_their_cluster(variant: str) -> None:
    cut, k = seen(200, 3), 60
    method = make_staged("sparsevlm", variant=variant)
    choice = method.choose(cut, k)
    c = len(choice.merged)
    ranked = sorted(range(200), key=lambda j: (-float(choice.scores[j]), j))
    dropped = ranked[k - c :]
    pool = dropped[: int(0.3 * len(dropped)) + 1]
    assert c == int(0.3 * len(dropped)) // 10 + 1
    assert set(choice.order.tolist()) == {*ranked[: k - c], *choice.merged.tolist()}
    assert set(choice.merged.tolist()) <= set(pool)
    states = cut.signals["hidden"][cut.visual].double().numpy()
    clusters: dict[int, list[int]] = {centre: [centre] for centre in choice.merged.tolist()}
    for token in pool:
        if token in clusters:
            continue
        far = {
            centre: -cosine(states[token], states[centre])
            if variant == "paper"
            else np.linalg.norm(states[token] - states[centre])
            for centre in clusters
        }
        clusters[min(far, key=far.__getitem__)].append(token)
    for row, members in zip(choice.merged_rows.numpy(), clusters.values(), strict=True):
        total = states[members].sum(0)
        np.testing.assert_allclose(row, total if variant == "paper" else total / len(members), rtol=1e-4, atol=1e-5)


def test_density_peaks_are_the_middles_of_groups() -> None:
    near = torch.tensor([[0.0], [0.1], [-0.1]])
    assert sorted(density_peaks(torch.cat([near, near + 5, near - 9]), 3).tolist()) == [0, 3, 6]


# Contracts


@pytest.fixture(params=sorted(STAGED))
def method(request: pytest.FixtureRequest) -> StagedMethod:
    return make_staged(request.param)


def test_exactly_k_stay_and_the_same_ones_again(method: StagedMethod) -> None:
    for alive in (1, 2, 7, 60):
        cut = seen(alive)
        for k in {1, 2, alive // 2, alive - 1, alive} & set(range(1, alive + 1)):
            assert kept(method, cut, k) == kept(method, seen(alive), k)


def test_constant_values_are_no_fault(method: StagedMethod) -> None:
    for k in (1, 5, 12):
        kept(method, seen(12, constant=True), k)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_broken_values_are_refused(method: StagedMethod, bad: float) -> None:
    cut = seen(12)
    for need in method.needs - {"embeddings", "transitions"}:
        value = cut.signals[need].clone()
        value.view(-1)[3] = bad
        with pytest.raises(
            ValueError, match=f"{method.name}: signal '{need}' holds NaN or infinite values after layer 4"
        ):
            method.choose(replace(cut, signals={**cut.signals, need: value}), 3)
        with pytest.raises(ValueError, match=f"{method.name}: signal '{need}' is missing"):
            method.choose(replace(cut, signals={k: v for k, v in cut.signals.items() if k != need}), 3)


def test_what_is_seen_stays_untouched_and_only_what_is_needed_is_read(method: StagedMethod) -> None:
    cut = seen(20)
    own = replace(cut, signals={name: value for name, value in cut.signals.items() if name in method.needs})
    before = {name: value.clone() for name, value in own.signals.items() if isinstance(value, Tensor)}
    assert kept(method, own, 7) == kept(method, cut, 7)
    assert all(torch.equal(own.signals[name], value) for name, value in before.items())


def test_a_budget_of_none_or_too_many_is_refused(method: StagedMethod) -> None:
    for k in (0, 13, True):
        with pytest.raises(ValueError, match=r"budget .* is not allowed"):
            method.choose(seen(12), k)


def test_random_cuts_take_from_one_order() -> None:
    """What a later cut keeps is what one cut alone would have kept."""
    rule, cut = make_staged("random_inner"), seen(30)
    first = sorted(rule.choose(cut, 20).order.tolist())
    rest = replace(cut, tokens=cut.tokens[first], visual=cut.visual[first])
    again = cut.tokens[first][rule.choose(rest, 6).order]
    assert set(again.tolist()) == set(cut.tokens[rule.choose(cut, 6).order].tolist())
