"""Tokens that leave between layers, in every family, against the library's own path and a loop by hand that masks."""

import threading
from dataclasses import replace

import pytest
import torch

from pruning.choosing import needs_of
from pruning.method import make
from pruning.methods.fastv import FastV
from pruning.models import VLM, ConversationCache, Encoded, ModelError, Sample, Turn, batches, load
from pruning.models.language import generation
from pruning.plan import Cut, Entry, Plan, parse_plan, plan_of
from pruning.seen import Choice, Seen
from pruning.staged import STAGED, make_staged
from pruning.tokens import Selection
from tests.checkpoints.qwen3_vl import tiny_qwen3_5
from tests.helpers import library
from tests.helpers.modules import equipped

QUESTION, OTHER = "What color is the star?", "how many red"
ONE, TWO = [(150, 90)], [(70, 100), (64, 40)]
SELECTING = ("fastv", "pyramiddrop", "dart", "adaptinfer", "transprune", "random_inner", "spatten", "aim_inner")


def depth(vlm: VLM) -> int:
    return len(vlm.model.get_decoder().layers)


def everywhere(vlm: VLM, rule: str, keep: float, first: int = 1, **knobs: object) -> Plan:
    """A cut before every layer from `first` on."""
    return Plan(tuple(Cut(i, make_staged(rule, **knobs), keep) for i in range(first, depth(vlm))))


def everything(encoded: Encoded) -> Selection:
    """All tokens, with scores as a method before the language model gives them."""
    n = encoded.tokens.n
    return Selection(torch.arange(n), n, encoded.tokens.features.norm(dim=1))


def by_hand(
    vlm: VLM, images, encoded: Encoded, lives: torch.Tensor, answer, question=QUESTION, history=(), evicted=False,
    renumbered=False,
):  # fmt: skip
    given = library.inputs(vlm, images, question, history)
    image = given["input_ids"][0] == vlm.config.image_token_id
    rows = torch.full((int(image.sum()),), depth(vlm))  # what is no token stays in every layer
    rows[torch.arange(encoded.tokens.n) if encoded.places is None else encoded.places] = lives
    numbers = []
    for i in range(depth(vlm)):
        left = (~image).masked_scatter(image, rows > i)
        numbers.append(torch.zeros_like(library.positions(vlm, given)))
        numbers[i][:, left] = library.renumbered(vlm, given, rows > i)
    return library.staged(vlm, given, rows, answer, evicted, numbers if renumbered else None)


def hooks(vlm: VLM) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in vlm.model.modules()]


# The mechanism


@pytest.mark.parametrize("sizes", [ONE, TWO], ids=["one", "two"])
def test_cuts_that_keep_everything_answer_as_the_library_does(any_vlm: VLM, pictures, sizes) -> None:
    images = pictures(sizes)
    encoded = any_vlm.encode(images)
    expected = library.generate(any_vlm, images, QUESTION, 6)
    for plan in (everywhere(any_vlm, "random_inner", 1.0, 0), everywhere(any_vlm, "fastv", 1.0), Plan()):
        answer = any_vlm.answer(encoded, QUESTION, plan, max_new_tokens=6)
        assert list(answer.ids) == expected
        assert answer.trace.alive == (encoded.tokens.n,) * depth(any_vlm)


def test_what_leaves_before_the_first_layer_never_entered(vlm: VLM, pictures) -> None:
    images = pictures(TWO)
    encoded = vlm.encode(images)
    budget = encoded.tokens.n // 3
    plan = Plan((Cut(0, make_staged("random_inner"), budget),))
    answer = vlm.answer(encoded, QUESTION, plan, max_new_tokens=5)
    kept = (answer.trace.lives > 0).nonzero()[:, 0]
    assert len(kept) == budget
    (staged,) = vlm.logprobs(encoded, QUESTION, answer.ids, [plan])
    expected = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids)
    torch.testing.assert_close(staged, expected, rtol=1e-4, atol=1e-4)
    (one_shot,) = vlm.logprobs(encoded, QUESTION, answer.ids, [kept])
    torch.testing.assert_close(staged, one_shot, rtol=1e-5, atol=1e-5)
    alone = vlm.answer(encoded, QUESTION, kept, max_new_tokens=5)
    assert (alone.ids, alone.trace) == (answer.ids, None)


@pytest.mark.parametrize("rule", SELECTING)
def test_a_plan_equals_a_loop_that_masks_what_left(vlm: VLM, pictures, rule: str) -> None:
    images = pictures(TWO)
    encoded, plan = vlm.encode(images), everywhere(vlm, rule, 0.4)
    answer = vlm.answer(encoded, QUESTION, plan, max_new_tokens=4)
    trace, n, layers = answer.trace, encoded.tokens.n, depth(vlm)
    assert trace.alive == plan.alive(n, layers) == tuple(int((trace.lives > i).sum()) for i in range(layers))
    expected = by_hand(vlm, images, encoded, trace.lives, answer.ids)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [plan])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    (whole,) = vlm.logprobs(encoded, QUESTION, answer.ids, [None])
    assert float((whole - forced).abs().max()) > 1e-3


@pytest.mark.parametrize("rule", ["pyramiddrop", "transprune", "adaptinfer"])
def test_what_stays_is_numbered_anew_where_a_release_does_so(vlm: VLM, pictures, rule: str) -> None:
    images, memory = pictures(TWO), ConversationCache()
    encoded, plan = vlm.encode(images), everywhere(vlm, rule, 0.4, variant="code")
    answer = vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=4)
    anew = rule != "adaptinfer" or not hasattr(vlm.model.model, "get_rope_index")
    expected = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids, renumbered=anew)
    (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [plan])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    kept = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids)
    assert (float((kept - forced).abs().max()) > 1e-4) == anew
    history = [Turn(QUESTION, answer.text)]
    second = vlm.answer(encoded, OTHER, plan, history=history, memory=memory, max_new_tokens=4)
    expected = by_hand(vlm, images, encoded, second.trace.lives, second.ids, OTHER, history, renumbered=anew)
    assert expected.argmax(-1).tolist() == list(second.ids)


def test_a_plan_goes_on_from_what_a_method_let_in(vlm: VLM, pictures) -> None:
    images = pictures(ONE)
    encoded, rule = vlm.encode(images), make_staged("random_inner", seed=3)
    plan = Plan((Cut(1, rule, 0.5),), Entry(make("uniform"), 0.5))
    answer = vlm.answer(encoded, QUESTION, plan, max_new_tokens=4)
    entered = make("uniform").select(encoded.tokens, plan.on(encoded.tokens).entering.k)
    assert torch.equal((answer.trace.lives > 0), entered.mask)
    expected = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids)
    (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [plan])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    (alone,) = vlm.answer_batch([Sample(encoded, QUESTION, plan)], max_new_tokens=4)
    assert alone.ids == answer.ids


def test_every_layer_holds_keys_of_what_it_processed(vlm: VLM, pictures) -> None:
    encoded, memory = vlm.encode(pictures(ONE)), ConversationCache()
    plan = everywhere(vlm, "fastv", 0.5)
    answer = vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=3)
    gone = [encoded.tokens.n - alive for alive in answer.trace.alive]
    text = answer.prefill_tokens - encoded.tokens.n
    lengths = [layer.get_seq_length() for layer in memory.cache.layers]
    assert lengths == [answer.prefill_tokens - left + len(answer.ids) - 1 for left in gone]
    assert lengths[-1] < lengths[0]
    assert min(lengths) > text
    plain = ConversationCache()
    vlm.answer(encoded, QUESTION, memory=plain, max_new_tokens=3)
    if vlm.config.model_type != "gemma3":  # whose windows are full either way
        assert memory.nbytes < plain.nbytes


def test_early_layers_can_forget_what_late_ones_dropped(vlm: VLM, pictures) -> None:
    images, memory = pictures(TWO), ConversationCache()
    encoded = vlm.encode(images)
    plan = replace(everywhere(vlm, "pyramiddrop", 0.4), evict_early=True)
    if vlm.config.model_type == "gemma3":
        with pytest.raises(ModelError, match="leave out 'evict'"):
            vlm.answer(encoded, QUESTION, plan)
        return
    answer = vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=4)
    expected = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids, evicted=True)
    (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [plan])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    gone = encoded.tokens.n - answer.trace.alive[-1]
    lengths = {layer.get_seq_length() for layer in memory.cache.layers}
    assert lengths == {answer.prefill_tokens - gone + len(answer.ids) - 1}
    (without,) = vlm.logprobs(encoded, QUESTION, answer.ids, [replace(plan, evict_early=False)])
    torch.testing.assert_close(forced[0], without[0])  # the prompt itself has seen everything
    assert float((forced - without).abs().max()) > 1e-4


def test_a_second_turn_goes_on_with_what_stayed(vlm: VLM, pictures) -> None:
    images, memory = pictures(TWO), ConversationCache()
    encoded, plan = vlm.encode(images), everywhere(vlm, "fastv", 0.4)
    first = vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=4)
    history = [Turn(QUESTION, first.text)]
    second = vlm.answer(encoded, OTHER, plan, history=history, memory=memory, max_new_tokens=5)
    if vlm.config.model_type != "gemma3":  # whose windows have let go of the pictures: chosen anew
        assert torch.equal(second.trace.lives, first.trace.lives)
    expected = by_hand(vlm, images, encoded, second.trace.lives, second.ids, OTHER, history)
    assert expected.argmax(-1).tolist() == list(second.ids)
    other = everywhere(vlm, "random_inner", 0.4)
    fresh = vlm.answer(encoded, OTHER, other, history=history, max_new_tokens=5)
    again = vlm.answer(encoded, OTHER, other, history=history, memory=memory, max_new_tokens=5)
    assert again.ids == fresh.ids, "another plan reuses nothing"


def test_rows_beside_the_kernel_are_those_of_the_library(any_vlm: VLM, pictures) -> None:
    eager = load(any_vlm.model_id, attention="eager")
    encoded, found = eager.encode(pictures(TWO)), []
    layer = eager.model.get_decoder().layers[-2]
    handle = layer.self_attn.register_forward_hook(lambda _module, _args, result: found.append(result[1]))
    try:
        plan = Plan((Cut(depth(eager) - 1, make_staged("fastv"), 0.5),))
        answer = eager.answer(encoded, QUESTION, plan, max_new_tokens=4)
    finally:
        handle.remove()
    visual = eager.prompt(encoded, QUESTION).visual
    ((after, scores),) = answer.trace.scores
    assert after == depth(eager) - 1
    torch.testing.assert_close(scores, found[0][0, :, -1].mean(0)[visual], rtol=1e-4, atol=1e-6)
    assert answer.ids == any_vlm.answer(encoded, QUESTION, plan, max_new_tokens=4).ids


@pytest.mark.parametrize("rule", sorted(STAGED))
def test_few_tokens_and_half_precision_are_served(tiny, pictures, rule: str) -> None:
    vlm = equipped(tiny("gemma3"))
    method = make_staged(rule)
    encoded = vlm.encode(pictures(ONE if method.images == 1 else TWO))
    last = Plan((Cut(depth(vlm) - 1, method, 0 if method.all_or_none else 1),), entering=everything(encoded))
    left = vlm.answer(encoded, QUESTION, last, max_new_tokens=2).trace.alive
    assert left[:2] == (encoded.tokens.n,) * 2
    assert left[2] in ((0, encoded.tokens.n) if method.all_or_none else (1,))
    alone = replace(last, entering=Selection(torch.tensor([2]), encoded.tokens.n, torch.ones(encoded.tokens.n)))
    assert vlm.answer(encoded, QUESTION, alone, max_new_tokens=2).trace.alive[:2] == (1, 1)
    if method.all_or_none:
        return
    half = equipped(load(vlm.model_id, dtype="bfloat16"))
    plan = replace(everywhere(half, rule, 0.5, max(1, method.earliest)), entering=everything(encoded))
    answer = half.answer(encoded, QUESTION, plan, max_new_tokens=3)
    assert answer.trace.alive == plan.alive(encoded.tokens.n, 3)
    assert answer.trace.alive[-1] <= encoded.tokens.n // 2


def test_every_row_of_the_map_is_the_library_s(any_vlm: VLM, pictures) -> None:
    """Those of pictures too, whose tokens see each other both ways in some families."""
    eager = load(any_vlm.model_id, attention="eager")
    encoded, maps, read = eager.encode(pictures(TWO)), [], []
    layers = eager.model.get_decoder().layers
    handles = [
        layer.self_attn.register_forward_hook(lambda _module, _args, result: maps.append(result[1][0]))
        for layer in layers[:-1]
    ]

    class Reads(type(make_staged("aim_inner"))):
        needs = frozenset({"attention", "received"})

        def pick(self, seen: Seen, k: int) -> Choice:
            read.append((seen.signals["attention"](torch.arange(len(seen.rows))), seen.signals["received"]))
            return Choice(torch.arange(k))

    for vlm in (eager, any_vlm):
        cut = Plan((Cut(depth(vlm) - 1, Reads(), 0.5),))
        vlm.logprobs(encoded, QUESTION, [1], [cut])
    for handle in handles:
        handle.remove()
    for rows, received in read:
        torch.testing.assert_close(rows, maps[-1], rtol=1e-4, atol=1e-6)
        for layer, library_map in zip(received, maps, strict=True):
            torch.testing.assert_close(layer.values, library_map.sum((0, 1)), rtol=1e-4, atol=1e-5)


def test_all_tokens_can_leave(vlm: VLM, pictures) -> None:
    images = pictures(TWO)
    encoded, last = vlm.encode(images), depth(vlm) - 1
    for cut in (Cut(last, make_staged("aim_inner"), 0), Cut(last, make_staged("todre_inner", threshold=1.0), 0)):
        answer = vlm.answer(encoded, QUESTION, Plan((cut,)), max_new_tokens=4)
        assert answer.trace.alive == (*(encoded.tokens.n,) * last, 0)
        expected = by_hand(vlm, images, encoded, answer.trace.lives, answer.ids)
        (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [Plan((cut,))])
        torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    stays = Plan((Cut(last, make_staged("todre_inner", threshold=0.0), 0),))
    answer = vlm.answer(encoded, QUESTION, stays, max_new_tokens=4)
    assert answer.trace.alive == (encoded.tokens.n,) * depth(vlm)
    assert answer.ids == vlm.answer(encoded, QUESTION, max_new_tokens=4).ids


@pytest.mark.parametrize("rule", ["aim_inner", "todre_inner", "vflowopt_inner"])
def test_a_method_of_two_halves_answers(tiny, pictures, rule: str) -> None:
    vlm, method = tiny("qwen3-vl"), make_staged(rule)
    needs = needs_of(method)
    encoded = vlm.encode(pictures(TWO), needs)
    plan = plan_of(method, encoded.tokens.n, depth(vlm), 0.3)
    answer = vlm.answer(encoded, QUESTION, plan, max_new_tokens=3)
    entered = make(method.first).select(encoded.tokens, plan.entry.keep)
    assert torch.equal(answer.trace.lives > 0, entered.mask)
    if rule == "vflowopt_inner":
        order = sorted(entered.indices.tolist(), key=lambda i: -float(entered.scores[i]))
        counts = [cut.keep for cut in plan.cuts]
        assert [set(order[:count]) for count in counts] == [
            set((answer.trace.lives > cut.after).nonzero()[:, 0].tolist()) for cut in plan.cuts
        ]
    with pytest.raises(ValueError, match="signal 'entry_scores' is missing after layer 1"):
        vlm.answer(encoded, QUESTION, parse_plan("1:vflowopt_inner:0.5"), max_new_tokens=1)


# Batches


def many_plans(vlm: VLM) -> list[Plan]:
    """Plans that leave tokens of different number in different layers."""
    last = depth(vlm) - 1
    return [
        everywhere(vlm, "fastv", 0.4),
        Plan((Cut(0, make_staged("random_inner"), 0.3),)),
        everywhere(vlm, "transprune", 0.7),
        Plan((Cut(last, make_staged("pyramiddrop"), 1),)),
        Plan(),
        everywhere(vlm, "sparsevlm", 0.5),
        everywhere(vlm, "dart", 0.5),
        everywhere(vlm, "pyramiddrop", 0.6, variant="code"),
    ]


@pytest.mark.parametrize("attention", ["auto", "eager"])
def test_plans_in_one_batch_are_those_by_themselves(any_vlm: VLM, pictures, monkeypatch, attention: str) -> None:
    vlm = any_vlm if attention == "auto" else load(any_vlm.model_id, attention=attention)
    encoded, plans, sizes = vlm.encode(pictures(TWO)), many_plans(vlm), list[int]()
    if vlm.config.model_type != "gemma3":
        plans.append(replace(plans[0], evict_early=True))
    ids = (*vlm.answer(encoded, QUESTION, max_new_tokens=3).ids, 7, 9)
    alone = [vlm.logprobs(encoded, QUESTION, ids, [plan])[0] for plan in plans]
    run = generation.forced_logprobs
    monkeypatch.setattr(generation, "forced_logprobs", lambda *given: sizes.append(len(given[1])) or run(*given))
    together = vlm.logprobs(encoded, QUESTION, ids, [*plans, None])
    assert 1 < len(sizes) < len(plans) + 1, "alike ones go together"
    monkeypatch.setattr(batches, "PADDING", 99)
    padded = vlm.logprobs(encoded, QUESTION, ids, plans)
    assert sizes[-1] == len(plans)
    for one, few, many in zip(alone, together, padded, strict=False):
        torch.testing.assert_close(one, few, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-4)
    assert float((alone[0] - alone[4]).abs().max()) > 1e-3


@pytest.mark.parametrize("attention", ["auto", "eager"])
def test_questions_and_pictures_with_plans_are_answered_in_one_padded_batch(
    any_vlm: VLM, pictures, monkeypatch, attention: str
) -> None:
    vlm = any_vlm if attention == "auto" else load(any_vlm.model_id, attention=attention)
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", -1)
    one, two = vlm.encode(pictures(ONE)), vlm.encode(pictures(TWO))
    plans, history = many_plans(vlm), [Turn(OTHER, "two")]
    samples = [
        Sample(two, QUESTION, plans[0]),
        Sample(one, OTHER, plans[1]),
        Sample(one, QUESTION, plans[2], history),
        Sample(two, OTHER, make("uniform").select(two.tokens, 5)),
        Sample(one, OTHER, plans[3]),
        Sample(one, OTHER),
        Sample(two, OTHER, replace(plans[5], entering=make("uniform").select(two.tokens, 6))),
    ]
    before = hooks(vlm)
    together = vlm.answer_batch(samples, max_new_tokens=5)
    for sample, answer in zip(samples, together, strict=True):
        alone = vlm.answer(sample.encoded, sample.question, sample.kept, history=sample.history, max_new_tokens=5)
        assert (answer.ids, answer.prefill_tokens) == (alone.ids, alone.prefill_tokens)
        if isinstance(sample.kept, Plan):
            assert torch.equal(answer.trace.lives, alone.trace.lives)
    assert hooks(vlm) == before


def test_a_padded_batch_equals_a_loop_that_masks(vlm: VLM, pictures) -> None:
    images = [pictures(ONE), pictures(TWO)]
    samples = [Sample(vlm.encode(each), QUESTION, everywhere(vlm, "fastv", 0.4)) for each in images]
    for each, sample, answer in zip(images, samples, vlm.answer_batch(samples, max_new_tokens=4), strict=True):
        expected = by_hand(vlm, each, sample.encoded, answer.trace.lives, answer.ids)
        assert expected.argmax(-1).tolist() == list(answer.ids)


def test_hybrid_layers_take_padded_batches_of_plans(tmp_path, pictures, monkeypatch) -> None:
    vlm = load(tiny_qwen3_5(tmp_path / "tiny-qwen3.5"))
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", -1)
    plans = [everywhere(vlm, "random_inner", 0.5), parse_plan("2:fastv:0.2")]
    samples = [Sample(vlm.encode(pictures(size)), QUESTION, plan) for size, plan in zip((ONE, TWO), plans, strict=True)]
    together = vlm.answer_batch(samples, max_new_tokens=4)
    assert [each.ids for each in together] == [
        vlm.answer(sample.encoded, QUESTION, sample.kept, max_new_tokens=4).ids for sample in samples
    ]


def test_stop_and_exceptions_in_a_batch_leave_nothing(tiny_vlm: VLM, pictures, monkeypatch) -> None:
    encoded, cancel = tiny_vlm.encode(pictures(ONE)), threading.Event()
    layer, before = tiny_vlm.model.get_decoder().layers[0], hooks(tiny_vlm)
    samples = [Sample(encoded, question, everywhere(tiny_vlm, "fastv", 0.5)) for question in (QUESTION, OTHER)]
    plain = layer.forward
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", lambda *args, **named: cancel.set() or plain(*args, **named))
        answers = tiny_vlm.answer_batch(samples, cancel=cancel)
    assert [(answer.ids, answer.cancelled) for answer in answers] == [((), True)] * 2
    with monkeypatch.context() as patch:
        patch.setattr(FastV, "score", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory at a cut")))
        with pytest.raises(RuntimeError, match="out of memory at a cut"):
            tiny_vlm.answer_batch(samples)
    assert hooks(tiny_vlm) == before
    assert all(answer.ids for answer in tiny_vlm.answer_batch(samples, max_new_tokens=2))


def test_batches_waste_no_more_than_a_quarter() -> None:
    alive = [(10, 10), (10, 2), (10, 9), (10, 1), (10, 10)]
    assert batches.alike_batches(alive, 9) == [[3, 1], [2, 0, 4]]
    assert batches.alike_batches(alive, 2) == [[3, 1], [2, 0], [4]]
    assert batches.alike_batches([], 2) == []


# What leaves no trace


@pytest.mark.parametrize("rule", ["fastv", "transprune"])
def test_an_exception_in_mid_stack_leaves_nothing(vlm: VLM, pictures, monkeypatch, rule: str) -> None:
    encoded, memory, plan = vlm.encode(pictures(ONE)), ConversationCache(), everywhere(vlm, rule, 0.5)
    expected = vlm.answer(encoded, QUESTION, plan, max_new_tokens=4).ids
    before, last = hooks(vlm), vlm.model.get_decoder().layers[-1]
    left, plain = 0, last.forward

    def broken(*args, **named):
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("out of memory")
        return plain(*args, **named)

    for steps in (0, 1):  # in the prompt, then in decoding, when the layers below hold one more
        left = steps
        with monkeypatch.context() as patch:
            patch.setattr(last, "forward", broken)
            with pytest.raises(RuntimeError, match="out of memory"):
                vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=4)
        assert hooks(vlm) == before
        assert vlm.answer(encoded, QUESTION, plan, memory=memory, max_new_tokens=4).ids == expected


def test_stop_in_mid_stack_ends_without_a_token(tiny_vlm: VLM, pictures, monkeypatch) -> None:
    encoded, cancel, memory = tiny_vlm.encode(pictures(ONE)), threading.Event(), ConversationCache()
    layer, before = tiny_vlm.model.get_decoder().layers[0], hooks(tiny_vlm)
    plain = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *args, **named: cancel.set() or plain(*args, **named))
    answer = tiny_vlm.answer(encoded, QUESTION, everywhere(tiny_vlm, "fastv", 0.5), memory=memory, cancel=cancel)
    assert (answer.ids, answer.cancelled, len(memory)) == ((), True, 0)
    assert hooks(tiny_vlm) == before


def test_threads_with_different_plans_never_meet(tiny, pictures, monkeypatch) -> None:
    vlm = tiny("qwen3-vl")
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", -1)
    encoded = [vlm.encode(pictures(sizes)) for sizes in (ONE, TWO, ONE)]
    plans = [everywhere(vlm, "fastv", 0.5), everywhere(vlm, "transprune", 0.4), None]
    alone = [vlm.answer(e, QUESTION, p, max_new_tokens=4).ids for e, p in zip(encoded, plans, strict=True)]
    wrong, before = list[object](), hooks(vlm)

    def work(i: int) -> None:
        try:
            for _ in range(15):
                ids = vlm.answer(encoded[i], QUESTION, plans[i], max_new_tokens=4).ids
                wrong.extend([] if ids == alone[i] else [(i, ids)])
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert hooks(vlm) == before


# What is refused


def test_broken_numbers_at_a_cut_are_refused(tiny_vlm: VLM, pictures, monkeypatch) -> None:
    encoded, layer = tiny_vlm.encode(pictures(ONE)), tiny_vlm.model.get_decoder().layers[0]
    before, plain = hooks(tiny_vlm), layer.self_attn.k_proj.forward
    monkeypatch.setattr(layer.self_attn.k_proj, "forward", lambda x: plain(x) * torch.nan)
    for rule in sorted(name for name in STAGED if make_staged(name).needs - {"entry_scores"} and name != "catp"):
        cut = Cut(1, make_staged(rule), 0 if make_staged(rule).all_or_none else 0.5)
        with pytest.raises(ModelError, match=rf"The cut '{cut}' gave NaN or infinite numbers"):
            equipped(tiny_vlm).answer(encoded, QUESTION, Plan((cut,)), max_new_tokens=1)
    assert hooks(tiny_vlm) == before


def test_a_rule_whose_module_is_not_there_is_refused_at_once(tiny_vlm: VLM, pictures) -> None:
    with pytest.raises(ValueError, match="no trained module for atp_llava: name its folder with --pruner"):
        tiny_vlm.generate(tiny_vlm.encode(pictures(ONE)), QUESTION, parse_plan("1:atp_llava:0.5"))


def test_its_own_budget_is_told_as_what_it_came_to(tiny_vlm: VLM, pictures) -> None:
    """What passes the thresholds stays, at most as many as the plan has; several prompts each come to their own."""
    vlm, encoded = equipped(tiny_vlm), [tiny_vlm.encode(pictures(size)) for size in (ONE, TWO)]
    plan = Plan((Cut(1, make_staged("atp_llava", budget="own"), 1.0),))
    exact = [vlm.trace(each, QUESTION, Plan((Cut(1, make_staged("atp_llava"), 1.0),))) for each in encoded]
    passing = [int((trace.cuts[0].scores > 0).sum()) for trace in exact]
    assert all(0 < each < trace.alive[0] for each, trace in zip(passing, exact, strict=True))
    answers = vlm.answer_batch([Sample(each, QUESTION, plan) for each in encoded], max_new_tokens=2)
    assert [answer.trace.alive[1] for answer in answers] == passing
    least = Plan((Cut(1, make_staged("atp_llava", budget="own"), 1),))
    assert vlm.trace(encoded[0], QUESTION, least).alive[1] == 1


def test_a_method_for_several_pictures_refuses_one(tiny, pictures) -> None:
    vlm = tiny("gemma3")
    with pytest.raises(ValueError, match="CATP needs at least 2 images, not 1: earlier ones are its examples"):
        vlm.generate(vlm.encode(pictures(ONE)), QUESTION, parse_plan("2:catp:0.5"))
    encoded = vlm.encode(pictures(TWO))
    lives = vlm.answer(encoded, QUESTION, parse_plan("2:catp:0.9"), max_new_tokens=1).trace.lives
    assert set(encoded.tokens.images[lives < 3].tolist()) == {0}, "the last picture stays whole at the first cut"


def test_plans_that_do_not_fit_the_model_are_refused_at_once(tiny_vlm: VLM, pictures) -> None:
    encoded = tiny_vlm.encode(pictures(ONE))
    with pytest.raises(ValueError, match=r"'2:fastv:0\.5' lies beyond the model: it has 2 layers"):
        tiny_vlm.generate(encoded, QUESTION, parse_plan("2:fastv:0.5"))
    with pytest.raises(ValueError, match=r"cannot keep 999 tokens: \d+ are alive there"):
        tiny_vlm.generate(encoded, QUESTION, parse_plan("1:fastv:999"))
    with pytest.raises(ValueError, match="signal 'vision_attention@-1' was not captured: encode the image again"):
        tiny_vlm.generate(encoded, QUESTION, parse_plan("pre:prumerge:0.5,1:fastv:0.5"))


def test_layers_without_attention_let_tokens_leave_and_give_no_rows(tmp_path, pictures) -> None:
    vlm = load(tiny_qwen3_5(tmp_path / "tiny-qwen3.5"))
    encoded = vlm.encode(pictures(ONE))
    answer = vlm.answer(encoded, QUESTION, everywhere(vlm, "random_inner", 0.5), max_new_tokens=4)
    assert answer.trace.alive[0] > answer.trace.alive[1] > answer.trace.alive[2]
    assert vlm.answer(encoded, QUESTION, parse_plan("2:fastv:0.5"), max_new_tokens=2).trace.alive[2] < encoded.tokens.n
    with pytest.raises(ModelError, match="layer 1 of this model does not have"):
        vlm.answer(encoded, QUESTION, parse_plan("1:fastv:0.5"), max_new_tokens=2)


def test_windows_that_a_kernel_counts_itself_are_refused(tiny, pictures, monkeypatch) -> None:
    vlm = tiny("gemma3")
    encoded = vlm.encode(pictures(ONE))
    monkeypatch.setattr(vlm.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(ModelError, match="the kernel flash_attention_2 counts this model's windows"):
        vlm.generate(encoded, QUESTION, parse_plan("1:fastv:0.5"))


def test_nothing_is_numbered_anew_where_no_one_module_turns_positions(tiny_vlm: VLM, pictures, monkeypatch) -> None:
    encoded, knobs = tiny_vlm.encode(pictures(ONE)), {"variant": "code"}
    monkeypatch.delattr(tiny_vlm.model.get_decoder(), "rotary_emb")
    with pytest.raises(ModelError, match="cannot be numbered anew between layers: choose the form 'paper'"):
        tiny_vlm.generate(encoded, QUESTION, everywhere(tiny_vlm, "pyramiddrop", 0.5, **knobs))


def test_families_whose_layers_share_are_refused(tiny_vlm: VLM, pictures, monkeypatch) -> None:
    encoded = tiny_vlm.encode(pictures(ONE))
    monkeypatch.setattr(tiny_vlm.config.get_text_config(), "num_kv_shared_layers", 1, raising=False)
    with pytest.raises(ModelError, match="qwen2_5_vl tokens cannot leave between layers"):
        tiny_vlm.generate(encoded, QUESTION, parse_plan("1:fastv:0.5"))


# Merging


def test_recycled_tokens_change_the_answer_and_keep_the_count(vlm: VLM, pictures) -> None:
    encoded, said = vlm.encode(pictures(TWO)), {}
    ids = vlm.answer(encoded, QUESTION, max_new_tokens=3).ids
    for knobs in ({"edition": "2.0"}, {"variant": "code"}, {"variant": "paper"}):
        plan = everywhere(vlm, "sparsevlm", 0.5, **knobs)
        answer = vlm.answer(encoded, QUESTION, plan, max_new_tokens=3)
        assert answer.trace.alive == plan.alive(encoded.tokens.n, depth(vlm))
        (said[str(knobs)],) = vlm.logprobs(encoded, QUESTION, ids, [plan])
    without, *recycled = said.values()
    assert all(float((values - without).abs().max()) > 1e-4 for values in recycled)
