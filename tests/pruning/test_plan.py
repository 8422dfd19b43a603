"""Plans and schedules: what they come to, how they are written, and what is refused."""

import pytest
import torch

from pruning.choosing import needs_of
from pruning.method import METHODS, make
from pruning.plan import Cut, Plan, lifetimes, parse_plan, plan_of
from pruning.published import PUBLISHED as PUBLISHED_SCHEDULES
from pruning.schedules import equivalent
from pruning.staged import STAGED, make_staged
from tests.helpers import samples

N = 576
every_method = pytest.mark.parametrize("name", sorted(STAGED))


def test_a_plan_reads_as_it_is_written() -> None:
    text = "pre:idpruner:0.4,3:fastv:0.5,6:random_inner:20"
    plan = parse_plan(text)
    assert str(plan) == text
    assert plan.alive(200, 8) == (200,) * 3 + (100,) * 3 + (20,) * 2
    assert plan.equivalent(200, 8, 500) == pytest.approx((200 * 3 + 100 * 3 + 20 * 2) / (8 * 500))
    assert parse_plan(" 1 : fastv : 1 ").counts(9, 4) == (1,)
    assert parse_plan("1:fastv:1.0").counts(9, 4) == (9,)


def test_early_layers_that_forget_are_part_of_the_plan() -> None:
    plan = parse_plan("1:fastv:0.5,2:fastv:0.5,evict")
    assert plan.evict_early
    assert str(plan) == "1:fastv:0.5,2:fastv:0.5,evict"
    assert plan.alive(40, 4) == (40, 20, 10, 10)
    assert plan.held(40, 4) == (10,) * 4
    assert parse_plan("1:fastv:0.5").held(40, 4) == (40, 20, 20, 20)
    with pytest.raises(ValueError, match="'evict' is no part of a plan"):
        parse_plan("evict,1:fastv:0.5")


def test_an_entry_is_made_on_the_tokens() -> None:
    tokens = samples.sample(40)
    plan = parse_plan("pre:feature_norm:0.4,1:fastv:0.5")
    made = plan.on(tokens)
    assert torch.equal(made.entering.order, make("feature_norm").select(tokens, 16).order)
    assert (made.cuts, made.entry) == (plan.cuts, None)
    assert made.on(tokens) is made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "says nothing: a plan looks like"),
        ("fastv", "'fastv' is no part of a plan: a plan looks like"),
        ("3:fastv", "'3:fastv' is no part of a plan"),
        ("3:fastv:0.5,", "'' is no part of a plan"),
        ("-1:fastv:0.5", "'-1' in '-1:fastv:0.5' is no place: write 'pre' or the number of layers"),
        ("post:fastv:0.5", "'post' in 'post:fastv:0.5' is no place"),
        ("3:fastv:half", "'half' in '3:fastv:half' is no number"),
        ("3:fastv:0", "cannot keep 0: it must be a share above 0 and at most 1"),
        ("3:fastv:1.5", r"cannot keep 1\.5: it must be a share"),
        ("3:fastv:nan", "cannot keep nan: it must be a share"),
        ("3:fastv:-2", "cannot keep -2"),
        ("3:quick:0.5", "unknown staged method 'quick'; known staged methods: adaptinfer, aim_inner, "),
        ("3:idpruner:0.5", "unknown staged method 'idpruner'"),
        ("pre:fastv:0.5", "unknown method 'fastv'; known methods: "),
        ("3:fastv:0.5,pre:random:0.5", "comes after a cut: 'pre' can only be the first"),
        ("3:fastv:0.5,2:fastv:0.5", "cuts must be in the order of the layers"),
        ("3:fastv:0.5,3:fastv:0.5", "cuts must be in the order of the layers"),
        ("2:fastv:20,3:fastv:30", "'3:fastv:30' keeps more tokens than '2:fastv:20' leaves: counts can only fall"),
        ("pre:random:9,3:fastv:30", "counts can only fall"),
        ("0:fastv:0.5", "fastv after layer 0 is not allowed: it reads what layers did, so cut after layer 1"),
    ],
)
def test_a_bad_plan_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_plan(text)


def test_a_plan_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"lies beyond the model: it has 4 layers, so the last cut .* is after layer 3"
    ):
        parse_plan("4:fastv:0.5").counts(100, 4)
    with pytest.raises(ValueError, match=r"the cut '2:fastv:80' cannot keep 80 tokens: 50 are alive there"):
        parse_plan("1:fastv:0.5,2:fastv:80").counts(100, 4)
    with pytest.raises(ValueError, match="a cut after layer True is not allowed"):
        Cut(True, make_staged("fastv"), 0.5)


def test_a_cut_leaves_none_where_the_rule_drops_all() -> None:
    plan = parse_plan("pre:aim:0.5,2:aim_inner:0.5,3:aim_inner:0")
    assert (str(plan), plan.alive(100, 5)) == ("pre:aim:0.5,2:aim_inner:0.5,3:aim_inner:0", (100, 100, 50, 0, 0))
    assert parse_plan("3:todre_inner:0").alive(9, 4) == (9, 9, 9, 0)
    with pytest.raises(ValueError, match="cannot keep 0: it must be a share above 0"):
        parse_plan("2:fastv:0")
    with pytest.raises(ValueError, match=r"cannot keep 0\.5: todre_inner drops all tokens or none; write 0"):
        parse_plan("3:todre_inner:0.5")
    with pytest.raises(ValueError, match="nothing can follow '2:aim_inner:0': no token is left after it"):
        parse_plan("2:aim_inner:0,3:fastv:0.5")


def test_a_method_of_two_halves_has_its_entry() -> None:
    plan = plan_of(make_staged("vflowopt_inner"), N, 28, 0.25)
    assert plan.names == ["vflowopt", "vflowopt_inner"]
    published = PUBLISHED_SCHEDULES["vflowopt_inner-published"]
    assert published.plan(N, 32).names == plan.names
    assert needs_of(make_staged("vflowopt_inner")) == needs_of(plan) == needs_of(published) == make("vflowopt").needs
    assert needs_of(make_staged("fastv")) == needs_of(parse_plan("1:fastv:0.5")) == frozenset()


# Published schedules, as counted by hand from the papers (mean of 576 tokens in 32 layers)

PUBLISHED = {
    "atp_llava": ([(4, 169), (14, 49), (24, 14)], 143.625),  # 144 in the mean; the counts of each cut are not told
    "fastv": ([(2, 288)], 306.0),
    "dart": ([(2, 127)], (2 * 576 + 30 * 127) / 32),
    "pyramiddrop": ([(8, 288), (16, 144), (24, 72)], 270.0),
    "transprune": ([(7, 504), (9, 360), (12, 72)], 236.25),
    "sparsevlm": ([(3, 300), (7, 200), (16, 110)], (3 * 576 + 4 * 300 + 9 * 200 + 16 * 110) / 32),
    "adaptinfer": ([(2, 290), (11, 72), (21, 18)], 146.25),
    "attention_debiasing": ([(2, 288)], 306.0),
    "catp": ([(0, 351), (7, 239), (8, 127)], (7 * 351 + 239 + 24 * 127) / 32),
    "todre_inner": ([(0, 57), (28, 0)], 57 * 28 / 32),
    "vflowopt_inner": ([(0, 152), (10, 150), (20, 131)], (10 * 152 + 10 * 150 + 12 * 131) / 32),
    "flashvid_inner": ([(0, 144), (23, 43)], (23 * 144 + 9 * 43) / 32),
    "holitom_inner": ([(0, 115), (21, 57)], (21 * 115 + 11 * 57) / 32),
    "aim_inner": (
        [(0, 144), (17, 126), (18, 108), (19, 90), (21, 72), (22, 54), (23, 36), (24, 18), (25, 0)],
        (17 * 144 + 126 + 108 + 2 * 90 + 72 + 54 + 36 + 18) / 32,
    ),
}


def cuts_of(plan: Plan) -> list[tuple[int, float]]:
    """What enters, where a method chooses it, then the cuts."""
    return [*([(0, plan.entry.keep)] if plan.entry else []), *((cut.after, cut.keep) for cut in plan.cuts)]


def mean(plan: Plan, n: int, layers: int) -> float:
    """Tokens alive, in the mean."""
    entering = plan.entry.keep if plan.entry else n
    return sum(plan.alive(entering, layers)) / layers


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_schedule_is_the_paper_s(name: str) -> None:
    cuts, tokens = PUBLISHED[name]
    plan = plan_of(make_staged(name), N, 32)
    assert cuts_of(plan) == cuts
    assert mean(plan, N, 32) == pytest.approx(tokens)


def test_spatten_falls_evenly() -> None:
    """As by the formula 1 - (1 - rho)(L - s + 1) / 2L."""
    method = make_staged("spatten")
    afters, shares = zip(*method.shape(28), strict=True)
    assert afters == tuple(range(4, 28))
    assert shares == pytest.approx([1 - 0.7 * (layer - 3) / 24 for layer in range(4, 28)])
    assert mean(plan_of(method, 10**5, 28), 10**5, 28) / 10**5 == pytest.approx(1 - 0.7 * 25 / 56, abs=1e-4)
    with pytest.raises(ValueError, match=r"100000 visual tokens reach 0\.554 to 1"):
        plan_of(method, 10**5, 28, 0.5)


def test_aim_s_schedule_is_fixed_inside() -> None:
    aim = make_staged("aim_inner")
    assert [after for after, _ in aim.shape(28)] == [0, *range(15, 23)]
    with pytest.raises(ValueError, match=r"reach 0\.000 to 0\.661\. Ask for less, or for all: 1"):
        plan_of(aim, 10**4, 28, 0.7)
    assert mean(plan_of(aim, 10**4, 28, 0.2), 10**4, 28) / 10**4 == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("retention", [0.1, 0.15, 0.2, 0.25])
def test_flashvid_s_factor_makes_the_mean_what_is_asked_for(retention: float) -> None:
    plan = plan_of(make_staged("flashvid_inner"), 10**5, 28, retention)
    assert [after for after, _ in cuts_of(plan)] == [0, 20]
    assert [keep / 10**5 for _, keep in cuts_of(plan)] == pytest.approx([1.25 * retention, 0.375 * retention], abs=1e-3)
    assert mean(plan, 10**5, 28) / 10**5 == pytest.approx(retention, abs=1e-3)


def test_vflowopt_takes_the_set_nearest_to_the_retention() -> None:
    method = make_staged("vflowopt_inner")
    for retention, found in ((0.501, (0.7233, 0.7487, 0.4870)), (0.251, (0.2651, 0.9833, 0.8773)),
                             (0.1, (0.1166, 1.0, 0.6011))):  # fmt: skip
        shares = [found[0], found[0] * found[1], found[0] * found[1] * found[2]]
        assert (9 * shares[0] + 9 * shares[1] + 10 * shares[2]) / 28 == pytest.approx(retention, abs=5e-4)
        plan = plan_of(method, 10**5, 28, retention)
        assert [after for after, _ in cuts_of(plan)] == [0, 9, 18]
        assert [keep / 10**5 for _, keep in cuts_of(plan)] == pytest.approx(shares, abs=2e-3)


def test_every_published_staged_method_has_its_schedule_checked() -> None:
    assert {name for name, method in STAGED.items() if method.paper} == {*PUBLISHED, "spatten"}


@every_method
@pytest.mark.parametrize("layers", [2, 4, 7, 28, 32])
@pytest.mark.parametrize("n", [1, 7, 196, 1296])
def test_a_schedule_comes_to_the_retention_asked_for(name: str, layers: int, n: int) -> None:
    method = make_staged(name)
    afters = [after for after, _ in method.shape(layers)]
    if not afters:
        with pytest.raises(ValueError, match=f"there are only {layers} layers"):
            plan_of(method, n, layers, 0.5)
        return
    lowest, highest = (equivalent(afters, method.counts(n, layers, end), n, layers) for end in (0, 1))
    for retention in (1.0, 0.9, 0.6, 0.5, 0.3, 0.25, 0.1, 0.03):
        if not lowest - 0.5 / (n * layers) <= retention <= highest + 0.5 / (n * layers) and retention < 1:
            with pytest.raises(ValueError, match=f"reach {lowest:.3f} to {highest:.3g}"):
                plan_of(method, n, layers, retention)
            continue
        plan = plan_of(method, n, layers, retention)
        counts = [n, *(keep for _, keep in cuts_of(plan))]
        assert counts == sorted(counts, reverse=True)
        assert min(counts) >= (not method.drops_all)
        # One token more or less at a cut is what whole numbers allow.
        assert abs(mean(plan, n, layers) / n - retention) <= max(1, (len(counts) - 1) / 2) / n
    assert plan_of(method, n, layers, 1.0) == Plan()


@pytest.mark.parametrize("name", ["random_inner", "uniform_inner"])
def test_controls_cut_where_the_methods_do(name: str) -> None:
    for cuts, other in (("one", "fastv"), ("quarters", "pyramiddrop")):
        for layers, retention in ((2, 0.7), (4, 0.6), (4, 0.3), (28, 0.3), (28, None)):
            control = make_staged(name, cuts=cuts)
            assert control.schedule(N, layers, retention) == make_staged(other).schedule(N, layers, retention)


def test_a_retention_out_of_reach_names_the_range() -> None:
    with pytest.raises(
        ValueError,
        match=r"FastV cannot come to an equivalent retention of 0\.25: its first cut is after 1 of 4 layers, so 100 "
        r"visual tokens reach 0\.258 to 1\. Ask for more, or let fewer tokens enter: the plan 'pre:METHOD:SHARE,1",
    ):
        plan_of(make_staged("fastv"), 100, 4, 0.25)
    with pytest.raises(ValueError, match="there are only 1 layers"):
        plan_of(make_staged("fastv"), 100, 1, 0.5)
    with pytest.raises(ValueError, match=r"retention ratio 0 is not allowed"):
        plan_of(make_staged("fastv"), 100, 4, 0)
    assert plan_of(make_staged("random_inner"), 100, 1, 0.25).alive(100, 1) == (25,)


def test_lifetimes_count_layers() -> None:
    entered, order = torch.tensor([0, 2, 3]), [(1, torch.tensor([0, 3])), (4, torch.tensor([3]))]
    assert lifetimes(order, entered, 5, 6).tolist() == [4, 0, 1, 6, 0]


def test_staged_methods_and_one_shot_methods_have_names_of_their_own() -> None:
    assert not set(STAGED) & set(METHODS)
    assert {method.stage for method in STAGED.values()} == {"in_llm"}
    assert {method.stage for method in METHODS.values()} == {"pre_llm"}
