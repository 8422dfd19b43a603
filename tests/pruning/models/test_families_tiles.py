"""What is special to InternVL3, Idefics3, SmolVLM, Gemma 3 and Qwen3-VL. What all share is tested elsewhere."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from pruning.models import VLM, ConversationCache, Turn
from pruning.models.families.geometry import arrangement
from pruning.models.language import generation
from tests.helpers import library

TILED = ["internvl", "idefics3", "smolvlm"]
SIZES = [(300, 200), (100, 700), (64, 64), (640, 90), (3, 200)]
QUESTION = "What color is the star?"
Vlm = Callable[[str], VLM]


@pytest.mark.parametrize("family", [*TILED, "gemma3"])
def test_pixels_are_those_that_the_library_s_processor_makes_by_itself(tiny: Vlm, noise, family: str) -> None:
    model, images = tiny(family), [noise(100, 300), noise(64, 64)]
    pixels = model.family.preprocess(images, model.max_visual_tokens).inputs["pixel_values"]
    torch.testing.assert_close(pixels, library.inputs(model, images, QUESTION)["pixel_values"])


# Geometry


def compass(width: int, height: int) -> Image.Image:
    """Red tells how far right a pixel lies, green how far down, 0 to 255 from edge to edge."""
    x = (np.arange(width) + 0.5) / width * 255
    y = (np.arange(height) + 0.5) / height * 255
    pixels = np.stack([*np.meshgrid(x, y), np.zeros((height, width))], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


@pytest.mark.parametrize("family", [*TILED, "gemma3"])
@pytest.mark.parametrize("size", SIZES)
def test_each_rectangle_is_where_the_token_s_pixels_come_from(tiny: Vlm, family: str, size: tuple[int, int]) -> None:
    """The pixels under every token, averaged, name the centre of its rectangle."""
    model, image = tiny(family), compass(*size)
    encoded = model.encode([image])
    pixels = model.family.preprocess([image], model.max_visual_tokens).inputs["pixel_values"].flatten(0, -4)
    processor = model.image_processor
    mean, std = (torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std))
    side = 4  # tokens along a tile, in all these checkpoints
    patch = model.config.vision_config.patch_size
    cell = (patch if isinstance(patch, int) else patch[0]) * model.family.merge
    shown = (pixels * std + mean)[:, :2, : side * cell, : side * cell]
    seen = torch.nn.functional.avg_pool2d(shown, cell).flatten(2).transpose(1, 2).flatten(0, 1)  # (N, 2) in 0..1
    rects = torch.from_numpy(encoded.rects) / torch.tensor([*size, *size])
    centres = (rects[:, :2] + rects[:, 2:]) / 2
    blur = torch.tensor([0.5 / size[0], 0.5 / size[1]]).clamp(max=0.13)  # a few pixels stretched: their edges are flat
    assert ((seen - centres).abs() <= 0.02 + blur).all()
    if family != "smolvlm":  # of whose tiles a border is not seen
        assert float(encoded.rects[:, 2].max()) == size[0]


@pytest.mark.parametrize("family", TILED)
def test_tiles_come_row_by_row_and_the_whole_image_last(tiny: Vlm, family: str) -> None:
    model = tiny(family)
    encoded = model.encode([compass(300, 200)])
    *tiles, thumbnail = encoded.tokens.grids
    assert [grid.role for grid in tiles] == ["tile"] * len(tiles)
    corners = [(grid.box[1], grid.box[0]) for grid in tiles]
    assert corners == sorted(corners)
    assert len(tiles) == {"internvl": 6, "idefics3": 12, "smolvlm": 12}[family]
    assert (thumbnail.role, thumbnail.box[:2]) == ("thumbnail", (0, 0))
    both = model.encode([compass(300, 200), compass(64, 64)])
    assert both.tokens.grids[: len(tiles) + 1] == encoded.tokens.grids
    assert {grid.image for grid in both.tokens.grids[len(tiles) + 1 :]} == {1}


@pytest.mark.parametrize("family", [*TILED, "gemma3", "qwen3-vl"])
def test_a_mark_under_a_cell_changes_that_token_most(tiny: Vlm, family: str) -> None:
    """Among the tokens of its own picture; the other tiles do not see it, the thumbnail does."""
    model, blank = tiny(family), Image.new("RGB", (400, 400), "grey")
    before = model.encode([blank])
    thumbnail = before.tokens.grids[-1]
    for grid in before.tokens.grids[::3]:
        place = grid.gw + 1  # second row, second column: nothing of the mark is blurred into another tile
        x0, y0, x1, y1 = before.rects[grid.start + place].round().astype(int).tolist()
        changed = blank.copy()
        changed.paste("red", (x0, y0, x1, y1))
        moved = (model.encode([changed]).tokens.features - before.tokens.features).norm(dim=1)
        assert place in moved[grid.start : grid.stop].topk(2).indices
        touched = {other for other in before.tokens.grids if float(moved[other.start : other.stop].max()) > 1e-3}
        assert touched == ({grid, thumbnail} if grid.role == "tile" else touched)


@pytest.mark.parametrize("family", TILED)
@pytest.mark.parametrize("limit", [1, 16, 40, 64, 100, 200])
def test_tiles_follow_the_limit_of_tokens(tiny: Vlm, noise, family: str, limit: int) -> None:
    family_adapter, images = tiny(family).family, [noise(300, 200), noise(60, 500), noise(90, 90)]
    pixels = family_adapter.preprocess(images, limit)
    assert all(count <= max(limit, 16) for count in pixels.counts)
    grids, _ = family_adapter.layout(pixels)
    assert sum(grid.count for grid in grids) == sum(pixels.counts)


@pytest.mark.parametrize("size", [(w, h) for w in (1, 50, 111, 448, 900) for h in (50, 113, 448, 1000)])
def test_the_arrangement_of_tiles_is_the_processor_s(size: tuple[int, int]) -> None:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    for most in range(1, 13):
        columns, rows = get_optimal_tiled_canvas((size[1], size[0]), (448, 448), 1, most)
        assert arrangement(columns * rows, *size) == (rows, columns)


def test_row_and_column_marks_are_text_that_stays(tiny: Vlm, noise) -> None:
    model = tiny("smolvlm")
    encoded = model.encode([noise(300, 200)])
    prompt = model.prompt(encoded, QUESTION).keep(torch.tensor([0]))
    text = model.tokenizer.decode(prompt.input_ids[0])
    assert text.count("<row_") == 12
    assert text.count("<global-img>") == 1
    assert text.count("<image>") == 1


# Qwen3-VL: DeepStack


def test_deepstack_rows_are_pruned_in_step(tiny: Vlm, noise) -> None:
    """A loop over the layers by hand, which adds level i to the kept visual places after layer i."""
    model = tiny("qwen3-vl")
    encoded = model.encode([noise(150, 100), noise(100, 100, seed=1)])
    kept = torch.randperm(encoded.tokens.n)[: encoded.tokens.n // 4].sort().values
    prompt = model.prompt(encoded, QUESTION).keep(kept)
    text = model.model.model.language_model
    assert len(encoded.deepstack) == 2

    def by_hand(levels: list[torch.Tensor]) -> torch.Tensor:
        hidden = model.model.get_input_embeddings()(prompt.input_ids).clone()
        hidden[0, prompt.visual] = encoded.tokens.features[kept]
        rotary = text.rotary_emb(hidden, prompt.positions)
        mask = torch.full((prompt.n, prompt.n), -torch.inf).triu(1)[None, None]
        for i, layer in enumerate(text.layers):
            hidden = layer(hidden, position_embeddings=rotary, attention_mask=mask)
            if i < len(levels):
                hidden = hidden.clone()
                hidden[0, prompt.visual] += levels[i]
        return model.model.lm_head(text.norm(hidden))[0, -1].log_softmax(-1)

    (found,) = model.logprobs(encoded, QUESTION, [5], [kept])
    with torch.no_grad():
        torch.testing.assert_close(
            found[0], by_hand([level[kept] for level in encoded.deepstack]), rtol=1e-4, atol=1e-4
        )
        for wrong in ([], [level[: len(kept)] for level in encoded.deepstack]):
            assert float((found[0] - by_hand(wrong)).abs().max()) > 0.01


# Gemma 3: attention both ways inside an image, windows


def gemma_logits(model: VLM, prompt, rows: torch.Tensor, answer: list[int], both_ways: bool = True) -> torch.Tensor:
    """(T, V) log-probabilities at each step, without a cache, by a loop over the layers with masks made by hand."""
    text, steps = model.model.model.language_model, []
    window = text.config.sliding_window
    ids, positions = prompt.input_ids[0], prompt.positions[0]
    visual = torch.zeros(prompt.n, dtype=torch.bool).index_fill(0, prompt.visual, True)
    for step in range(len(answer)):
        hidden = model.model.get_input_embeddings()(ids)[None].clone()
        hidden[0, visual] = rows
        image = (visual & ~visual.roll(1)).cumsum(0) * visual  # 0 outside, else the number of the image
        place = torch.arange(len(ids))
        sees = place[:, None] >= place
        if both_ways:
            sees = sees | ((image[:, None] == image) & visual[:, None])
        near = positions[:, None] - positions < window
        for layer, kind in zip(text.layers, text.config.layer_types, strict=True):
            seen = sees & near if kind == "sliding_attention" else sees
            hidden = layer(
                hidden,
                position_embeddings=text.rotary_emb(hidden, positions[None], kind),
                attention_mask=torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[None, None],
            )
        steps.append(model.model.lm_head(text.norm(hidden))[0, -1].log_softmax(-1))
        ids = torch.cat([ids, torch.tensor([answer[step]])])
        positions = torch.cat([positions, positions[-1:] + 1])
        visual = torch.cat([visual, torch.tensor([False])])
    return torch.stack(steps)


@pytest.mark.parametrize("retention", [1.0, 0.5, 0.25])
def test_gemma_sees_images_both_ways_and_windows_where_they_were(tiny: Vlm, noise, retention: float) -> None:
    model = tiny("gemma3")
    encoded = model.encode([noise(90, 60), noise(60, 90, seed=1)])
    torch.manual_seed(3)
    kept = torch.randperm(encoded.tokens.n)[: round(encoded.tokens.n * retention)].sort().values
    answer = model.answer(encoded, QUESTION, kept, max_new_tokens=6)
    (found,) = model.logprobs(encoded, QUESTION, answer.ids, [kept])
    prompt, rows = model.prompt(encoded, QUESTION).keep(kept), encoded.tokens.features[kept]
    with torch.no_grad():
        expected = gemma_logits(model, prompt, rows, list(answer.ids))
        one_way = gemma_logits(model, prompt, rows, list(answer.ids), both_ways=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    assert float((one_way - expected).abs().max()) > 0.01


def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of all token sequences that go through the language model from now on."""
    lengths: list[int] = []
    plain = generation.forward

    def counted(model, ids, *rest, **named):
        lengths.append(ids.shape[1])
        return plain(model, ids, *rest, **named)

    monkeypatch.setattr(generation, "forward", counted)
    return lengths


@pytest.mark.parametrize(("family", "windows"), [("gemma3", True), ("idefics3", False), ("qwen3-vl", False)])
def test_windows_that_moved_on_are_filled_anew(tiny: Vlm, noise, monkeypatch, family: str, windows: bool) -> None:
    """What a window has lost cannot be had back: a second turn on other words starts from nothing, a true one goes on.

    Without windows, another second turn goes on from what both have in common.
    """
    model, memory = tiny(family), ConversationCache()
    encoded, kept = model.encode([noise(180, 120)]), torch.arange(0, 12, 3)
    lengths = fed(monkeypatch)
    first = model.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=4)
    same = [Turn(QUESTION, first.text)]
    other = [Turn(QUESTION, "red circle")]
    for history, starts_anew in ((same, False), (other, windows)):
        fresh = model.answer(encoded, "how many", kept, history=history, max_new_tokens=6)
        lengths.clear()
        again = model.answer(encoded, "how many", kept, history=history, memory=memory, max_new_tokens=6)
        assert again.ids == fresh.ids
        assert (lengths[0] == fresh.prefill_tokens) == starts_anew
