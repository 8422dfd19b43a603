"""What each token of the all-token answer lost: measured with fidelity, shown in colour and in words."""

import math
import re

import pytest
import torch

from app.answers.reports import Report, reports
from app.answers.views import report as shown
from app.engine import remote
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from pruning.evaluation.answered import Piece, Side
from pruning.evaluation.verdict import Verdict
from tests.helpers.visits import keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def test_losses_come_with_fidelity_in_the_same_passes(engine, saved, monkeypatch):
    passes, logprobs = [], remote.logprobs_batch
    monkeypatch.setattr(remote, "logprobs_batch", lambda *values: passes.append(values) or logprobs(*values))
    session, setting = look(engine, saved()), keep("idpruner", 0.1)
    *_, last = reports(engine, session, setting, Task())
    assert len(passes) == 2  # all tokens, kept tokens
    assert "".join(piece.text for piece in last.pieces) == last.full.text

    encoded, selection = engine.encoded(session), engine.selection(session, setting)
    ids = engine.vlm.answer(encoded, session.first).ids
    full, kept = engine.vlm.logprobs(encoded, session.first, ids, [None, selection])
    assert len(last.pieces) == len(ids)
    for step, (token, piece) in enumerate(zip(ids, last.pieces, strict=True)):
        assert piece.sure == pytest.approx(math.exp(full[step, token]), abs=1e-5)
        assert piece.lost == pytest.approx(math.exp(full[step, token]) - math.exp(kept[step, token]), abs=1e-5)


def test_nothing_is_lost_where_nothing_is_pruned(engine, saved):
    *_, last = reports(engine, look(engine, saved()), keep("random", 1.0), Task())
    assert torch.tensor([piece.lost for piece in last.pieces]).abs().max() < 1e-6
    assert "no token lost any" in shown(last)


def told(*pieces: Piece) -> str:
    words = "".join(piece.text for piece in pieces)
    return shown(
        Report(64, 16, "IDPruner", "done", full=Side(words, True), verdict=Verdict.SAME, fidelity=0.5, pieces=pieces)
    )


def test_every_token_has_its_colour_and_its_words():
    html = told(Piece("two", 0.97, 0.42), Piece(" <b>", 0.5, -0.001), Piece(" red", 0.3, -0.12), Piece("", 0.9, 0.81))
    tokens = re.findall(r'<span class="(token[^"]*)"( style="[^"]*")? title="([^"]*)">([^<]*)</span>', html)
    assert [(kind, words) for kind, _, words, _ in tokens] == [
        ("token", "lost 0.42 of 0.97"),
        ("token", "lost 0.00 of 0.50"),
        ("token more", "gained 0.12 over 0.30"),
        ("token end", "end of the answer: lost 0.81 of 0.90"),
    ]
    assert [style for _, style, _, _ in tokens] == [
        ' style="--loss:42%"',
        "",
        ' style="--loss:12%"',
        ' style="--loss:81%"',
    ]
    assert tokens[1][3] == " &lt;b&gt;"
    assert "end of the answer: lost 0.81 of 0.90" in html.partition("loss-scale")[2]


def test_the_token_that_lost_most_is_named():
    scale = told(Piece("two", 0.97, 0.42), Piece(" red", 0.9, 0.1)).partition("loss-scale")[2]
    assert "“two”" in scale
    assert "lost 0.42 of 0.97" in scale


def test_half_a_character_is_shown_with_the_rest_of_it():
    html = told(Piece("", 0.5, 0.3), Piece("é", 0.5, 0.1))
    assert html.count('class="token') == 1


def test_the_legend_has_its_line_before_anything_is_known():
    assert shown(None).count("loss-scale") == 1
    assert 'class="token' not in shown(None)
