"""A manifest tells of a setting all that its answers depend on."""

import json

import pytest

from pruning.choosing import name_of
from pruning.encoding import make_encoding
from pruning.method import make
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.race.settings import Setting, setting_of, settings_of, told
from pruning.staged import make_staged

TEXT = "pre:idpruner:0.4,1:fastv:0.5"
PLANS = [parse_plan(TEXT, lambda name, at=at: make(name, mmr_lambda=at), make_staged) for at in (0.2, 0.7)]


@pytest.mark.parametrize(
    "asked",
    [make("idpruner", mmr_lambda=0.3), make_staged("fastv"), make_encoding("lower_resolution"), PLANS[0],
     PUBLISHED["fastv-published"]],
    ids=name_of,
)  # fmt: skip
def test_settings_come_back_from_a_manifest(asked) -> None:
    for setting in settings_of({name_of(asked): asked}, [0.25]):
        assert setting_of(json.loads(json.dumps(told(setting)))) == setting


def test_plans_that_are_written_alike_are_told_apart_by_their_knobs() -> None:
    first, second = (told(Setting(TEXT, plan, None)) for plan in PLANS)
    assert first != second
