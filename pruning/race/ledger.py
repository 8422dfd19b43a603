"""The ledger: published rows as data, and what stands beside them when somebody runs one here.

A row states a model, a method, a retention and a score per data set; how many questions, which prompt, pixel limits and
judge it does not state. So every comparison comes with the known causes of differences, each "same", "other" or, where
the row does not say, "unknown".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pruning import assets
from pruning.race.folder import Manifest
from pruning.race.settings import ALL, title

MODEL: Final = "Qwen/Qwen2.5-VL-7B-Instruct"
SOURCE: Final = "documentation of AngelSlim's token compressor (Tencent), by the authors of IDPruner, arXiv 2602.13315"
DATA: Final = "published/qwen2.5-vl-7b.csv"
BESIDE: Final = ("random", "lower_resolution")  # raced too: the row has neither
Verdict = Literal["same", "other", "unknown"]


@dataclass(frozen=True)
class DataSetFacts:
    """title: as tables print it. task: of lmms-eval, most likely behind the column. metric: that task's, "" for what is
    no mean of scores and not computed here.
    """

    title: str
    task: str
    metric: str


SETS: Final[Mapping[str, DataSetFacts]] = {
    "ai2d": DataSetFacts("AI2D", "ai2d", "multiple_choice"),
    "chartqa": DataSetFacts("ChartQA", "chartqa", "relaxed"),
    "docvqa": DataSetFacts("DocVQA", "docvqa_val", "anls"),
    "mmbench_cn": DataSetFacts("MMBench-CN", "mmbench_cn_dev", "multiple_choice"),
    "mmbench": DataSetFacts("MMBench", "mmbench_en_dev", "multiple_choice"),
    "mme": DataSetFacts("MME", "mme", ""),
    "mmstar": DataSetFacts("MMStar", "mmstar", "multiple_choice"),
    "ocrbench": DataSetFacts("OCRBench", "ocrbench", ""),
    "pope": DataSetFacts("POPE", "pope", "yes_no"),
    "scienceqa": DataSetFacts("ScienceQA (images)", "scienceqa_img", "multiple_choice"),
    "textvqa": DataSetFacts("TextVQA", "textvqa_val", "vqa_soft"),
}


@dataclass(frozen=True)
class PublishedRow:
    """name: "idpruner@0.25". scores: data set -> as published, in % (MME: points). average: of the shares of the
    all-token scores, in %.
    """

    method: str
    retention: float
    scores: Mapping[str, float]
    average: float

    @property
    def name(self) -> str:
        return ALL if self.method == ALL else f"{self.method}@{self.retention:g}"


@dataclass(frozen=True)
class Cause:
    """A known cause of differences: what the row says, what is here."""

    what: str
    published: str
    here: str
    verdict: Verdict


@dataclass(frozen=True)
class Line:
    """One setting. published: in %, None where the row has none; here: in %, with its interval."""

    title: str
    published: float | None
    here: float
    low: float
    high: float

    @property
    def difference(self) -> float | None:
        """Percentage points, here less published."""
        return None if self.published is None else self.here - self.published


def published() -> dict[str, PublishedRow]:
    """Every row by its name, that of all tokens first. Raises AssetError where the data are missing."""
    found = {}
    for told in csv.DictReader(io.StringIO(assets.text(DATA))):
        scores = {name: float(told[name]) for name in SETS}
        row = PublishedRow(told["method"], float(told["retention"]), scores, float(told["average"]))
        found[row.name] = row
    return found


def lines(name: str, data: str, rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The row, all tokens, and what was raced beside them. name: of the row; data: of SETS; rows: of `table.table`."""
    known = published()
    found = []
    for row in rows:
        stated = known[row["setting"]].scores[data] if row["setting"] in (ALL, name) else None
        found.append(Line(title(row["method"]), stated, 100 * row["accuracy"], 100 * row["low"], 100 * row["high"]))
    return found


def causes(data: str, manifest: Manifest, metrics: set[str], n: int) -> list[Cause]:
    """What may be behind a difference. metrics: of the records; n: questions that were answered."""
    how, facts, unsaid = manifest.how, SETS[data], "not said"
    model: Verdict = "same" if manifest.model == MODEL else "other"
    return [
        Cause("model", MODEL, manifest.model, model),
        Cause("questions", unsaid, f"{n:,}", "unknown"),
        Cause("metric", f"{facts.metric}, if the task is {facts.task}", ", ".join(sorted(metrics)),
              "unknown" if metrics == {facts.metric} else "other"),
        Cause("judge", unsaid, "none: answers are compared as text", "unknown"),
        Cause("prompt", unsaid, "the record's question, and the choices", "unknown"),
        Cause("fewest pixels", f"{unsaid}: 256 tokens in lmms-eval, 1,280 in VLMEvalKit", "the checkpoint's own",
              "unknown"),
        Cause("most pixels", unsaid, f"{how['pixels']:,} tokens" if how.get("pixels") else "no limit", "unknown"),
        Cause("what a retention counts", unsaid, "the mean over the layers of the tokens alive", "unknown"),
        Cause("dtype", unsaid, str(how.get("dtype")), "unknown"),
        Cause("attention kernel", unsaid, str(how.get("attention")), "unknown"),
        Cause("length of an answer", unsaid, f"at most {how.get('max_new_tokens')} tokens", "unknown"),
    ]  # fmt: skip
