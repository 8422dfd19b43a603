"""From a question and what was said before to the unpruned prompt; what is checked on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pruning.models.families.base import Family
from pruning.models.language import vocabulary
from pruning.models.values import Encoded, ModelError, Prompt, Turn
from pruning.text import check_text, checked_question


def build(family: Family, encoded: Encoded, question: str, history: Sequence[Turn]) -> Prompt:
    """The chat template with one placeholder per visual row, on the CPU. Raises ValueError as `VLM.prompt`."""
    turns = [Turn(_clean(family, turn.question), _clean(family, turn.answer, empty=True)) for turn in history]
    ids = family.processing.ids(_clean(family, question), turns, encoded.texts, encoded.kinds)
    input_ids = torch.tensor([ids])
    vocabulary.check_ids(family, input_ids[0])
    placeholders = torch.isin(input_ids[0], torch.tensor(family.placeholders)).nonzero()[:, 0]
    rows = encoded.rows_count
    if len(placeholders) != rows:
        raise ModelError(
            f"The tokenizer made {len(placeholders)} image tokens of {rows}: it does not belong to this model. Put the "
            "checkpoint's own tokenizer files back."
        )
    visual = placeholders if encoded.places is None else placeholders[encoded.places]
    return Prompt(input_ids, family.positions(input_ids, dict(encoded.side)), visual)


def check_length(family: Family, title: str, prompt: Prompt, new_tokens: int) -> None:
    """Raise ValueError unless the context of the model, named `title`, holds the prompt and so many further tokens."""
    limit = family.config.get_text_config().max_position_embeddings
    needed = max(prompt.n, int(prompt.positions.max()) + 1) + new_tokens
    if needed > limit:
        raise ValueError(
            f"The question, the visual tokens and {new_tokens} tokens of answer need {needed} places; {title} "
            f"holds {limit}. Shorten the question, use a smaller image or fewer of them."
        )


def _clean(family: Family, text: str, *, empty: bool = False) -> str:
    """A question, or an answer from history, that cannot be mistaken for the model's own marks."""
    text = check_text("The conversation", text).strip() if empty else checked_question(text)
    added = family.processing.tokenizer.added_tokens_decoder.values()
    marks = [str(token) for token in added if token.special] + [family.processing.placeholder]
    marks += [family.processing.marks["video"]] * family.films
    control = [mark for mark in marks if mark in text]
    if control:
        raise ValueError(f"The question contains {control[0]!r}, a control token of the model: remove it")
    return text


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
