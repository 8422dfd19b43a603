import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from pruning.params import Choice, HasKnobs, Param, Range, params


@dataclass(frozen=True)
class Knobs(HasKnobs):
    weight: Annotated[float, Range(0, 1, 0.05, label="w", help="a weight")] = 0.5
    layer: Annotated[int, Range(-4, 4, 1, label="layer")] = -1
    mode: Annotated[Literal["paper", "code"], Choice(label="form")] = "code"


def test_knobs_are_read_from_the_fields():
    assert params(Knobs) == (
        Param("weight", "float", 0.5, "w", "a weight", 0.0, 1.0, 0.05),
        Param("layer", "int", -1, "layer", "", -4.0, 4.0, 1),
        Param("mode", "choice", "code", "form", "", choices=("paper", "code")),
    )


def test_values_take_the_knobs_own_type():
    knobs = Knobs(weight=1, layer=2.0, mode="paper")
    assert (knobs.weight, knobs.layer) == (1.0, 2)
    assert isinstance(knobs.weight, float)
    assert isinstance(knobs.layer, int)
    assert isinstance(Knobs(weight=np.float32(0.5)).weight, float)
    assert Knobs(weight=0.333).weight == 0.333  # between the control's steps


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": -0.01},
        {"weight": 1.01},
        {"weight": math.nan},
        {"weight": True},
        {"weight": "0.5"},
        {"weight": None},
        {"layer": 2.5},
        {"layer": 5},
        {"layer": math.inf},
        {"mode": "other"},
        {"mode": 1},
    ],
)
def test_other_values_are_refused_with_value_rule_and_default(wrong):
    with pytest.raises(ValueError, match=r"is not allowed: it must be .* \(default ") as error:
        Knobs(**wrong)
    ((name, value),) = wrong.items()
    assert f"{name} = {value!r}" in str(error.value)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (float, 0.5),
        (Annotated[str, Range(0, 1, 1, label="x")], "a"),
        (Annotated[float, Choice(label="x")], 0.5),
        (Annotated[Literal["a", "b"], Range(0, 1, 1, label="x")], "a"),
        (Annotated[float, Range(0, 1, 0.1, label="x")], 2.0),
        (Annotated[Literal["a", "b"], Choice(label="x")], "c"),
    ],
)
def test_a_field_that_is_no_knob_is_a_programming_error(annotation, default):
    wrong = dataclass(frozen=True)(type("Wrong", (), {"__annotations__": {"x": annotation}, "x": default}))
    with pytest.raises(TypeError, match=r"Wrong\.x"):
        params(wrong)


@dataclass(frozen=True)
class Weighted(HasKnobs):
    mmr_lambda: Annotated[float, Range(0, 1, 0.05, label="λ")] = 0.5


def test_a_class_and_its_instances_say_which_knobs_they_have():
    assert Knobs.has("mode")
    assert Knobs().has("weight")
    assert not Knobs.has("has")
    assert not Knobs.has("mmr_lambda")


def test_lambda_is_read_and_replaced_where_there_is_one():
    assert Knobs().lambda_ is None
    assert Weighted().at_lambda(0.25).lambda_ == 0.25
    with pytest.raises(ValueError, match=r"mmr_lambda = 2 is not allowed"):
        Weighted().at_lambda(2)
    with pytest.raises(TypeError):
        Knobs().at_lambda(0.5)
