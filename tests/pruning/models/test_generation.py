"""Streams, end tokens, log-probabilities, bad arguments; answers of every family are compared elsewhere."""

import threading
import warnings
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from pruning.models import ModelError, Sample
from pruning.models.language import generation
from pruning.models.language.forward import forward
from pruning.models.language.kv_cache import ConversationCache
from tests.helpers import library

QUESTIONS = ["What color is the star?", "how many", "is there a red circle left of the ring ?"]
SIZES = [(300, 200), (56, 400), (224, 224), (61, 33)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_retention_one_is_plain_generate(qwen_vlm, noise, size: tuple[int, int], question: str) -> None:
    image = noise(*size)
    encoded = qwen_vlm.encode([image])
    expected = library.generate(qwen_vlm, [image], question, 12)
    assert list(qwen_vlm.answer(encoded, question, max_new_tokens=12).ids) == expected
    everything = torch.randperm(encoded.tokens.n)
    assert list(qwen_vlm.answer(encoded, question, everything, max_new_tokens=12).ids) == expected


def test_end_tokens_and_repetition_penalty_are_the_checkpoint_s(tiny_vlm, noise, monkeypatch) -> None:
    image, settings = noise(224, 224), tiny_vlm.model.generation_config
    encoded = tiny_vlm.encode([image])
    free = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
    assert not free.finished
    end = free.ids[4]
    with monkeypatch.context() as patch:
        patch.setattr(settings, "eos_token_id", [end, 0])
        stopped = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
        assert list(stopped.ids) == library.generate(tiny_vlm, [image], QUESTIONS[0], 12)
        assert stopped.finished
        assert stopped.ids[-1] == end
        assert len(stopped.ids) <= 5
    with monkeypatch.context() as patch:
        patch.setattr(settings, "repetition_penalty", 1.7)
        varied = tiny_vlm.answer(encoded, QUESTIONS[0], max_new_tokens=12)
        assert list(varied.ids) == library.generate(tiny_vlm, [image], QUESTIONS[0], 12)
        assert varied.ids != free.ids


def test_logprobs_of_many_selections_are_those_of_each_alone(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(224, 168)])
    answer = tiny_vlm.answer(encoded, "how many", max_new_tokens=5)
    torch.manual_seed(1)
    budgets = [12, 3, 12, 1, 3, 12]
    selections = [None, *(torch.randperm(encoded.tokens.n)[:k] for k in budgets)]
    together = tiny_vlm.logprobs(encoded, "how many", answer.ids, selections)
    for selection, values in zip(selections, together, strict=True):
        (alone,) = tiny_vlm.logprobs(encoded, "how many", answer.ids, [selection])
        torch.testing.assert_close(values, alone, rtol=1e-4, atol=1e-4)
        assert values.dtype == torch.float32
        assert values.shape == (5, tiny_vlm.config.get_text_config().vocab_size)
    assert together[0].argmax(-1).tolist() == list(answer.ids)
    with pytest.raises(ValueError, match="at least one answer token"):
        tiny_vlm.logprobs(encoded, "how many", [], selections)


def test_logprobs_run_once_per_budget(tiny_vlm, noise, monkeypatch) -> None:
    encoded, sizes, plain = tiny_vlm.encode([noise(112, 112)]), [], generation.forced_logprobs

    def counted(model, prompts, *rest):
        sizes.append(len(prompts))
        return plain(model, prompts, *rest)

    monkeypatch.setattr(generation, "forced_logprobs", counted)
    selections = [torch.arange(k) for k in (2, 4, 2, 4, 2)]
    tiny_vlm.logprobs(encoded, "how many", [5, 6], selections)
    assert sorted(sizes) == [2, 3]


def test_logprobs_write_the_prompt_once_for_all_selections_of_a_picture(tiny_vlm, noise, monkeypatch) -> None:
    encoded, written, prompt = tiny_vlm.encode([noise(112, 112)]), [], tiny_vlm.prompt

    def counted(*values):
        written.append(values)
        return prompt(*values)

    monkeypatch.setattr(tiny_vlm, "prompt", counted)
    tiny_vlm.logprobs(encoded, "how many", [5, 6], [torch.arange(k) for k in (2, 4, 2, 4, 2)])
    assert len(written) == 1


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


# The model library's name for the cache


def test_the_cache_goes_by_the_name_that_the_model_s_signature_has(any_vlm, noise) -> None:
    encoded = any_vlm.encode([noise(112, 112)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any_vlm.answer(encoded, "how many", max_new_tokens=2).ids


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_either_name_of_the_cache_goes_in_and_comes_out(name: str) -> None:
    class Model:
        def __call__(self, **given):
            return self.forward(**given)

        def forward(self, **given):
            raise NotImplementedError

    def new(self, input_ids, cache=None, **_):
        return SimpleNamespace(logits=torch.zeros(1, 1, 3), cache=cache + 1)

    def old(self, input_ids, past_key_values=None, **_):
        return SimpleNamespace(logits=torch.zeros(1, 1, 3), past_key_values=past_key_values + 1)

    Model.forward = {"cache": new, "past_key_values": old}[name]
    ids, held = torch.zeros(1, 1, dtype=torch.long), 0
    for _ in range(2):
        _, held = forward(Model(), ids, ids, ids, held, None)
    assert held == 2


# Numbers that are no numbers


@pytest.fixture
def broken(tiny_vlm, monkeypatch):
    """broken(step, row) -> the model whose logits are NaN from that pass on, in one row or at one token alone."""

    def breaks(step: int, at: slice = slice(None), value: float = float("nan")) -> None:
        passes, plain = [], type(tiny_vlm.model).forward

        def poisoned(self, *values, **named):
            passes.append(1)
            output = plain(self, *values, **named)
            if len(passes) > step:
                output.logits[..., at] = value
            return output

        poisoned.__wrapped__ = plain
        monkeypatch.setattr(type(tiny_vlm.model), "forward", poisoned)

    return breaks


@pytest.mark.parametrize(
    ("at", "value"), [(slice(None), "nan"), (slice(7, 8), "nan"), (slice(7, 8), "inf"), (slice(None), "-inf")]
)
def test_no_word_comes_of_logits_that_are_not_finite(tiny_vlm, noise, broken, at: slice, value: str) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    broken(0, at, float(value))
    with pytest.raises(
        ModelError, match=r"on the prompt.*dtype float32.*damaged, download the checkpoint again"
    ) as said:
        next(tiny_vlm.generate(encoded, "how many"))
    assert "load it with" not in str(said.value)
    with pytest.raises(ModelError, match="on the prompt"):
        tiny_vlm.answer_batch([Sample(encoded, "how many"), Sample(encoded, "what")])
    with pytest.raises(ModelError, match="how likely an answer is"):
        tiny_vlm.logprobs(encoded, "how many", [5, 6], [None])


def test_words_that_a_model_rules_out_are_no_fault(tiny_vlm, noise, broken) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    broken(0, slice(0, 5), float("-inf"))
    assert min(tiny_vlm.answer(encoded, "how many", max_new_tokens=3).ids) >= 5
    (found,) = tiny_vlm.logprobs(encoded, "how many", [5, 6], [None])
    assert found[:, :5].isneginf().all()


def test_an_answer_that_breaks_later_keeps_its_words_and_no_memory(tiny_vlm, noise, broken) -> None:
    encoded, memory = tiny_vlm.encode([noise(112, 112)]), ConversationCache()
    broken(2)
    said = tiny_vlm.generate(encoded, "how many", memory=memory)
    assert [next(said).finish, next(said).finish] == [None, None]
    with pytest.raises(ModelError, match="after 2 tokens of its answer"):
        next(said)
    assert (len(memory), memory.nbytes) == (0, 0)


def test_a_batch_ends_row_by_row(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    samples = [Sample(encoded, question) for question in ("how many", "what", "which one is it")]
    cancels = [threading.Event() for _ in samples]
    whole, found = tiny_vlm.answer_batch(samples, max_new_tokens=5), [[], [], []]
    assert all(len(answer.ids) == 5 for answer in whole)
    for place, chunk in tiny_vlm.generate_batch(samples, cancels, max_new_tokens=5):
        found[place].append(chunk)
        if place == 1 and len(found[1]) == 2:
            cancels[1].set()
    assert [[chunk.token_id for chunk in own] for own in found] == [
        list(whole[0].ids),
        list(whole[1].ids[:2]),
        list(whole[2].ids),
    ]
    assert [own[-1].finish for own in found] == ["length", None, "length"]
    for cancel in cancels:
        cancel.set()
    assert list(tiny_vlm.generate_batch(samples, cancels)) == []


def test_answers_of_a_batch_are_checked_and_its_logits_bounded(tiny_vlm, noise, monkeypatch) -> None:
    encoded, sizes, plain = tiny_vlm.encode([noise(112, 112)]), [], generation.forced_logprobs
    samples, said = [Sample(encoded, question) for question in ("how many", "what", "which")], [[5, 6], [7], [8, 9]]
    right = tiny_vlm.logprobs_batch(samples, said)
    monkeypatch.setattr(generation, "forced_logprobs", lambda *given: sizes.append(len(given[1])) or plain(*given))
    monkeypatch.setattr("pruning.models.vlm.BATCH_ELEMENTS", 4 * tiny_vlm.config.get_text_config().vocab_size)
    for own, whole in zip(tiny_vlm.logprobs_batch(samples, said), right, strict=True):
        torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-4)
    assert sizes == [2, 1]
    assert tiny_vlm.logprobs_batch([], []) == []
    with pytest.raises(ValueError, match="at least one answer token"):
        tiny_vlm.logprobs_batch(samples, [[5], [], [6]])


def test_a_batch_that_breaks_later_gives_no_answers(tiny_vlm, noise, broken) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    broken(2)
    with pytest.raises(ModelError, match="after 2 tokens of its answer"):
        tiny_vlm.answer_batch([Sample(encoded, "how many"), Sample(encoded, "what")])


@pytest.mark.parametrize(
    ("dtype", "remedy"), [("float16", "load it with dtype bfloat16 or float32"), ("bfloat16", "damaged, download")]
)
def test_the_remedy_is_one_that_can_help(tiny_folder, noise, monkeypatch, dtype: str, remedy: str) -> None:
    from pruning.models import load

    vlm = load(tiny_folder, dtype=dtype)
    encoded = vlm.encode([noise(112, 112)])
    vlm.model.lm_head.weight.data = vlm.model.lm_head.weight.data * float("inf")
    with pytest.raises(ModelError, match=rf"dtype {dtype}: .*{remedy}"):
        vlm.answer(encoded, "how many")
    monkeypatch.setattr(vlm.model, "is_loaded_in_8bit", True, raising=False)
    with pytest.raises(ModelError, match="quantization none"):
        vlm.answer(encoded, "how many")
