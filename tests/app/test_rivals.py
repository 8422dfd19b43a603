"""Methods that ask for another encoding, everywhere the page and the API have methods."""

import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.answers import views as answers_views
from app.answers.reports import reports
from app.api import results as api_results
from app.batch import run as batch_run
from app.canvas import state as canvas_state
from app.canvas.overlays import overlays
from app.compare.run import Results, compare, overlap
from app.engine import remote
from app.engine.capabilities import ANEW, Capabilities, group
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.export.archive import Wanted, export
from app.pays import run as pays_run
from app.pays import views as pays_views
from app.session import Setting
from app.smallest_budget.search import find_budget
from app.tradeoff import measure
from pruning.budget import keep_count
from pruning.drawing.overlays import STYLES
from pruning.drawing.palettes import PAGE
from pruning.encoding import ENCODING, make_encoding
from pruning.evaluation.plane import RETENTIONS
from pruning.models import Turn
from tests.helpers.clips import film
from tests.helpers.visits import QUESTION, keep, look, seconds_to_stop, visit

NAMES = sorted(ENCODING)


@pytest.fixture(scope="module")
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.fixture(params=NAMES)
def setting(request):
    return Setting(make_encoding(request.param), 0.5)


@pytest.fixture
def given(setting, medium):
    """(seed) -> path of what the setting's method is for."""
    return lambda seed=0: medium(setting, seed)


@pytest.fixture
def medium(saved, tmp_path):
    """(setting, seed) -> path of a picture, or of a clip of 12 frames: 6 steps of 4 × 6 tokens."""

    def path(setting: Setting, seed: int = 0) -> str:
        if not setting.method.clips:
            return saved(seed)
        return str(film(tmp_path / f"{seed}.mp4", frames=60 - seed % 5, fps=10, size=(168, 112)))

    return path


@pytest.fixture
def session(engine, given):
    return look(engine, given())


def finished(engine, session, setting):
    *_, last = reports(engine, session, setting, Task())
    return last


def test_it_is_asked_for_as_the_library_does(engine, session, setting):
    report = finished(engine, session, setting)
    asked = setting.method.encoding(report.n, keep_count(report.n, setting.retention))
    own = engine.vlm.encode(engine.images(session), asked=asked)
    answer = engine.vlm.answer(engine.vlm.encode(engine.images(session)), session.first, own)
    assert report.kept.text == answer.text
    assert report.budget == own.tokens.n <= asked.most < report.n
    assert engine.shown(session, setting).rects.tolist() == own.rects.tolist()


def test_the_tower_s_saving_is_told(engine, session, setting):
    report = finished(engine, session, setting)
    tower = report.encoding.tower
    assert tower.full_patches == engine.encoded(session).patches > tower.kept_patches
    assert f"{tower.kept_patches:,}" in answers_views.report(report)
    assert api_results.answered(engine, session, setting, report).encoding.reached == report.budget
    missed = report.budget != report.encoding.asked
    allows = "whole frames allow" if setting.method.clips else "the grid allows"
    assert (f"the nearest that {allows}" in report.encoding.note) == missed
    assert (f"the nearest that {allows}" in answers_views.report(report)) == missed
    assert ("… of it, frames" in answers_views.report(report)) == setting.method.clips
    other = finished(engine, session, keep("random", 0.5))
    assert other.encoding is None
    assert api_results.answered(engine, session, keep("random", 0.5), other).encoding is None


def test_it_is_encoded_once_for_every_place_that_shows_it(engine, session, setting, monkeypatch):
    calls, encode = [], engine.vlm.encode
    monkeypatch.setattr(engine.vlm, "encode", lambda *a: calls.append(a[2]) or encode(*a))
    for _ in range(2):
        engine.runs(session, setting)
        canvas_state.payload(engine, session, setting)
        overlays(engine, session, setting, "grid")
    assert len([asked for asked in calls if asked is not None]) <= 1


def test_all_tokens_are_the_picture_as_it_is(engine, session, setting):
    whole = engine.runs(session, Setting(setting.method, 1.0))
    assert np.array_equal(whole.tokens.features, engine.encoded(session).tokens.features)


def test_the_canvas_has_cells_at_their_true_size(engine, session, setting):
    told, exact = canvas_state.payload(engine, session, setting), canvas_state.exact(engine, session, setting)
    own = engine.runs(session, setting)
    assert (told["n"], told["full"]) == (own.tokens.n, engine.encoded(session).tokens.n)
    assert told["key"] == exact["key"]
    assert told["scores"] is None
    assert set(told["off"]) < set(STYLES)
    # Sizes have grids of their own, so what is shown of one is not taken for another.
    assert canvas_state.exact(engine, session, Setting(setting.method, 1.0))["key"] != told["key"]
    assert canvas_state.payload(engine, session, keep("random"))["off"] == {}
    card = canvas_state.card(engine, session, setting, told["n"] - 1)
    assert f"all {told['n']:,} of it enter" in card.why
    with pytest.raises(ValueError, match=f"0 to {told['n'] - 1}"):
        canvas_state.card(engine, session, setting, told["n"])


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_it(engine, session, setting, style):
    (drawn,) = overlays(engine, session, setting, style)
    assert drawn.kept == drawn.n == engine.runs(session, setting).tokens.n


def test_it_is_nowhere_on_the_plane_and_the_plane_says_so(engine, session, setting):
    *swept, here = measure.plane(engine, session, setting)
    n, budget = engine.encoded(session).tokens.n, engine.budget(session, setting)
    assert {point.budget for point in swept} == {budget}
    point = api_results.point(here)
    assert (point.importance_retention, point.hopkins, point.budget) == (None, None, budget)
    assert f"none of the {n:,} tokens is kept" in measure.plane_note(engine, session, setting)
    assert measure.plane_chart([*swept, here], PAGE).marks


def test_its_curve_ends_at_the_whole_answer(engine, session, setting):
    *_, last = measure.sweep(engine, session, [setting.method], Task(), RETENTIONS[-3:])
    assert last.stage == "done"
    assert last.points[-1].fidelity == pytest.approx(1.0, abs=1e-4)
    assert len(last.points) == last.total


def test_compared_it_shares_no_tokens_with_others(engine, session, setting):
    settings = [setting, keep("random", 0.5)]
    *_, last = compare(engine, Capabilities(engine.vlm), session, settings, Results(), Task())
    mine, other = (last.results.of(each) for each in settings)
    assert mine.finished
    assert overlap(mine, other) is None
    assert overlap(other, other).iou == 1


def test_the_fewest_tokens_are_found(engine, session, setting):
    *_, last = find_budget(engine, session, setting, Task())
    assert last.stage == "done"
    assert finished(engine, session, last.best).agree


def test_it_is_exported_as_it_is_drawn_and_counted_over_many_images(engine, given, session, setting):
    *_, archive = export(engine, Wanted(session, setting, (0.5, 0.5), "heat", None), Task())
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        answers = json.loads(packed.read("answers.json"))
    budget = engine.budget(session, setting)
    drawn = "clip" if setting.method.clips else "image"
    assert f"{drawn}-1-overlay-grid.png" in archive.names, "there is no heat map of it"
    assert answers["encoding"]["reached"] == answers["budget"] == budget
    items, _ = batch_run.opened(engine.resources.pictures, [given(), given(5)], session)
    *_, last = batch_run.run(engine, items, setting, Task())
    assert [item.budget for item in last.items] == [budget, budget]


def test_the_menu_has_it_before_the_tower_or_says_why_not(tiny):
    able, unable = Capabilities(tiny("qwen2.5-vl")), Capabilities(tiny("llava"))
    for name in NAMES:
        assert group(name) == ANEW
        assert (f"{ENCODING[name].title} · {ANEW}", name) in able.menu(1, ENCODING[name].clips)
        with pytest.raises(ValueError, match=r"needs (an option|a model that takes clips) .*Choose another method"):
            unable.check(name)


def test_budgets_of_parts_are_refused(engine, given, setting):
    session = look(engine, given(), given(1))
    with pytest.raises(ValueError, match="one budget for all pictures"):
        engine.runs(session, Setting(setting.method, 0.5, "image"))


def by_hand(vlm, setting, pictures, questions):
    """Answers of a conversation, by the library alone: what is shown is encoded anew, what all tokens said is told."""
    whole = vlm.encode(pictures)
    asked = setting.method.encoding(whole.tokens.n, keep_count(whole.tokens.n, setting.retention))
    own, said, turns = vlm.encode(pictures, asked=asked), [], []
    for question in questions:
        said.append(vlm.answer(whole, question, own, history=turns).text)
        turns.append(Turn(question, said[-1]))
    return said


@pytest.mark.parametrize("sizes", [[(4000, 20)], [(20, 4000)], [(28, 28)], [(448, 84), (56, 308), (224, 224)]], ids=str)
def test_pictures_of_any_shape(engine, saved, sizes):
    setting = Setting(make_encoding("lower_resolution"), 0.5)
    session = look(engine, *(saved(seed, size) for seed, size in enumerate(sizes)))
    report = finished(engine, session, setting)
    n = engine.encoded(session).tokens.n
    assert report.stage == "done"
    assert report.budget <= max(keep_count(n, setting.retention), len(sizes)), "a token for each picture at least"
    assert report.kept.text == by_hand(engine.vlm, setting, engine.images(session), [session.first])[0]
    told = canvas_state.payload(engine, session, setting)
    assert len(engine.shown(session, setting).rects) == told["n"] == report.budget


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000)])
def test_what_no_model_takes_is_named_with_what_to_do(engine, saved, size):
    setting = Setting(make_encoding("lower_resolution"), 0.5)
    with pytest.raises(ValueError, match=rf"{size[0]}×{size[1]} pixels: .* at most 200\. Crop or pad it"):
        finished(engine, look(engine, saved(0, size)), setting)


def test_the_second_turn_is_asked_of_the_same_encoding(engine, given, setting):
    questions = ("what color is the star?", "and the circle?")
    session = look(engine, given(3), questions=questions)
    report = finished(engine, session, setting)
    assert report.kept.text == by_hand(engine.vlm, setting, engine.images(session), questions)[1]


def test_two_visitors_at_once_each_have_their_own(engine, saved, medium):
    """One of either rival, and a third who measures whether it pays, in turn and all at the same time."""
    settings = [Setting(make_encoding(name), retention) for name in NAMES for retention in (0.25, 0.5)]
    wanted = [
        by_hand(engine.vlm, setting, engine.images(look(engine, medium(setting, seed))), [QUESTION])
        for seed, setting in enumerate(settings, 20)
    ]

    def ask(seed: int) -> list[str]:
        setting = settings[seed - 20]
        return [finished(engine, look(engine, medium(setting, seed)), setting).kept.text]

    def measured() -> str:
        *_, last = pays_run.run(engine, look(engine, saved(19)), keep("random", 0.5), Task(), (1,))
        return last.stage

    with ThreadPoolExecutor(len(settings) + 1) as visitors:
        paying = visitors.submit(measured)
        assert list(visitors.map(ask, range(20, 20 + len(settings)))) == wanted
        assert paying.result() == "done"


def test_whether_it_pays_is_measured_and_stopped_with_what_is_there(engine, saved):
    session, setting, task, steps = look(engine, saved()), keep("random", 0.5), Task(), []
    for step in pays_run.run(engine, session, setting, task, (1,)):
        steps.append(step)
        if step.result.rows:
            task.set()
    assert steps[-1].stage == "stopped"
    assert {row.setting for row in steps[-1].result.rows} >= {"all tokens", "Random", "Lower resolution"}
    shown = pays_views.result(steps[-1].result)
    assert "<svg" in shown
    assert steps[-1].result.verdict in shown
    assert "stays" in pays_views.progress(steps[-1])


@pytest.mark.alone
def test_the_view_tells_how_far_it_is_stops_at_once_and_keeps_what_it_has(served, chromium, fits, monkeypatch):
    pays = remote.pays

    def crawl(*values):
        for report in pays(*values):
            time.sleep(0.2)  # else all may be measured before Stop is pressed
            yield report

    monkeypatch.setattr(remote, "pays", crawl)
    with visit(chromium, served.url) as tab:
        tab.get_by_role("tab", name="Does it pay?").click()
        tab.click("#pays-run")
        tab.wait_for_selector("#pays-progress >> text=/Measuring.*left/")
        tab.wait_for_selector("#pays-result .pays-bars svg")
        assert seconds_to_stop(tab, "#pays-stop", "#pays-progress") < 1
        tab.wait_for_selector("#pays-progress >> text=Stopped: what was measured stays")
        shown = tab.inner_text("#pays-result")
        assert "at 1 at once against all tokens" in shown
        assert "saves: tower, prefill, decode, memory" in shown
        fits(tab, "pays")


@pytest.mark.parametrize("bad", [(0,), (65,), (True,), ("4",), (1.5,)])
def test_requests_at_once_are_checked(engine, session, bad):
    with pytest.raises(ValueError, match=f"concurrency {bad[0]!s}"):
        list(pays_run.run(engine, session, keep("random"), Task(), bad))
