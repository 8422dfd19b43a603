"""The parity certificate: it tells what the model does, and what differs elsewhere is found, the first thing first."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pruning.choosing import choose, needs_of
from pruning.encoding import make_encoding
from pruning.evaluation.lives import survivors
from pruning.handover import certificate as certificates
from pruning.handover.certificate import hashed, read, sealed, written
from pruning.handover.parity import Wanted, certificate, pixels_hash, verify
from pruning.method import make
from pruning.plan import Plan, parse_plan
from pruning.published import PUBLISHED
from pruning.staged import make_staged

QUESTION = "What color is the star?"
ASKED = {
    "selection": Wanted(make("idpruner", mmr_lambda=0.7), 0.25),
    "merges": Wanted(make("prumerge"), 0.3, positions="compact"),
    "question": Wanted(make("cdpruner"), 0.5, "image"),
    "forced": Wanted(make("divprune"), 0.25, forced=((23, 1), (0,))),
    "between layers": Wanted(make_staged("fastv"), 0.6),
    "plan": Wanted(parse_plan("pre:idpruner:0.6,1:fastv:0.5", lambda name: make(name, mmr_lambda=0.2)), None),
    "published": Wanted(PUBLISHED["fastv-3-50"], None),
    "another encoding": Wanted(make_encoding("lower_resolution"), 0.5),
}


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(5).integers(0, 256, (112, 168, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def plain(tiny_vlm, picture):
    return certificate(tiny_vlm, [picture], ["noise.png"], QUESTION, ASKED["selection"])


def words(found):
    return {each.what: (each.same, each.words) for each in found}


@pytest.mark.parametrize("wanted", ASKED.values(), ids=ASKED)
def test_a_certificate_holds_where_it_was_made(tiny_vlm, picture, wanted):
    made = certificate(tiny_vlm, [picture], ["noise.png"], QUESTION, wanted)
    assert read(written(made)) == made
    found = verify(made, tiny_vlm, [picture])
    assert [each.what for each in found] == [
        "model", "pictures", "tokens", "indices", "positions", "logits, all tokens", "logits, kept tokens",
    ]  # fmt: skip
    assert [each.words for each in found if not each.same] == []
    assert made.seen.k == (len(made.seen.indices) if made.seen.indices else made.seen.k)


def test_it_tells_what_the_model_does(tiny_vlm, picture, plain):
    encoded = tiny_vlm.encode([picture], frozenset({"scorer"}))
    kept = make("idpruner", mmr_lambda=0.7).select(encoded.tokens, 6)
    seen = plain.seen
    assert (seen.n, seen.k, seen.indices) == (24, 6, kept.indices.tolist())
    assert seen.indices_sha256 == hashed(kept.indices.tolist())
    full = tiny_vlm.prompt(encoded, QUESTION)
    assert torch.equal(torch.tensor(seen.positions), full.keep(kept.indices).positions[:, 0])
    answer = tiny_vlm.answer(encoded, QUESTION, max_new_tokens=20)
    assert seen.answer_ids == list(answer.ids)
    logp = tiny_vlm.logprobs(encoded, QUESTION, answer.ids, [None, kept])
    for told, here in zip((seen.logp_full, seen.logp_kept), logp, strict=True):
        assert told == pytest.approx([float(row[i]) for row, i in zip(here, answer.ids, strict=True)], abs=1e-5)
    assert plain.pictures[0].sha256 == pixels_hash(picture)
    assert plain.limits["size"]["longest_edge"] > 0


def test_of_a_plan_the_indices_are_what_lives_longest(tiny_vlm, picture):
    wanted = ASKED["plan"]
    made = certificate(tiny_vlm, [picture], ["noise.png"], QUESTION, wanted)
    needs = needs_of(wanted.asked)
    encoded = tiny_vlm.encode([picture], needs)
    plan = choose(wanted.asked, tiny_vlm.tokens(encoded, QUESTION, needs), tiny_vlm.layers)
    assert isinstance(plan, Plan)
    assert made.seen.indices == survivors(tiny_vlm.trace(encoded, QUESTION, plan)).indices.tolist()


def test_other_pixels_are_the_first_difference(tiny_vlm, picture, plain):
    other = np.asarray(picture).copy()
    other[:30] = 255
    first = next(each for each in verify(plain, tiny_vlm, [Image.fromarray(other)]) if not each.same)
    assert (first.what, first.words) == ("pictures", "noise.png: the same size, other pixels")
    found = words(verify(plain, tiny_vlm, [picture.resize((224, 112))]))
    assert found["pictures"] == (False, "noise.png: 168×112 there, 224×112 here")
    assert found["tokens"] == (False, "24 tokens in grids [[1, 4, 6]] there, 32 in [[1, 4, 8]] here")
    assert "indices" not in found
    assert not found["positions"][0]


def test_what_differs_first_is_told_by_how_much(tiny_vlm, picture, plain):
    def elsewhere(**values):
        changed = sealed(replace(plain, seen=replace(plain.seen, **values)))
        return [(each.what, each.words) for each in verify(changed, tiny_vlm, [picture]) if not each.same]

    seen = plain.seen
    spare = next(i for i in range(24) if i not in seen.indices)
    other = sorted([spare, *seen.indices[1:]])
    ((what, said),) = elsewhere(indices=other, indices_sha256=hashed(other))
    assert what == "indices"
    assert "6 kept there, 6 here, 5 of them the same" in said
    shifted = [axis[:3] + [place + 1 for place in axis[3:]] for axis in seen.positions]
    ((what, said),) = elsewhere(positions=shifted)
    assert what == "positions"
    assert f"first at 3: {[axis[3] for axis in shifted]} there, {[axis[3] for axis in seen.positions]} here" in said
    ((what, said),) = elsewhere(logp_kept=[seen.logp_kept[0], *(value - 0.25 for value in seen.logp_kept[1:])])
    assert what == "logits, kept tokens"
    assert "differ by 0.25 at most, first at token 1" in said
    ((what, said),) = elsewhere(lengths=[value * 1.1 for value in seen.lengths])
    assert what == "tokens"
    assert "differ by 0.091 of theirs" in said


def test_the_tolerance_is_of_log_probabilities(tiny_vlm, picture, plain):
    off = sealed(replace(plain, seen=replace(plain.seen, logp_full=[v - 0.01 for v in plain.seen.logp_full])))
    assert all(each.same for each in verify(off, tiny_vlm, [picture]))
    assert not all(each.same for each in verify(off, tiny_vlm, [picture], 0.001))
    with pytest.raises(ValueError, match="tolerance = nan is not allowed"):
        verify(off, tiny_vlm, [picture], float("nan"))
    with pytest.raises(ValueError, match="is of 1 pictures, and 2 were given"):
        verify(off, tiny_vlm, [picture, picture])


def test_another_model_is_named(tiny_vlm, picture, plain):
    other = sealed(replace(plain, revision="f" * 64, dtype="bfloat16"))
    (first, *_) = verify(other, tiny_vlm, [picture])
    assert (first.what, first.same) == ("model", False)
    assert "revision ffffffffffff… there" in first.words
    assert "dtype bfloat16 there, float32 here" in first.words


def edited(plain, **changes):
    return json.dumps(json.loads(written(plain)) | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: "no JSON", "it is not JSON"),
        (lambda c: "[]", 'has no "kind"'),
        (lambda c: edited(c, kind="recipe"), 'has no "kind"'),
        (lambda c: edited(c, format=2), r"is of format 2, .* reads format 1: verify it with idpruner-lab \d"),
        (lambda c: edited(c, format=2, made_with=None), "another version"),
        (lambda c: edited(c, question="What else?"), "was changed after it was made"),
        (lambda c: edited(c, extra=1), "extra"),
        (lambda c: edited(c, seen={"n": "many"}), "seen.n"),
        (lambda c: written(c).replace('"retention": 0.25', '"retention": "0.25"'), "asked.retention"),
        (lambda c: written(c)[:-200], "it is not JSON"),
    ],
)
def test_what_is_no_certificate_is_refused(plain, change, message):
    with pytest.raises(ValueError, match=message):
        read(change(plain))


def test_a_setting_that_is_not_here_is_refused(tiny_vlm, picture, plain):
    other = sealed(replace(plain, asked=replace(plain.asked, method="later_method")))
    with pytest.raises(ValueError, match="later_method"):
        verify(other, tiny_vlm, [picture])
    knobs = sealed(replace(plain, asked=replace(plain.asked, knobs={"sharpness": 3})))
    with pytest.raises(ValueError, match="sharpness"):
        verify(knobs, tiny_vlm, [picture])


def test_the_file_says_its_kind_and_format(plain):
    told = json.loads(written(plain))
    assert (told["kind"], told["format"]) == (certificates.KIND, certificates.FORMAT)
    assert {"torch", "transformers", "numpy", "python", "device", "machine"} <= told["made_with"].keys()
