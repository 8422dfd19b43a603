"""Answers on all tokens equal plain `generate()`; on kept tokens they equal a cache-free loop written apart."""

import threading
from itertools import pairwise

import pytest
import torch

QUESTIONS = ["What color is the star?", "how many", "is there a red circle left of the ring ?"]
SIZES = [(300, 200), (56, 400), (224, 224), (61, 33)]


def plain_generate(vlm, images, question: str, max_new_tokens: int) -> list[int]:
    """The library's own path: pixels in, nothing precomputed, its own positions."""
    inputs = vlm.image_processor(images=images, return_tensors="pt")
    merge = vlm.config.vision_config.spatial_merge_size**2
    counts = iter((inputs["image_grid_thw"].prod(-1) // merge).tolist())
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
    text = vlm.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    pieces = text.split("<|image_pad|>")
    text = pieces[0] + "".join("<|image_pad|>" * next(counts) + piece for piece in pieces[1:])
    ids = torch.tensor([vlm.tokenizer(text, add_special_tokens=False).input_ids])
    out = vlm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == vlm.config.image_token_id).int(),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        **inputs,
    )
    return out[0, ids.shape[1] :].tolist()


def cache_free(vlm, encoded, question: str, kept: list[int], given: list[int]) -> torch.Tensor:
    """(T, V) log-probabilities at each step of `given`: the language model on embeddings, whole sequence every step."""
    prompt = vlm.prompt(encoded, question)
    embed, places = vlm.model.get_input_embeddings(), prompt.visual.tolist()
    kept_places = {places[i]: i for i in sorted(kept)}
    rows, positions = [], []
    for place in range(prompt.n):
        if place in kept_places:
            rows.append(encoded.tokens.features[kept_places[place]])
        elif place not in places:
            rows.append(embed(prompt.input_ids[0, place]))
        else:
            continue
        positions.append(prompt.positions[:, 0, place])
    following = int(prompt.positions.max()) + 1
    steps = []
    for i in range(len(given)):
        output = vlm.model.model.language_model(
            inputs_embeds=torch.stack(rows)[None], position_ids=torch.stack(positions, 1)[:, None], use_cache=False
        )
        steps.append(vlm.model.lm_head(output.last_hidden_state[0, -1]).log_softmax(-1))
        rows.append(embed(torch.tensor(given[i])))
        positions.append(torch.full((3,), following + i))
    return torch.stack(steps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_retention_one_is_plain_generate(any_vlm, noise, size: tuple[int, int], question: str) -> None:
    image = noise(*size)
    encoded = any_vlm.encode([image])
    expected = plain_generate(any_vlm, [image], question, 12)
    assert list(any_vlm.answer(encoded, question, max_new_tokens=12).ids) == expected
    everything = torch.randperm(encoded.tokens.n)
    assert list(any_vlm.answer(encoded, question, everything, max_new_tokens=12).ids) == expected


def test_retention_one_with_two_images(any_vlm, noise) -> None:
    images = [noise(90, 60), noise(60, 150, seed=1)]
    answer = any_vlm.answer(any_vlm.encode(images), QUESTIONS[0], max_new_tokens=10)
    assert list(answer.ids) == plain_generate(any_vlm, images, QUESTIONS[0], 10)


def test_end_tokens_and_repetition_penalty_are_the_checkpoint_s(tiny_vlm, noise, monkeypatch) -> None:
    image, settings = noise(224, 224), tiny_vlm.model.generation_config
    encoded = tiny_vlm.encode([image])
    free = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
    assert not free.finished
    end = free.ids[4]
    with monkeypatch.context() as patch:
        patch.setattr(settings, "eos_token_id", [end, 0])
        stopped = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
        assert list(stopped.ids) == plain_generate(tiny_vlm, [image], QUESTIONS[0], 12)
        assert stopped.finished
        assert stopped.ids[-1] == end
        assert len(stopped.ids) <= 5
    with monkeypatch.context() as patch:
        patch.setattr(settings, "repetition_penalty", 1.7)
        varied = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
        assert list(varied.ids) == plain_generate(tiny_vlm, [image], QUESTIONS[0], 12)
        assert varied.ids != free.ids


@pytest.mark.parametrize("size", SIZES)
def test_pruned_logits_equal_a_cache_free_loop(any_vlm, noise, size: tuple[int, int]) -> None:
    encoded = any_vlm.encode([noise(*size)])
    kept = torch.randperm(encoded.tokens.n)[: max(1, encoded.tokens.n // 4)]
    answer = any_vlm.answer(encoded, QUESTIONS[0], kept, max_new_tokens=8)
    with torch.no_grad():
        expected = cache_free(any_vlm, encoded, QUESTIONS[0], kept.tolist(), list(answer.ids))
    assert expected.argmax(-1).tolist() == list(answer.ids)
    (forced,) = any_vlm.logprobs(encoded, QUESTIONS[0], answer.ids, [kept])
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-4)
    assert answer.prefill_tokens == any_vlm.prompt(encoded, QUESTIONS[0]).n - encoded.tokens.n + len(kept)


def test_logprobs_of_many_selections_are_those_of_each_alone(any_vlm, noise) -> None:
    encoded = any_vlm.encode([noise(224, 168)])
    answer = any_vlm.answer(encoded, "how many", max_new_tokens=5)
    torch.manual_seed(1)
    budgets = [12, 3, 12, 1, 3, 12]
    selections = [None, *(torch.randperm(encoded.tokens.n)[:k] for k in budgets)]
    together = any_vlm.logprobs(encoded, "how many", answer.ids, selections)
    for selection, values in zip(selections, together, strict=True):
        (alone,) = any_vlm.logprobs(encoded, "how many", answer.ids, [selection])
        torch.testing.assert_close(values, alone, rtol=1e-4, atol=1e-4)
        assert values.dtype == torch.float32
        assert values.shape == (5, any_vlm.config.get_text_config().vocab_size)
    assert together[0].argmax(-1).tolist() == list(answer.ids)
    with pytest.raises(ValueError, match="at least one answer token"):
        any_vlm.logprobs(encoded, "how many", [], selections)


def test_logprobs_run_once_per_budget(tiny_vlm, noise, monkeypatch) -> None:
    from pruning.models import generation

    encoded, sizes, plain = tiny_vlm.encode([noise(112, 112)]), [], generation.forced_logprobs

    def counted(model, prompts, *rest):
        sizes.append(len(prompts))
        return plain(model, prompts, *rest)

    monkeypatch.setattr(generation, "forced_logprobs", counted)
    selections = [torch.arange(k) for k in (2, 4, 2, 4, 2)]
    tiny_vlm.logprobs(encoded, "how many", [5, 6], selections)
    assert sorted(sizes) == [2, 3]


def test_two_interleaved_answers_do_not_mix(any_vlm, noise) -> None:
    cases = [([noise(300, 200)], QUESTIONS[0]), ([noise(56, 400, seed=3)], QUESTIONS[2])]
    encoded = [any_vlm.encode(images) for images, _ in cases]
    alone = [list(any_vlm.answer(e, q, max_new_tokens=8).ids) for e, (_, q) in zip(encoded, cases, strict=True)]
    streams = [any_vlm.generate(e, q, max_new_tokens=8) for e, (_, q) in zip(encoded, cases, strict=True)]
    mixed: list[list[int]] = [[], []]
    for _ in range(8):
        plain_generate(any_vlm, [noise(61, 33)], "how many", 1)  # a third user leaves its state on the model
        for stream, ids in zip(streams, mixed, strict=True):
            ids.append(next(stream).token_id)
    assert mixed == alone


def test_stream_tells_text_time_and_end(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    chunks = list(tiny_vlm.generate(encoded, QUESTIONS[0], max_new_tokens=4))
    answer = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=4)
    assert [c.finish for c in chunks] == [None, None, None, "length"]
    assert chunks[-1].text_so_far == answer.text
    assert all(b.text_so_far.startswith(a.text_so_far) for a, b in pairwise(chunks))
    assert 0 < chunks[0].seconds < chunks[-1].seconds
    assert 0 < answer.ttft_s < answer.total_s
    assert not answer.finished
    assert not answer.cancelled


def test_cancel_ends_the_stream_before_the_next_token(tiny_vlm, noise) -> None:
    encoded, cancel = tiny_vlm.encode([noise(112, 112)]), threading.Event()
    stream = tiny_vlm.generate(encoded, QUESTIONS[0], cancel=cancel)
    first = next(stream)
    cancel.set()
    assert list(stream) == []
    assert first.finish is None
    answer = tiny_vlm.answer(encoded, QUESTIONS[0], cancel=cancel)
    assert answer.cancelled
    assert answer.ids == ()
    assert answer.text == ""


def test_gradients_stay_on_for_the_caller(tiny_vlm, noise) -> None:
    for _ in tiny_vlm.generate(tiny_vlm.encode([noise(60, 60)]), "what", max_new_tokens=2):
        assert torch.is_grad_enabled()


def test_an_exception_leaves_the_model_unchanged(any_vlm, noise, monkeypatch) -> None:
    encoded = any_vlm.encode([noise(112, 112)])
    expected = any_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=6)
    state = {name: set(vars(module)) for name, module in any_vlm.model.named_modules()}
    calls = 0
    layer = any_vlm.model.model.language_model.layers[-1]
    plain = type(layer).forward

    def broken(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > 4:  # in the second layer of the third step
            raise RuntimeError("out of memory")
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(layer), "forward", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            any_vlm.answer(encoded, QUESTIONS[0], torch.tensor([1, 2, 3]), max_new_tokens=6)
    assert {name: set(vars(module)) for name, module in any_vlm.model.named_modules()} == state
    assert any_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=6).ids == expected.ids


@pytest.mark.parametrize(
    ("indices", "reason"),
    [
        (torch.tensor([0, 0]), "different numbers"),
        (torch.tensor([-1]), "from 0 to"),
        (torch.tensor([99]), "from 0 to"),
        (torch.tensor([], dtype=torch.int64), "1 to"),
        (torch.tensor([0.5]), "integers"),
        (torch.ones(4, dtype=torch.bool), "integers"),
    ],
)
def test_bad_indices_are_refused_at_once(tiny_vlm, noise, indices: torch.Tensor, reason: str) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    with pytest.raises(ValueError, match=reason):
        tiny_vlm.generate(encoded, "what", indices)


@pytest.mark.parametrize("count", [0, -3, 1.5, True])
def test_bad_lengths_are_refused_at_once(tiny_vlm, noise, count: object) -> None:
    encoded = tiny_vlm.encode([noise(60, 60)])
    with pytest.raises(ValueError, match="max_new_tokens"):
        tiny_vlm.generate(encoded, "what", max_new_tokens=count)


def test_pieces_add_up_to_the_text(any_vlm, noise) -> None:
    encoded = any_vlm.encode([noise(90, 60)])
    answer = any_vlm.answer(encoded, "what color", max_new_tokens=12)
    pieces = any_vlm.pieces(answer.ids)
    assert len(pieces) == len(answer.ids)
    assert "".join(pieces) == answer.text
    assert any_vlm.pieces([]) == []
