"""Clips through the families that read them: the library's own video path is the oracle."""

import numpy as np
import pytest
import torch

from pruning.models import ModelError
from pruning.models.values import Sample
from pruning.video import Clip
from tests.helpers.clips import moving

QUESTION = "how many circle"
QWEN = ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"]


def published(clip, patch: int, merge: int = 2) -> torch.Tensor:
    """Patches of a clip by the formula of Qwen2-VL's video processor, for frames that need no resize."""
    video = torch.from_numpy(np.stack([np.asarray(frame) for frame in clip.frames])).permute(0, 3, 1, 2) / 255
    video = (video - 0.5) / 0.5
    if len(video) % 2:
        video = torch.cat([video, video[-1:]])
    t, gh, gw = len(video) // 2, video.shape[2] // patch, video.shape[3] // patch
    patches = video.view(t, 2, 3, gh // merge, merge, patch, gw // merge, merge, patch)
    return patches.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * gh * gw, -1)


def library(vlm, clip, encoded):
    """Ids, positions' inputs and pixels as the library takes them for generate()."""
    patch = vlm.image_processor.patch_size
    pixels = published(clip, patch)
    ids = vlm.prompt(encoded, QUESTION).input_ids
    grid = torch.tensor([[(len(clip.frames) + 1) // 2, clip.size[1] // patch, clip.size[0] // patch]])
    types = (ids == vlm.config.video_token_id).int() * 2
    given = {"pixel_values_videos": pixels, "video_grid_thw": grid, "mm_token_type_ids": types}
    if vlm.config.model_type == "qwen2_5_vl":
        given["second_per_grid_ts"] = torch.tensor([2 * clip.seconds_per_frame])
    return ids, given


@pytest.mark.parametrize("family", QWEN)
@pytest.mark.parametrize("frames", [1, 4, 5])
def test_all_tokens_of_a_clip_are_the_library_s_generate(tiny, family, frames):
    vlm = tiny(family)
    side = vlm.image_processor.patch_size * 2
    clip = moving(frames, (side * 4, side * 3))
    encoded = vlm.encode([clip])
    ids, given = library(vlm, clip, encoded)
    torch.testing.assert_close(vlm.family.film([clip], 64).inputs["pixel_values"], given["pixel_values_videos"])
    out = vlm.model.generate(input_ids=ids, **given, do_sample=False, max_new_tokens=10)
    assert list(vlm.answer(encoded, QUESTION, max_new_tokens=10).ids) == out[0, ids.shape[1] :].tolist()
    (grid,) = encoded.tokens.grids
    assert (grid.t, grid.gh, grid.gw) == ((frames + 1) // 2, 3, 4)
    assert len(encoded.tokens.pictures.unique()) == grid.t
    assert encoded.rects.shape == (grid.count, 4)


@pytest.mark.parametrize("family", QWEN)
def test_a_quarter_of_a_clip_is_a_loop_by_hand_without_a_cache(tiny, family):
    vlm = tiny(family)
    side = vlm.image_processor.patch_size * 2
    clip = moving(6, (side * 4, side * 3))
    encoded = vlm.encode([clip])
    ids, given = library(vlm, clip, encoded)
    torch.manual_seed(0)
    kept = torch.randperm(encoded.tokens.n)[: encoded.tokens.n // 4].sort().values
    answer = vlm.answer(encoded, QUESTION, kept, max_new_tokens=6)
    with torch.no_grad():
        output = vlm.model.model.get_video_features(given["pixel_values_videos"], given["video_grid_thw"])
        levels = [torch.cat(list(level)) for level in getattr(output, "deepstack_features", None) or []]
        where = vlm.model.model.get_rope_index(
            ids, **{name: value for name, value in given.items() if name != "pixel_values_videos"}
        )[0][:, 0]
        visual = ids[0] == vlm.config.video_token_id
        embeddings = vlm.model.get_input_embeddings()(ids[0]).clone()
        embeddings[visual] = torch.cat(list(output.pooler_output))
        left = ~visual
        left[visual.nonzero()[kept, 0]] = True
        embeddings, at, following, visual = embeddings[left], where[:, left], where.max() + 1, visual[left]
        for i, token in enumerate(answer.ids):
            n = len(embeddings)
            mask = torch.full((n, n), -torch.inf).triu(1)[None, None]
            deep = {"deepstack_visual_embeds": [x[kept] for x in levels], "visual_pos_masks": visual[None]}
            hidden = vlm.model.model.language_model(
                inputs_embeds=embeddings[None],
                position_ids=at[:, None],
                attention_mask=mask,
                use_cache=False,
                **(deep if levels else {}),
            ).last_hidden_state
            assert int(vlm.model.lm_head(hidden[0, -1]).argmax()) == token
            embeddings = torch.cat([embeddings, vlm.model.get_input_embeddings()(torch.tensor([token]))])
            at = torch.cat([at, (following + i).expand(3, 1)], dim=1)
            visual = torch.cat([visual, torch.tensor([False])])


@pytest.mark.parametrize("family", QWEN)
def test_attention_stays_inside_a_step(tiny, family):
    vlm, needs = tiny(family), frozenset({"vision_attention@-1"})
    side = vlm.image_processor.patch_size * 2
    clip = moving(4, (side * 4, side * 3))
    halves = [Clip(clip.frames[i : i + 2], (0.0, 0.5), 1.0, 2) for i in (0, 2)]
    whole = vlm.encode([clip], needs).tokens.signal("vision_attention@-1")
    parts = [vlm.encode([half], needs).tokens.signal("vision_attention@-1") for half in halves]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_qwen3_writes_the_time_of_every_step(tiny):
    vlm = tiny("qwen3-vl")
    text = vlm.encode([moving(4, (128, 96), step=0.6)]).texts[0]
    assert text.split("<|vision_start|>")[0] == "<0.3 seconds>"
    assert text.count("<|vision_end|><1.5 seconds><|vision_start|>") == 1


def test_a_clip_has_a_bounded_number_of_tokens(tiny):
    vlm = tiny("qwen2.5-vl")
    encoded = vlm.encode([moving(6, (500, 400))])
    assert encoded.tokens.n <= 3 * vlm.max_visual_tokens
    assert encoded.sizes == ((500, 400),)


def test_what_is_not_read_is_refused_with_the_reason(tiny, noise):
    vlm, clip = tiny("qwen2.5-vl"), moving(2)
    with pytest.raises(ValueError, match="encoded by themselves"):
        vlm.encode([noise(56, 56), clip])
    with pytest.raises(ModelError, match="clips are not read for this family yet"):
        tiny("llava").encode([clip])
    samples = [Sample(vlm.encode([each]), QUESTION) for each in (noise(56, 56), clip)]
    with pytest.raises(ValueError, match="do not go through together"):
        vlm.answer_batch(samples)
