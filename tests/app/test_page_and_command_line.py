"""What the page, the API and the command line say of one example: the same names, values, reasons and heat map."""

import io
import json
import time
import zipfile
from dataclasses import asdict, fields

import numpy as np
import pytest
from PIL import Image

from app.answers.reports import reports
from app.api import results as api_results
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.export.archive import Wanted, export
from app.session import Setting
from pruning.cli.main import main
from pruning.cli.methods import usable
from pruning.encoding import ENCODING
from pruning.evaluation import timing
from pruning.evaluation.fidelity import FidelityPoint
from pruning.models import Scorer
from pruning.runnable import REGISTERED, started
from pruning.staged import STAGED
from tests.helpers.visits import QUESTION, keep, look

MEASURED = {"ttft_s", "select_s", "encode_s", "speedup"}  # another run, another time
SIGNALS = (  # of models that have less and less
    frozenset({"vision_attention@-1", "question"}),
    frozenset({"question", "patch_entropy"}),
    frozenset(),
)


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20), "tiny")


def lessen(monkeypatch, vlm, signals):
    """Leave these signals to the model, and to those that are opened from here on."""
    monkeypatch.setattr("pruning.models.VLM.signals", signals)
    monkeypatch.setitem(vars(vlm), "signals", signals)


def values(told):
    """What must be equal wherever it is said."""
    if isinstance(told, dict):
        return {name: values(value) for name, value in told.items() if name not in MEASURED}
    return [values(value) for value in told] if isinstance(told, list) else told


def within(told, names):
    """Of what the command line says the part under the API's names."""
    return {name: within(told[name], names[name]) if isinstance(names[name], dict) else told[name] for name in names}


def close(one, other):
    """Equal, numbers but for rounding: the API passes each prompt on its own, the command line both together."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("method", ["idpruner", "visionzip", "divprune", "fastv"])
def test_answer_has_the_api_s_names_and_values(engine, saved, tiny_folder, capsys, method):
    session, setting = look(engine, saved()), Setting(started(engine.vlm.signals, method), 0.75)
    *_, last = reports(engine, session, setting, Task())
    answered = asdict(api_results.answered(engine, session, setting, last))
    api = json.loads(json.dumps(answered)) | {"model": tiny_folder.name}
    arguments = ["answer", saved(), QUESTION, "--method", method, "--retention", "0.75", "--json"]
    assert main([*arguments, "--model", str(tiny_folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    shared = within(told, api)
    assert close(values(shared), values(api))
    assert all(shared[name] > 0 for name in MEASURED - {"ttft_s"})
    alone = {"per", "indices", "notes", "overlay"}
    assert set(told) - set(api) == alone
    assert set(told["full"]) - set(api["full"]) == {"finished", "total_s", "ttft_spread_s", "alive"}


def test_the_points_of_a_sweep_have_the_api_s_names(saved, tiny_folder, capsys):
    assert main(["sweep", saved(), QUESTION, "--methods", "random", "--json", "--model", str(tiny_folder)]) == 0
    points = json.loads(capsys.readouterr().out)
    api = {field.name for kind in (api_results.Point, FidelityPoint) for field in fields(kind)}
    assert all(set(point) == api for point in points)


@pytest.mark.slow
@pytest.mark.parametrize("signals", SIGNALS, ids=len)
def test_the_same_methods_run_everywhere_and_the_others_for_one_reason(tiny_vlm, monkeypatch, signals, capsys):
    lessen(monkeypatch, tiny_vlm, signals)
    capabilities = Capabilities(tiny_vlm)
    assert capabilities.refused
    served, left_out = usable(tiny_vlm, ["all", "inside", *ENCODING], {})
    several = {name for name, rule in STAGED.items() if rule.images > 1}  # which "inside" does not stand for
    of_one_picture = [name for name in capabilities.methods if name not in several]
    assert {method.name: method for method in served} == {name: capabilities.default(name) for name in of_one_picture}
    assert sorted(left_out) == sorted(
        f"{REGISTERED[name].title} is left out: {reason}"
        for name, reason in capabilities.refused.items()
        if name not in several
    )
    for name, reason in capabilities.refused.items():
        with pytest.raises(ValueError, match=r"Choose another method") as refused:
            capabilities.check(name)
        assert main(["answer", "none.png", QUESTION, "--method", name, "--model", tiny_vlm.model_id]) == 2
        assert capsys.readouterr().err.endswith(f"error: {refused.value}\n")
        assert reason in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "signals"),
    [("prumerge", None), ("uniform", None), ("uniform", SIGNALS[0]), ("uniform", frozenset({"question"}))],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, frozenset) else str(value),
)
def test_the_heat_map_is_one_picture(tiny_vlm, tiny_folder, saved, tmp_path, monkeypatch, method, signals):
    if signals is not None:
        lessen(monkeypatch, tiny_vlm, signals)
    engine = Engine(tiny_vlm, Resources(64 << 20), "tiny")
    picture, overlay = saved(size=(1024, 768)), tmp_path / "overlay.png"  # the size at which the command line draws
    *_, archive = export(engine, Wanted(look(engine, picture), keep(method), (0.5, 0.5), "heat", None), Task())
    arguments = ["answer", picture, QUESTION, "--method", method, "--overlay", str(overlay), "--style", "heat"]
    assert main([*arguments, "--max-new-tokens", "1", "--model", str(tiny_folder)]) == 0
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        page = Image.open(io.BytesIO(packed.read("image-1-overlay-heat.png")))
    with Image.open(overlay) as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(page))


def test_selection_is_timed_by_one_rule(engine, saved, tiny_folder, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(timing, "choose", lambda *given: calls.append(given[2:]))
    session, setting = look(engine, saved()), keep("idpruner")
    engine.selection_seconds(session, setting)
    page, calls[:] = list(calls), []
    assert main(["answer", saved(), QUESTION, "--max-new-tokens", "1", "--model", str(tiny_folder)]) == 0
    assert page == calls == [(2, 0.25, "sample")] * timing.MOST


def test_what_scores_the_tokens_is_part_of_the_selection(engine, saved, tiny_folder, monkeypatch, capsys):
    forward = Scorer.forward

    def slow(self, features):
        time.sleep(0.02)
        return forward(self, features)

    monkeypatch.setattr(Scorer, "forward", slow)
    assert engine.selection_seconds(look(engine, saved(7)), keep("idpruner", 0.3)) > 0.02
    arguments = ["answer", saved(), QUESTION, "--max-new-tokens", "1", "--json", "--model", str(tiny_folder)]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["select_s"] > 0.02


def test_slow_runs_are_few(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))  # a second passes between two looks
    assert len(timing.several(lambda: 1.0)) == 1
    assert len(timing.several(lambda: 1.0, timing.SELECTIONS)) == timing.SELECTIONS
