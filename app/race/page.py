"""The view "Race": where its components stand, and its events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.model_pool.pool import Models
from app.race import views as race_views
from app.race.pair import Pair, painted, shown_to, taken_of
from app.race.runs import Races, Wanted, differing
from app.session import Session
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, ONCE, QUIET, chosen, html
from app.web.updates import Updates
from pruning.choosing import name_of
from pruning.race import reading
from pruning.race.metrics import METRICS
from pruning.race.settings import ALL
from pruning.scenes.worlds import WORLDS

EVERY = 2.0  # seconds between two looks at a run that is at work
METHODS = ("idpruner", "vision_selector", "divprune", "random", "uniform", "pooling", "lower_resolution")
RETENTIONS = "0.25 0.1"
NO_PAIR = "Choose two settings to see where they differ"
TIPS = {
    "tab Race": "Methods, budgets and a data set side by side, with what is known of each difference",
    "#race-run": "Which run is shown: its folder, its model, how far it is",
    "#race-resume": "Go on where it stopped; what has its answer is not asked again",
    "#race-stop": "End the race after the question under way; what is there stays, and it can be resumed",
    "#race-first": "One of two settings, to see at which questions they differ",
    "#race-second": "The other of the two",
    "#race-previous": "The question before, where these two differ",
    "#race-next": "The next question where these two differ",
    "#race-explore": "This picture and question on the view Explore, under the first of the two settings",
    "#race-report": "The report as a page, its table as CSV, Markdown and LaTeX, and what was raced, in one ZIP",
    "#race-new .label-wrap": "Choose data, methods and budgets, and start a race on this machine",
    "#race-data": f"A world ({', '.join(WORLDS)}), a .jsonl or .parquet file, or a folder of pictures and clips here",
    "#race-methods": "What is raced beside all tokens. Random and lower resolution (of clips fewer frames) are what "
    "every method has to beat",
    "#race-retentions": "Shares of the visual tokens that are kept, with blanks between",
    "#race-limit": "Questions at most; empty asks all",
    "#race-metric": "How answers are scored where a record does not say",
    "#race-start": "Start it with the model that Explore shows now. Stop and resume as you like",
}


@dataclass(frozen=True)
class RacePage:
    tab: gr.Tab
    timer: gr.Timer
    run: gr.Dropdown
    resume: gr.Button
    stop: gr.Button
    report: gr.DownloadButton
    status: gr.HTML
    chart: gr.HTML
    table: gr.HTML
    differing: gr.Column
    first: gr.Dropdown
    second: gr.Dropdown
    previous: gr.Button
    next: gr.Button
    explore: gr.Button
    asked: gr.State  # what goes to Explore: (path of the picture, question, setting as a chart's point has it, frames)
    place: gr.State
    seen: gr.State  # (lines of the menu, run, version of its table) that the page shows
    difference: gr.HTML
    new: gr.Accordion
    data: gr.Textbox
    methods: gr.Dropdown
    retentions: gr.Textbox
    limit: gr.Number
    metric: gr.Dropdown
    start: gr.Button


def place_race(views: gr.Tabs, races: Races, capabilities: Capabilities) -> RacePage:
    """The tab with all of it, after those that `views` has."""
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    made: dict[str, Any] = {}
    with views, gr.Tab("Race", id="race") as made["tab"], gr.Column(elem_id="race"):
        made["timer"], made["place"], made["seen"] = gr.Timer(EVERY, active=False), gr.State(0), gr.State(None)
        made["asked"] = gr.State(None)
        with gr.Row(elem_classes="view-tools"):
            made["run"] = gr.Dropdown([], label="Run", show_label=False, visible=False, elem_id="race-run")
            made["resume"] = gr.Button("Resume", **small, visible=False, elem_id="race-resume")
            made["stop"] = gr.Button("Stop", **small, visible=False, elem_id="race-stop")
            made["report"] = gr.DownloadButton("Report", **small, visible=False, elem_id="race-report")
        made["status"] = html(race_views.status(None, races.starts), "race-status")
        made |= _new(races, capabilities, small)
        made["chart"] = html("", "race-chart", "charts")
        made["table"] = html("", "race-table", "sort")
        with gr.Column(visible=False, elem_id="race-differing") as made["differing"]:
            with gr.Row(elem_classes="view-tools"):
                made["first"] = gr.Dropdown([], label="Where differ", elem_id="race-first", min_width=200)
                made["second"] = gr.Dropdown([], label="and", elem_id="race-second", min_width=200)
                made["previous"] = gr.Button("‹ Previous", **small, elem_id="race-previous")
                made["next"] = gr.Button("Next ›", **small, elem_id="race-next")
                made["explore"] = gr.Button("Open in Explore", **small, elem_id="race-explore", interactive=False)
            made["difference"] = html(race_views.difference(None, NO_PAIR), "race-difference")
    return RacePage(**made)


def _new(races: Races, capabilities: Capabilities, small: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    with gr.Accordion("New race", open=False, visible=races.starts, elem_id="race-new") as made["new"]:
        with gr.Row():
            made["data"] = gr.Textbox("scenes", label="Data", max_lines=1, max_length=1000, elem_id="race-data")
            made["retentions"] = gr.Textbox(
                RETENTIONS, label="Retention ratios", max_lines=1, max_length=200, elem_id="race-retentions"
            )
            made["limit"] = gr.Number(100, label="Questions at most", precision=0, minimum=1, elem_id="race-limit")
            made["metric"] = gr.Dropdown(
                [("as recorded", ""), *((name.replace("_", " "), name) for name in METRICS)],
                value="", label="Metric", filterable=False, elem_id="race-metric",
            )  # fmt: skip
        ticked = [name for name in METHODS if name in capabilities.methods]
        made["methods"] = gr.Dropdown(
            capabilities.menu(1), value=ticked, multiselect=True, label="Methods", elem_id="race-methods"
        )
        with gr.Row(elem_classes="view-tools"):
            made["start"] = gr.Button("Start", variant="primary", **small, elem_id="race-start")
    return made


def wire_race(page: RacePage, races: Races, models: Models, session: gr.State) -> None:
    events = RaceEvents(page, races, models)
    shown = [page.run, page.resume, page.stop, page.report, page.status, page.chart, page.table, page.timer,
             page.differing, page.first, page.second, page.seen]  # fmt: skip
    pair = [session, page.run, page.first, page.second, page.place]
    seen = [page.place, page.difference, page.asked, page.explore]
    for event in (page.tab.select, chosen(page.run)):
        opened = event(events.show, [page.run, page.seen], shown, **LIGHT_WORK, **QUIET)
        opened.then(events.pair, pair, seen, **LIGHT_WORK, **QUIET)
    page.timer.tick(events.show, [page.run, page.seen], shown, **LIGHT_WORK, **QUIET)
    for control in (page.first, page.second):
        chosen(control)(events.pair, pair, seen, **LIGHT_WORK, **QUIET)
    page.previous.click(events.before, pair, seen, **LIGHT_WORK, **QUIET)
    page.next.click(events.after, pair, seen, **LIGHT_WORK, **QUIET)
    asked = [session, page.data, page.methods, page.retentions, page.limit, page.metric]
    page.start.click(events.start, asked, [page.new, *shown], **LIGHT_WORK | ONCE, **QUIET)
    page.resume.click(events.resume, [session, page.run], shown, **LIGHT_WORK | ONCE, **QUIET)
    page.stop.click(events.stop, page.run, shown, **AT_ONCE, **QUIET)


class RaceEvents:
    """The event functions, bound to the view's components: each tells which of them it changes, and to what."""

    def __init__(self, page: RacePage, races: Races, models: Models) -> None:
        self.page, self.races, self.models = page, races, models

    @report_errors
    def show(self, request: gr.Request, name: str | None, seen: Any = None) -> Updates:
        """The run that is chosen as it stands now, the newest one where none is. What did not change stays as it is:
        who is in a menu or on a point stays there.
        """
        page, races = self.page, self.races
        names = races.names()
        name = name if name in names else next(iter(names), None)
        if name is None:
            gone = gr.update(visible=False)
            return {page.run: gr.update(choices=[], value=None, visible=False), page.timer: gr.Timer(active=False),
                    page.status: race_views.status(None, races.starts), page.chart: "", page.table: "",
                    page.differing: gone, page.resume: gone, page.stop: gone, page.report: gone,
                    page.seen: None}  # fmt: skip
        listed = [races.listed(each) for each in names]
        run = next(each for each in listed if each.name == name)
        rows = races.table(name) if run.rows else []
        menu = [(race_views.line(each), each.name) for each in listed]
        now = (menu, name, races.version(name), run.state)
        changed = {
            page.status: race_views.status(run, races.starts),
            page.resume: gr.update(visible=races.starts and run.state in ("new", "stopped")),
            page.stop: gr.update(visible=races.starts and run.state == "running"),
            page.timer: gr.Timer(active=run.state == "running"),
            page.seen: now,
        }
        if seen is None or now[:2] != tuple(seen[:2]):
            changed[page.run] = gr.update(choices=menu, value=name, visible=True)
        if seen is None or now[1:] != tuple(seen[1:]):
            changed[page.report] = self._report(name)
            manifest = races.run(name).manifest if rows else None
            settings = gr.update(choices=[(reading.setting(row), row["setting"]) for row in rows])
            changed |= {
                page.chart: race_views.chart(rows, manifest),
                page.table: race_views.table(rows),
                page.differing: gr.update(visible=len(rows) > 1),
                page.first: settings,
                page.second: settings,
            }
        return changed

    @report_errors
    def pair(self, request: gr.Request, session: Session, name: str, first: str, second: str, place: int) -> Updates:
        """The first question where both settings differ."""
        return self._pair(request, session, name, first, second, 0)

    @report_errors
    def before(self, request: gr.Request, session: Session, name: str, first: str, second: str, place: int) -> Updates:
        """The question before; of the first one the last."""
        return self._pair(request, session, name, first, second, place - 1)

    @report_errors
    def after(self, request: gr.Request, session: Session, name: str, first: str, second: str, place: int) -> Updates:
        """The next question; of the last one the first."""
        return self._pair(request, session, name, first, second, place + 1)

    @report_errors
    def start(
        self, request: gr.Request, session: Session, source: str, methods: Sequence[str], retentions: str,
        limit: float | None, metric: str,
    ) -> Updates:  # fmt: skip
        """Start a race with the visitor's model, and show it."""
        with self.models.use(session.model_name, owner(request)) as (_, capabilities):
            asked = [capabilities.default(capabilities.check(name)) for name in methods or ()]
        wanted = Wanted(source or "", {name_of(each): each for each in asked}, _ratios(retentions),
                        int(limit) if limit else None, metric or None)  # fmt: skip
        name = self.races.start(self.models, session.model_name, wanted)
        return {self.page.new: gr.update(open=False), **self.show(request, name)}

    @report_errors
    def resume(self, request: gr.Request, session: Session, name: str) -> Updates:
        """Go on with the run that is shown."""
        self.races.resume(self.models, session.model_name, name)
        return {**self.show(request, name), self.page.timer: gr.Timer(active=True)}

    @report_errors
    def stop(self, request: gr.Request, name: str) -> Updates:
        """Stop the run that is shown."""
        self.races.stop(name)
        return dict(self.show(request, name))

    def _report(self, name: str) -> Any:
        """The button that downloads it; a file for all visitors, told by what it holds and swept like uploads."""
        content = self.races.report(name)
        if content is None:
            return gr.update(visible=False)
        place = Path(self.page.report.GRADIO_CACHE) / hashlib.sha256(content).hexdigest() / f"{name}.zip"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)  # anew where it is there: it has just been asked for
        return gr.update(value=str(place), visible=True)

    def _pair(self, request: gr.Request, session: Session, name: str, first: str, second: str, place: int) -> Updates:
        page = self.page

        def said(words: str) -> Updates:
            return {page.place: 0, page.difference: race_views.difference(None, words), page.asked: None,
                    page.explore: gr.update(interactive=False)}  # fmt: skip

        if not (name and first and second):
            return said(NO_PAIR)
        manifest = self.races.run(name).manifest
        for each in (first, second):
            if each not in manifest.settings:
                raise ValueError(f"the run has no setting {each!r}: choose another")
        found = differing(self.races.results(name), first, second)
        titles = [reading.setting({"setting": each, **manifest.settings[each]}) for each in (first, second)]
        if not found:
            same = first == second
            return said(NO_PAIR if same else f"{titles[0]} and {titles[1]} score alike at every question")
        place %= len(found)
        result = found[place]
        better = sum(each.cells[first].score > each.cells[second].score for each in found)
        pair = Pair(result, place, len(found), (first, second), (titles[0], titles[1]),
                    (better, len(found) - better), result.cells.get(ALL))  # fmt: skip
        overlays, why = self._painted(request, session, manifest, pair)
        shown = race_views.difference(replace(pair, painted=overlays, why=why))
        asked = None if why else (*shown_to(manifest, result), race_views.clicked(manifest, first), taken_of(manifest))
        return {page.place: place, page.difference: shown, page.asked: asked,
                page.explore: gr.update(interactive=asked is not None)}  # fmt: skip

    def _painted(self, request: gr.Request, session: Session, manifest: Any, pair: Pair) -> tuple[Any, str]:
        try:
            with self.models.use(session.model_name, owner(request)) as (engine, _):
                return painted(engine, manifest, pair.result, pair.names), ""
        except ValueError as error:
            return (), str(error)


def _ratios(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in (text or "").replace(",", " ").split())
    except ValueError:
        found = ()
    if not found or not all(0 < ratio <= 1 for ratio in found):
        raise ValueError(f"retention ratios {text!r} are not allowed: numbers above 0 up to 1, such as {RETENTIONS}")
    return found
