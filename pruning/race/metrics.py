"""How an answer is scored: the field's metrics by their definitions, each with its source.

A metric is chosen by name, per record. Scores lie between 0 and 1; a setting's accuracy is their mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pruning.race.vqa import vqa_plain

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RELAXED: Final = 0.05
ANLS_LIMIT: Final = 0.5
FEWEST_HUMANS: Final = 4


@dataclass(frozen=True)
class Metric:
    """score(said, answers, choices): 0 to 1. check(answers, choices): what is wrong with a record for this metric, and
    the remedy; "" where nothing is.
    """

    name: str
    score: Callable[[str, Sequence[str], Sequence[str]], float]
    check: Callable[[Sequence[str], Sequence[str]], str]


def exact(said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    """1 where what is said equals one of the answers, cases, blanks and a full stop at the end apart.

    Exact match as SQuAD has it (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250). Differs from it: articles
    and punctuation within stay, as "3.5" is not "35".
    """
    return float(_plain(said) in map(_plain, answers))


def relaxed(said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    """1 where a number lies within 5 % of a true one, or a text equals it: |said - true| <= 0.05 |true|.

    Relaxed accuracy of ChartQA (Masry et al. 2022, https://arxiv.org/abs/2203.10244, section 4.1, after PlotQA). "7 %"
    is 0.07, as in its published evaluations. A true 0 has to be met exactly.
    """
    return float(any(_within(_number(said), _number(true)) or exact(said, [true]) for true in answers))


def anls(said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    """max over answers of 1 - NL where NL < 0.5, else 0. NL: edit distance (Levenshtein) over the longer length.

    Average normalised Levenshtein similarity of ST-VQA (Biten et al. 2019, https://arxiv.org/abs/1905.13648, eq. 1),
    with DocVQA's reading of texts: cases and repeated blanks apart.
    """
    return max(_similarity(_blanks(said).lower(), _blanks(true).lower()) for true in answers)


def vqa_soft(said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    """Mean over the humans of min(1, m / 3), where m of the *other* humans' answers equal what is said.

    VQA accuracy (Antol et al. 2015, https://arxiv.org/abs/1505.00468; the mean over all subsets of nine as in its
    evaluation code). Both sides are read as `vqa_plain` has it, always, as TextVQA's evaluation does.
    """
    mine, humans = vqa_plain(said), [vqa_plain(answer) for answer in answers]
    equal = [human == mine for human in humans]
    return sum(min(1.0, (sum(equal) - own) / 3) for own in equal) / len(equal)


def yes_no(said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    """1 where what is said means what is true; read as `says_yes` has it."""
    return float(says_yes(said) == says_yes(answers[0]))


def multiple_choice(said: str, answers: Sequence[str], choices: Sequence[str]) -> float:
    """1 where the option that is said is the true one; one that cannot be told is wrong.

    answers: a letter, or the option's text. Read as LLaVA's evaluation of ScienceQA (Liu et al. 2023,
    https://arxiv.org/abs/2304.08485) reads it: a letter alone or at the beginning, "the answer is X"; and the text of
    one option.
    """
    true = {option for answer in answers if (option := chosen(answer, choices)) is not None}
    return float(chosen(said, choices) in true)


def says_yes(said: str) -> bool:
    """POPE's reading (Li et al. 2023, https://arxiv.org/abs/2305.10355): no where the first sentence has the word no or
    not, else yes; so whatever is neither counts as yes.
    """
    words = said.partition(".")[0].replace(",", "").split()
    return not {"no", "not"} & {word.lower() for word in words}


@dataclass(frozen=True)
class YesNo:
    """Counts of a yes/no task, "yes" being the positive class, as POPE reports them. NaN where nothing is divided."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes: float


def yes_no_counts(pairs: Iterable[tuple[bool, bool]]) -> YesNo:
    """pairs: (said yes, yes is true). accuracy = (TP + TN) / n, precision = TP / (TP + FP), recall = TP / (TP + FN),
    F1 = 2PR / (P + R), yes = share of yes said (Li et al. 2023, https://arxiv.org/abs/2305.10355, section 3).
    """
    table = list(pairs)
    hit = sum(said and true for said, true in table)
    said_yes, is_yes = sum(said for said, _ in table), sum(true for _, true in table)
    right = sum(said == true for said, true in table)
    return YesNo(
        _share(right, len(table)),
        _share(hit, said_yes),
        _share(hit, is_yes),
        _share(2 * hit, said_yes + is_yes),
        _share(said_yes, len(table)),
    )


def chosen(said: str, choices: Sequence[str]) -> int | None:
    """Which option is said, from 0; None where that cannot be told."""
    text = said.strip()
    for i, choice in enumerate(choices):
        if _plain(text) == _plain(choice):
            return i
    found = re.match(r"\(?([A-Za-z])\)?(?:[.):,]|\s*$)", text) or re.search(r"answer is:? \(?([A-Za-z])\b", text)
    place = LETTERS.find(found[1].upper()) if found else -1
    return place if 0 <= place < len(choices) else None


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: fewest insertions, deletions and replacements of one character."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def _similarity(said: str, true: str) -> float:
    away = edit_distance(said, true) / max(len(said), len(true), 1)
    return 1.0 - away if away < ANLS_LIMIT else 0.0


def _within(said: float | None, true: float | None) -> bool:
    return said is not None and true is not None and abs(said - true) <= RELAXED * abs(true)


def _number(text: str) -> float | None:
    text = text.strip().rstrip(".").replace(",", "")
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _plain(text: str) -> str:
    return _blanks(text).removesuffix(".").casefold()


def _blanks(text: str) -> str:
    return " ".join(text.split())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _some(answers: Sequence[str], _choices: Sequence[str]) -> str:
    return ""


def _humans(answers: Sequence[str], _choices: Sequence[str]) -> str:
    if len(answers) >= FEWEST_HUMANS:
        return ""
    return f"vqa_soft needs the answers of at least {FEWEST_HUMANS} people, usually 10, not {len(answers)}: use exact"


def _yes_or_no(answers: Sequence[str], _choices: Sequence[str]) -> str:
    if len(answers) == 1 and _plain(answers[0]) in ("yes", "no"):
        return ""
    return f"yes_no needs one answer, yes or no, not {', '.join(map(repr, answers))}: use exact"


def _options(answers: Sequence[str], choices: Sequence[str]) -> str:
    if not 2 <= len(choices) <= len(LETTERS):
        return f"multiple_choice needs 2 to {len(LETTERS)} choices, not {len(choices)}: give the options as `choices`"
    lost = [answer for answer in answers if chosen(answer, choices) is None]
    return f"the answer {lost[0]!r} is none of the choices: give a letter, or the text of an option" if lost else ""


METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("exact", exact, _some),
        Metric("relaxed", relaxed, _some),
        Metric("anls", anls, _some),
        Metric("vqa_soft", vqa_soft, _humans),
        Metric("yes_no", yes_no, _yes_or_no),
        Metric("multiple_choice", multiple_choice, _options),
    )
}
