"""Several images in one question, budgets of their own, merged rows: what is selected, shown and answered."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.canvas.overlays import overlays, views
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from pruning.budget import keep_count
from pruning.drawing import overlays as draw
from pruning.drawing.overlays import STYLES
from pruning.tokens import Selection
from tests.helpers.visits import QUESTION, keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def test_several_images_are_one_sample_in_the_order_given(engine, saved):
    both, turned = look(engine, saved(0), saved(1, (112, 112))), look(engine, saved(1, (112, 112)), saved(0))
    tokens = engine.encoded(both).tokens
    assert [grid.image for grid in tokens.grids] == [0, 1]
    alone = [engine.encoded(look(engine, path)).tokens.n for path in (saved(0), saved(1, (112, 112)))]
    assert tokens.n == sum(alone)
    assert engine.key("encoded", both) != engine.key("encoded", turned)
    *_, last = reports(engine, both, keep("idpruner"), Task())
    assert (last.stage, last.n) == ("done", tokens.n)
    own = engine.vlm.answer(engine.encoded(both), QUESTION)
    assert last.full.text == own.text


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["idpruner", "prumerge"])
def test_overlays_show_each_image_its_own_tokens(engine, saved, name, style):
    session, setting = look(engine, saved(0), saved(1, (112, 224))), keep(name, 0.3)
    selection = engine.selection(session, setting)
    first = engine.encoded(session).tokens.grids[0].count
    one, other = overlays(engine, session, setting, style)
    assert (one.kept, one.n) == (int((selection.indices < first).sum()), first)
    assert one.kept + other.kept == selection.k
    assert one.image.shape == (384, 512, 3)
    assert other.image.shape == (512, 256, 3)


def test_tokens_of_one_image_leave_no_mark_on_another(engine, saved):
    session = look(engine, saved(0), saved(1))
    first = engine.encoded(session).tokens.grids[0].count
    own, other = views(engine, session, keep("random"))
    order = torch.arange(first, first + 5)  # all of the second image
    blank = np.full_like(own.image, 200)
    for style in STYLES:
        selection = Selection(order, 2 * first, torch.zeros(2 * first))
        shown = draw.overlay(blank, own.rects, selection, style)
        nothing = draw.overlay(blank, own.rects, Selection(order[:1], 2 * first, torch.zeros(2 * first)), style)
        assert np.array_equal(shown, nothing), style
    assert own.own.sum() == other.own.sum() == first


def test_a_budget_for_each_image_gives_every_image_its_share(engine, saved):
    session = look(engine, saved(0), saved(1, (112, 112)))
    grids = engine.encoded(session).tokens.grids
    selection = engine.selection(session, keep("idpruner", 0.25, scope="image"))
    kept = [int(selection.mask[grid.start : grid.stop].sum()) for grid in grids]
    assert kept == [keep_count(grid.count, 0.25) for grid in grids]
    assert engine.selection_seconds(session, keep("idpruner", 0.25, scope="image")) > 0


def test_answers_tell_merged_rows_from_the_same_tokens_unmerged(engine, saved):
    session, setting = look(engine, saved()), keep("prumerge", 0.3)
    merged = engine.selection(session, setting)
    assert merged.rows is not None
    plain = Selection(merged.order, merged.n)
    other = replace(merged, rows=merged.rows + 1)
    keys = {Asked(session, QUESTION, kept).kept for kept in (merged, plain, other, None)}
    assert len(keys) == 4
    assert Asked(session, QUESTION, replace(merged)).kept == Asked(session, QUESTION, merged).kept
    everything = Selection(torch.randperm(merged.n), merged.n)
    assert Asked(session, QUESTION, everything).kept is None


def test_merged_rows_reach_the_model(engine, saved):
    session = look(engine, saved())
    setting = keep("prumerge", 0.3)
    *_, last = answers(engine, Asked(session, QUESTION, engine.selection(session, setting)), Task())
    own = engine.vlm.answer(engine.encoded(session), QUESTION, engine.selection(session, setting))
    assert last.ids == own.ids


def test_an_encoding_with_more_signals_serves_those_who_need_fewer(engine, saved, monkeypatch):
    calls, encode = [], engine.vlm.encode
    monkeypatch.setattr(engine.vlm, "encode", lambda *values: calls.append(values[1]) or encode(*values))
    session = look(engine, saved())
    engine.encoded(session, frozenset({"vision_attention@-1", "vision_keys@-1", "question"}))
    engine.encoded(session)
    engine.encoded(session, frozenset({"vision_keys@-1", "scorer"}))
    assert calls == [frozenset({"vision_attention@-1", "vision_keys@-1"})]
    engine.encoded(session, frozenset({"vision_values@-1"}))
    assert len(calls) == 2
