"""Moving scenes: the same every time, and their objects do what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from pruning.scenes.moving import DOES, render_moving
from pruning.scenes.render import COLORS

SIZE = (112, 160)
SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes():
    return [render_moving(seed, 6, *SIZE) for seed in SEEDS]


def test_the_same_seed_gives_the_same_clip(scenes):
    again = render_moving(3, 6, *SIZE)
    assert np.array_equal(again.frames, scenes[3].frames)
    assert again.actors == scenes[3].actors
    assert scenes[3].frames.shape == (6, *SIZE, 3)
    assert not np.array_equal(scenes[3].frames, scenes[4].frames)


def test_objects_do_what_is_said_of_them(scenes):
    seen = set()
    for scene in scenes:
        for actor in scene.actors:
            seen.add(actor.does)
            first, last = actor.at(0), actor.at(5)
            inside = [0 < item.x < SIZE[1] and 0 < item.y < SIZE[0] for item in (first, last)]
            assert inside == {"enters": [False, True], "leaves": [True, False]}.get(actor.does, [True, True])
            assert (first.color != last.color) == (actor.does == "turns")
            assert ((first.x, first.y) != (last.x, last.y)) == (actor.does in ("moves", "enters", "leaves"))
            assert last.color in COLORS
    assert seen == set(DOES)


def test_the_ground_stays_and_something_changes(scenes):
    for scene in scenes:
        moved = (scene.frames[0] != scene.frames[-1]).any(axis=2)
        assert moved.any(), scene.seed
        assert moved.mean() < 0.9, scene.seed


def test_what_turns_has_its_new_colour_in_the_picture():
    scene = next(s for s in (render_moving(seed, 4, 224, 224) for seed in SEEDS)
                 if len(s.actors) > 1 and all(a.does in ("turns", "stays") for a in s.actors))  # fmt: skip
    actor = next(actor for actor in scene.actors if actor.does == "turns")
    y, x = int(actor.item.y), int(actor.item.x - actor.item.size * 0.3)
    assert np.abs(scene.frames[0][y, x].astype(int) - scene.frames[-1][y, x]).max() > 30


@pytest.mark.parametrize(("seed", "frames", "height"), [(-1, 4, 200), (1, 1, 200), (1, 4, 50), (1, 4, 1000)])
def test_what_cannot_be_drawn_is_refused(seed, frames, height):
    with pytest.raises(ValueError, match=f"moving scene {seed} of {frames} frames"):
        render_moving(seed, frames, height, 200)
