"""The setting of a page, written for other programs."""

from dataclasses import replace

import pytest

from app.engine.engine import Engine
from app.engine.resources import Resources
from app.recipe import views as recipe_views
from app.recipe.write import written
from app.session import Forced
from pruning.handover.recipes import PROGRAMS
from tests.helpers.visits import keep, look


@pytest.fixture(scope="module")
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def told(engine, saved, setting):
    return {each.name: each for each in written(engine, look(engine, saved()), setting)}


def test_every_program_has_its_place_on_the_page(engine, saved):
    for method in ("idpruner", "cdpruner", "random"):
        found = told(engine, saved, keep(method))
        assert [(each.name, each.title, each.language) for each in found.values()] == list(PROGRAMS)


def test_it_is_the_setting_that_the_page_shows(engine, saved):
    setting = keep("idpruner", 0.1, mmr_lambda=0.75)
    command = told(engine, saved, replace(setting, positions="compact"))["command_line"]
    for part in ("--method idpruner", "--retention 0.1", "--positions compact", "--mmr-lambda 0.75"):
        assert part in command.text
    assert "--positions" not in told(engine, saved, setting)["command_line"].text
    forced = replace(setting, forced=Forced("", (1,), (2,)))
    assert "forced by hand" in told(engine, saved, forced)["library"].note


def test_what_cannot_be_served_has_its_reason_and_no_text(engine, saved):
    found = told(engine, saved, keep("random"))
    assert found["openvino"].text == ""
    assert "Cannot be served there" in recipe_views.note(found["openvino"])
