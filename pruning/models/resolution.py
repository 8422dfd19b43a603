"""How small pictures must be made for a number of visual tokens: asked of the family, before the tower runs."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pruning.encoding import Encoding, OutOfReachError
from pruning.models.families.base import Family
from pruning.models.families.geometry import check_aspect

STEPS = 64  # limits tried between two whole numbers of tokens: of a strip, one token is less than one of its cells


def limit(family: Family, title: str, pictures: Sequence[Image.Image], most: float, asked: Encoding) -> float:
    """The `max_tokens` of each picture, at most `most`, with which all of them have the most tokens up to `asked.most`.

    title: of the model. Raises OutOfReachError where its tokens do not follow from the size of a picture, or these
    pictures have more tokens however small they are made.
    """
    if not family.scales:
        raise OutOfReachError(
            f"{title} has no option that makes fewer visual tokens of a picture: take a method that chooses among them"
        )
    sizes = [picture.size for picture in pictures]
    for size in sizes:
        check_aspect(*size)

    def total(steps: int) -> int:
        return sum(family.count(size, len(sizes), steps / STEPS) for size in sizes)

    low, high = 1, int(most * STEPS)
    if total(high) <= asked.most:
        return most
    if (fewest := total(low)) > asked.most:
        raise OutOfReachError(
            f"{title} makes {fewest} visual tokens of {'these pictures' if len(sizes) > 1 else 'this picture'} at the "
            f"least, and {asked.most} are asked for: ask for {fewest} or more, or choose a method that chooses among "
            "the tokens"
        )
    while high - low > 1:  # low gives few enough, high too many
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= asked.most else (low, middle)
    return low / STEPS
