"""DToP in its own form: who stops by brute force, a tower whose tokens stop, and the benchmark on a few scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.exits import CHANCE, by_chance, labelled, main, opened, scores
from pruning.methods.dtop import leaving
from pruning.models import SHIPPED, VLM, load
from pruning.scenes.held_out import held_out
from pruning.scenes.worlds import SCENES
from pruning.training.labels import CLASSES, pixel_classes, token_classes


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load(SHIPPED, device="cpu")


@pytest.fixture
def heads() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(512, len(CLASSES)) for _ in range(3)]


@pytest.fixture
def scene() -> tuple[Image.Image, np.ndarray]:
    drawn, _ = next(iter(held_out(SCENES, 1)))
    return Image.fromarray(drawn.image), pixel_classes(drawn)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("per_class", [0, 1, 5])
def test_those_stop_that_are_sure_and_not_among_the_surest_of_their_class(threshold: float, per_class: int) -> None:
    generator = torch.Generator().manual_seed(per_class)
    sure = torch.rand(40, generator=generator)
    sure[7], classes = sure[3], torch.randint(0, 4, (40,), generator=generator)
    values, names = sure.tolist(), classes.tolist()
    wanted = []
    for i in range(40):
        surer = [j for j in range(40) if names[j] == names[i] and (-values[j], j) < (-values[i], i)]
        wanted.append(values[i] > threshold and len(surer) >= per_class)
    assert leaving(sure, classes, threshold, per_class).tolist() == wanted


def test_where_none_stops_it_is_the_tower(vlm: VLM, heads, scene) -> None:
    """p0 = 1: the rows behind the last layer are those that the model makes, and their labels lie under them."""
    picture = opened(vlm, *scene)
    classes, run, told = labelled(vlm, heads, picture, None)
    again, same, _ = labelled(vlm, heads, picture, lambda sure, found: leaving(sure, found, 1.0, 5))
    assert torch.equal(classes, again)
    n = len(picture.labels)
    assert run == same == [n] * 4
    seen = []
    hook = vlm.family.projector.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    encoded = vlm.encode([scene[0]])
    hook.remove()
    rows = torch.nn.functional.layer_norm(seen[0].view(n, -1), (512,))
    torch.testing.assert_close(told[-1], heads[-1](rows))
    assert sorted(picture.labels.tolist()) == sorted(token_classes(scene[1], encoded.rects).tolist())


def test_what_stops_is_seen_by_none_and_keeps_its_class(vlm: VLM, heads, scene) -> None:
    """The others' rows are those of a tower to which, from there on, the stopped tokens are masked."""
    picture = opened(vlm, *scene)
    n = len(picture.labels)
    stopped = torch.arange(n) % 3 == 0
    left, stages = [stopped, None], []

    def stops(sure: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        stages.append(found)
        rule = left.pop(0)
        return torch.zeros(len(sure), dtype=torch.bool) if rule is None else rule

    classes, run, told = labelled(vlm, heads, picture, stops)
    assert run == [n, n, n - int(stopped.sum()), n - int(stopped.sum())]
    assert torch.equal(classes[stopped], stages[0][stopped])
    rows = picture.rows
    for number, layer in enumerate(vlm.family.vision_layers):
        ends = picture.ends[number].tolist()
        part = torch.repeat_interleave(torch.arange(len(ends) - 1), torch.tensor(ends).diff())
        seen = part[:, None] == part
        if number > 1:
            seen = seen & ~stopped.repeat_interleave(4)
        rows = masked(layer, rows, picture.around, seen)
    wanted = torch.nn.functional.layer_norm(rows.view(n, -1)[~stopped], (512,))
    torch.testing.assert_close(told[-1], heads[-1](wanted), atol=1e-4, rtol=1e-4)


def masked(layer, rows: torch.Tensor, around, seen: torch.Tensor) -> torch.Tensor:
    """The layer written out: all rows attend to the rows that they see (L, L)."""
    with torch.no_grad():
        attention, (cos, sin) = layer.attn, around
        query, key, value = attention.qkv(layer.norm1(rows)).view(len(rows), 3, attention.num_heads, -1).unbind(1)

        def turned(x: torch.Tensor) -> torch.Tensor:
            first, second = x.chunk(2, -1)
            return x * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]

        logits = torch.einsum("qhd,khd->hqk", turned(query), turned(key)) / query.shape[-1] ** 0.5
        logits = logits.masked_fill(~seen & ~torch.eye(len(rows), dtype=torch.bool), -torch.inf)
        heads = torch.einsum("hqk,khd->qhd", logits.softmax(-1), value)
        rows = rows + attention.proj(heads.flatten(1))
        result: torch.Tensor = rows + layer.mlp(layer.norm2(rows))
        return result


def test_as_many_stop_by_chance() -> None:
    stops = by_chance([10, 10, 7, 3], torch.Generator().manual_seed(0))
    assert int(stops(torch.rand(10), torch.zeros(10)).sum()) == 3
    assert int(stops(torch.rand(7), torch.zeros(7)).sum()) == 4


def test_scores_by_hand() -> None:
    """Class 0: 3 of 4 right, nothing else said to be it; class 1: 2 of 2, and one more said; class 2 is not there."""
    accuracy, iou = scores(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    assert accuracy == pytest.approx(100 * 5 / 6)
    assert iou == pytest.approx(100 * (3 / 4 + 2 / 3) / 2)


def test_the_benchmark_tells_what_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenes", "2", "--steps", "6", "--thresholds", "0.8", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "exits.json").read_text())["rules"]
    assert list(told) == ["all tokens", "p0 = 0.8, k = 5", "p0 = 0.8, k = 0", CHANCE]
    assert told["all tokens"]["stopped"] == 0
    assert told["all tokens"]["work"] == 1
    assert told["p0 = 0.8, k = 0"]["stopped"] > told["p0 = 0.8, k = 5"]["stopped"] > 0
    assert told[CHANCE]["stopped"] == pytest.approx(told["p0 = 0.8, k = 5"]["stopped"])
    assert told["p0 = 0.8, k = 5"]["accuracy"] > told[CHANCE]["accuracy"]
    assert capsys.readouterr().out.count("\n| ") == 4
    for wrong, said in ((["--thresholds", "1.5"], "--thresholds 1.5: a probability"), (["--steps", "0"], "at least 1")):
        with pytest.raises(SystemExit):
            main(wrong)
        assert said in capsys.readouterr().err
