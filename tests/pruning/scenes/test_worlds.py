"""Charts, documents and interfaces are reproducible; their questions have one right answer, which can be spelled."""

from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest

from pruning.scenes import HELD_OUT, typefaces
from pruning.scenes.charts.numbers import KINDS as CHART_KINDS
from pruning.scenes.documents.pages import KINDS as PAGE_KINDS
from pruning.scenes.words import CHARACTERS, WORDS, invent, spelled
from pruning.scenes.worlds import WORLDS
from tests.helpers.oracles_worlds import answer

DRAWN = ("charts", "documents", "interfaces")
SIZES = ((336, 336), (224, 224), (448, 448), (224, 448), (448, 224))
COUNT = {"charts": 110, "documents": 200, "interfaces": 200}


@cache
def pictures(world: str) -> list:
    """Of all sizes, some of them held out."""
    return [WORLDS[world].draw(i + HELD_OUT * (i % 2), *SIZES[i % 5]) for i in range(COUNT[world])]


@pytest.mark.parametrize("world", DRAWN)
def test_a_seed_is_a_picture(world: str) -> None:
    draw = WORLDS[world].draw
    first, again, other = draw(5, 224, 336), draw(5, 224, 336), draw(6, 224, 336)
    assert np.array_equal(first.image, again.image)
    assert first.facts == again.facts
    assert first.image.shape == (224, 336, 3)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("world", DRAWN)
def test_held_out_pictures_are_others_and_do_not_depend_on_installed_typefaces(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = WORLDS[world].draw
    held_out = [draw(HELD_OUT + i, 224, 224) for i in range(6)]
    assert all(h.facts != draw(i, 224, 224).facts for i, h in enumerate(held_out))
    monkeypatch.setattr(typefaces, "installed", lambda: ("/no/such/typeface.ttf",) * 500)
    assert all(np.array_equal(h.image, draw(HELD_OUT + i, 224, 224).image) for i, h in enumerate(held_out))
    with pytest.raises(OSError, match="resource"):  # where one is in use, training pictures do
        list(map(draw, range(6), [224] * 6, [224] * 6))


@pytest.mark.parametrize(("world", "bad"), list(product(DRAWN, [(-1, 336), (0, 200), (0, 2000)])))
def test_impossible_pictures_are_refused(world: str, bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{bad[0]} of {bad[1]}x336"):
        WORLDS[world].draw(*bad, 336)


@pytest.mark.parametrize("world", DRAWN)
def test_answers_hold_against_the_facts(world: str) -> None:
    asked = Counter[str]()
    for picture in pictures(world):
        for question in WORLDS[world].questions(picture, 0, per_family=3):
            asked[question.family] += 1
            assert question.answer == answer(world, picture.facts, question.text), (picture.facts, question)
    assert set(asked) == set(WORLDS[world].families)
    assert min(asked.values()) > 40, asked


@pytest.mark.parametrize("world", DRAWN)
def test_no_family_is_answered_by_a_constant(world: str) -> None:
    said = {family: Counter[str]() for family in WORLDS[world].families}
    for picture in pictures(world):
        for question in WORLDS[world].questions(picture, 1, per_family=2):
            said[question.family][question.answer] += 1
    for family, counts in said.items():
        limit = 0.65 if set(counts) <= {"yes", "no", "rise", "fall"} else 0.4
        assert max(counts.values()) / counts.total() < limit, (family, counts)


@pytest.mark.parametrize("world", DRAWN)
def test_questions_and_answers_are_words_or_spelled(world: str) -> None:
    lengths = set()
    for picture in pictures(world):
        for question in WORLDS[world].questions(picture, 2, per_family=2):
            for word in question.text.rstrip("?").split():
                assert word in WORDS or spelled(word), question
            assert question.answer in WORDS or spelled(question.answer), question
            assert " " not in question.answer
            lengths.add(len(question.answer) if question.answer not in WORDS else 1)
        for writing in picture.writings:
            assert set(writing.text.lower()) <= set(CHARACTERS)
            assert {writing.of, writing.under} <= {"", *WORDS}
    assert max(lengths) <= 10
    assert len(lengths) >= 3


@pytest.mark.parametrize("world", DRAWN)
def test_what_is_written_lies_in_the_picture(world: str) -> None:
    outside = total = 0
    for picture in pictures(world):
        height, width = picture.image.shape[:2]
        for writing in picture.writings:
            assert writing.centers.shape == (len(writing.text), 2)
            assert (np.diff(writing.centers[:, 0]) > 0).all()
            total += len(writing.text)
            outside += int(((writing.centers < 0) | (writing.centers > (width, height))).any(1).sum())
    assert outside / total < 0.002


@pytest.mark.parametrize("world", ["documents", "interfaces"])
def test_ink_lies_where_characters_are_said_to_be(world: str) -> None:
    """A character's place is darker or lighter than what is around its line."""
    for picture in pictures(world)[:20]:
        grey = picture.image.mean(2)
        for writing in picture.writings:
            x, y = (int(v) for v in writing.centers.mean(0))
            around = grey[max(y - 11, 0) : y + 12, max(x - 16, 0) : x + 17]
            assert np.ptp(around) > 40, (writing.text, x, y)


def test_documents_say_what_their_facts_say() -> None:
    for picture in pictures("documents"):
        page = picture.facts
        said = Counter(w.text.lower().rstrip(":") for w in picture.writings)
        expected = Counter([*([page.title] if page.title else []), *page.head, *(c for r in page.rows for c in r)])
        assert said == expected, page
        prices = {r[0]: round(float(r[1]) * 100) for r in page.rows} if page.kind == "receipt" else {}
        if prices:
            paid = ("total", "cash", "change")
            assert prices["total"] == sum(v for k, v in prices.items() if k not in paid)


def test_charts_and_windows_show_what_their_facts_say() -> None:
    for picture in pictures("charts"):
        chart = picture.facts
        shown = [m for m in picture.marks if m.role in ("tip", "point", "slice")]
        assert len(shown) == sum(len(values) for _, values in chart.series)
        if chart.names:
            assert Counter(m.value for m in shown) == Counter(chart.spell(v) for _, s in chart.series for v in s)
        if chart.labelled:
            assert [w.text for w in picture.writings if w.role == "value"] == [m.value for m in shown]
    for picture in pictures("interfaces"):
        states = {m.of: m.role == "on" for m in picture.marks if m.role in ("on", "off")}
        assert states == dict(picture.facts.settings)
        assert [m.of for m in picture.marks if m.role == "button"] == [name for name, _ in picture.facts.buttons]


def test_every_kind_turns_up() -> None:
    assert {p.facts.kind for p in pictures("documents")} == set(PAGE_KINDS)
    assert {p.facts.kind for p in pictures("charts")} == set(CHART_KINDS)
    assert {p.facts.control for p in pictures("interfaces")} == {"box", "switch"}


def test_made_up_words_are_spelled_from_their_first_character_on() -> None:
    rng = np.random.default_rng(0)
    words = [invent(rng) for _ in range(500)]
    assert all(spelled(word) and 3 <= len(word) <= 8 for word in words)
    assert len(set(words)) > 300
    assert not spelled("total")
    assert not spelled("isolde")  # begins with "is"
