"""What a question may be: whole characters, at least one, and no more than its asker allows."""

import pytest

from pruning.text import checked_question


def test_a_question_loses_the_blanks_around_it_and_may_be_as_long_as_the_limit():
    assert checked_question("  what color? \n") == "what color?"
    assert checked_question(" " + "x" * 1_000 + " ", 1_000) == "x" * 1_000
    assert len(checked_question("x" * 100_000)) == 100_000


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        (None, "is empty"),
        (7, "is empty"),
        ("x" * 10_000, "10,000 characters, at most 1,000 are allowed"),
        ("why \ud83d?", "half a character .* at place 5"),
    ],
)
def test_what_is_no_question_says_why_without_repeating_it(question, words):
    with pytest.raises(ValueError, match=words) as refused:
        checked_question(question, 1_000)
    assert "xxx" not in str(refused.value)
