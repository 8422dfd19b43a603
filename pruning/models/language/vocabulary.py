"""Whether tokenizer and embeddings go together. More tokens than embeddings is common, and harmless until one is used:
then it is an index out of range, which on a GPU ends the whole process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pruning.models.families.base import Family
from pruning.models.language.generation import named_ends, stop_ids
from pruning.models.language.template import QUESTION
from pruning.models.values import ModelError

REPLACED = ("gemma3", "paligemma")  # the library looks up another token where these write an image's rows
REMEDY = "put the checkpoint's own tokenizer and config.json back"


def check(family: Family) -> None:
    """Raise ModelError, with both counts, unless the model knows the tokens that every prompt is made of, and an end.

    For a model that was just opened; what a question brings is checked with the question.
    """
    image, size = getattr(family.config, "image_token_id", None), _size(family)
    within = isinstance(image, int) and (0 <= image < size or family.config.model_type in REPLACED)
    if not within or family.processing.tokenizer.convert_ids_to_tokens(image) is None:
        raise ModelError(f"its image token is number {image}, but {_counts(family)}: {REMEDY}")
    ends = sorted(named_ends(family.model))
    if ends and not stop_ids(family.model):
        raise ModelError(
            f"its answers would never end: the end token is number {ends[0]}, but {_counts(family)}: {REMEDY}, "
            "generation_config.json too"
        )
    beyond = _beyond(family, torch.tensor(family.processing.ids(QUESTION, (), [""])))
    if beyond is not None:
        raise ModelError(f"its chat template writes {_shown(family, beyond)}, but {_counts(family)}: {REMEDY}")


def check_ids(family: Family, ids: Tensor) -> None:
    """Raise ValueError for the first of a prompt's token ids (n,) that has no embedding."""
    beyond = _beyond(family, ids)
    if beyond is not None:
        raise ValueError(
            f"The question has {_shown(family, beyond)}, which the model does not know: {_counts(family)}. Use other "
            f"words, or {REMEDY}"
        )


def check_answer(family: Family, ids: Sequence[Any]) -> None:
    """Raise ValueError unless all token ids of an answer that is to be judged are the model's."""
    size = _size(family)
    bad = [i for i in ids if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < size]
    if bad:
        raise ValueError(f"answer token {bad[0]!r} must be a whole number from 0 to {size - 1}: {_counts(family)}")


def _beyond(family: Family, ids: Tensor) -> int | None:
    beyond = ids[(ids >= _size(family)) & (ids != family.config.image_token_id)]
    return int(beyond[0]) if len(beyond) else None


def _size(family: Family) -> int:
    return len(family.model.get_input_embeddings().weight)


def _counts(family: Family) -> str:
    return f"the tokenizer has {len(family.processing.tokenizer):,} tokens and the model {_size(family):,} embeddings"


def _shown(family: Family, token: int) -> str:
    return f"{family.processing.tokenizer.decode([token])!r}, token number {token}"
