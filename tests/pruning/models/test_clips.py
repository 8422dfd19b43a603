"""Clips through the families that read them: the library's own video path is the oracle."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pruning.encoding import OutOfReachError, make_encoding
from pruning.models import ModelError, load
from pruning.models.checkpoint.video import ClipLimits, clip_limits
from pruning.models.values import Sample
from pruning.models.world import in_world
from pruning.video import Clip, Sampling
from tests.checkpoints import FAMILIES
from tests.helpers.clips import moving

QUESTION = "how many circle"
QWEN = ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"]
SQUARES = {"llava-onevision": 34, "llava-next-video": 32, "internvl": 56, "smolvlm": 100}  # pixels of a side of a frame
FILMED = [*QWEN, *SQUARES]


def clip_for(vlm, family: str, frames: int, seed: int = 0) -> Clip:
    """A clip whose frames need no resize."""
    if family in SQUARES:
        return moving(frames, (SQUARES[family],) * 2, seed=seed)
    side = vlm.image_processor.patch_size * 2
    return moving(frames, (side * 4, side * 3), seed=seed)


def stacked(clip: Clip) -> torch.Tensor:
    """(F, 3, h, w) from 0 to 1."""
    return torch.from_numpy(np.stack([np.asarray(frame) for frame in clip.frames])).permute(0, 3, 1, 2) / 255


def published(clip, patch: int, merge: int = 2) -> torch.Tensor:
    """Patches of a clip by the formula of Qwen2-VL's video processor, for frames that need no resize."""
    video = (stacked(clip) - 0.5) / 0.5
    if len(video) % 2:
        video = torch.cat([video, video[-1:]])
    t, gh, gw = len(video) // 2, video.shape[2] // patch, video.shape[3] // patch
    patches = video.view(t, 2, 3, gh // merge, merge, patch, gw // merge, merge, patch)
    return patches.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * gh * gw, -1)


def library(vlm, clip, encoded):
    """Ids, and what goes with them into the library's generate(): pixels, grids, kinds of tokens."""
    ids, kind = vlm.prompt(encoded, QUESTION).input_ids, vlm.config.model_type
    if kind in ("internvl", "smolvlm", "llava_onevision", "llava_next_video"):
        mean, std = (torch.tensor(each)[:, None, None] for each in (vlm.image_processor.image_mean,
                                                                    vlm.image_processor.image_std))  # fmt: skip
        pixels = (stacked(clip) - mean) / std
        if kind == "internvl":
            return ids, {"pixel_values": pixels}
        if kind == "smolvlm":
            return ids, {"pixel_values": pixels[None]}
        return ids, {"pixel_values_videos": pixels[None]}
    patch = vlm.image_processor.patch_size
    grid = torch.tensor([[(len(clip.frames) + 1) // 2, clip.size[1] // patch, clip.size[0] // patch]])
    types = (ids == vlm.config.video_token_id).int() * 2
    given = {"pixel_values_videos": published(clip, patch), "video_grid_thw": grid, "mm_token_type_ids": types}
    if kind == "qwen2_5_vl":
        given["second_per_grid_ts"] = torch.tensor([2 * clip.seconds_per_frame])
    return ids, given


def tower(vlm, given):
    """The library's rows of a clip (R, D), and the levels of DeepStack."""
    if "pixel_values_videos" in given:
        grid = {"video_grid_thw": given["video_grid_thw"]} if "video_grid_thw" in given else {}
        output = vlm.model.model.get_video_features(pixel_values_videos=given["pixel_values_videos"], **grid)
    else:
        output = vlm.model.model.get_image_features(pixel_values=given["pixel_values"])
    rows = torch.cat([each.flatten(0, -2) for each in output.pooler_output])
    return rows, [torch.cat(list(level)) for level in getattr(output, "deepstack_features", None) or []]


@pytest.mark.parametrize("family", FILMED)
@pytest.mark.parametrize("frames", [1, 5])
def test_all_tokens_of_a_clip_are_the_library_s_generate(tiny, family, frames):
    vlm = tiny(family)
    clip = clip_for(vlm, family, frames)
    encoded = vlm.encode([clip])
    ids, given = library(vlm, clip, encoded)
    made = vlm.family.film([clip], 64).inputs
    ours = made.get("pixel_values_videos", made.get("pixel_values"))
    theirs = given.get("pixel_values_videos", given.get("pixel_values"))
    torch.testing.assert_close(ours.reshape(theirs.shape), theirs)
    out = vlm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given, do_sample=False,
                             max_new_tokens=10)  # fmt: skip
    assert list(vlm.answer(encoded, QUESTION, max_new_tokens=10).ids) == out[0, ids.shape[1] :].tolist()
    (grid,) = encoded.tokens.grids
    assert grid.t == ((frames + 1) // 2 if family in QWEN else frames)
    assert len(encoded.tokens.pictures.unique()) == grid.t
    assert encoded.rects.shape == (grid.count, 4)


@pytest.mark.parametrize("family", FILMED)
def test_a_quarter_of_a_clip_is_a_loop_by_hand_without_a_cache(tiny, family):
    vlm = tiny(family)
    clip = clip_for(vlm, family, 6)
    encoded = vlm.encode([clip])
    ids, given = library(vlm, clip, encoded)
    torch.manual_seed(0)
    kept = torch.randperm(encoded.tokens.n)[: encoded.tokens.n // 4].sort().values
    answer = vlm.answer(encoded, QUESTION, kept, max_new_tokens=6)
    with torch.no_grad():
        rows, levels = tower(vlm, given)
        where = torch.arange(ids.shape[1])[None]
        if hasattr(vlm.model.model, "get_rope_index"):
            told = {name: value for name, value in given.items() if name != "pixel_values_videos"}
            where = vlm.model.model.get_rope_index(ids, **told)[0][:, 0]
        visual = torch.isin(
            ids[0], torch.tensor([vlm.config.image_token_id, getattr(vlm.config, "video_token_id", -1)])
        )
        embeddings = vlm.model.get_input_embeddings()(ids[0]).clone()
        embeddings[visual] = rows
        places = visual.nonzero()[:, 0] if encoded.places is None else visual.nonzero()[encoded.places, 0]
        left = torch.ones_like(visual)
        left[places] = False
        left[places[kept]] = True
        embeddings, at, following, visual = embeddings[left], where[:, left], where.max() + 1, visual[left]
        for i, token in enumerate(answer.ids):
            n = len(embeddings)
            mask = torch.full((n, n), -torch.inf).triu(1)[None, None]
            deep = {"deepstack_visual_embeds": [x[kept] for x in levels], "visual_pos_masks": visual[None]}
            hidden = vlm.model.get_decoder()(
                inputs_embeds=embeddings[None],
                position_ids=at[:, None] if len(at) == 3 else at,
                attention_mask=mask,
                use_cache=False,
                **(deep if levels else {}),
            ).last_hidden_state
            assert int(vlm.model.lm_head(hidden[0, -1]).argmax()) == token
            embeddings = torch.cat([embeddings, vlm.model.get_input_embeddings()(torch.tensor([token]))])
            at = torch.cat([at, (following + i).expand(len(at), 1)], dim=1)
            visual = torch.cat([visual, torch.tensor([False])])


@pytest.mark.parametrize("family", FILMED)
def test_attention_and_keys_stay_inside_a_step(tiny, family):
    vlm, needs = tiny(family), frozenset({"vision_attention@-1", "vision_keys@-1", "pre_projector"})
    clip = clip_for(vlm, family, 4)
    halves = [Clip(clip.frames[i : i + 2], (0.0, 0.5), 1.0, 2) for i in (0, 2)]
    whole = vlm.encode([clip], needs).tokens
    parts = [vlm.encode([half], needs).tokens for half in halves]
    for name in needs:
        joined = torch.cat([part.signal(name) for part in parts])
        torch.testing.assert_close(whole.signal(name), joined, rtol=1e-4, atol=1e-5)
        assert len(joined) == whole.n


@pytest.mark.parametrize("family", FILMED)
def test_a_mark_on_a_frame_moves_the_token_that_lies_there(tiny, family):
    vlm = tiny(family)
    clip = clip_for(vlm, family, 4)
    before = vlm.encode([clip], frozenset({"vision_values@0"}))
    token = before.tokens.n * 2 // 3
    step, joined = int(before.tokens.pictures[token]), 4 // before.tokens.grids[0].t
    frames = [frame.copy() for frame in clip.frames]
    for frame in frames[step * joined : (step + 1) * joined]:
        frame.paste("red", tuple(before.rects[token].round().astype(int).tolist()))
    after = vlm.encode([replace(clip, frames=tuple(frames))], frozenset({"vision_values@0"}))
    moved = (after.tokens.signal("vision_values@0") - before.tokens.signal("vision_values@0")).flatten(1).norm(dim=1)
    assert int(moved.argmax()) == token


@pytest.mark.parametrize("family", ["llava-onevision", "llava-next-video", "internvl"])
def test_the_prompt_is_what_the_library_s_processor_writes(tiny, family):
    vlm = tiny(family)
    clip = clip_for(vlm, family, 3)
    _, given = library(vlm, clip, vlm.encode([clip]))
    pixels = given.get("pixel_values_videos", given.get("pixel_values"))
    asked = {"pixel_values_videos": pixels if pixels.ndim == 5 else pixels[None]}
    assert vlm.encode([clip]).texts == (vlm.family.processing.processor.replace_video_token(asked, 0),)


def test_smolvlm_writes_number_duration_and_times_in_words(tiny):
    text = tiny("smolvlm").encode([moving(22, (40, 30), step=3.5)]).texts[0]
    start = "You are provided the following series of twenty-two frames from a 0:01:17 [H:MM:SS] video.\n"
    assert text.startswith(f"{start}\nFrame from 00:00:<fake_token_around_image><global-img><image><image>")
    assert text.count("\nFrame from 01:13:<fake") == 1
    assert text.endswith("<image><fake_token_around_image>\n\n")


def test_qwen3_writes_the_time_of_every_step(tiny):
    vlm = tiny("qwen3-vl")
    text = vlm.encode([moving(4, (128, 96), step=0.6)]).texts[0]
    assert text.split("<|vision_start|>")[0] == "<0.3 seconds>"
    assert text.count("<|vision_end|><1.5 seconds><|vision_start|>") == 1


@pytest.mark.parametrize("family", FILMED)
def test_pictures_and_clips_in_one_question_are_each_as_by_themselves(tiny, family, noise):
    vlm = tiny(family)
    stills, clip = [noise(90, 70, seed=1), noise(70, 90, seed=2)], clip_for(vlm, family, 2)
    both = vlm.encode([*stills, clip], frozenset({"vision_attention@-1"}))
    apart = [
        vlm.encode(stills, frozenset({"vision_attention@-1"})),
        vlm.encode([clip], frozenset({"vision_attention@-1"})),
    ]
    torch.testing.assert_close(both.tokens.features, torch.cat([each.tokens.features for each in apart]))
    assert [grid.image for grid in both.tokens.grids][-1] == 2
    assert both.kinds == ("image", "image", "video")
    prompt = vlm.prompt(both, QUESTION)
    rows = prompt.keep(torch.arange(both.tokens.n)[::3])
    assert rows.n == prompt.n - (both.tokens.n - len(range(0, both.tokens.n, 3)))
    kept = torch.arange(0, both.tokens.n, 3)
    alone = vlm.answer(both, QUESTION, kept, max_new_tokens=3)
    (batched, _) = vlm.answer_batch([Sample(both, QUESTION, kept), Sample(apart[1], QUESTION)], max_new_tokens=3)
    assert alone.ids == batched.ids
    with pytest.raises(ValueError, match="give the pictures first"):
        vlm.encode([clip, stills[0]])


def test_a_picture_and_a_clip_are_the_library_s_generate(tiny, noise):
    vlm = tiny("qwen2.5-vl")
    picture, clip = noise(112, 84), clip_for(vlm, "qwen2.5-vl", 4)
    encoded = vlm.encode([picture, clip])
    ids, given = library(vlm, clip, encoded)
    still = vlm.family.preprocess([picture], 64).inputs
    given["mm_token_type_ids"] += (ids == vlm.config.image_token_id).int()
    out = vlm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given, do_sample=False,
                             pixel_values=still["pixel_values"], image_grid_thw=still["image_grid_thw"],
                             max_new_tokens=8)  # fmt: skip
    assert list(vlm.answer(encoded, QUESTION, max_new_tokens=8).ids) == out[0, ids.shape[1] :].tolist()


def test_compact_positions_go_on_through_the_steps_of_a_clip(tiny):
    vlm = tiny("qwen3-vl")
    encoded = vlm.encode([clip_for(vlm, "qwen3-vl", 6)])
    full = vlm.prompt(encoded, QUESTION)
    assert torch.equal(full.compact(encoded.tokens.images).positions, full.positions)
    kept = torch.arange(0, encoded.tokens.n, 2)
    compact = full.keep(kept).compact(encoded.tokens.images[kept]).positions[:, 0]
    text = compact[0][~torch.isin(torch.arange(compact.shape[1]), full.keep(kept).visual)]
    assert bool((text.diff() > 0).all())


def test_a_clip_has_a_bounded_number_of_tokens(tiny):
    vlm = tiny("qwen2.5-vl")
    encoded = vlm.encode([moving(6, (500, 400))])
    assert encoded.tokens.n <= 3 * vlm.max_visual_tokens
    assert encoded.sizes == ((500, 400),)


def test_a_step_has_no_more_tokens_than_a_picture_where_the_checkpoint_names_no_size(tiny, monkeypatch):
    vlm = tiny("qwen2.5-vl")
    side = vlm.image_processor.patch_size * 2
    monkeypatch.setattr(vlm.image_processor, "size", {"shortest_edge": side**2, "longest_edge": 20 * side**2})
    clip = moving(2, (8 * side, 6 * side))
    assert vlm.encode([clip]).tokens.n == vlm.encode([clip.frames[0]]).tokens.n <= 20


def test_what_a_checkpoint_says_of_clips_is_kept(tmp_path):
    folder = FAMILIES["qwen2.5-vl"](tmp_path / "model")
    assert clip_limits(folder) == ClipLimits()
    path = folder / "video_preprocessor_config.json"
    path.write_text(json.dumps({"fps": 1, "max_frames": 8, "size": {"shortest_edge": 784, "longest_edge": 4 * 784}}))
    vlm = load(folder)
    assert vlm.sampling == Sampling(1, 8)
    assert vlm.encode([moving(4, (500, 400))]).tokens.n <= 2 * 4
    with pytest.raises(ValueError, match="9 frames, and model takes at most 8: take fewer"):
        vlm.encode([moving(9)])
    path.write_text(json.dumps({"fps": "fast"}))
    with pytest.raises(ModelError, match="fps is 'fast', and must be a number above 0"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "held", "found"),
    [
        ("processor_config.json", {"video_processor": {"num_frames": 32}}, (2.0, 32)),
        (
            "preprocessor_config.json",
            {"video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 9}}},
            (1.0, 64),
        ),
        ("video_preprocessor_config.json", {"max_pixels": 900}, (2.0, None)),
    ],
)  # fmt: skip
def test_limits_of_clips_stand_in_one_of_three_files(tmp_path, name, held, found):
    (tmp_path / name).write_text(json.dumps(held))
    limits = clip_limits(tmp_path)
    assert (limits.rate, limits.frames) == found
    assert limits.size in ({}, {"longest_edge": 9}, {"longest_edge": 900})


def test_what_is_not_read_is_refused_with_the_reason(tiny, noise):
    clip = moving(2)
    with pytest.raises(ModelError, match="clips are not read for models of type llava: ask about a picture"):
        tiny("llava").encode([clip])
    assert "type gemma3" in tiny("gemma3").no_clips
    assert [tiny(family).no_clips for family in FILMED] == [""] * len(FILMED)
    vlm = tiny("qwen2.5-vl")
    with pytest.raises(ValueError, match="entropy of patches is known of pictures alone"):
        vlm.encode([clip], frozenset({"patch_entropy"}))
    with pytest.raises(OutOfReachError, match="take fewer frames"):
        vlm.encode([clip], asked=make_encoding("lower_resolution").encoding(24, 6))


# Fewer frames


def frames_by_hand(vlm, pictures, clips, most):
    """Of each clip the frames, by trying every share of the steps of all, and the tokens of all by encoding each."""
    beside = vlm.encode(pictures).tokens.n if pictures else 0
    whole = [vlm.encode([clip]).tokens.grids[0] for clip in clips]
    best: tuple[int, list[int]] = (0, [])
    for hundredth in range(1, 1001):
        steps = [max(1, int(grid.t * hundredth / 1000 + 1e-9)) for grid in whole]
        tokens = beside + sum(count * grid.gh * grid.gw for count, grid in zip(steps, whole, strict=True))
        if best[0] < tokens <= most:
            best = (tokens, steps)
    found = []
    for clip, grid, steps in zip(clips, whole, best[1], strict=True):
        frames, joined = len(clip.frames), -(-len(clip.frames) // grid.t)
        count = min(frames, steps * joined)
        found.append(tuple(int((at + 0.5) * frames / count) for at in range(count)))
    return found


def some_of(clip: Clip, frames) -> Clip:
    return Clip(tuple(clip.frames[i] for i in frames), tuple(clip.times[i] for i in frames), clip.duration, clip.total)


@pytest.mark.parametrize("family", FILMED)
def test_fewer_frames_are_the_clip_read_at_a_lower_rate(tiny, family):
    vlm, method = tiny(family), make_encoding("fewer_frames")
    clip = clip_for(vlm, family, 8)
    full = vlm.encode([clip])
    each = full.tokens.n // full.tokens.grids[0].t
    for budget in (each, full.tokens.n // 2 + 1, full.tokens.n):
        fewer = vlm.encode([clip], asked=method.encoding(full.tokens.n, budget))
        assert list(fewer.taken) == frames_by_hand(vlm, [], [clip], budget)
        hand = vlm.encode([some_of(clip, fewer.taken[0])])
        assert torch.equal(fewer.tokens.features, hand.tokens.features)
        assert (fewer.texts, fewer.patches) == (hand.texts, hand.patches)
        assert budget - each < fewer.tokens.n <= budget
        assert fewer.sizes == full.sizes
    assert fewer.taken == (tuple(range(8)),)
    assert full.taken == ()
    if each > 1:
        with pytest.raises(OutOfReachError, match=f"makes {each} visual tokens of one step of the clip, and"):
            vlm.encode([clip], asked=method.encoding(full.tokens.n, each - 1))


def test_fewer_frames_of_several_clips_beside_a_picture(tiny, noise):
    vlm = tiny("qwen2.5-vl")
    media = [noise(112, 84), moving(7), moving(4, (56, 84), seed=1)]
    full = vlm.encode(media)
    for budget in range(30, full.tokens.n + 1, 7):
        fewer = vlm.encode(media, asked=make_encoding("fewer_frames").encoding(full.tokens.n, budget))
        assert [*fewer.taken] == [(), *frames_by_hand(vlm, media[:1], media[1:], budget)]
        hand = vlm.encode([media[0], *(some_of(clip, at) for clip, at in zip(media[1:], fewer.taken[1:], strict=True))])
        assert torch.equal(fewer.tokens.features, hand.tokens.features)
        assert fewer.tokens.grids == hand.tokens.grids
    with pytest.raises(OutOfReachError, match="of a step of each clip and the pictures beside it, and 3 are asked for"):
        vlm.encode(media, asked=make_encoding("fewer_frames").encoding(full.tokens.n, 3))
    with pytest.raises(OutOfReachError, match="fewer frames is for clips alone"):
        vlm.encode(media[:1], asked=make_encoding("fewer_frames").encoding(12, 6))


def test_a_frame_is_as_large_among_few_as_among_all(tiny):
    """Qwen-VL makes the frames of long clips smaller: those that are left of one stay so."""
    vlm = tiny("qwen2.5-vl")
    clip = Clip((moving(1, (448, 448)).frames[0],) * 40, tuple(map(float, range(40))), 40.0, 40)
    full = vlm.encode([clip])
    assert full.tokens.grids[0].gh < 16, "as a picture it has 16 rows"
    fewer = vlm.encode([clip], asked=make_encoding("fewer_frames").encoding(full.tokens.n, full.tokens.n // 10))
    assert (fewer.tokens.grids[0].t, fewer.tokens.grids[0].gh) == (2, full.tokens.grids[0].gh)


def test_the_shipped_model_reads_clips_and_says_that_it_knows_none():
    vlm = load()
    encoded = vlm.encode([moving(4)])
    found = in_world(vlm, encoded, "how many objects are there?")
    assert (found.inside, found.unknown) == (False, ())
    assert found.reason == "the model knows drawn scenes alone, and was never shown a clip"
    assert vlm.answer(encoded, "how many objects are there?", max_new_tokens=4).text
