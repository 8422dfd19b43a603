"""Regret over turns: each is what the model says with its own history, and what is returned is what was dropped."""

import pytest
import torch

from pruning.evaluation.cost import prefill_flops
from pruning.evaluation.metrics import fidelity
from pruning.evaluation.regret import turns
from pruning.method import make
from pruning.models import Turn
from tests.helpers.visits import QUESTION

QUESTIONS = (QUESTION, "how many circles are there?", "is there a red one?")


@pytest.fixture(scope="module")
def sample(tiny_vlm, noise):
    encoded = tiny_vlm.encode([noise(168, 112)], frozenset({"scorer"}))
    return encoded, make("idpruner").select(encoded.tokens, encoded.tokens.n).order


@pytest.fixture(scope="module")
def found(tiny_vlm, sample):
    encoded, order = sample
    ranks = {"order": lambda _: order, "places": lambda _: torch.arange(24)}
    return list(turns(tiny_vlm, encoded, QUESTIONS, order[:6], 24, [4, 2, 100], ranks, Turn, max_new_tokens=6))


def test_every_turn_goes_on_from_what_its_own_side_said(tiny_vlm, sample, found):
    encoded, order = sample
    for kept, side in ((None, "full"), (order[:6], "kept")):
        history: tuple[Turn, ...] = ()
        for question, turn in zip(QUESTIONS, found, strict=True):
            answer = tiny_vlm.answer(encoded, question, kept, history=history, max_new_tokens=6)
            assert getattr(turn, side) == answer.text
            if side == "kept":
                assert turn.flops == prefill_flops(tiny_vlm.config, answer.prefill_tokens)
            history = (*history, Turn(question, answer.text))


def test_what_comes_back_is_what_was_dropped_in_the_order_of_each_ranking(tiny_vlm, sample, found):
    encoded, order = sample
    assert found[0].returned == ()
    shape = [(by, tokens, 6 + tokens) for by in ("order", "places") for tokens in (2, 4, 18)]
    last, history = found[2], tuple(Turn(turn.question, turn.kept) for turn in found[:2])
    assert [(each.by, each.tokens, each.k) for each in last.returned] == shape
    whole = tuple(Turn(turn.question, turn.full) for turn in found[:2])
    ids = list(tiny_vlm.answer(encoded, QUESTIONS[2], history=whole, max_new_tokens=6).ids)
    (reference,) = tiny_vlm.logprobs(encoded, QUESTIONS[2], ids, [None], whole)
    dropped = [token for token in range(24) if token not in order[:6].tolist()]
    for at, tokens in ((0, order[:8]), (1, order[:10]), (3, torch.cat([order[:6], torch.tensor(dropped[:2])]))):
        (logp,) = tiny_vlm.logprobs(encoded, QUESTIONS[2], ids, [tokens], history)
        assert last.returned[at].fidelity == pytest.approx(fidelity(reference, logp), abs=1e-5)
    answer = tiny_vlm.answer(encoded, QUESTIONS[2], order[:8], history=history, max_new_tokens=6)
    assert last.returned[0].flops == prefill_flops(tiny_vlm.config, answer.prefill_tokens)
    assert last.returned[0].agree == (list(answer.ids) == ids)
    assert last.returned[2].fidelity == last.returned[5].fidelity, "all of them are the same ones"


def test_nothing_is_claimed_outside_of_the_model_s_world(tiny_vlm, sample):
    encoded, order = sample
    out = turns(tiny_vlm, encoded, QUESTIONS[:2], order[:6], 24, [2], {"order": lambda _: order}, Turn,
                in_world=lambda question: question == QUESTION, max_new_tokens=2)  # fmt: skip
    first, second = out
    assert first.fidelity is not None
    assert (second.fidelity, second.agree, second.returned) == (None, None, ())


@pytest.mark.parametrize(
    ("questions", "counts", "message"),
    [((), [1], "at least one question"), (QUESTIONS, [0], "0 tokens cannot be returned")],
)
def test_bad_input_is_refused(tiny_vlm, sample, questions, counts, message):
    encoded, order = sample
    with pytest.raises(ValueError, match=message):
        next(turns(tiny_vlm, encoded, questions, order[:6], 24, counts, {}, Turn))
