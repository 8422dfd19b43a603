"""From a name, knobs and a retention to what runs; published schedules; what is refused."""

import pytest
import torch

from pruning.choosing import came_to, choose, chooser, needs_of, out_of_reach
from pruning.method import make
from pruning.plan import Plan, parse_plan
from pruning.published import PUBLISHED
from pruning.runnable import asked_for, plan_for, why_not
from pruning.staged import STAGED, make_staged
from pruning.tokens import Selection
from tests.helpers import samples

LAYERS = 8


@pytest.fixture
def tokens():
    return samples.sample(100)


def test_one_call_serves_both_registries_and_all_come_to_what_is_asked(tokens) -> None:
    for name in ("idpruner", "uniform", "fastv", "pyramiddrop", "random_inner"):
        runs = choose(asked_for({"scorer"}, name), tokens, LAYERS, 0.5)
        assert isinstance(runs, Plan if name in STAGED else Selection)
        assert came_to(runs, LAYERS, tokens.n) == pytest.approx(0.5, abs=0.01)
    both = chooser(make_staged("fastv"), tokens, LAYERS, (0.5, 1.0))
    assert both(0.5) == choose(make_staged("fastv"), tokens, LAYERS, 0.5)
    assert came_to(both(1.0), LAYERS, tokens.n) == 1


def test_a_plan_has_its_entry_made_and_counts_what_entered(tokens) -> None:
    plan = plan_for({"scorer"}, "pre:feature_norm:0.4,4:fastv:0.5")
    runs = choose(plan, tokens, LAYERS, 0.9)
    assert isinstance(runs, Plan)
    assert torch.equal(runs.entering.order, make("feature_norm").select(tokens, 40).order)
    assert came_to(runs, LAYERS, tokens.n) == pytest.approx((4 * 40 + 4 * 20) / (8 * 100))


def test_knobs_go_to_the_methods_that_have_them() -> None:
    assert asked_for({"scorer"}, "fastv", {"after": 3}) == make_staged("fastv", after=3)
    assert asked_for({"patch_entropy"}, "idpruner").importance != "scorer"
    plan = plan_for({"scorer"}, "pre:idpruner:0.4,3:random_inner:0.5", {"mmr_lambda": 0.7, "seed": 3})
    assert (plan.entry.method.mmr_lambda, plan.cuts[0].rule.seed) == (0.7, 3)
    with pytest.raises(ValueError, match=r"no method of the plan '3:fastv:0\.5' has a knob 'seed': leave it out"):
        plan_for({"scorer"}, "3:fastv:0.5", {"seed": 3})
    with pytest.raises(ValueError, match=r"unknown method 'quick'; methods: .*idpruner.*fastv.*fastv-published"):
        asked_for({"scorer"}, "quick")
    with pytest.raises(ValueError, match="published with knobs of its own: leave out 'edition'"):
        plan_for({"scorer"}, "sparsevlm-64", {"edition": "2.0"})


def test_what_cannot_be_reached_says_what_can(tokens) -> None:
    fastv = make_staged("fastv")
    with pytest.raises(ValueError, match=r"retention of 0\.05: its first cut .* reach 0\.258 to 1"):
        choose(fastv, tokens, 4, 0.05)
    assert "0.258 to 1" in out_of_reach(fastv, 100, 4, 0.05)
    assert out_of_reach(fastv, 100, 4, 0.5) == out_of_reach(make("uniform"), 100, 4, 0.001) == ""
    assert "lies beyond the model: it has 4 layers" in out_of_reach(parse_plan("4:fastv:0.5"), 100, 4)
    with pytest.raises(ValueError, match="the entry of the plan cannot keep 300 tokens: 100 are alive there"):
        choose(parse_plan("pre:random:300,1:fastv:0.5"), tokens, 4)
    with pytest.raises(ValueError, match="needs a retention"):
        choose(fastv, tokens, 4)
    with pytest.raises(ValueError, match="retention ratio 0 is not allowed"):
        choose(fastv, tokens, 4, 0)
    with pytest.raises(ValueError, match="per 'image' is for methods before the language model"):
        choose(fastv, tokens, 4, 0.5, "image")


def test_what_the_tower_must_give_is_what_is_read_before_the_model() -> None:
    assert needs_of(make_staged("fastv")) == needs_of(parse_plan("1:fastv:0.5")) == frozenset()
    assert needs_of(PUBLISHED["fastv-published"]) == frozenset()
    assert needs_of(parse_plan("pre:idpruner:0.5,1:fastv:0.5")) == make("idpruner").needs


# Means as counted by hand: sum of n_l over 32 layers of 576 tokens, or over 28

MEANS = {
    "atp_llava-published": 143.6,
    "fastv-published": (2 * 576 + 30 * 288) / 32,
    "fastv-3-50": (3 * 576 + 29 * 288) / 32,
    "fastv-3-25": (3 * 576 + 29 * 144) / 32,
    "pyramiddrop-published": 270,
    "sparsevlm-192": 206.5,
    "sparsevlm-128": 145.4,
    "sparsevlm-96": 114.1,
    "sparsevlm-64": 82.2,
    "adaptinfer-published": 146.2,
    "adaptinfer-64": 82.9,
    "adaptinfer-48": 66.7,
}


@pytest.mark.parametrize("name", sorted(MEANS))
def test_a_published_schedule_comes_to_its_mean(name: str) -> None:
    plan = PUBLISHED[name].plan(576, 32)
    assert plan.equivalent(576, 32) * 576 == pytest.approx(MEANS[name], abs=0.06)


def test_shares_of_what_is_left_are_the_authors() -> None:
    plan = PUBLISHED["adaptinfer-qwen-30"].plan(1000, 28)
    assert plan.alive(1000, 28) == (1000,) + (500,) * 9 + (300,) * 10 + (90,) * 8


def test_every_published_schedule_names_its_source_and_fits_every_depth() -> None:
    assert {f"{name}-published" for name, method in STAGED.items() if method.paper} <= set(PUBLISHED)
    for name, schedule in PUBLISHED.items():
        assert name == schedule.name
        assert schedule.source.startswith("https://")
        assert schedule.about
        for layers in (2, 4, 28, 80):
            if not schedule.rule.shape(layers):
                with pytest.raises(ValueError, match=f"there are only {layers} layers"):
                    choose(schedule, samples.sample(30), layers)
                continue
            plan = choose(schedule, samples.sample(30), layers)
            alive = plan.alive(plan.entered(30), layers)
            assert list(alive) == sorted(alive, reverse=True)


def test_what_enters_needs_what_its_method_needs():
    composed, inside = parse_plan("pre:visionzip:0.5,1:fastv:0.5"), parse_plan("1:fastv:0.5")
    assert "VisionZip needs attention of the vision tower" in why_not(composed, "Blind", frozenset())
    assert why_not(inside, "Blind", frozenset()) == ""
    for name, method in STAGED.items():
        missing = make_staged(name).modules | (make(method.first).needs if method.first else frozenset())
        assert bool(why_not(make_staged(name), "Blind", frozenset())) == bool(missing)
    assert why_not(make_staged("catp"), "Any", make("catp_first").needs, 1).startswith("CATP needs at least 2 images")
    assert why_not(make_staged("catp"), "Any", make("catp_first").needs, 2) == ""
