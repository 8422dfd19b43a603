"""The page: what it opens with, which event calls which handler. No decision is taken here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.answers import reports
from app.answers import views as answers_views
from app.api.endpoints import Api
from app.api.page import endpoints
from app.batch.page import TIPS as BATCH
from app.batch.page import place_batch, wire_batch
from app.canvas import state as canvas_state
from app.compare.page import TIPS as COMPARE
from app.compare.page import place_compare, wire_compare
from app.engine import remote
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.examples import EXAMPLES, FOLDER
from app.explore.handlers import Handlers
from app.explore.image_handlers import ImageHandlers
from app.explore.layout import DIVERSITY, IMPORTANCE, RETENTION, Page, Start, layout
from app.explore.menus import Menus, choices, photographs
from app.explore.tips import TIPS as EXPLORE
from app.export.page import TIPS as EXPORT
from app.export.page import place_export, wire_export
from app.model_pool.pool import Models
from app.pays.page import TIPS as PAYS
from app.pays.page import place_pays, wire_pays
from app.plan.page import TIPS as PLAN
from app.plan.page import PlanEvents, wire_plan
from app.presenter.page import place_presenter, wire_presenter
from app.race.page import TIPS as RACE
from app.race.page import place_race, wire_race
from app.race.runs import Races
from app.recipe.page import TIPS as RECIPE
from app.recipe.page import place_recipe, wire_recipe
from app.session import Session, Setting
from app.settings import Settings
from app.share.page import place_share, wire_share
from app.smallest_budget.page import TIPS as SMALLEST_BUDGET
from app.smallest_budget.page import place_smallest_budget, wire_smallest_budget
from app.tradeoff import measure as tradeoff_measure
from app.tradeoff import views as tradeoff_views
from app.training.page import TIPS as TRAINING
from app.training.page import place_training, wire_training
from app.training.runs import Trainings
from app.web import address, gradio_patches, scripts, theme
from app.web.controls import Controls
from app.web.events import AT_ONCE, LIGHT_WORK, LOADING, ONCE, QUIET, STREAMED, THREADS, chosen, told
from app.web.listening import Listening
from app.web.request_limits import RequestLimits
from app.why.page import TIPS as WHY
from app.why.page import place_why, wire_why
from pruning.drawing.palettes import PAGE

TIPS = EXPLORE | PLAN | COMPARE | BATCH | PAYS | RECIPE | RACE | TRAINING | SMALLEST_BUDGET | EXPORT | WHY


def build_demo(models: Models, races: Races | None = None, trainings: Trainings | None = None) -> gr.Blocks:
    """The page with an example whose result is already computed. Computing it also warms the model up.

    races, trainings: what the views "Race" and "Training" show; there is none without.
    """
    gradio_patches.apply()
    gr.set_static_paths([FOLDER])
    controls = Controls()
    with models.use(models.first, "") as (engine, capabilities):
        start = opening(models, engine, capabilities, controls)
        with gr.Blocks(title="IDPruner Lab", analytics_enabled=False, fill_width=True) as demo:
            page = layout(controls, start)
            handlers, images = Handlers(models, controls, page), ImageHandlers(models, page)
            _wire(demo, page, handlers, images, Menus(models, controls, page), races, capabilities)
            if trainings is not None:
                wire_training(place_training(page.views, trainings), trainings, models, page.session, demo)
            endpoints(Api(models, controls), start.method, (IMPORTANCE, DIVERSITY), RETENTION)
    demo.queue(default_concurrency_limit=4, max_size=256)
    return demo


def launch_options(settings: Settings) -> dict[str, Any]:
    """What `Blocks.launch` needs: Gradio 6 takes theme and style sheet there."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        font=list(theme.FONTS),
        font_mono=list(theme.MONO),
    )
    largest = int(settings.upload_limit * 2**20)
    return {
        "app_kwargs": {
            "middleware": [
                Middleware(RequestLimits, upload_bytes=largest, prefix=settings.prefix),
                Middleware(Listening),
            ],
            "routes": scripts.routes(),
        },
        "server_name": address.bracketed(settings.host),
        "server_port": settings.port or None,
        "root_path": settings.root_path,
        "share": settings.share,
        "mcp_server": settings.mcp,
        "auth": settings.credentials(),
        "max_file_size": largest,
        "max_threads": THREADS,
        "theme": base.set(**theme.COLOURS),
        "css": theme.stylesheet(),
        "head": scripts.head(TIPS),
        "footer_links": ["api"],
        "enable_monitoring": False,
        "ssr_mode": False,
        "show_error": False,
        "quiet": True,
        # Gradio asks for the page before it goes on, and gives up where that takes 3 s, as on a busy machine. It
        # has asked the server for its start-up events by then, with patience: that it listens is known.
        "_frontend": False,
    }


def opening(models: Models, engine: Engine, capabilities: Capabilities, controls: Controls) -> Start:
    """The first example with its results. On a ZeroGPU Space, where only visitors get a GPU, they come later."""
    example = EXAMPLES[0]
    picture, _ = models.resources.pictures.open(example.path)
    session = Session(models.first, (picture,), example.questions[:1])
    method = controls.named(capabilities, capabilities.methods[0], IMPORTANCE, DIVERSITY, {})
    setting = Setting(method, RETENTION)
    common = (
        engine,
        capabilities,
        choices(models, ""),
        photographs(models, engine, ""),
        models.allowed[models.first].note,
        session,
        example.questions,
        method.name,
    )
    if remote.is_remote():
        return Start(*common, None, None, answers_views.report(None), tradeoff_views.chart(None, "Computing …"))
    *_, report = reports.reports(engine, session, setting, Task())
    plane = tradeoff_views.chart(tradeoff_measure.plane_chart(tradeoff_measure.plane(engine, session, setting), PAGE))
    shown = canvas_state.payload(engine, session, setting), canvas_state.exact(engine, session, setting)
    return Start(*common, *shown, answers_views.report(report), plane)


def _wire(
    demo: gr.Blocks,
    page: Page,
    handlers: Handlers,
    images: ImageHandlers,
    menus: Menus,
    races: Races | None,
    capabilities: Capabilities,
) -> None:
    session, inputs = page.session, [page.session, *page.settings]
    talk = [session, page.follow_up, page.anew]
    plans = PlanEvents(handlers.models, handlers.controls, handlers.setting)

    planning = [page.plan.measures, *inputs]

    def halted(event: Callable[..., Any], halt: Callable[..., Any] = handlers.interrupt) -> Any:
        """What runs is stopped, and what follows hangs on that: a stop that comes late must not reach it."""
        return event(halt, None, None, **AT_ONCE, **QUIET)

    def answer(event: Any) -> None:
        """The answer, however the event before it ended, and what is measured of it."""
        said = event.then(handlers.report, inputs, page.report, **STREAMED, **QUIET)
        said.then(plans.measure, planning, page.plan.dominance, **STREAMED, **QUIET)

    def follow(event: Any) -> None:
        """After the controls stand: the canvas, then the answer, and the plane beside it. Nothing where they do not."""
        drawn = event.success(handlers.draw, inputs, [page.canvas, page.card, page.report], **STREAMED, **QUIET)
        event.success(plans.show, planning, page.plan.shown, **LIGHT_WORK, **QUIET)
        answer(drawn)  # where the canvas failed too: it then says why there is none
        drawn.then(handlers.plane, inputs, page.plane, **STREAMED, **QUIET)

    # The canvas follows every move by itself; the answer and the plane wait until the slider rests.
    resting = [slider.release for slider in (*page.weights, page.retention)]
    rested = halted(partial(gr.on, resting))
    answer(rested)
    rested.then(handlers.settle, inputs, page.canvas, **LIGHT_WORK, **QUIET)
    rested.then(handlers.plane, inputs, page.plane, **STREAMED, **QUIET)
    rested.then(plans.show, planning, page.plan.shown, **LIGHT_WORK, **QUIET)
    wire_plan(page.plan, plans, inputs)
    follow(halted(page.plan.value.change))
    clicked, patch = told(page.canvas.select)
    clicked.then(handlers.card, [patch, *inputs], page.card, **LIGHT_WORK, **QUIET)
    edited, forced = told(page.canvas.edit)
    answer(halted(edited.then).then(handlers.force, [forced, session], session, **LIGHT_WORK, **QUIET))
    follow(halted(partial(gr.on, [page.knobs.input, *map(chosen, (page.scope, page.positions))])))

    asked, shown = [session, page.question], [page.image, *images.news]
    replaced = [*shown, *page.suggestions]
    for event, field, handler in (
        (page.image.input, page.image, images.upload),
        (page.put.upload, page.put, images.put),
    ):
        follow(
            halted(event, handlers.anew).then(
                handler, [session, field, page.question, *page.taken], replaced, **STREAMED, **QUIET
            )
        )
    more = [session, page.add, page.question, *page.taken]
    follow(halted(page.add.upload, handlers.anew).then(images.add, more, shown, **STREAMED, **QUIET))
    resampled = halted(partial(gr.on, [slider.release for slider in page.taken]), handlers.anew)
    follow(resampled.then(images.sample, [*asked, *page.taken], images.news, **STREAMED, **QUIET))
    removed, place = told(page.strip.select)
    follow(halted(removed.then, handlers.anew).then(images.remove, [place, *asked], shown, **STREAMED, **QUIET))
    picked, place = told(page.examples.select)
    begun = [page.question, *replaced]
    follow(
        halted(picked.then, handlers.anew).then(
            images.example, [place, session, *page.taken], begun, **STREAMED, **QUIET
        )
    )

    asks = partial(gr.on, [page.ask.click, page.question.submit])
    for turn in (
        halted(asks).then(handlers.ask, asked, talk, **LIGHT_WORK, **QUIET),
        halted(page.follow_up.click).then(handlers.follow_up, asked, talk, **LIGHT_WORK | ONCE, **QUIET),
        halted(page.anew.click).then(handlers.start_anew, asked, talk, **LIGHT_WORK, **QUIET),
    ):
        follow(turn)
        turn.then(handlers.hint, asked, page.hint, **LIGHT_WORK, **QUIET)
    for button in page.suggestions:
        typed = halted(button.click).then(
            lambda text: (text, ""), button, [page.question, page.hint], **LIGHT_WORK, **QUIET
        )
        follow(typed.then(handlers.ask, asked, talk, **LIGHT_WORK, **QUIET))

    about = [page.about_method, page.retention, page.plan.value, *page.weights, page.knobs]
    follow(halted(chosen(page.method)).then(menus.method, inputs, about, **LIGHT_WORK, **QUIET))
    heads = [page.model, page.photographs, page.header, page.about_model, page.method, page.about_method, page.scope]
    switched = [session, *heads, page.plan.value, *page.weights, page.knobs]
    best = page.photographs.click(menus.choose_best, None, page.model, **LIGHT_WORK, **QUIET)
    for wanted in (chosen(page.model), best.success):
        loaded = wanted(menus.load, page.model, page.loading, **LOADING, **QUIET)
        kept = [session, page.model, page.method, page.knobs]
        follow(loaded.then(menus.switch, kept, switched, **LIGHT_WORK, **QUIET))
    opened = demo.load(menus.opened, session, [page.model, page.photographs], **LIGHT_WORK, **QUIET)
    if remote.is_remote():
        follow(halted(demo.load))

    measuring, curves = [session, page.curve_methods, *page.settings], [page.curves, page.progress, page.measured]
    gr.on([page.tab.select, page.measure.click], handlers.curves, measuring, curves, **STREAMED, **QUIET)
    page.stop.click(handlers.stop, None, None, **AT_ONCE, **QUIET)
    wire_compare(place_compare(page.views), handlers.models, handlers.setting, session, inputs)
    wire_batch(place_batch(page.views), handlers.models, handlers.setting, inputs)
    wire_pays(place_pays(page.views), handlers.models, handlers.setting, inputs)
    wire_recipe(place_recipe(page.views), handlers.models, handlers.setting, inputs)
    why = place_why(page.views)
    follow(wire_why(why, halted(why.show.click), handlers.models, handlers.setting, inputs, page.retention, page.views))
    charts = [page.plane, page.curves]
    settings = [page.views, page.method, *page.weights, page.retention, page.plan.value, page.about_method, page.knobs]
    if races is not None:
        race = place_race(page.views, races, capabilities)
        wire_race(race, races, handlers.models, session)
        charts.append(race.chart)
        asked_there = halted(race.explore.click, handlers.anew)
        begun = [*begun, *page.taken]
        there = asked_there.then(images.asked_elsewhere, [race.asked, session], begun, **STREAMED, **QUIET)
        of_it = [race.asked, session, page.method, page.knobs]
        follow(there.success(menus.asked_elsewhere, of_it, settings, **LIGHT_WORK, **QUIET))
    for chart in charts:
        clicked, point = told(chart.select)
        of_it = [point, session, page.method, page.knobs]
        follow(halted(clicked.then).then(menus.point, of_it, settings, **LIGHT_WORK, **QUIET))
    moved = (page.retention, page.weights)
    wire_smallest_budget(
        place_smallest_budget(page.budget), handlers.models, handlers.setting, session, inputs, moved, follow
    )
    wire_presenter(place_presenter(page), page, handlers, inputs)
    wire_share(place_share(page), page, handlers, menus, opened, inputs, follow)
    wire_export(place_export(page), handlers, inputs)
    demo.unload(handlers.gone)
