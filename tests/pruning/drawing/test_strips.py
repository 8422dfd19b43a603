"""Clips as drawn: each frame with its own step's tokens, on a sheet and in a film."""

import cv2
import numpy as np
import pytest
import torch

from pruning.drawing import strips
from pruning.drawing.paint import KEPT
from pruning.tokens import Selection

RECTS = np.tile(np.array([[0, 0, 40, 30], [40, 0, 80, 30]], np.float32), (3, 1))  # two tokens in each of three steps
STEPS = np.repeat(np.arange(3), 2)
FRAME = np.full((30, 80, 3), 200, np.uint8)


@pytest.mark.parametrize("style", ["dimmed", "grid", "order", "merged"])
def test_a_frame_shows_what_its_own_step_keeps(style):
    kept = Selection(torch.tensor([0, 3]), 6)  # left of the first step, right of the second, nothing of the third
    drawn = strips.strip([FRAME] * 5, RECTS, STEPS, kept, style)  # two frames to a step, the last step has one
    assert all(np.array_equal(drawn[a], drawn[b]) for a, b in ((0, 1), (2, 3)))
    bright = [[int(drawn[at][10:20, x : x + 20].mean()) for x in (10, 50)] for at in (0, 2, 4)]
    if style in ("dimmed", "merged"):
        assert [[value > 150 for value in row] for row in bright] == [[True, False], [False, True], [False, False]]
    assert len({tuple(map(bytes, drawn[at])) for at in (0, 2, 4)}) == 3


def test_frames_that_were_left_out_have_no_tokens():
    """Of seven frames the second, fourth and last: two to a step, the last step has one."""
    rects, steps = RECTS[:4], STEPS[:4]
    every, taken = Selection(torch.arange(4), 4), (1, 3, 6)
    assert strips.steps_of(7, steps, taken) == [-1, 0, -1, 0, -1, -1, 1]
    assert strips.on_sheet(7, steps, taken) == list(range(7))
    assert strips.on_sheet(5, STEPS) == [0, 2, 4]
    drawn = strips.strip([FRAME] * 7, rects, steps, every, taken=taken)
    bright = [bool(frame[10:20, 10:20].mean() > 150) for frame in drawn]
    assert bright == [False, True, False, True, False, False, True]


@pytest.mark.parametrize("size", [(80, 30), (30, 80), (50, 50)])
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_a_sheet_is_about_as_wide_as_high_and_has_every_frame(count, size):
    side = strips.side(count, size)
    width, height = (round(side * each / max(size)) for each in size)
    frames = [np.full((height, width, 3), i + 1, np.uint8) for i in range(count)]
    made = strips.sheet(frames, [f"{i}.0 s: 1 of 9" for i in range(count)])
    shown = set(np.flatnonzero(np.bincount(made[..., 0].ravel())).tolist())
    assert set(range(1, count + 1)) <= shown
    assert max(made.shape) < 4 * strips.SHEET
    if count > 8:
        assert 0.4 < made.shape[1] / made.shape[0] < 2.5


def test_a_film_has_its_frames_at_its_pace(tmp_path):
    frames = [np.full((31, 81, 3), 20 + 60 * i, np.uint8) for i in range(4)]
    path = tmp_path / "a.mp4"
    strips.write_film(path, frames, 0.5)
    read = cv2.VideoCapture(str(path))
    assert read.get(cv2.CAP_PROP_FPS) == pytest.approx(2)
    means = []
    while (found := read.read())[0]:
        assert found[1].shape == (30, 80, 3)
        means.append(found[1].mean())
    assert means == pytest.approx([20, 80, 140, 200], abs=4)
    with pytest.raises(OSError, match="cannot be written"):
        strips.write_film(tmp_path / "none" / "a.mp4", frames, 0.5)


def test_the_outline_of_what_is_kept_stays_sharp():
    drawn = strips.strip([FRAME], RECTS[:2], STEPS[:2], Selection(torch.tensor([0]), 2))[0]
    assert (drawn == np.array(KEPT)).all(axis=2).sum() > 50
