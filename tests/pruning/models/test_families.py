"""Every family, on its tiny checkpoint, against the model library's own path and against loops by hand."""

import threading
from pathlib import Path

import pytest
import torch

from pruning.models import VLM, ConversationCache, Encoded, Sample, Turn
from pruning.tokens import Selection
from tests.helpers import library

QUESTION, OTHER = "What color is the star?", "how many red"
ONE, TWO = [(150, 90)], [(70, 100), (64, 40)]
SIZES = [[(300, 90)], [(60, 200)], [(7, 9)], [(64, 64)], TWO]
NAMES = ["wide", "tall", "tiny", "square", "two"]


def some(encoded: Encoded, share: float = 0.25, seed: int = 0) -> torch.Tensor:
    """A random share of the tokens, unsorted."""
    order = torch.randperm(encoded.tokens.n, generator=torch.Generator().manual_seed(seed))
    return order[: max(1, round(encoded.tokens.n * share))]


def by_hand(vlm: VLM, images, encoded: Encoded, kept: torch.Tensor, answer, rows=None) -> torch.Tensor:
    given = library.inputs(vlm, images, QUESTION)
    total = int((given["input_ids"] == vlm.config.image_token_id).sum())
    left = library.stays(encoded.places, encoded.tokens.n, total, kept)
    return library.cache_free(vlm, given, left, answer, rows)


# Generation


@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_all_tokens_answer_as_the_library_does(any_vlm: VLM, pictures, sizes) -> None:
    images = pictures(sizes)
    encoded, given = any_vlm.encode(images), library.inputs(any_vlm, images, QUESTION)
    prompt = any_vlm.prompt(encoded, QUESTION)
    assert prompt.input_ids.tolist() == given["input_ids"].tolist()
    assert prompt.positions.reshape(-1, prompt.n).tolist() == library.positions(any_vlm, given).tolist()
    answer = any_vlm.answer(encoded, QUESTION, max_new_tokens=8)
    assert list(answer.ids) == library.generate(any_vlm, images, QUESTION, 8)


@pytest.mark.parametrize("sizes", [ONE, TWO], ids=["one", "two"])
def test_a_quarter_of_the_tokens_equals_a_loop_without_a_cache(vlm: VLM, pictures, sizes) -> None:
    images = pictures(sizes)
    encoded = vlm.encode(images)
    kept = some(encoded)
    answer = vlm.answer(encoded, QUESTION, kept, max_new_tokens=5)
    expected = by_hand(vlm, images, encoded, kept, answer.ids)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    (forced,) = vlm.logprobs(encoded, QUESTION, answer.ids, [kept])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    marks = 0 if encoded.marks is None else len(encoded.marks)
    assert answer.prefill_tokens == vlm.prompt(encoded, QUESTION).n - encoded.tokens.n + len(kept)
    assert len(encoded.rows(kept).features) == len(kept) + marks


def test_merged_rows_reach_the_language_model(vlm: VLM, pictures) -> None:
    images = pictures(ONE)
    encoded = vlm.encode(images)
    n, order = encoded.tokens.n, some(encoded, 0.2)
    target = torch.full((n,), -1)
    target[order] = order
    rows = torch.randn(len(order), encoded.tokens.features.shape[1], generator=torch.Generator().manual_seed(1))
    merged = Selection(order, n, merge_into=target, rows=rows)
    answer = vlm.answer(encoded, QUESTION, merged, max_new_tokens=4)
    everything = encoded.rows(merged).features
    expected = by_hand(vlm, images, encoded, order, answer.ids, everything)
    (found,) = vlm.logprobs(encoded, QUESTION, answer.ids, [merged])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    found_rows = {tuple(row) for row in everything.tolist()}
    assert all(tuple(row) in found_rows for row in rows.tolist())
    (plain,) = vlm.logprobs(encoded, QUESTION, answer.ids, [order])
    assert float((plain - found).abs().max()) > 0.01


def test_decoding_goes_on_from_the_last_original_position(vlm: VLM, pictures) -> None:
    images = pictures(TWO)
    encoded, given = vlm.encode(images), library.inputs(vlm, images, QUESTION)
    kept, original, seen = torch.tensor([0, 2]), library.positions(vlm, given), []

    def note(_module, _args, named) -> None:
        seen.append(named["position_ids"].reshape(len(original), -1).clone())

    handle = vlm.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        ids = vlm.answer(encoded, QUESTION, kept, max_new_tokens=4).ids
    finally:
        handle.remove()
    left = given["input_ids"][0] != vlm.config.image_token_id
    rows = library.stays(encoded.places, encoded.tokens.n, int((~left).sum()), kept)
    left[(~left).nonzero()[:, 0][rows]] = True
    assert seen[0].tolist() == original[:, left].tolist()
    last = int(original.max())
    assert [step.unique().tolist() for step in seen[1:]] == [[last + i] for i in range(1, len(ids))]


def test_two_interleaved_answers_do_not_mix(vlm: VLM, pictures) -> None:
    cases = [(vlm.encode(pictures(ONE)), QUESTION), (vlm.encode(pictures(TWO)), OTHER)]
    alone = [vlm.answer(encoded, asked, some(encoded), max_new_tokens=5).ids for encoded, asked in cases]
    streams = [vlm.generate(encoded, asked, some(encoded), max_new_tokens=5) for encoded, asked in cases]
    mixed: list[list[int]] = [[], []]
    for _ in range(5):
        library.generate(vlm, pictures([(64, 64)]), "digit", 2)  # a third one leaves its state on the model
        for stream, ids in zip(streams, mixed, strict=True):
            ids += [chunk.token_id for chunk in [next(stream, None)] if chunk is not None]
    assert mixed == [list(ids) for ids in alone]


def test_log_probabilities_are_those_of_the_answer(vlm: VLM, pictures) -> None:
    encoded = vlm.encode(pictures(ONE))
    selections = [None, some(encoded), some(encoded, 0.5), some(encoded, seed=1)]
    answers = [vlm.answer(encoded, QUESTION, kept, max_new_tokens=4) for kept in selections]
    for answer in answers:
        together = vlm.logprobs(encoded, QUESTION, answer.ids, selections)
        own = together[answers.index(answer)]
        assert own.argmax(-1).tolist() == list(answer.ids)
        assert own.shape == (len(answer.ids), vlm.config.get_text_config().vocab_size)
        torch.testing.assert_close(own.exp().sum(-1), torch.ones(len(own)))
        for kept, values in zip(selections, together, strict=True):
            (alone,) = vlm.logprobs(encoded, QUESTION, answer.ids, [kept])
            torch.testing.assert_close(values, alone, rtol=1e-4, atol=1e-4)


def test_a_batch_of_different_samples_equals_one_by_one(vlm: VLM, pictures) -> None:
    first, second = vlm.encode(pictures(ONE)), vlm.encode(pictures(TWO))
    samples = [
        Sample(first, QUESTION, some(first)),
        Sample(second, "is there a red circle left of the blue ring in it ?", some(second, 0.6)),
        Sample(first, OTHER, None),
        Sample(second, OTHER, some(second, 0.1), [Turn(QUESTION, "red")]),
    ]
    together = vlm.answer_batch(samples, max_new_tokens=6)
    for sample, answer in zip(samples, together, strict=True):
        alone = vlm.answer(sample.encoded, sample.question, sample.kept, history=sample.history, max_new_tokens=6)
        assert answer.ids == alone.ids
        assert (answer.prefill_tokens, answer.finished) == (alone.prefill_tokens, alone.finished)
    assert len({answer.prefill_tokens for answer in together}) == len(samples)
    said = [[*answer.ids[: 1 + place], 5, 6] for place, answer in enumerate(together)]  # of other lengths
    for sample, ids, values in zip(samples, said, vlm.logprobs_batch(samples, said), strict=True):
        (own,) = vlm.logprobs(sample.encoded, sample.question, ids, [sample.kept], sample.history)
        torch.testing.assert_close(values, own, rtol=1e-4, atol=1e-4)


# Turns


@pytest.fixture
def fed(vlm: VLM):
    """Lengths of the sequences that went through the model so far."""
    lengths: list[int] = []
    handle = vlm.model.register_forward_pre_hook(
        lambda _module, _args, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    yield lengths
    handle.remove()


def test_a_second_turn_computes_only_what_is_new(vlm: VLM, pictures, fed: list[int]) -> None:
    images, memory = pictures(ONE), ConversationCache()
    encoded = vlm.encode(images)
    kept = some(encoded)
    first = vlm.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=4)
    assert memory.nbytes > 0
    history = [Turn(QUESTION, first.text)]
    fresh = vlm.answer(encoded, OTHER, kept, history=history, max_new_tokens=6)
    held = vlm.prompt(encoded, QUESTION).keep(kept.sort().values)
    whole = vlm.prompt(encoded, OTHER, history).keep(kept.sort().values)
    fed.clear()
    second = vlm.answer(encoded, OTHER, kept, history=history, memory=memory, max_new_tokens=6)
    assert second.ids == fresh.ids
    known = [*held.input_ids[0].tolist(), *first.ids[:-1]]
    common = next(
        (i for i, (a, b) in enumerate(zip(known, whole.input_ids[0].tolist(), strict=False)) if a != b), len(known)
    )
    if vlm.config.model_type == "gemma3" and common < len(known):
        common = 0  # its windows have let go of what came before
    assert fed[0] == whole.n - common
    assert fed[1:] == [1] * (len(second.ids) - 1)
    if vlm.config.model_type != "gemma3":
        assert fed[0] < whole.n - len(kept)
    everything = vlm.answer(encoded, OTHER, history=history, max_new_tokens=6)
    assert list(everything.ids) == library.generate(vlm, images, OTHER, 6, history)


@pytest.mark.parametrize("changed", ["selection", "picture", "merged"])
def test_other_visual_rows_reuse_nothing(vlm: VLM, noise, fed: list[int], changed: str) -> None:
    encoded, memory = vlm.encode([noise(150, 90)]), ConversationCache()
    kept = some(encoded)
    vlm.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=2)
    if changed == "selection":
        kept = some(encoded, seed=1)
    elif changed == "picture":
        encoded = vlm.encode([noise(150, 90, seed=7)])
    else:
        absorbed = torch.full((encoded.tokens.n,), -1)
        absorbed[kept] = kept
        kept = Selection(kept, encoded.tokens.n, merge_into=absorbed, rows=encoded.tokens.features[kept] * 2)
    fresh = vlm.answer(encoded, QUESTION, kept, max_new_tokens=4)
    fed.clear()
    answer = vlm.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=4)
    assert answer.ids == fresh.ids
    assert fed[0] == answer.prefill_tokens


# What leaves no trace


def test_an_exception_leaves_the_model_as_it_was(vlm: VLM, pictures, monkeypatch) -> None:
    encoded, memory = vlm.encode(pictures(ONE)), ConversationCache()
    kept, needs = some(encoded), frozenset({"vision_attention@-1", "pre_projector"})
    expected = vlm.answer(encoded, QUESTION, kept, max_new_tokens=5)
    vlm.encode(pictures(ONE), needs)

    def state() -> object:
        modules = list(vlm.model.named_modules())
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for _, m in modules]
        return {name: set(vars(m)) for name, m in modules}, hooks, vlm.config.to_dict()

    before, calls = state(), 0
    language = getattr(vlm.model.model, "language_model", None) or vlm.model.model.text_model
    layer = type(language.layers[-1])
    plain = layer.forward

    def broken(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > 2 * len(language.layers):  # in the third step
            raise RuntimeError("out of memory")
        return plain(self, *args, **kwargs)

    def no_tower(*args: object, **kwargs: object) -> None:
        raise RuntimeError("tower broke")

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            vlm.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=5)
    with monkeypatch.context() as patch:
        patch.setattr(vlm.family.projector, "forward", no_tower)
        with pytest.raises(RuntimeError, match="tower broke"):
            vlm.encode(pictures(ONE), needs)
    assert state() == before
    for held in (memory, None):
        again = vlm.answer(encoded, QUESTION, kept, memory=held, max_new_tokens=5)
        assert again.ids == expected.ids


def test_without_signals_no_hook_is_set_and_attention_stays_as_it_is(vlm: VLM, pictures, monkeypatch) -> None:
    images = pictures(ONE)
    vlm.encode(images)  # the library sets hooks of its own, once

    def set_hook(*args: object, **kwargs: object) -> None:
        raise AssertionError("hook")

    monkeypatch.setattr(torch.nn.Module, "register_forward_pre_hook", set_hook)
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", set_hook)
    encoded = vlm.encode(images)
    kept = None if vlm.windowed else some(encoded)  # hooks keep windows in place
    assert vlm.answer(encoded, QUESTION, kept, max_new_tokens=2).ids
    assert not encoded.tokens.signals
    kernels = {module.config._attn_implementation for module in vlm.model.modules() if hasattr(module, "config")}
    assert kernels == {"sdpa"}


# Questions that cannot be asked


def test_marks_of_the_model_are_refused_in_a_question(vlm: VLM, pictures) -> None:
    encoded = vlm.encode(pictures(ONE))
    placeholder = vlm.tokenizer.convert_ids_to_tokens(vlm.config.image_token_id)
    for mark in {placeholder, vlm.family.processing.placeholder, vlm.tokenizer.eos_token}:
        with pytest.raises(ValueError, match="control token"):
            vlm.generate(encoded, f"what {mark} is it")
        with pytest.raises(ValueError, match="control token"):
            vlm.generate(encoded, "what", history=[Turn("how", f"so {mark}")])


def test_what_the_context_cannot_hold_is_refused(vlm: VLM, pictures) -> None:
    encoded, cancel = vlm.encode(pictures(ONE)), threading.Event()
    with pytest.raises(ValueError, match=r"holds \d+. Shorten the question"):
        vlm.generate(encoded, "star " * 3000, cancel=cancel)
    with pytest.raises(ValueError, match="Shorten the question"):
        vlm.generate(encoded, "what", max_new_tokens=3000)


def test_checkpoints_are_tiny(any_vlm: VLM) -> None:
    files = [file for file in Path(any_vlm.model_id).rglob("*") if file.is_file()]
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= {f.name for f in files}
    assert sum(file.stat().st_size for file in files) < 1_000_000
