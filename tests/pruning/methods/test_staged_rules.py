"""The rules of staged methods: numpy oracles from their formulas, and contracts over all of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pruning.methods.atp_llava import spatial
from pruning.methods.sparsevlm import density_peaks
from pruning.ops import queries
from pruning.ops.queries import received
from pruning.seen import SIGNALS, Received, Seen, Transition
from pruning.staged import STAGED, StagedMethod, make_staged

HEADS, TEXT, WIDTH = 3, 5, 8


def attention(n: int, generator: torch.Generator, constant: bool = False) -> Tensor:
    """(H, n, n) causal softmax rows of n tokens."""
    logits = torch.zeros(HEADS, n, n) if constant else torch.randn(HEADS, n, n, generator=generator)
    later = torch.arange(n) > torch.arange(n)[:, None]
    return logits.masked_fill(later, -torch.inf).softmax(-1)


def thresholds(cut: int, means: Tensor) -> Tensor:
    """As a module would give them: higher where more is looked at, another pair at each cut."""
    return torch.stack([0.2 + 0.1 * cut + 0.5 * means[0], 0.1 + 0.05 * cut + means[1]]).clamp(0, 1)


def seen(alive: int = 12, seed: int = 0, layers: int = 8, constant: bool = False) -> Seen:
    """A cut after 4 layers: 2 words, a line end after every 4th of `alive` tokens, and the text."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randperm(3 * alive, generator=generator)[:alive].sort().values
    rows = torch.cat([torch.tensor([0, 1]), 2 + tokens, 2 + 3 * alive + torch.arange(TEXT)])
    visual, n = torch.arange(2, 2 + alive), len(rows)
    maps = [attention(n, generator, constant) for _ in range(4)]
    rows_of_text = maps[-1][:, -TEXT:]
    distance = attention(n, generator, constant)[0, -TEXT:]
    states = torch.ones(n, WIDTH) if constant else torch.randn(n, WIDTH, generator=generator)
    more = 0 if constant else torch.rand(2, n, generator=generator)
    signals = {
        "text_attention": rows_of_text,
        "next_text_attention": rows_of_text.flip(0).contiguous(),
        "last_attention": rows_of_text[:, -1],
        "next_last_attention": rows_of_text[:, -1].flip(0).contiguous(),
        "attention": lambda places: maps[-1][:, places],
        "gravity": distance,
        "keys": states * 2,
        "hidden": states,
        "normed": states,
        "embeddings": (states[visual], states[-TEXT:]),
        "transitions": tuple(
            Transition(i, rows, torch.ones(2, n) + more * i, torch.zeros(2, n) + more) for i in range(4)
        ),
        "received": tuple(Received(i, rows, map_.sum((0, 1))) for i, map_ in enumerate(maps)),
        "received_from_last": tuple(Received(i, rows, map_[:, -1].mean(0)) for i, map_ in enumerate(maps)),
        "places": torch.stack([torch.div(tokens, 6, rounding_mode="floor"), tokens % 6], 1).float(),
        "atp_llava": thresholds,
        "entry_scores": torch.ones(alive) if constant else torch.rand(alive, generator=generator),
    }
    assert signals.keys() == SIGNALS.keys()
    images = (torch.arange(alive) >= alive // 2).long()  # two, where there is more than one token
    return Seen(4, layers, 3 * alive, tokens, rows, visual, torch.arange(n - TEXT, n), images, 0, signals)


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


def raters(cut: Seen) -> list[int]:
    visual, text = (part.double().numpy() for part in cut.signals["embeddings"])
    relevance = np.mean([softmax(np.array([v @ t for t in text])) for v in visual], axis=0)
    return [i for i, r in enumerate(relevance) if r > relevance.mean()]


def sparsevlm_scores(cut: Seen) -> np.ndarray:
    rows = cut.signals["text_attention"].double().numpy()
    return rows[:, raters(cut)].mean((0, 1))[cut.visual.numpy()]


def sparsevlm(cut: Seen, k: int) -> set[int]:
    """Edition 2.0: by the attention that distance does not explain, in the heads that look at the picture most."""
    rows, gravity = (cut.signals[name].double().numpy() for name in ("text_attention", "gravity"))
    heads = []
    for head in rows:
        weighed = {(i, v): head[i, v] / gravity[i, v] for i in raters(cut) for v in cut.visual.tolist()}
        heads.append((sum(weighed.values()), weighed))
    heads.sort(key=lambda pair: -pair[0])
    looking = [weighed for _, weighed in heads[: max(1, round(len(heads) * 14 / 32))]]
    scores = [sum(weighed[i, v] for weighed in looking for i in raters(cut)) for v in cut.visual.tolist()]
    return best(np.array(scores), k)


def fastv_all(cut: Seen, k: int) -> set[int]:
    rows = cut.signals["attention"](torch.arange(len(cut.rows))).double().numpy()
    return best(np.array([sum(row[j] for head in rows for row in head) for j in cut.visual.tolist()]), k)


def attention_debiasing(cut: Seen, k: int, host: str = "fastv", decay: float = 0.003) -> set[int]:
    if host == "sparsevlm":
        scores = sparsevlm_scores(cut)
    else:
        rows = cut.signals["last_attention" if host == "fastv" else "next_last_attention"].double().numpy()
        scores = rows.mean(0)[cut.visual.numpy()]
    weights = [math.exp(-decay * place * 576 / cut.n) for place in cut.tokens.tolist()]
    return best(scores * np.array(weights), k)


def spatten(cut: Seen, k: int, seen_by: bool = False) -> set[int]:
    places, total = cut.rows.tolist(), np.zeros(len(cut.visual))
    for layer in cut.signals["received"]:
        rows = layer.rows.tolist()
        for number, v in enumerate(cut.visual.tolist()):
            at = rows.index(places[v])
            total[number] += float(layer.values[at]) / (sum(r >= rows[at] for r in rows) if seen_by else 1)
    return best(total, k)


def aim_inner(cut: Seen, k: int) -> set[int]:
    """From the attention back to logits, and by the formula from there."""
    n, ends = len(cut.rows), []
    for head in cut.signals["attention"](torch.arange(n)).double().numpy():
        with np.errstate(divide="ignore"):
            logits = np.log(head)
        sharp, walk = np.array([softmax(row / 0.1) for row in logits]), np.full(n, 1 / n)
        for _ in range(5):
            walk = np.array([sum(walk[i] * sharp[i, j] for i in range(n)) for j in range(n)])
        ends.append(walk)
    return best(np.sqrt(np.mean(np.square(ends), axis=0))[cut.visual.numpy()], k)


def catp(cut: Seen, k: int, nearness: float = 0.6) -> set[int]:
    """Its last picture stays whole at the first cut, all others at later ones, where there is room for them."""
    states, n = cut.signals["hidden"].double().numpy(), len(cut.tokens)
    last = [j for j in range(n) if cut.images[j] == max(cut.images)]
    begin = int(cut.visual[last[0]])
    before, now = (layer.values.double().numpy() for layer in cut.signals["received_from_last"][-2:])
    scores, place = [], cut.visual.tolist()
    for j in range(n):
        if cut.earlier:
            scores.append(cosine(states[place[j]], states[:begin].mean(0)))
        else:
            rise = max(0.0, now[place[j]] - before[place[j]])
            scores.append(rise + nearness * cosine(states[place[j]], states[begin:].mean(0)))
    safe = [j for j in range(n) if (j in last) != (cut.earlier > 0)]
    ranked = [sorted(part, key=lambda j: -scores[j]) for part in (safe, sorted(set(range(n)) - set(safe)))]
    return set([*ranked[0], *ranked[1]][:k])


def vflowopt_inner(cut: Seen, k: int) -> set[int]:
    return best(cut.signals["entry_scores"].double().numpy(), k)


def atp_llava_scores(cut: Seen) -> list[float]:
    """By how much either score passes its threshold. The cut after 4 of 8 layers is the second: R_s = 1/4."""
    visual, rows = cut.visual.tolist(), cut.signals["attention"](torch.arange(len(cut.rows))).double().numpy()
    text = cut.signals["text_attention"].double().numpy()
    own = [float(np.mean([head[i, j] for head in rows for i in visual])) for j in visual]
    cross = [float(np.mean([row[j] for head in text for row in head])) for j in visual]
    means = torch.tensor([np.mean(own), np.mean(cross)]) * len(visual)
    redundant, sampled = cut.signals["atp_llava"](1, means).tolist()
    both, found = [(a + b) / 2 for a, b in zip(own, cross, strict=True)], []
    for value, (row, column) in zip(both, cut.signals["places"].tolist(), strict=True):
        scaled = (value - min(both)) / (max(both) - min(both)) if max(both) > min(both) else 0.0
        spatial = 1 - 3 / 4 if row % 2 == 0 and column % 2 == 0 else 0.0
        found.append(max(scaled - redundant, spatial - sampled))
    return found


def atp_llava(cut: Seen, k: int, own: bool = False) -> set[int]:
    scores = atp_llava_scores(cut)
    passing = sum(score > 0 for score in scores)
    return best(np.array(scores).astype(np.float32), min(k, max(1, passing)) if own else k)


ORACLES = {
    "atp_llava": atp_llava,
    "fastv": fastv,
    "pyramiddrop": pyramiddrop,
    "dart": dart,
    "adaptinfer": adaptinfer,
    "transprune": transprune,
    "sparsevlm": sparsevlm,
    "attention_debiasing": attention_debiasing,
    "spatten": spatten,
    "aim_inner": aim_inner,
    "vflowopt_inner": vflowopt_inner,
    "flashvid_inner": fastv,
    "holitom_inner": fastv,
    "catp": catp,
}
DECIDING = {"todre_inner"}  # which drop all or none


def kept(method: StagedMethod, cut: Seen, k: int) -> set[int]:
    order = method.choose(cut, k).order.tolist()
    assert len(order) == len(set(order))
    assert len(order) == k or (method.all_or_none and len(order) == len(cut.tokens))
    return set(order)


def test_every_published_staged_method_has_an_oracle() -> None:
    assert {name for name, method in STAGED.items() if method.paper} == set(ORACLES) | DECIDING
    assert {name for name, method in STAGED.items() if method.all_or_none} == DECIDING


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_a_rule_keeps_what_its_formula_says(name: str, seed: int) -> None:
    method = make_staged(name, **({"edition": "2.0"} if name == "sparsevlm" else {}))
    cut = seen(40, seed)
    for k in (1, 3, 9, 25, 40):
        assert kept(method, cut, k) == ORACLES[name](cut, k)


@pytest.mark.parametrize("seed", range(3))
def test_the_released_forms_keep_what_theirs_says(seed: int) -> None:
    cut = seen(40, seed)
    for k in (5, 9, 25):
        assert kept(make_staged("dart", variant="code"), cut, k) == dart(cut, k, "code")
        assert kept(make_staged("transprune", variant="code", alpha=1.0), cut, k) == transprune(cut, k, "code", 1.0)
        assert kept(make_staged("fastv", rows="all"), cut, k) == fastv_all(cut, k)
        assert own_budget(cut, k) == atp_llava(cut, k, own=True)
        later = replace(cut, earlier=1)
        assert kept(make_staged("catp"), later, k) == catp(later, k)
        assert kept(make_staged("spatten", sum="seen"), cut, k) == spatten(cut, k, seen_by=True)
        for host in ("fastv", "pyramiddrop", "sparsevlm"):
            debiased = make_staged("attention_debiasing", host=host, decay=0.002)
            assert kept(debiased, cut, k) == attention_debiasing(cut, k, host, 0.002)


def own_budget(cut: Seen, k: int) -> set[int]:
    return set(make_staged("atp_llava", budget="own").choose(cut, k).order.tolist())


# Values worked out by hand


def small(alive: int, text: int, **signals: object) -> Seen:
    rows = torch.arange(alive + text)
    return Seen(1, 4, alive, rows[:alive], rows, rows[:alive], rows[alive:], torch.zeros(alive).long(), 0, signals)


def test_fastv_by_hand() -> None:
    row = torch.tensor([[0.10, 0.30, 0.05, 0.20, 0.35]])
    assert kept(make_staged("fastv"), small(4, 1, last_attention=row), 2) == {1, 3}


def test_atp_llava_s_samples_by_hand() -> None:
    """Of a 4×4 grid every second row and column at R_s = 1/4; all at 1/2, where the score is 0; a corner at 1/16."""
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    assert [spatial(grid, rate).nonzero()[:, 0].tolist() for rate in (0.5, 0.25, 0.0625)] == [[], [0, 2, 8, 10], [0]]
    assert [float(spatial(grid, rate).max()) for rate in (0.5, 0.25, 0.0625)] == [0, 0.25, 0.8125]


def test_atp_llava_keeps_what_passes_by_its_own_budget_and_at_most_what_is_asked_for() -> None:
    cut = replace(seen(40), signals={**seen(40).signals, "atp_llava": lambda cut, means: torch.zeros(2)})
    assert len(own_budget(cut, 40)) >= 38, "all but what is lowest in both scores"
    assert len(own_budget(cut, 7)) == 7
    nothing = replace(cut, signals={**cut.signals, "atp_llava": lambda cut, means: torch.ones(2)})
    assert len(own_budget(nothing, 40)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_holitom_merges_what_leaves_by_halves_in_the_tokens_order(seed: int) -> None:
    cut = seen(20, seed)
    states = cut.signals["hidden"].double().numpy()[cut.visual.numpy()]
    for k in (1, 7, 19, 20):
        choice = make_staged("holitom_inner").choose(cut, k)
        stays = sorted(choice.order.tolist())
        wanted = {j: states[j].copy() for j in stays}
        grown = set[int]()
        for i in range(20):
            if i not in wanted:
                home = max(stays, key=lambda j: cosine(states[i], states[j]))
                wanted[home] = (wanted[home] + states[i]) / 2
                grown.add(home)
        if k == 20:
            assert choice.merged is None
            continue
        assert choice.merged.tolist() == sorted(grown)
        for j, row in zip(choice.merged.tolist(), choice.merged_rows, strict=True):
            np.testing.assert_allclose(row.numpy(), wanted[j], rtol=1e-5)


def test_holitom_s_halves_by_hand() -> None:
    """Three tokens leave: the first goes to the token at its right, both others to the one they are like, in turn."""
    states = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 9.0], [5.0, 5.0]])
    row = torch.tensor([[0.01, 0.3, 0.3, 0.02, 0.02, 0.35]])
    choice = make_staged("holitom_inner").choose(small(5, 1, last_attention=row, hidden=states), 2)
    assert choice.merged.tolist() == [1, 2]
    torch.testing.assert_close(choice.merged_rows, torch.tensor([[1.0, 0.05], [0.0, 5.5]]))


def test_debiasing_by_hand() -> None:
    row = torch.full((1, 577), 1 / 577)
    weighed = make_staged("attention_debiasing").choose(small(576, 1, last_attention=row), 1).scores * 577
    assert weighed[[0, 300, 575]].tolist() == pytest.approx([1, 0.4066, 0.1782], abs=1e-4)


def test_debiasing_weighs_the_first_cut_alone_and_nothing_at_0() -> None:
    cut = seen(40)
    for host in ("fastv", "pyramiddrop"):
        plain = make_staged(host).choose(cut, 9)
        for method, there in ((make_staged("attention_debiasing", host=host), replace(cut, earlier=1)),
                              (make_staged("attention_debiasing", host=host, decay=0.0), cut)):  # fmt: skip
            assert torch.equal(method.choose(there, 9).order, plain.order)


def test_catp_by_hand() -> None:
    """What the last token gains in attention, and 0.6 of a cosine of 0.5 for either."""
    rows, side = torch.arange(4), 3**0.5 / 2
    signals = {
        "received_from_last": tuple(
            Received(i, rows, torch.tensor(values)) for i, values in enumerate([[0.2, 0.1, 0, 0], [0.1, 0.3, 0, 0]])
        ),
        "hidden": torch.tensor([[0.5, side], [0.5, -side], [2.0, 0], [1.0, 0]]),
    }
    cut = Seen(2, 4, 3, rows[:3], rows, rows[:3], rows[3:], torch.tensor([0, 0, 1]), 0, signals)
    choice = make_staged("catp").choose(cut, 2)
    assert choice.scores[:2].tolist() == pytest.approx([0.3, 0.5])
    assert set(choice.order.tolist()) == {1, 2}


def test_aim_s_walk_by_hand() -> None:
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [0.1, 0.0, -torch.inf], [0.2, 0.1, 0.0]])
    cut = small(2, 1, attention=lambda places: logits.softmax(-1)[None, places])
    assert make_staged("aim_inner").choose(cut, 1).scores.tolist() == pytest.approx([0.9989, 0.0011], abs=1e-4)


def test_all_queries_are_summed_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: kept(make_staged(name), seen(40), 9) for name in ("aim_inner", "fastv")}
    whole = received(seen(40).signals["attention"], 47)
    monkeypatch.setattr(queries, "ENTRIES", 47 * 16 * 3)
    sizes = [len(part) for part, _ in queries.blocks(seen(40).signals["attention"], 47)]
    assert sizes == [3] * 15 + [2]
    assert {name: kept(make_staged(name), seen(40), 9) for name in expected} == expected
    torch.testing.assert_close(received(seen(40).signals["attention"], 47), whole)


def test_received_attention_sums_to_the_number_of_rows() -> None:
    assert float(seen(40).signals["received"][0].values.sum()) == pytest.approx(HEADS * 47, rel=1e-5)


def apart(to_picture: float, to_text: float, threshold: float) -> int:
    """What ToDRE leaves of two visual tokens after a word, where two words and the visual tokens look as told."""
    rows = torch.zeros(4, 4)
    rows[0, 0] = 1
    rows[1] = torch.tensor([to_text, 1 - to_text, 0, 0])
    rows[2] = torch.tensor([to_text, 0, 1 - to_text, 0])
    rows[3] = torch.tensor([1 - to_picture, to_picture, 0, 0])
    at, zero = torch.arange(4), torch.zeros(2).long()
    there = Seen(
        7, 8, 2, torch.arange(2), at, at[1:3], at[3:], zero, 0, {"attention": lambda places: rows[None, places]}
    )
    return len(make_staged("todre_inner", threshold=threshold).choose(there, 0).order)


def test_todre_drops_all_where_both_look_away() -> None:
    assert apart(0.18, 0.05, 0.1) == 0  # the words pay .00 and .18, so .09 in the mean
    assert apart(0.22, 0.05, 0.1) == 2
    assert apart(0.18, 0.12, 0.1) == 2
    assert apart(0.0, 0.0, 0.0) == 2, "nothing leaves at 0"


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
        for k in {0, 1, 2, alive // 2, alive - 1, alive} & set(range(not method.drops_all, alive + 1)):
            assert kept(method, cut, k) == kept(method, seen(alive), k)


PLACED = {
    "random_inner": "draws places",
    "uniform_inner": "spreads places over what is alive",
    "attention_debiasing": "weighs places",
    "catp": "takes all that stands before the last image for its examples",
}


def moved(cut: Seen, places: Tensor) -> Seen:
    """The same tokens at other places: new place i holds old token places[i]."""
    of = torch.arange(len(cut.rows)).index_copy(0, cut.visual, cut.visual[places])
    found, every = dict(cut.signals), cut.signals["attention"]
    for name in ("text_attention", "next_text_attention", "last_attention", "next_last_attention", "gravity"):
        found[name] = found[name][..., of]
    found |= {name: found[name][of] for name in ("keys", "hidden", "normed")}
    found["attention"] = lambda asked: every(of[asked])[..., of]
    found["embeddings"] = (found["embeddings"][0][places], found["embeddings"][1])
    steps = found["transitions"]
    found["transitions"] = tuple(replace(s, ratio=s.ratio[:, of], cosine=s.cosine[:, of]) for s in steps)
    for name in ("received", "received_from_last"):
        found[name] = tuple(replace(each, values=each.values[of]) for each in found[name])
    found["entry_scores"], found["places"] = found["entry_scores"][places], found["places"][places]
    return replace(cut, images=cut.images[places], signals=found)


def test_what_stays_follows_the_tokens_when_they_change_places(method: StagedMethod) -> None:
    cut, places = seen(24), torch.randperm(24, generator=torch.Generator().manual_seed(5))
    before, after = kept(method, cut, 9), kept(method, moved(cut, places), 9)
    follows = {int(places[i]) for i in after} == before
    assert follows != (method.name in PLACED), "or the name is no exception any more"


def test_a_model_of_one_layer_has_no_cut_inside(method: StagedMethod) -> None:
    assert method.schedule(8, 1, 1.0) == ()
    if not method.earliest:  # it reads nothing of layers, and cuts before the first one
        assert method.schedule(8, 1, 0.5) == ((0, 4),)
        return
    with pytest.raises(ValueError, match=r"cannot come to an equivalent retention of 0\.5"):
        method.schedule(8, 1, 0.5)


def test_constant_values_are_no_fault(method: StagedMethod) -> None:
    for k in (1, 5, 12):
        kept(method, seen(12, constant=True), k)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_broken_values_are_refused(method: StagedMethod, bad: float) -> None:
    cut = seen(12)
    functions = {"attention", *method.modules}
    for need in method.needs - functions - {"embeddings", "transitions", "received", "received_from_last"}:
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
    for k in (0, 13, True)[method.drops_all :]:
        with pytest.raises(ValueError, match=r"budget .* is not allowed"):
            method.choose(seen(12), k)


def test_random_cuts_take_from_one_order() -> None:
    """What a later cut keeps is what one cut alone would have kept."""
    rule, cut = make_staged("random_inner"), seen(30)
    first = sorted(rule.choose(cut, 20).order.tolist())
    rest = replace(cut, tokens=cut.tokens[first], visual=cut.visual[first])
    again = cut.tokens[first][rule.choose(rest, 6).order]
    assert set(again.tolist()) == set(cut.tokens[rule.choose(cut, 6).order].tolist())
