"""Training runs on the page: what is shown of them, what their modules keep, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import gradio as gr
import pytest
from safetensors.torch import load_file, save_file

from app.session import Session
from app.training import views as training_views
from app.training.page import IN_SIGHT, TrainingEvents, place_training
from app.training.runs import Trainings
from app.training.sample import sample
from pruning.models.checkpoint.sources import SHIPPED
from pruning.training.runs import CURVE, KEPT, PLAN
from tests.helpers.trainings import POINTS, keep, trained
from tests.helpers.visits import visit


def test_runs_are_read_as_they_stand(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path)
    assert trainings.names() == Trainings(tmp_path / "none").names() == []
    trained(tmp_path / "old")
    new = trained(tmp_path / "new", points=3)
    os.utime(tmp_path / "old" / CURVE, (1, 1))
    (tmp_path / "a race").mkdir()
    assert trainings.names() == ["new", "old"]
    listed = trainings.listed("old")
    assert (listed.state, listed.curve.step, listed.steps, listed.problem) == ("done", 100, 100, "")
    assert trainings.listed("new").state == "stopped"
    with new.at_work():
        listed = trainings.listed("new")
        assert listed.state == "running"
        assert listed.pace.remaining_s == pytest.approx(4.0)
        assert "At work: 75 of 100 steps, about 4 s left" in training_views.status(listed)
        with pytest.raises(ValueError, match=r"another process trains in .*new: wait for its end"), new.at_work():
            pass
    for name in ("../new", "", None, "a race", "gone"):
        with pytest.raises(ValueError, match="there is no training run"):
            trainings.run(name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is no object"),
        ('{"loss": 1}', "step is None: it must be a whole number above 25"),
        ('{"step": 25}', "step is 25: it must be a whole number above 25"),
        ('{"step": 50, "loss": NaN}', "loss is nan: it must be a number"),
        ('{"step": 50, "loss": "low"}', "loss is 'low': it must be a number"),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_shown(line: str, said: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    lines = [json.dumps(POINTS[0]), line, json.dumps(POINTS[2]), '{"step": 100, "lo']
    run.path.joinpath(CURVE).write_text("\n".join(lines))
    curve = run.curve()
    assert [point.step for point in curve.points] == [25, 75], "the last line is being written"
    assert curve.problem == f"curve.jsonl, line 2: {said}: remove it, and what is right is shown"
    listed = Trainings(tmp_path).listed("run")
    assert "line 2" in training_views.status(listed)
    assert "guidance 3.03 at step 25" in training_views.curves(listed)
    assert "on 10 % of the tokens 81.2 % at step 75" in training_views.curves(listed)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    run, trainings = trained(tmp_path / "run"), Trainings(tmp_path)
    (run.path / CURVE).write_text("")
    assert "No checkpoint yet" in training_views.curves(trainings.listed("run"))
    for told, said in (
        ("{", "cannot be read"),
        ('{"steps": 0}', "steps is 0: it must be a whole number of at least 1"),
    ):
        (run.path / PLAN).write_text(told)
        assert said in trainings.listed("run").problem
        with pytest.raises(ValueError, match="train anew into another folder"):
            _ = run.plan
    (run.path / PLAN).unlink()
    assert "plan.json cannot be read" in training_views.status(trainings.listed("run"))
    shutil.rmtree(run.path)
    with pytest.raises(ValueError, match=r"curve.jsonl cannot be read .*: choose another run"):
        run.curve()


@pytest.mark.parametrize("method", ["covipal", "dtop", "atp_llava", "qtsplus"])
def test_what_a_module_keeps_stands_beside_the_untrained_and_the_scorers(
    method: str, shipped_engine, tmp_path: Path
) -> None:
    run = trained(tmp_path / method, method)
    found = sample(shipped_engine, run, 1, 0.2)
    assert [side.title for side in found.sides][1:] == ["Untrained", "The model’s scorer"]
    assert [(side.overlay.kept, side.overlay.n) for side in found.sides] == [(29, 144)] * 3
    first, untrained, scorer = (side.common for side in found.sides)
    assert first == 29
    if method == "atp_llava":
        assert untrained > scorer, "thresholds change little of an order that attention makes"
    else:
        assert untrained < scorer, "the order has been learned"
    assert sample(shipped_engine, run, 2, 0.2).question != found.question
    with pytest.raises(ValueError, match="held-out picture 65 is not there: choose one from 1 to 64"):
        sample(shipped_engine, run, 65, 0.2)


def test_a_module_is_shown_as_it_was_after_so_many_steps(shipped_engine, tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    assert sample(shipped_engine, run, 1, 0.2, 50).step == 0
    early = keep(run, 25) / "covipal.safetensors"
    save_file({name: 0 * weights for name, weights in load_file(early).items()}, early)
    for step in (50, 100):
        keep(run, step)
    found = {at: sample(shipped_engine, run, 1, 0.2, at) for at in (None, 100, 99, 30, 25, 1)}
    assert [each.step for each in found.values()] == [100, 100, 50, 25, 25, 25]
    masks = {at: each.sides[0].overlay.shown for at, each in found.items()}
    assert masks[None] == masks[99] != masks[30]
    assert "CoViPAL, after 25 steps" in training_views.sample(found[30])


def test_checkpoints_are_kept_evenly_and_no_more_than_so_many(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    for step in range(25, 25 * 200, 25):
        keep(run, step)
        kept = list(run.modules)
        assert len(kept) <= KEPT
        assert (kept[0], kept[-1]) == (25, step)
    gaps = [after - before for before, after in pairwise(kept[:-1])]  # the last one has just come
    assert max(gaps) <= 4 * min(gaps)
    (run.path / "steps" / "notes").mkdir()
    run.room(5000)  # where nothing is written yet
    assert list(run.modules) == kept[:-1], "one made room"


def test_of_a_scorers_run_the_other_is_attention(shipped_engine, tmp_path: Path) -> None:
    run = trained(tmp_path / "scorer")
    for name in ("scorer.safetensors", "scorer.json"):
        shutil.copy(SHIPPED / name, run.path / name)
    assert [side.title for side in sample(shipped_engine, run, 1, 0.1).sides] == [
        "VisionSelector",
        "Untrained",
        "Attention in the tower",
    ]


def test_a_module_of_another_model_and_none_at_all_are_refused(shipped_engine, tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    told = json.loads((run.path / "covipal.json").read_text())
    (run.path / "covipal.json").write_text(json.dumps(told | {"model": "0" * 64}))
    with pytest.raises(
        ValueError, match=r"was trained for another model than this one\..* This run is of 'scenes': choose that model"
    ):
        sample(shipped_engine, run, 1, 0.2)
    (run.path / "covipal.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no trained pruner"):
        sample(shipped_engine, run, 1, 0.2)


def test_the_page_follows_a_run_only_in_sight_and_while_it_is_at_work(models, tmp_path: Path, uploads) -> None:
    trainings, session = Trainings(tmp_path), Session(models.first, ())
    request = gr.Request(session_hash="a")
    with gr.Blocks():
        page = place_training(gr.Tabs(), trainings)
    events = TrainingEvents(page, trainings, models)
    assert page.tab.visible is False
    assert events.show(request, session, None)[page.at]["visible"] is False
    assert events.opened()["visible"] is False
    assert "No training run lies here" in events.show(request, session, None)[page.status]
    run = trained(tmp_path / "run", points=3)
    assert events.opened()["visible"] is True
    with run.at_work():
        shown = events.show(request, session, None)
        assert shown[page.timer].active
        assert shown[page.drawn] == ("run", 75, models.first)
        assert shown[page.at] == gr.update(minimum=0, maximum=1, value=0, visible=False)
        again = events.look(request, session, "run", shown[page.seen], 0)
        assert page.curves not in again
        assert page.run not in again
        for step in (25, 50):
            keep(run, step)
        now = events.look(request, session, "run", shown[page.seen], 0)
        assert now[page.at] == gr.update(minimum=25, maximum=50, value=50, visible=True)
        keep(run, 75)
        for at, stands in ((50, 75), (30, 30)):
            later = events.look(request, session, "run", now[page.seen], at)
            assert later[page.at] == gr.update(minimum=25, maximum=75, value=stands, visible=True)
        away = events.look(request, session, None, shown[page.seen], 0)
        assert [*away] == [page.timer]
        assert not away[page.timer].active
    ended = events.look(request, session, "run", shown[page.seen], 0)
    assert not ended[page.timer].active
    assert "Stopped: 75 of 100 steps in 12 s" in ended[page.status]
    (found,) = events.sample(request, session, "run", 1, 0.2, 60)
    assert "after 50 steps" in found[page.sample]
    assert "29 of 144 tokens kept" in found[page.sample]
    (found,) = events.sample(request, session, "run", 99, 0.2, 60)
    assert "held-out picture 99 is not there" in found[page.sample]
    shutil.rmtree(run.path)
    gone = events.show(request, session, "run", shown[page.seen])
    assert "The training run &#39;run&#39; is not there any more" in gone[page.status]


def test_the_view_shows_curves_and_what_is_kept(shipped_page, chromium, fits) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.get_by_role("tab", name="Training").click()
        tab.wait_for_selector("#training-status >> text=Done: 100 of 100 steps in 12 s")
        assert tab.locator("#training-curves .chart svg").count() == 2
        tab.wait_for_selector(".training-sides >> text=29 of 144 tokens kept")
        assert tab.locator(".training-sides img").count() == 3
        fits(tab, "training")
        assert tab.evaluate("document.documentElement.scrollHeight") <= 900
        tab.wait_for_selector(".training-sides >> text=CoViPAL, after 100 steps")
        for name, value, says in (("retention", "0.1", "14 of 144 tokens kept"), ("at", "60", "after 50 steps")):
            field = tab.locator(f"#training-{name} input[type=number]")
            field.fill(value)
            field.press("Tab")
            tab.wait_for_selector(f".training-sides >> text={says}")
        assert tab.evaluate(f"({IN_SIGHT})(1, 'run', 2)") == [1, "run", 2]
        tab.get_by_role("tab", name="Explore").click()
        assert tab.evaluate(f"({IN_SIGHT})(1, 'run', 2)") == [1, None, 2]
