"""Two weights that a person sets, and the one λ that a method takes."""

import math


def mmr_lambda(importance: float, diversity: float) -> float:
    """λ = w_importance / (w_importance + w_diversity): 1 is importance only, 0 diversity only.

    Raises ValueError for a weight that is not a number of at least 0, and when both are 0.
    """
    for name, value in (("importance", importance), ("diversity", diversity)):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        if not good:
            raise ValueError(f"The {name} weight is {value!r}: it must be a number of at least 0")
    total = importance + diversity
    if total == 0:
        raise ValueError("The importance weight and the diversity weight are both 0, so λ is undefined: raise one")
    return importance / total
