"""Two weights that a person sets, and the one λ that a method takes."""

import math


def mmr_lambda(importance: object, diversity: object) -> float:
    """λ = w_importance / (w_importance + w_diversity): 1 is importance only, 0 diversity only.

    Raises ValueError for a weight that is not a number of at least 0, and when both are 0.
    """
    weights = []
    for name, value in (("Importance", importance), ("Diversity", diversity)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} weight is {value!r}: it must be a number of at least 0")
        weights.append(float(value))
    if sum(weights) == 0:
        raise ValueError("Importance weight and diversity weight are both 0, so λ is undefined: raise one of them")
    return round(weights[0] / sum(weights), 6)  # what a person sets has no more digits; equal settings stay equal
