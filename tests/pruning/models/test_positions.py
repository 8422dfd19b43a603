"""Positions of kept tokens, original and renumbered without gaps, against a cache-free loop with those positions."""

import pytest
import torch

from pruning.encoding import ENCODING, make_encoding
from pruning.models import VLM, ConversationCache, Sample, Turn
from pruning.models.values import POSITIONS
from pruning.video import open_clip
from tests.helpers import library
from tests.helpers.clips import film

QUESTION = "What color is the star?"
SIZES = [[(300, 90)], [(70, 100), (64, 140)]]


@pytest.mark.parametrize("share", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("sizes", SIZES, ids=["one", "two"])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_positions_are_those_of_a_cache_free_loop(any_vlm: VLM, noise, monkeypatch, sizes, share, positions) -> None:
    monkeypatch.setattr(any_vlm.model.generation_config, "eos_token_id", -1)
    images = [noise(*size, seed=i) for i, size in enumerate(sizes)]
    encoded = any_vlm.encode(images)
    n = encoded.tokens.n
    kept = torch.randperm(n, generator=torch.Generator().manual_seed(4))[: max(1, round(n * share))]
    given = library.inputs(any_vlm, images, QUESTION)
    total = int((given["input_ids"] == any_vlm.config.image_token_id).sum())
    left = library.stays(encoded.places, n, total, kept)
    new = library.renumbered(any_vlm, given, left) if positions == "compact" else None
    answer = any_vlm.answer(encoded, QUESTION, kept, positions=positions, max_new_tokens=4)
    expected = library.cache_free(any_vlm, given, left, answer.ids, renumbered=new)
    (found,) = any_vlm.logprobs(encoded, QUESTION, answer.ids, [kept], positions=positions)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert found.argmax(-1).tolist() == list(answer.ids)


def test_without_gaps_nothing_is_renumbered(any_vlm: VLM, noise) -> None:
    encoded = any_vlm.encode([noise(300, 90), noise(64, 140, seed=1)])
    prompt = any_vlm.prompt(encoded, QUESTION)
    images = torch.cat([torch.full((grid.count,), grid.image) for grid in encoded.tokens.grids])
    assert torch.equal(prompt.compact(images).positions, prompt.positions)


def test_renumbered_rows_and_columns_keep_their_order(qwen_vlm, noise) -> None:
    encoded = qwen_vlm.encode([noise(300, 200)])
    (grid,) = encoded.tokens.grids
    kept = torch.tensor([0, 2 * grid.gw + 3, 2 * grid.gw + 5, 5 * grid.gw + 3])
    prompt = qwen_vlm.prompt(encoded, QUESTION).keep(kept).compact(torch.zeros(4, dtype=torch.int64))
    time, rows, columns = prompt.positions[:, 0, prompt.visual]
    start = int(prompt.visual[0])
    assert (time - start).tolist() == [0, 0, 0, 0]
    assert (rows - start).tolist() == [0, 1, 1, 2]
    assert (columns - start).tolist() == [0, 1, 2, 1]
    after = prompt.positions[:, 0, int(prompt.visual[-1]) + 1]
    assert after.tolist() == [start + 3] * 3


def test_batches_turns_and_several_selections_are_renumbered_alike(qwen_vlm, noise, monkeypatch) -> None:
    monkeypatch.setattr(qwen_vlm.model.generation_config, "eos_token_id", -1)
    encoded = qwen_vlm.encode([noise(300, 200)])
    kept = [torch.arange(0, encoded.tokens.n, 7), torch.arange(len(range(0, encoded.tokens.n, 7)))]
    alone = [qwen_vlm.answer(encoded, QUESTION, k, positions="compact", max_new_tokens=4).ids for k in kept]
    samples = [Sample(encoded, QUESTION, k, positions="compact") for k in kept]
    assert [answer.ids for answer in qwen_vlm.answer_batch(samples, max_new_tokens=4)] == alone
    together = qwen_vlm.logprobs(encoded, QUESTION, alone[0], kept, positions="compact")
    for k, found in zip(kept, together, strict=True):
        (expected,) = qwen_vlm.logprobs(encoded, QUESTION, alone[0], [k], positions="compact")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    memory, history = ConversationCache(), [Turn(QUESTION, "red")]
    qwen_vlm.answer(encoded, QUESTION, kept[0], positions="compact", memory=memory, max_new_tokens=2)
    held = qwen_vlm.answer(
        encoded, "how many", kept[0], positions="compact", history=history, memory=memory, max_new_tokens=4
    )
    fresh = qwen_vlm.answer(encoded, "how many", kept[0], positions="compact", history=history, max_new_tokens=4)
    assert held.ids == fresh.ids


def test_other_positions_are_refused(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(112, 112)])
    with pytest.raises(ValueError, match="positions 'dense' are not known: they must be one of original, compact"):
        tiny_vlm.answer(encoded, QUESTION, positions="dense")


@pytest.mark.parametrize("name", sorted(ENCODING))
def test_another_encoding_leaves_no_gaps(qwen_vlm, noise, name, tmp_path) -> None:
    images = [noise(84, 56), noise(300, 200, seed=1)]
    if ENCODING[name].clips:
        images[1] = open_clip(film(tmp_path / "a.mp4", size=(168, 112)))
    n = qwen_vlm.encode(images).tokens.n
    encoded = qwen_vlm.encode(images, asked=make_encoding(name).encoding(n, n // 2))
    found = [qwen_vlm.logprobs(encoded, QUESTION, [3], [None], positions=p)[0] for p in POSITIONS]
    assert torch.equal(*found)
