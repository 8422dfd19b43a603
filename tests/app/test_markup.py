"""What a visitor typed, a file is called, a checkpoint says of itself or a model answers is text in every view: never
markup, never a template of the component that shows it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from matplotlib.figure import Figure

from app.answers import verdicts
from app.answers import views as answers_views
from app.answers.reports import Exchange, Report
from app.batch import views as batch_views
from app.batch.run import Batch, Item, Skipped
from app.canvas import views as canvas_views
from app.canvas.overlays import Overlay
from app.compare import views as compare_views
from app.compare.run import EMPTY, Results, Row, Step
from app.explore import views as explore_views
from app.export import archive as export_archive
from app.export import page as export_page
from app.model_pool.load_job import Loading
from app.pace import Pace
from app.pays import views as pays_views
from app.race import views as race_views
from app.race.pair import Pair
from app.race.runs import Listed
from app.recipe import views as recipe_views
from app.session import Session
from app.smallest_budget import views as smallest_budget_views
from app.smallest_budget.search import Search, Try
from app.tradeoff import views as tradeoff_views
from app.tradeoff.measure import Progress
from app.training import runs as training_runs
from app.training import sample as training_sample
from app.training import views as training_views
from app.web import html
from app.web.templates import render
from app.why import run as why
from app.why import views as why_views
from pruning.drawing.charts import Chart, Mark
from pruning.drawing.palettes import LIGHT
from pruning.evaluation import paying as measured
from pruning.evaluation.answered import Piece, Side
from pruning.evaluation.inspection import Card
from pruning.evaluation.timing import Timing
from pruning.evaluation.verdict import Verdict
from pruning.evaluation.why import Found
from pruning.handover.wanted import Recipe
from pruning.race.folder import Cell, Manifest, Result
from pruning.race.settings import ALL
from pruning.training.runs import Curve, Point
from tests.helpers.checkout import ROOT
from tests.helpers.markup import NASTY
from tests.helpers.visits import keep

PLAIN = "x" * len(NASTY)  # as long: some views set long answers smaller
SETTING = keep("idpruner")
PAINTED = Overlay(np.zeros((8, 8, 3), np.uint8), 1, 4)
CARD = Card(3, 0, 1, 2, "tile", 2, 16, 0.5, 0.25, 40.0, 7, 1, 0.9, 0.1, None, "")


def report(said: str, **changes) -> Report:
    full, kept = Side(said, True, 90, 900, 90, 0.03), Side(said, True, 40, 400, 40, 0.02)
    pieces = (Piece(said, 0.9, 0.4), Piece("", 0.5, -0.2))
    turns = (Exchange(said, said, said), Exchange(said, said, said, False))
    told = Report(64, 16, "idpruner", "done", said, turns, full, kept, Verdict.DIFFERENT, 0.5, pieces, 0.001, 0.2)
    return replace(told, **changes)


def streamed(said: str) -> Report:
    """An answer of which more comes."""
    return report(said, stage="kept", kept=Side(said), pieces=(), verdict=None)


def row(said: str, **changes) -> Row:
    return Row(SETTING, report(said, **changes), kept=np.packbits(np.arange(64) % 4 == 0).tobytes())


def item(said: str, **changes) -> Item:
    given = SimpleNamespace(text=said, ids=(5, 2))
    return replace(Item(said, Session("tiny", (), (said,)), "", 64, 16, 16, given, given, 0.5), **changes)


def step(said: str, stage: str = "done") -> Step:
    return Step(Results("topic", (row(said, stage="kept"),)), SETTING, 1, 2, 0.5, stage)


def searched(said: str, **changes) -> Search:
    tried = (Try(0.5, 64, True), Try(0.5, 3, False))
    return replace(Search(keep("idpruner"), 8, 64, 7, tried, 3, 0, 1.0, 0, said, "done"), **changes)


def chart(said: str) -> Chart:
    mark = Mark(0.25, 0.5, said, 0.5, 0.25, said)
    return Chart(Figure((2, 2)), (mark, replace(mark, left=0.75)), said, LIGHT)


def reading(said: str) -> Search:
    return searched(said, stage="searching", left=2)


def paying(said: str) -> measured.Paying:
    """One row of everything that a measurement can show."""
    time, run = Timing(1.0, 0.9, 1.1), measured.Run(0.1, 0.1, 0.1, 0.1, 1000)
    return measured.Paying(
        said, 0.25, 8, 3, {said: (said,)}, (measured.row("a", 1, 16, 20, 400, 8, [run]),),
        (measured.Ruling(said, said, 1, True, said),), (measured.Size(64, 16, time, time, None),), 64, "pays", (said,),
    )  # fmt: skip


def hanging(said: str) -> why.Step:
    """All that a search can come to."""
    found = Found("return", (3, 5), (0.2, 0.6, 1.0), True, True, 9, 0, "done", 12)
    return why.Step(said, "", 16, 4, said, said, found, (why.Costs(said, ((3, 0.5),)),), 2, (1, 2, 3), stage="done")


def paid(said: str) -> Markup:
    """With the figure's own names the same each time."""
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        return pays_views.result(paying(said))


def raced(said: str) -> list[dict]:
    """A table of all tokens and of a method of this name."""
    plain = {"came_to": 1.0, "n": 4, "accuracy": 0.5, "low": 0.4, "high": 0.6, "kept": 1.0, "retention": 1.0}
    return [{"setting": ALL, "method": ALL, **plain}, {"setting": said, "method": said, **plain}]


def race_chart(said: str) -> Markup:
    """With the figure's own names the same each time."""
    settings = {each["setting"]: {**each, "knobs": {}} for each in raced(said)}
    manifest = Manifest(said, said, {}, 4, 0, said, said, said, settings, {}, {})
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        return race_views.chart(raced(said), manifest)


def run(said: str) -> training_runs.Listed:
    """A training run whose losses and settings have this name."""
    points = (Point(1, {said: 0.5}, {"": 0.5}), Point(2, {said: 0.25}, {"": 0.5, said: 0.25}))
    return training_runs.Listed(said, "done", {"steps": 2, "method": said, said: said}, Curve(points), 1.0, said)


def trained(said: str) -> Markup:
    """With the figures' own names the same each time."""
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        return training_views.curves(run(said))


def kept(said: str) -> training_sample.Sample:
    sides = tuple(training_sample.Side(said, PAINTED, 1) for _ in "12")
    return training_sample.Sample(said, said, 50, sides)


def pair(said: str, **changes) -> Pair:
    cells = {"a": Cell(said, 1.0), "b": Cell(said, 0.5)}
    result = Result("", 1, said, "", said, said, said, said, (said,), (said, said), "exact", 64, cells)
    return replace(Pair(result, 0, 2, ("a", "b"), (said, said), (1, 1), Cell(said)), **changes)


# The view that writes it, and what it writes of a text from outside
VIEWS: list[tuple[Callable, Callable[[str], str]]] = [
    (html.notice, html.notice),
    (html.notice, lambda said: html.notice(said, "warn")),
    (html.progress, html.progress),
    (html.progress, lambda said: html.progress(said, said, 1, 2)),
    (verdicts.answer, verdicts.answer),
    (answers_views.report, lambda said: answers_views.report(report(said))),
    (answers_views.report, lambda said: answers_views.report(report(said, stage="kept", pieces=(), verdict=None))),
    (answers_views.report, lambda said: answers_views.report(streamed(said))),
    (answers_views.report, lambda said: answers_views.report(None, problem=said)),
    (pays_views.progress, lambda said: pays_views.progress(None, problem=said)),
    (pays_views.result, paid),
    (why_views.progress, lambda said: why_views.progress(None, problem=said)),
    (why_views.result, lambda said: why_views.result(hanging(said))),
    (race_views.status, lambda said: race_views.status(Listed("a", "stopped", problem=said), True)),
    (race_views.status, lambda said: race_views.status(Listed("a", "done", said, said, 3, 4, 4, problem=said), True)),
    (race_views.chart, race_chart),
    (race_views.table, lambda said: race_views.table(raced(said))),
    (race_views.difference, lambda said: race_views.difference(pair(said, why=said))),
    (race_views.difference, lambda said: race_views.difference(pair(said, painted=(PAINTED, PAINTED)))),
    (race_views.difference, lambda said: race_views.difference(None, said)),
    (training_views.status, lambda said: training_views.status(run(said), said)),
    (training_views.status, lambda said: training_views.status(None, said)),
    (training_views.curves, trained),
    (training_views.sample, lambda said: training_views.sample(kept(said))),
    (training_views.sample, lambda said: training_views.sample(None, said)),
    (recipe_views.note, lambda said: recipe_views.note(Recipe("vllm", "vLLM", "bash", "", said))),
    (batch_views.about, lambda said: batch_views.about(Session("tiny", (), (said,)), SETTING)),
    (batch_views.progress, lambda said: batch_views.progress(None, problem=said)),
    (batch_views.progress, lambda said: batch_views.progress(Batch((item(said),), (), 1.0), [Skipped(said, said)])),
    (batch_views.progress, lambda said: batch_views.progress(Batch((item(said, problem=said),), (), 1.0, "done"))),
    (batch_views.stopped, lambda said: batch_views.stopped(Batch((item(said),), (), 1.0), [Skipped(said, said)])),
    (batch_views.totals, lambda said: batch_views.totals([item(said)])),
    (batch_views.card, lambda said: batch_views.card(item(said), PAINTED)),
    (canvas_views.card, lambda said: canvas_views.card(replace(CARD, why=said))),
    (compare_views.body, lambda said: compare_views.body(row(said))),
    (compare_views.body, lambda said: compare_views.body(row(said, kept=Side(said), verdict=None, stage="kept"))),
    (compare_views.body, lambda said: compare_views.body(Row(SETTING, problem=said))),
    (compare_views.status, lambda said: compare_views.status(step(said), (SETTING, *EMPTY[1:]))),
    (compare_views.status, lambda said: compare_views.status(step(said, "running"), (SETTING, *EMPTY[1:]))),
    (compare_views.status, lambda said: compare_views.status(None, EMPTY, problem=said)),
    (explore_views.thumbnails, lambda said: explore_views.thumbnails([(said, PAINTED.image, True)])),
    (explore_views.loading, lambda said: explore_views.loading(Loading(said, said, 0.5, 2.0, Pace(2.0, 0.5, 1.0)))),
    (explore_views.loading, lambda said: explore_views.loading(Loading(said, said, None, 2.0, None))),
    (explore_views.header, lambda said: explore_views.header(said, said, said, 12_000, said)),
    (explore_views.about, lambda said: explore_views.about(said)),
    (explore_views.about, lambda said: explore_views.about(said, True)),
    (export_page.progress, lambda said: export_page.progress(export_archive.Step(said, 1, 2))),
    (export_page.done, lambda said: export_page.done(export_archive.Archive(b"1", (said, said)))),
    (export_page.stopped, export_page.stopped),
    (smallest_budget_views.search, lambda said: smallest_budget_views.search(searched(said))),
    (
        smallest_budget_views.search,
        lambda said: smallest_budget_views.search(reading(said)),
    ),
    (smallest_budget_views.search, lambda said: smallest_budget_views.search(searched(said, lambdas=21))),
    (smallest_budget_views.search, lambda said: smallest_budget_views.search(None, problem=said)),
    (smallest_budget_views.stopped, lambda said: smallest_budget_views.stopped(searched(said))),
    (tradeoff_views.chart, lambda said: tradeoff_views.chart(None, said)),
    (tradeoff_views.chart, lambda said: tradeoff_views.chart(chart(said))),
    (tradeoff_views.progress, lambda said: tradeoff_views.progress(None, problem=said)),
    (tradeoff_views.progress, lambda said: tradeoff_views.progress(Progress((), 4, 1.0, "sweeping"), [said, said])),
]

# Views that are told no text from outside: numbers, letters and the words of methods alone.
NO_TEXT = {
    "app.answers.verdicts.badge",
    "app.answers.verdicts.idle",
    "app.compare.views.head",
    "app.compare.views.matrix",
    "app.compare.views.table",
    "app.explore.views.reading",
    "app.explore.views.strip",
    "app.plan.views.note",
    "app.web.templates.render",
}


class Parts(HTMLParser):
    """The tags of a piece of HTML with their attributes, and the text between them, as a browser reads them."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(written)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [("tag", tag), *(("attribute", name, value or "") for name, value in attrs)]

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("end", tag))

    def handle_data(self, data: str) -> None:
        self.found.append(("text", data))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def with_plain_text(self) -> list[tuple[str, ...]]:
        forms = (NASTY, json.dumps(NASTY)[1:-1])
        return [tuple(_without(forms, word) for word in part) for part in self.found]


def _without(forms: Iterable[str], word: str) -> str:
    for form in forms:
        word = word.replace(form, PLAIN)
    return word


@pytest.mark.parametrize(("view", "write"), VIEWS, ids=[f"{view.__module__}.{view.__name__}" for view, _ in VIEWS])
def test_a_text_from_outside_is_shown_as_it_is(view, write):
    written = write(NASTY)
    nasty, plain = Parts(written), Parts(write(PLAIN))
    assert any(NASTY in part[-1] for part in nasty.found), "the text is not shown at all"
    assert nasty.with_plain_text() == plain.found
    assert not re.search(r"[${}`]", written), "the component that shows it would take these for its own"


def test_every_view_is_among_them():
    views = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{node.name}"
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_" and ast.unparse(node.returns or node) == "Markup"
    }
    assert {f"{view.__module__}.{view.__name__}" for view, _ in VIEWS} == views - NO_TEXT
    assert views >= NO_TEXT


def test_html_that_a_macro_wrote_stays_html():
    inner = html.notice("<b>")
    assert inner in html.progress(inner, "x", 1, 2)
    assert html.progress(str(inner), "x").count("&amp;lt;b") == 1  # a string is a text, whoever wrote it


def test_a_macro_is_told_all_that_it_uses_and_nothing_else():
    with pytest.raises(UndefinedError, match="'why' was not provided"):
        render("canvas.card", sign="kept", place="", facts=[], cuts=[])
    with pytest.raises(TypeError, match="takes no keyword argument 'colour'"):
        render("canvas.no_card", words="", colour="red")
