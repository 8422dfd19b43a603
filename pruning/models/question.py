"""Questions: the check of what was typed, and which tokens carry its meaning, for importance by relevance."""

from typing import Any

from pruning.text import check_text

STOP_WORDS = frozenset(
    (  # noqa: SIM905  (a column of quotes says no more)
        "a an and any are as at be by can could did do does for from has have how i if in is it its many me much my of "
        "on or please s say says show shows tell that the their them there these they this to was were what when where "
        "which who whose why will with would yes no you your"
    ).split()
)


def content_token_ids(tokenizer: Any, question: str) -> list[int]:
    """Token ids of the question without punctuation, common function words (English) and unknown words.

    Pieces of a longer word are judged one by one. When nothing is left, all tokens of the question count.
    """
    ids: list[int] = tokenizer(question, add_special_tokens=False).input_ids
    kept = []
    for token_id in ids:
        word = tokenizer.decode([token_id]).strip().lower()
        if token_id != tokenizer.unk_token_id and any(c.isalnum() for c in word) and word not in STOP_WORDS:
            kept.append(token_id)
    return kept or ids


def checked_question(question: object) -> str:
    """The question without surrounding blanks. Raises ValueError when it is empty, or holds half a character."""
    if not isinstance(question, str) or not question.strip():
        raise ValueError("The question is empty: type one, for example “What color is the star?”")
    return check_text("The question", question.strip())
