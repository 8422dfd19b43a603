"""What stands between event functions and the page: controls of the registry, weights, messages, what is logged."""

import json
import logging
import math
import time
from collections import defaultdict
from typing import get_type_hints

import gradio as gr
import pytest

from app.engine.capabilities import Capabilities
from app.race.runs import Races
from app.training.runs import Trainings
from app.ui import build_demo
from app.web.controls import Controls, ControlValues
from app.web.errors import message_for, report_errors
from app.web.events import Told
from pruning.models.trained import KINDS
from pruning.params import params
from pruning.runnable import REGISTERED
from pruning.weights import mmr_lambda
from tests.helpers.serving import Shelf, models_of


def test_controls_mirror_the_registry(served):
    controls, capabilities = Controls(), Capabilities(served.engine.vlm)
    assert {*capabilities.methods, *capabilities.refused} == set(REGISTERED)
    assert set(capabilities.refused) == {"flowcut_tower", *KINDS}  # no trained modules lie beside this model
    declared = {(name, p.name) for name, cls in REGISTERED.items() for p in params(cls)}
    shown = {(name, knob.param.name) for knob in controls.knobs for name in knob.methods}
    assert declared - shown == {(name, "mmr_lambda") for name in REGISTERED if controls.has_lambda(name)}
    for name in REGISTERED:
        values = ControlValues(name, "dimmed", "sample", 1, 1, 0.5, "", "original", {})
        if name in capabilities.refused:
            with pytest.raises(ValueError, match=r"needs a (vision tower between whose layers|trained module)"):
                controls.method(capabilities, values)
            continue
        assert controls.method(capabilities, values).name == name
        assert controls.method(capabilities, values) == controls.named(capabilities, name, 1, 1, {})


def test_knobs_hold_by_key_what_was_set(served):
    controls, capabilities = Controls(), Capabilities(served.engine.vlm)
    keys = {knob.key: knob for knob in controls.knobs}
    assert len(keys) == len(controls.knobs)
    panel = controls.panel("random", controls.keyed("random", {"seed": 7.0, "unknown": 1}))
    assert panel == {"shown": ["seed"], "held": {"seed": 7}}
    values = ("random", "dimmed", "sample", 1, 1, 0.5, "", "original")
    assert controls.method(capabilities, ControlValues.read([*values, panel])).seed == 7
    assert controls.method(capabilities, ControlValues.read([*values, controls.panel("random", {})])).seed == 0
    specs = json.loads(controls.specs(capabilities))
    assert set(specs) == set(keys)
    assert [value for _, value in specs["importance"]["choices"]] == list(capabilities.sources())
    assert specs["seed"]["start"] == keys["seed"].param.default
    with pytest.raises(ValueError, match="seed = -1 is not allowed"):
        controls.keyed("random", {"seed": -1})


def test_another_model_brings_importance_sources_of_its_own(served):
    controls, capabilities = Controls(), Capabilities(served.engine.vlm)
    update = controls.for_model("idpruner", capabilities, {"importance": "of-another-model", "seed": 7})
    assert update["value"] == controls.panel("idpruner", {"seed": 7})
    assert update["specs"] == controls.specs(capabilities)


@pytest.mark.parametrize("panel", [None, "seed", {}, {"held": None}, {"held": [7]}, 3])
def test_a_panel_that_holds_no_knobs_is_refused(panel):
    with pytest.raises(ValueError, match="must be an object such as"):
        ControlValues.read(["random", "dimmed", "sample", 1, 1, 0.5, "", "original", panel])


@pytest.mark.parametrize("value", ["NaN", "7", None, [7], {"seed": 7}, -1, 0.5, True])
def test_a_knob_that_is_not_allowed_is_named(served, value):
    controls, capabilities = Controls(), Capabilities(served.engine.vlm)
    said = ["random", "dimmed", "sample", 1, 1, 0.5, "", "original", {"held": {"seed": value}}]
    with pytest.raises(ValueError, match=r"seed = .* is not allowed"):
        controls.method(capabilities, ControlValues.read(said))


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), 0.5), ((1, 0), 1), ((0, 0.2), 0), ((3, 1), 0.75)])
def test_lambda_is_the_share_of_importance(weights, expected):
    assert mmr_lambda(*weights) == expected


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, "1", None, True])
def test_weights_must_be_numbers(weight):
    with pytest.raises(ValueError, match="Importance weight"):
        mmr_lambda(weight, 1)


def test_the_log_names_the_cause_and_no_content(caplog):
    secret = "what color is my passport?"

    @report_errors
    def fails():
        raise RuntimeError(secret)

    with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match="RuntimeError"):
        fails()
    assert "RuntimeError" in caplog.text
    assert "fails" in caplog.text
    assert secret not in caplog.text


def test_a_visitor_is_told_the_same_thing_once_for_one_change(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    @report_errors
    def fails(request: gr.Request, words: str):
        raise ValueError(words)

    def shown(visitor: str, words: str) -> bool:
        with pytest.raises(gr.Error, match=words) as raised:
            fails(gr.Request(session_hash=visitor), words)
        return raised.value.visible

    assert shown("one", "both 0")
    assert not shown("one", "both 0")
    assert shown("two", "both 0")
    assert shown("one", "something else")
    clock[0] += 6
    assert shown("one", "both 0")


def test_messages_can_always_be_sent():
    told = message_for(ValueError("no model caf\udce9 or \ud83d, but 星🌟")).message
    assert told == "no model caf\\udce9 or \\ud83d, but 星🌟"
    assert told.encode()


def test_expected_errors_keep_their_words():
    assert "at most 1" in str(message_for(ValueError("must be at most 1")))


def test_of_what_hangs_on_one_event_at_most_one_waits(tiny_vlm, uploads, tmp_path):
    """What waited is run by sending the whole event again: two that wait would call each other for ever."""
    demo = build_demo(models_of(Shelf({tiny_vlm.model_id: tiny_vlm})), Races(tmp_path, True), Trainings(tmp_path))
    waiting, led = defaultdict(list), set()
    for event in demo.fns.values():
        first = event
        while first.trigger_after is not None:
            first = demo.fns[first.trigger_after]
        led |= set(first.targets) if event.trigger_mode == "always_last" else set()
        for component, name in event.targets:
            # A state's change is no event of the page, nor is another's end: each is called by itself.
            own = name in ("then", "success", "failure") or isinstance(demo.blocks.get(component), gr.State)
            if event.trigger_mode == "always_last" and not own:
                waiting[component, name].append(event.fn.__name__)
    assert waiting
    assert len(led) > 40  # events of the page that lead to work that waits
    assert {where: names for where, names in waiting.items() if len(names) > 1} == {}


def test_what_a_visitor_does_last_is_never_dropped(tiny_vlm, uploads, tmp_path):
    """By Gradio's own rule an event is dropped while the same one is being answered; and one that waits comes with the
    present inputs, but with the data of the event before it.
    """
    demo = build_demo(models_of(Shelf({tiny_vlm.model_id: tiny_vlm})), Races(tmp_path, True), Trainings(tmp_path))
    events = [event for event in demo.fns.values() if event.api_visibility == "private" and event.fn is not None]
    assert len(events) > 60
    once = [event.fn for event in events if event.trigger_mode not in ("always_last", "multiple")]
    assert [fn.__name__ for fn in once] == [
        "follow_up",
        "start",
        "resume",
        "gone",
    ]  # what a second press would do twice; a closed tab
    for event in events:
        wants_data = any(kind is gr.EventData for kind in get_type_hints(event.fn).values())
        assert not wants_data or event.trigger_mode == "multiple", event.fn.__qualname__


def test_of_two_events_that_overtake_each_other_the_later_one_stands():
    """Both were read with what stood before them: whatever order they are written in, the newest is what remains."""
    said = Told()
    events = [gr.EventData(None, {"at": at, "step": step}) for step, at in enumerate((10.5, 30.25, 20.0))]
    assert [said.hear(event) for event in events] == [True, True, False]
    assert said.data == {"at": 30.25, "step": 1}
    for data in (None, [], {"step": 5}, {"at": "now", "step": 5}, {"at": math.nan, "step": 5}):
        assert not said.hear(gr.EventData(None, data))
    assert said.data["step"] == 1


def test_who_hears_what_a_component_says_takes_the_newest(tiny_vlm, uploads, tmp_path):
    """No event function keeps the data of its own event: a state that events write at their end can go back."""
    demo = build_demo(models_of(Shelf({tiny_vlm.model_id: tiny_vlm})), Races(tmp_path, True), Trainings(tmp_path))
    hearing = [fn for fn in demo.fns.values() if fn.fn and gr.EventData in get_type_hints(fn.fn).values()]
    assert len(hearing) >= 8
    for event in hearing:
        assert not event.outputs, event.fn.__qualname__
        assert [type(component.value) for component in event.inputs] == [Told], event.fn.__qualname__


def test_what_stops_comes_before_what_follows_it(tiny_vlm, uploads, tmp_path):
    """Beside it on one press, a stop that comes late would end what the press began."""
    demo = build_demo(models_of(Shelf({tiny_vlm.model_id: tiny_vlm})), Races(tmp_path, True), Trainings(tmp_path))
    hanging = defaultdict(list)
    for event in demo.fns.values():
        for component, name in event.targets if event.fn else ():
            if component is not None:  # else it hangs on another's end, each called by itself
                hanging[component, name].append(event.fn.__name__)
    stops = [names for names in hanging.values() if {"interrupt", "anew", "stop", "halt"} & set(names)]
    assert len(stops) > 30
    assert [names for names in stops if len(names) > 1] == []
