"""Scenes are reproducible, their questions have one right answer, and the benchmark counts what a model really says."""

from collections import Counter

import numpy as np
import pytest

from pruning.scenes import FAMILIES, questions, render
from pruning.scenes.questions import PLURAL, VOCABULARY, ask, rephrase
from pruning.scenes.render import COLORS, SHAPES


def test_a_seed_is_a_scene() -> None:
    first, again, other = render(5), render(5), render(6)
    assert np.array_equal(first.image, again.image)
    assert first.objects == again.objects
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [(112, 112), (224, 336), (896, 896)])
def test_objects_lie_where_the_scene_says(size: tuple[int, int]) -> None:
    scene = render(11, *size)
    assert scene.image.shape == (*size, 3)
    for i, item in enumerate(scene.objects):
        ys, xs = np.nonzero(scene.owner == i + 1)
        assert abs(xs.mean() - item.x) < 0.12 * item.size + 2
        assert abs(ys.mean() - item.y) < 0.12 * item.size + 2
        assert np.ptp(xs) <= item.size * 1.1 + 3
    assert set(np.unique(scene.ink)) - {0} == {i + 1 for i, o in enumerate(scene.objects) if o.digit}


def test_objects_differ_in_size_from_one_visual_token_to_forty() -> None:
    areas = [(o.size / 28) ** 2 for seed in range(200) for o in render(seed, 448, 448).objects]
    assert min(areas) < 1.5
    assert max(areas) > 33


@pytest.mark.parametrize(("seed", "height"), [(-1, 336), (0, 100), (0, 2000)])
def test_impossible_scenes_are_refused(seed: int, height: int) -> None:
    with pytest.raises(ValueError, match=f"{seed} of {height}x336"):
        render(seed, height, 336)


def test_answers_hold_against_the_objects() -> None:
    """Parses the question's words and answers it from the list of objects, apart from the code that asked it."""
    checked = Counter[str]()
    singular = {plural: shape for shape, plural in PLURAL.items()}
    for seed in range(150):
        scene = render(seed, 336, 336)
        for question in questions(scene, 0, per_family=3):
            words = question.text.rstrip("?").replace(" of ", " ").split()
            checked[question.family] += 1

            def named(words: list[str]) -> list:
                wanted = [singular.get(w, w) for w in words if singular.get(w, w) in (*SHAPES, *COLORS)]
                return [o for o in scene.objects if all(w in (o.shape, o.color) for w in wanted)]  # noqa: B023

            if question.family == "existence":
                assert question.answer == ("yes" if named(words) else "no")
            elif question.family == "counting":
                assert question.answer == str(len(named(words)))
            elif question.family == "spatial":
                cut = next(i for i, w in enumerate(words) if w in ("left", "above", "top"))
                (one,) = named(words[:cut])
                across = words[cut] == "left"
                if "side" in words:
                    other_x, other_y = 168.0, 168.0
                else:
                    (two,) = named(words[cut:])
                    other_x, other_y = two.x, two.y
                first = one.x < other_x if across else one.y < other_y
                assert question.answer == words[cut] if first else question.answer == words[cut + 2]
            else:
                (one,) = named(words)
                assert question.answer == {"color": one.color, "shape": one.shape, "number": one.digit}[words[1]]
    assert min(checked[f] for f in FAMILIES) > 100


def test_no_family_is_answered_by_a_constant() -> None:
    said = {family: Counter[str]() for family in FAMILIES}
    for seed in range(150):
        for question in questions(render(seed), 0, per_family=2):
            said[question.family][question.answer] += 1
    for family, counts in said.items():
        limit = 0.6 if family == "existence" else 0.4
        assert max(counts.values()) / counts.total() < limit, (family, counts)


def test_all_words_are_in_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    for seed in range(60):
        scene = render(seed, 224, 224)
        for family in FAMILIES:
            question = ask(scene, rng, family)
            if question:
                for asked in (question, rephrase(question, rng)):
                    text = asked.text.replace("?", " ?").replace(":", " :")
                    assert set([*text.split(), asked.answer]) <= set(VOCABULARY)
