"""Settings that drop tokens inside the language model, in every view of the page; what runs never meets another's."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.batch import run as batch_run
from app.batch import views as batch_views
from app.canvas.overlays import overlays
from app.compare import views as compare_views
from app.compare.run import Results, Row, compare, rows
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.export.archive import Wanted, export
from app.plan import dominance
from app.presenter import slides as presenter_slides
from app.presenter.slides import Slide, Wish
from app.session import Setting
from app.smallest_budget import views as smallest_budget_views
from app.smallest_budget.search import find_budget, find_lambda
from app.tradeoff import measure as tradeoff_measure
from app.tradeoff import views as tradeoff_views
from app.tradeoff.measure import Measured
from app.web import theme, wording
from app.web.controls import Controls
from pruning.choosing import out_of_reach
from pruning.cli.methods import usable
from pruning.encoding import ENCODING
from pruning.method import make
from pruning.models import load
from pruning.models.trained import KINDS
from pruning.plan import parse_plan
from pruning.runnable import REGISTERED, started
from pruning.staged import make_staged
from tests.helpers.modules import write_modules
from tests.helpers.visits import QUESTION, keep, look

PLAN = parse_plan("pre:idpruner:0.5,1:random_inner:0.25", lambda name: make(name, importance="feature_norm"))


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20), "tiny")


@pytest.fixture
def capabilities(tiny_vlm):
    return Capabilities(tiny_vlm)


def staged(name="fastv", retention=0.75):
    return Setting(make_staged(name), retention)


def planned():
    return Setting(make("random"), 0.9, plan=PLAN)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(REGISTERED) - set(ENCODING)))  # those have tests of their own
def test_every_method_stands_in_a_slot_and_in_many_images(tiny, saved, name, tmp_path):
    vlm = tiny("llava" if name == "flowcut_tower" else "qwen2.5-vl")  # the one has the tower for it
    if name in KINDS:
        vlm = load(vlm.model_id, pruner=str(write_modules(vlm, tmp_path)))
    engine, capabilities = Engine(vlm, Resources(64 << 20), "tiny"), Capabilities(vlm)
    method = started(engine.vlm.signals, name)
    session = look(engine, saved())
    n = engine.encoded(session).tokens.n
    share = next(at for at in (0.75, 0.5, 1.0) if not out_of_reach(method, n, 2, at))
    setting = Setting(method, share)
    budget, at_end = engine.budget(session, setting), engine.selection(session, setting).k
    *_, last = compare(engine, capabilities, session, [setting], Results(), Task())
    row = last.results.of(setting)
    assert row.problem == ""
    assert budget == pytest.approx(n * setting.retention, abs=1)
    drops_all = getattr(method, "drops_all", False)  # or nothing: then more than was planned stays
    assert row.report.budget == budget or (drops_all and row.report.budget > budget)
    assert "At the end" in compare_views.table([row])
    items, _ = batch_run.opened(engine.resources.pictures, [saved(1), saved(2)], session)
    *_, done = batch_run.run(engine, items, setting, Task())
    assert [(item.problem, item.budget) for item in done.items] == [("", budget)] * 2
    assert {item.at_end for item in done.items} == {at_end}
    assert ("in the mean of the layers, " in batch_views.totals(done.items)) == (at_end != budget)


def test_slots_tell_mean_and_end_and_what_is_out_of_reach(engine, capabilities, saved):
    session, settings = look(engine, saved()), [staged(), planned(), staged(retention=0.25), keep("random", 0.75)]
    *_, last = compare(engine, capabilities, session, settings, Results(), Task())
    known = rows(session, (*settings,), last.results)
    assert "36 of 48 tokens in the mean of the layers, 24 at the end" in compare_views.body(known[0])
    assert "15 of 48 tokens in the mean of the layers, 6 at the end" in compare_views.body(known[1])
    assert "48 visual tokens reach 0.510 to 1" in compare_views.body(known[2])
    assert "those alive after the last cut are compared" in compare_views.matrix(known)
    assert "after the last cut are" not in compare_views.matrix([known[3], replace(known[3])])


def test_words_of_staged_settings():
    assert (wording.title(staged()), wording.details(staged())) == ("FastV", "75 % in the mean of the layers")
    assert wording.title(planned()) == "pre:idpruner:0.5,1:random_inner:0.25"
    assert wording.details(planned()).startswith("a plan with a retention of its own · ")
    assert "feature norm" in wording.details(planned())


def test_many_images_answer_by_the_plan_itself(engine, saved):
    session = look(engine, saved())
    items, _ = batch_run.opened(engine.resources.pictures, [saved(1)], session)
    *_, done = batch_run.run(engine, items, staged(), Task())
    (item,) = done.items
    runs = engine.runs(item.session, staged())
    *_, alone = answers(Engine(engine.vlm, Resources(64 << 20)), Asked(item.session, QUESTION, runs), Task())
    assert item.kept.text == alone.text
    assert item.kept.trace.alive == (48, 24)
    *_, none = batch_run.run(engine, items, staged(retention=0.25), Task())
    assert "reach 0.510 to 1" in none.items[0].problem


def test_the_fewest_tokens_are_looked_for_where_the_schedule_reaches(engine, saved):
    session = look(engine, saved())
    *_, last = find_budget(engine, session, staged(), Task())
    assert last.stage == "done"
    assert last.tokens > 24  # fewer cannot be had: the first layer sees all
    assert "in the mean of the layers" in smallest_budget_views.search(last)
    with pytest.raises(ValueError, match="FastV prunes inside the language model and has no λ: choose IDPruner"):
        next(find_lambda(engine, session, staged(), Task()))
    for search in (find_budget, find_lambda):
        with pytest.raises(ValueError, match=r"random_inner:0\.25 "):
            next(search(engine, session, planned(), Task()))


def assert_seen(picture, overlay, rects, lived):
    """The middle of every patch has the colour of the page's table for the layers, of 2, that process it."""
    first, last = theme.painting()["seen"]
    shades = {None: 0.0, 0: 0.0, 1: (first + last) / 2, 2: 1.0}
    grey = np.asarray(Image.fromarray(picture).convert("L"), float)[..., None]
    for (x0, y0, x1, y1), life in zip(rects.round().astype(int).tolist(), lived, strict=True):
        inner = slice(y0 + 3, y1 - 3), slice(x0 + 3, x1 - 3)
        share = shades[life]
        wanted = share * picture[inner] + (1 - share) * theme.painting()["veil"] * grey[inner]
        assert np.abs(overlay[inner] - wanted).max() <= 2, (life, x0, y0)


@pytest.mark.parametrize("setting", [staged(), planned()], ids=["method", "plan"])
def test_an_export_holds_plan_lives_and_citations(engine, saved, setting):
    session = look(engine, saved())
    measured = Measured(session, (setting.asked,), (), 0, "original")
    *_, archive = export(engine, Wanted(session, setting, (0.5, 0.5), "dimmed", measured), Task())
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        found = {name: packed.read(name).decode() for name in ("lives.csv", "settings.json", "references.bib")}
        chosen, readme = json.loads(packed.read("selection.json")), packed.read("README.txt").decode()
        overlay = np.asarray(Image.open(io.BytesIO(packed.read("image-1-overlay-dimmed.png"))).convert("RGB"))
    lines, told = list(csv.DictReader(io.StringIO(found["lives.csv"]))), json.loads(found["settings.json"])
    lived = [None if line["layers"] == "" else int(line["layers"]) for line in lines]
    assert lived == chosen["lives"]["lives"]
    ranked = sorted(int(line["rank_after_1"]) for line in lines if line["rank_after_1"])
    assert ranked in ([], list(range(1, chosen["alive"][0] + 1)))
    assert "lives.csv" in readme
    assert "in each layer was not measured" in readme
    assert "Outlined patches live longest. Of a patch that leaves after layer 1, 45 % of the colours is seen." in readme
    assert_seen(np.asarray(engine.images(session)[0]), overlay, engine.encoded(session).rects, lived)
    if setting.plan is None:
        assert (told["method"], told["plan"]) == ("fastv", None)
        assert ranked
        assert "2403.06764" in found["references.bib"]
        assert "method=fastv" in told["link"]
    else:
        assert told["plan"] == str(PLAN)
        assert told["plan_knobs"]["idpruner"]["importance"] == "feature_norm"
        assert "plan=pre%3Aidpruner%3A0.5%2C1%3Arandom_inner%3A0.25" in told["link"]


def test_an_export_holds_what_dominates_where_the_page_measured_it(engine, saved):
    session, setting = look(engine, saved()), staged()
    for _ in reports(engine, session, setting, Task()):
        pass
    found = dominance.measured(engine, session, setting)
    *_, archive = export(engine, Wanted(session, setting, (0.5, 0.5), "dimmed"), Task())
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        lines = list(csv.DictReader(io.StringIO(packed.read("dominance.csv").decode())))
        readme = packed.read("README.txt").decode()
    assert [line["tokens"] for line in lines] == ["all"] * len(found.full) + ["kept"] * len(found.kept)
    assert [float(line["mdi"]) for line in lines] == [layer.mdi for layer in (*found.full, *found.kept)]
    assert "dominance.csv" in readme
    assert "in each layer was not measured" not in readme


def test_painted_pictures_have_a_legend_of_depths(engine, saved):
    session, setting = look(engine, saved()), planned()
    (painted,) = overlays(engine, session, setting, "dimmed")
    first, last = theme.painting()["seen"]
    assert painted.depths == ((1, pytest.approx((first + last) / 2)),)
    assert overlays(engine, session, setting, "order")[0].depths == ()
    assert overlays(engine, session, staged(retention=1.0), "dimmed")[0].depths == ()
    assert overlays(engine, session, keep("idpruner"), "dimmed")[0].depths == ()
    item, row = batch_run.Item("a.png", session, n=48, budget=12), Row(setting)
    for told in (batch_views.card(item, painted), compare_views.head(0, row, (painted,))):
        assert re.search(
            r"dropped after layer<span[^>]*><i class=\"key depth\" style=\"--depth:[\d.]+\"></i>1</span>", told
        )
    (plain,) = overlays(engine, session, keep("idpruner"), "dimmed")
    assert "dropped after layer" not in batch_views.card(item, plain) + compare_views.head(0, row, (plain,))


@pytest.mark.parametrize("setting", [staged(), planned()], ids=["method", "plan"])
def test_slides_show_plans_and_their_curves(engine, capabilities, saved, setting):
    session = look(engine, saved())
    shown = Slide("Mine", 0, 1, session)
    news = list(presenter_slides.news(engine, capabilities, shown, setting, Wish(1, curves=True), ["random"], Task()))
    assert news[0]["told"]["method"] == wording.title(setting)
    assert news[0]["exact"]["alive"] == list(engine.trace(session, setting).alive)
    assert "svg" in news[-1]["chart"]


def test_curves_leave_out_what_cannot_be_reached_a_line_each(engine, capabilities, saved):
    session = look(engine, saved())
    methods, _ = tradeoff_measure.sweep_methods(capabilities, ["fastv", "dart", "random"], planned(), 1)
    *_, last = tradeoff_measure.sweep(engine, session, methods, Task(), (0.1, 0.25, 0.75))
    cells = [(point.method, point.retention) for point in last.points]
    assert cells == [
        ("random", 0.1), ("random", 0.25), (str(PLAN), 0.3125), ("fastv", 0.75), ("dart", 0.75), ("random", 0.75)
    ]  # fmt: skip
    assert len(last.left_out) == 2
    assert last.left_out[0].startswith("fastv at 0.1 and 0.25 is left out: FastV cannot")
    assert "fastv at 0.1 and 0.25 is left out" in tradeoff_views.progress(last)


def test_weights_and_knobs_reach_the_methods_of_a_plan(capabilities):
    controls = Controls()
    plan = controls.planned(capabilities, str(PLAN), 0.9, 0.1, {"importance": "feature_norm", "seed": 5})
    assert (plan.entry.method.mmr_lambda, plan.entry.method.importance) == (0.9, "feature_norm")
    assert plan.cuts[0].rule.seed == 5
    assert controls.planned(capabilities, "1:fastv:0.5", 0.9, 0.1, {}) == parse_plan("1:fastv:0.5")
    capabilities.refused = {"fastv": "FastV prunes inside the language model: the tiny model has no stages"}
    for text in ("1:fastv:0.5", "fastv-published"):
        with pytest.raises(ValueError, match="the tiny model has no stages"):
            controls.planned(capabilities, text, 0.5, 0.5, {})


def hooks(vlm):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules())


def test_two_visitors_with_different_plans_never_meet(engine, saved):
    session, settings = look(engine, saved()), [staged(), staged("dart"), planned(), keep("random", 0.25)]

    def alone(setting):
        fresh = Engine(engine.vlm, Resources(64 << 20))
        *_, last = answers(fresh, Asked(session, QUESTION, fresh.runs(session, setting)), Task())
        return last.text

    wanted = [alone(setting) for setting in settings]
    streams = [answers(engine, Asked(session, QUESTION, engine.runs(session, s)), Task()) for s in settings]
    said = [""] * len(streams)
    while streams:  # a piece of each in turn
        for place, stream in list(enumerate(streams)):
            item = next(stream, None) if stream else None
            if item is None:
                streams[place] = None
            else:
                said[place] = item if isinstance(item, str) else item.text
        if not any(streams):
            break
    assert said == wanted


def test_a_prefill_that_is_stopped_or_fails_leaves_the_model_clean(engine, saved, monkeypatch):
    session, before = look(engine, saved()), hooks(engine.vlm)
    *_, full = answers(engine, Asked(session, QUESTION), Task())
    task, pick = Task(), type(make_staged("fastv")).pick

    def stop(self, seen, k):
        task.set()
        return pick(self, seen, k)

    def fail(self, seen, k):
        raise ValueError("no luck in mid-stack")

    with monkeypatch.context() as patched:
        patched.setattr(type(make_staged("fastv")), "pick", stop, raising=False)
        *_, stopped = answers(engine, Asked(session, QUESTION, engine.runs(session, staged())), task)
        assert stopped.cancelled
        patched.setattr(type(make_staged("fastv")), "pick", fail, raising=False)
        with pytest.raises(ValueError, match="mid-stack"):
            list(answers(engine, Asked(session, QUESTION, engine.runs(session, staged(retention=0.8))), Task()))
    assert hooks(engine.vlm) == before
    fresh = Engine(engine.vlm, Resources(64 << 20))
    *_, again = answers(fresh, Asked(session, QUESTION), Task())
    assert again.ids == full.ids
    *_, last = answers(fresh, Asked(session, QUESTION, fresh.runs(session, staged())), Task())
    assert last.trace.alive == (48, 24)


def test_what_needs_more_pictures_is_left_out_beforehand(tiny_vlm):
    capabilities = Capabilities(tiny_vlm)
    setting = Setting(make("random"), 0.5)
    methods, left_out = tradeoff_measure.sweep_methods(capabilities, ["catp", "random"], setting, 1)
    assert [method.name for method in methods] == ["random"]
    assert left_out == ["CATP needs at least 2 images, not 1: earlier ones are its examples"]
    methods, left_out = tradeoff_measure.sweep_methods(capabilities, ["catp", "random"], setting, 2)
    assert ([method.name for method in methods], left_out) == (["catp", "random"], [])
    line = "CATP · inside the LLM"
    assert (f"✕ {line} · 2 images or more", "catp") in capabilities.menu(1)
    assert (line, "catp") in capabilities.menu(2)
    served, left_out = usable(tiny_vlm, ["catp", "random"], {}, 1)
    assert [method.name for method in served] == ["random"]
    assert left_out == ["CATP is left out: CATP needs at least 2 images, not 1: earlier ones are its examples"]
    assert [method.name for method in usable(tiny_vlm, ["catp", "random"], {}, 2)[0]] == ["catp", "random"]
