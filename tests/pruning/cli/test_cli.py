"""The command line: what it prints and writes, and its exit codes."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pruning.budget import keep_count
from pruning.choosing import chooser
from pruning.cli.main import main
from pruning.cli.parser import build_parser
from pruning.drawing.paint import KEPT, SEEN
from pruning.encoding import ENCODING
from pruning.method import METHODS, make
from pruning.models.trained import KINDS
from pruning.models.values import POSITIONS
from pruning.params import params
from pruning.race import settings
from pruning.scenes.worlds import WORLDS
from pruning.staged import STAGED, make_staged
from tests.checkpoints import FAMILIES
from tests.helpers.checkout import ROOT
from tests.helpers.modules import write_modules

QUESTION = "What color is the star?"


@pytest.fixture
def picture(noise, tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    noise(168, 112).save(path)
    return str(path)


def test_answer_as_in_the_readme(run, picture: str, tmp_path: Path) -> None:
    overlay = tmp_path / "out.png"
    weights = ("--importance-weight", "1", "--diversity-weight", "1")
    code, out, _ = run("answer", picture, QUESTION, "--method", "idpruner", "--retention", "0.25", *weights,
                       "--overlay", str(overlay), "--max-new-tokens", "4")  # fmt: skip
    assert code == 0
    assert "all 24 tokens:" in out
    assert "6 tokens kept:" in out
    assert "fidelity" in out
    with Image.open(overlay) as image:
        assert image.size[0] / image.size[1] == pytest.approx(1.5, rel=0.01)


def test_a_certificate_is_verified(run, picture: str, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    setting = ("--method", "idpruner", "--retention", "0.25", "--mmr-lambda", "0.7")
    assert run("certificate", picture, QUESTION, *setting, "--out", str(file))[0] == 0
    code, out, _ = run("verify", str(file))
    assert (code, out.splitlines()[-1]) == (0, "it comes to the same here")
    assert run("certificate", picture, QUESTION, *setting)[1] == file.read_text(encoding="utf-8")
    Image.new("RGB", (168, 112), "white").save(picture)
    code, out, _ = run("verify", str(file), picture)
    assert code == 3
    assert "the first difference: pictures: picture.png: the same size, other pixels" in out
    code, out, _ = run("verify", str(file), picture, "--json")
    assert code == 3
    assert [each["what"] for each in json.loads(out)["differences"] if not each["same"]][:2] == ["pictures", "tokens"]


def test_the_best_setting_for_a_budget(run, noise, tmp_path: Path) -> None:
    for i in range(6):
        noise(112, 84 + 28 * i).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"{QUESTION}\nred\n", encoding="utf-8")
    given = ("--data", str(tmp_path), "--metric", "exact", "--held-out", "0.3", "--max-new-tokens", "2")
    asked = ("best", *given, "--methods", "idpruner", "random", "--lambdas", "0.2", "0.8", "--retention", "0.25")
    code, out, _ = run(*asked, "--json")
    assert code == 0
    found = json.loads(out)
    assert {row["name"] for row in found["standings"]} == {
        "idpruner λ=0.2@0.25", "idpruner λ=0.8@0.25", "random@0.25",
    }  # fmt: skip
    assert (found["sizes"], found["fresh"]["n"], found["whole"]["n"]) == ([1, 3], 2, 2)
    assert found["command"].startswith("idpruner answer")
    code, out, _ = run(*asked)
    assert code == 0
    assert out.splitlines()[-2:] == [found["command"], f"in the app: {found['page']}"]
    code, _, err = run(*asked, "--held-out", "0.7")
    assert code == 2
    assert "too few to choose among 3 settings" in err


def test_regret_over_turns(run, picture: str) -> None:
    asked = (
        "regret",
        picture,
        QUESTION,
        "how many circles are there?",
        "--return",
        "4",
        "100",
        "--max-new-tokens",
        "3",
    )
    code, out, _ = run(*asked, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["n"], found["budget"], len(found["turns"])) == (24, 6, 2)
    back = found["turns"][1]["returned"]
    assert [(each["by"], each["tokens"]) for each in back] == [
        (by, tokens) for by in ("the new question", "the method") for tokens in (4, 18)
    ]
    code, out, _ = run(*asked)
    assert code == 0
    assert "6 of 24 tokens, chosen for the first question" in out
    assert "+ 18 by the method:" in out
    code, _, err = run("regret", picture, QUESTION)
    assert code == 2
    assert "is no conversation" in err


def test_what_cannot_be_verified_is_told(run, picture: str, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    run("certificate", picture, QUESTION, "--out", str(file))
    other = tmp_path / "elsewhere" / "certificate.json"
    other.parent.mkdir()
    shutil.copy(file, other)
    for words, message in (
        ((str(other),), "picture.png is not there: name the pictures behind the certificate"),
        ((str(file), picture, picture), "is of 1 pictures, and 2 are named"),
        ((str(tmp_path / "none.json"),), "cannot be read"),
        ((picture,), "it is not JSON"),
    ):
        code, _, err = run("verify", *words)
        assert code == 2
        assert message in err
    file.write_text(file.read_text(encoding="utf-8").replace(QUESTION, "What else?"), encoding="utf-8")
    code, _, err = run("verify", str(file))
    assert code == 2
    assert "was changed after it was made" in err


@pytest.mark.parametrize("command", ["answer", "sweep"])
def test_what_was_changed_in_a_picture_is_told_beside_the_results(run, command: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").save(tmp_path / "turned.png", exif=exif)
    code, out, err = run(command, str(tmp_path / "turned.png"), QUESTION, "--retention", "0.25")
    assert code == 0
    assert "Turned upright" in err
    assert "Turned upright" not in out


def test_the_overlay_of_a_strip_is_more_than_a_thread(run, tmp_path: Path) -> None:
    Image.new("RGB", (100, 3000)).save(tmp_path / "strip.png")
    code, _, _ = run("answer", str(tmp_path / "strip.png"), QUESTION, "--overlay", str(tmp_path / "out.png"),
                     "--max-new-tokens", "2")  # fmt: skip
    assert code == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.width > 120


def test_answer_as_json(run, picture: str) -> None:
    code, out, _ = run("answer", picture, QUESTION, "--json", "--max-new-tokens", "3", "--importance-weight", "1",
                       "--diversity-weight", "3", "--importance", "feature_norm")  # fmt: skip
    result = json.loads(out)
    assert code == 0
    assert result["knobs"] == {"importance": "feature_norm", "mmr_lambda": 0.25, "variant": "code"}
    assert len(result["indices"]) == result["budget"] == 6
    assert 0 < result["fidelity"] <= 1
    assert result["full"]["prefill_tokens"] - result["kept"]["prefill_tokens"] == 18
    assert result["full"]["flops"] > result["kept"]["flops"]
    assert min(result["full"]["ttft_s"], result["select_s"], result["encode_s"]) > 0


def test_keeping_everything_changes_nothing(run, picture: str) -> None:
    result = json.loads(run("answer", picture, QUESTION, "--json", "--retention", "1", "--max-new-tokens", "5")[1])
    assert result["agree"]
    assert result["fidelity"] == pytest.approx(1, abs=1e-5)
    assert result["full"]["text"] == result["kept"]["text"]


def test_a_method_inside_the_tower_is_refused_where_tokens_cannot_leave_there(run, picture: str) -> None:
    code, out, err = run("answer", picture, QUESTION, "--method", "flowcut_tower")
    assert (code, out) == (2, "")
    assert "needs a vision tower between whose layers tokens can leave, one without windows, tiles and merged" in err


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"flowcut_tower"}))
def test_every_method_can_be_named(run, picture: str, name: str, tiny_vlm, tmp_path: Path) -> None:
    module = ("--pruner", str(write_modules(tiny_vlm, tmp_path / "modules"))) if name in KINDS else ()
    code, out, _ = run("answer", picture, QUESTION, "--json", "--method", name, "--max-new-tokens", "1", *module)
    assert code == 0
    assert json.loads(out)["budget"] == 6


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_trained_method_without_its_module_is_refused(run, picture: str, name: str) -> None:
    code, out, err = run("answer", picture, QUESTION, "--method", name)
    assert (code, out) == (2, "")
    assert "needs a trained module, of `--pruner` or beside the checkpoint" in err


@pytest.mark.parametrize("name", ["aim_inner", "todre_inner", "vflowopt_inner"])
def test_every_method_of_two_halves_can_be_named(run, picture: str, name: str) -> None:
    """One for several pictures says so."""
    code, out, _ = run("answer", picture, QUESTION, "--json", "--method", name, "--max-new-tokens", "1",
                       "--retention", "0.25")  # fmt: skip
    result = json.loads(out)
    assert code == 0
    assert result["plan"].startswith(f"1:{name}:")
    assert result["kept"]["alive"][0] < 24
    assert result["full"]["alive"] == [24, 24]
    code, _, err = run("answer", picture, QUESTION, "--plan", "1:random_inner:0.5,2:catp:0.5")
    assert code == 2
    assert "2:catp:0.5' lies beyond the model" in err or "CATP needs at least 2 images" in err


@pytest.mark.parametrize("name", sorted(name for name, method in STAGED.items() if not method.first))
def test_every_method_inside_the_language_model_can_be_named(
    run, picture: str, name: str, tiny_vlm, tmp_path: Path
) -> None:
    module = ("--pruner", str(write_modules(tiny_vlm, tmp_path / "modules"))) if name in KINDS else ()
    given = ("answer", picture, QUESTION, "--json", "--method", name, "--max-new-tokens", "1", *module)
    code, out, _ = run(*given, "--retention", "0.75")
    result = json.loads(out)
    assert code == 0
    assert result["kept"]["alive"] == [24, 12]
    assert result["full"]["alive"] == [24, 24]
    assert (result["budget"], len(result["indices"]), result["plan"]) == (12, 12, f"1:{name}:12")
    assert result["equivalent_retention"] == 0.75
    assert result["full"]["kv_bytes"] > result["kept"]["kv_bytes"]
    code, _, err = run(*given, "--retention", "0.25")
    assert code == 2
    assert "24 visual tokens reach 0.521 to 1" in err


OF_PICTURES = sorted(name for name, encoding in ENCODING.items() if not encoding.clips)


@pytest.mark.parametrize("name", OF_PICTURES)
def test_another_encoding_is_answered_told_and_drawn(run, picture: str, tmp_path: Path, name: str) -> None:
    code, out, error = run("answer", picture, QUESTION, "--method", name, "--retention", "0.3", "--json",
                           "--overlay", str(tmp_path / "cells.png"))  # fmt: skip
    assert (code, error) == (0, "")
    result = json.loads(out)
    made = result["encoding"]
    budget = keep_count(result["n"], 0.3)
    assert made["reached"] == result["budget"] == len(made["cells"]) <= made["asked"] == budget
    assert sum(grid["rows"] * grid["columns"] for grid in made["grids"]) == made["reached"]
    assert 0 < made["tower"]["kept_patches"] < made["tower"]["full_patches"]
    assert min(made["tower"]["full_s"], made["tower"]["kept_s"]) > 0
    with Image.open(picture) as image:
        assert [max(cell[2] for cell in made["cells"]), max(cell[3] for cell in made["cells"])] == list(image.size)
    assert result["indices"] is None
    assert result["kept"]["alive"] == [made["reached"]] * len(result["kept"]["alive"])
    assert result["kept"]["prefill_tokens"] == result["full"]["prefill_tokens"] - result["n"] + made["reached"]
    with Image.open(tmp_path / "cells.png") as drawn:
        colours = {colour for _, colour in drawn.getcolors(1 << 24)}
    assert KEPT in colours, "the cells are outlined"
    code, out, _ = run("answer", picture, QUESTION, "--method", name, "--retention", "0.3")
    assert f"encoded anew: {made['note'] or budget} tokens, grid " in out


@pytest.mark.parametrize("command", ["sweep", "scenes"])
def test_methods_before_the_tower_stand_beside_the_others(run, picture: str, command: str) -> None:
    given = (picture, QUESTION) if command == "sweep" else ("--scenes", "1")
    code, out, error = run(command, *given, "--methods", "random", *OF_PICTURES, "--retention", "0.5", "--json")
    assert (code, error) == (0, "")
    rows = json.loads(out)
    found = {row["method"] for row in rows if command == "scenes" or row["fidelity"] is not None}
    assert {"random", *OF_PICTURES} <= found
    assert command == "sweep" or all(row["difficult_questions"] is not None for row in rows[1:])


def test_a_family_of_one_size_leaves_other_encodings_out(picture: str, tmp_path: Path, capsys) -> None:
    folder = str(FAMILIES["llava"](tmp_path / "fixed"))
    assert main(["answer", picture, QUESTION, "--method", "lower_resolution", "--model", folder]) == 2
    assert "needs an option that makes fewer visual tokens of a picture (resolution), which" in capsys.readouterr().err
    arguments = ["sweep", picture, QUESTION, "--methods", "random", "lower_resolution", "--retention", "0.5"]
    assert main([*arguments, "--model", folder]) == 0
    told = capsys.readouterr()
    assert "Lower resolution is left out: " in told.err
    assert "lower_resolution" not in told.out


def test_a_plan_is_answered_and_drawn(run, picture: str, tmp_path: Path) -> None:
    overlay = tmp_path / "out.png"
    plan = "pre:feature_norm:0.5,1:random_inner:3"
    code, out, err = run("answer", picture, QUESTION, "--plan", plan, "--seed", "2", "--max-new-tokens", "2",
                         "--overlay", str(overlay))  # fmt: skip
    assert code == 0
    assert f"plan {plan}: alive in each layer 12 3, 31.2% in the mean" in out
    assert "3 tokens kept:" in out
    assert "leaves after layer 1, 45 % of the colours is seen" in err
    told = run(
        "answer", picture, QUESTION, "--plan", plan, "--json", "--max-new-tokens", "1", "--overlay", str(overlay)
    )
    result = json.loads(told[1])
    with Image.open(picture) as given, Image.open(overlay) as drawn:
        plain, shown = (
            np.asarray(given.convert("RGB").resize(drawn.size)).astype(float),
            np.asarray(drawn).astype(float),
        )
    side, colour = shown.shape[1] // 6, {}  # 4 x 6 tokens
    for token, life in enumerate(result["lives"]["lives"]):
        y, x = (part * side + 10 for part in divmod(token, 6))
        inner = slice(y, y + side - 20), slice(x, x + side - 20)
        colour.setdefault(life, []).append(np.ptp(shown[inner], axis=2).mean() / np.ptp(plain[inner], axis=2).mean())
    seen = [np.mean(colour[life]) for life in (None, 1, 2)]
    assert seen == pytest.approx([0, sum(SEEN) / 2, 1], abs=0.15), seen
    assert (result["method"], result["retention"], result["plan"]) == (None, None, plan)
    assert result["kept"]["alive"] == [12, 3]
    text = result["full"]["prefill_tokens"] - 24
    held = result["full"]["kv_bytes"] / (2 * (24 + text))  # a token's in one layer
    assert result["kept"]["kv_bytes"] == held * (12 + 3 + 2 * text)
    evicting = json.loads(run("answer", picture, QUESTION, "--plan", f"{plan},evict", "--json")[1])
    assert evicting["kept"]["alive"] == [12, 3]
    assert evicting["kept"]["kv_bytes"] == held * 2 * (3 + text)


def test_scenes_ask_methods_inside_the_language_model_too(run) -> None:
    given = ("scenes", "--scenes", "1", "--methods", "fastv", "random", "random_inner", "--retention", "0.75", "0.25")
    code, out, err = run(*given, "--json")
    assert code == 0
    cells = [(row["method"], row["retention"]) for row in json.loads(out)]
    assert cells == [
        ("all tokens", 1.0), ("fastv", 0.75), ("random", 0.75), ("random_inner", 0.75), ("random", 0.25)
    ]  # fmt: skip
    assert "fastv at 0.25 is left out: FastV cannot come to an equivalent retention of 0.25" in err
    code, _, err = run(*given, "--per", "image")
    assert code == 2
    assert "per 'image' is for methods before the language model" in err
    code, out, _ = run(*given[:3], "--methods", "random", "--retention", "0.5", "--json",
                       "--plans", "pyramiddrop-published", "pre:random:0.5,1:fastv:0.5")  # fmt: skip
    assert code == 0
    cells = [(row["method"], row["retention"]) for row in json.loads(out)]
    assert cells == [
        ("all tokens", 1.0), ("random", 0.5), ("pyramiddrop-published", 0.5625), ("pre:random:0.5,1:fastv:0.5", 0.375)
    ]  # fmt: skip
    code, out, err = run(*given[:3], "--plans", "2:fastv:0.5")
    assert (code, out) == (2, "")
    assert "lies beyond the model: it has 2 layers" in err


def test_a_published_schedule_is_a_plan_by_name(run, picture: str) -> None:
    code, out, _ = run("answer", picture, QUESTION, "--plan", "sparsevlm-64", "--json", "--max-new-tokens", "1")
    result = json.loads(out)
    assert code == 0
    assert (result["method"], result["plan"], result["kept"]["alive"]) == (None, "1:sparsevlm:1", [24, 1])
    lived = result["lives"]
    assert (lived["plan"], lived["n"], lived["layers"], lived["alive"]) == ("1:sparsevlm:1", 24, 2, [24, 1])
    assert sorted(lived["lives"]) == [1] * 23 + [2]
    (cut,) = lived["cuts"]
    assert sorted(cut["ranks"]) == list(range(1, 25))
    code, out, err = run("answer", picture, QUESTION, "--plan", "sparsevlm-64", "--edition", "2.0")
    assert (code, out) == (2, "")
    assert "sparsevlm-64 is published with knobs of its own: leave out 'edition'" in err
    assert json.loads(run("answer", picture, QUESTION, "--json", "--max-new-tokens", "1")[1])["lives"] is None


def test_what_the_answer_attends_to_is_told_on_request(run, picture: str) -> None:
    given = ("answer", picture, QUESTION, "--plan", "1:fastv:0.25", "--max-new-tokens", "2")
    code, out, _ = run(*given, "--attention-shares", "--json")
    full, kept = (json.loads(out)[name]["dominance"] for name in ("full", "kept"))
    assert code == 0
    assert [layer["visual_tokens"] for layer in full] == [24, 24]
    assert [layer["visual_tokens"] for layer in kept] == [24, 6]
    assert all(layer["mdi"] > 0 for layer in (*full, *kept))
    _, out, _ = run(*given, "--attention-shares")
    assert f"(MDI), kept tokens: {kept[0]['mdi']:.2f} {kept[1]['mdi']:.2f}" in out
    assert "dominance" not in json.loads(run(*given, "--json")[1])["full"]


def test_sweep_measures_methods_inside_the_language_model_beside_the_others(run, picture: str, tmp_path: Path) -> None:
    drawing = tmp_path / "sweep.png"
    code, out, err = run("sweep", picture, QUESTION, "--methods", "idpruner", "inside", "--retention", "0.25", "0.75",
                         "--plans", "fastv-published", "1:random_inner:3", "--png", str(drawing), "--json")  # fmt: skip
    assert code == 0
    points = json.loads(out)
    curves = {(p["method"], p["retention"]): p for p in points if p["fidelity"] is not None}
    whole = [name for name, method in STAGED.items() if not method.first and not method.trained]
    halved = [name for name, method in STAGED.items() if method.first and method.images == 1]
    assert {cell for cell in curves if cell[0] not in halved} == {
        ("idpruner", 0.25), *((name, 0.75) for name in ("idpruner", *whole, "fastv-published")),
        ("1:random_inner:3", 0.5625),
    }  # fmt: skip
    assert {cell for cell in curves if cell[0] in halved} == {
        *((name, 0.25) for name in halved), ("vflowopt_inner", 0.75), ("flashvid_inner", 0.75),
        ("holitom_inner", 0.75),
    }  # fmt: skip
    assert {curves[name, 0.75]["budget"] for name in ("idpruner", *whole)} == {18}, "one cost, one place on the axis"
    assert curves["fastv", 0.75]["fidelity"] == curves["fastv-published", 0.75]["fidelity"] < 1
    alive = [p for p in points if p["method"] in (*STAGED, "1:random_inner:3") and p["fidelity"] is None]
    assert {p["method"] for p in alive} == {*whole, *halved, "1:random_inner:3"}
    assert {p["retention"] for p in alive if p["method"] not in halved} == {0.75, 0.5625}
    assert all(0 < p["importance_retention"] < 1 for p in alive)
    assert "fastv at 0.25 is left out: FastV cannot come to an equivalent retention of 0.25" in err
    assert drawing.exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--plan", "2:fastv:0.5"), "lies beyond the model: it has 2 layers"),
        (("--plan", "1:fastv:0"), "cannot keep 0"),
        (("--plan", "1:fastv:99"), "24 are alive there"),
        (("--plan", "1:fastest:0.5"), "unknown staged method 'fastest'"),
        (("--plan", "1:fastv:0.5", "--seed", "1"), "has a knob 'seed': leave it out"),
        (("--plan", "1:fastv:0.5", "--per", "image"), "per 'image' is for methods before the language model"),
        (("--method", "fastv", "--per", "image", "--retention", "0.9"), "per 'image' is for methods before"),
        (("--method", "fastv", "--after", "0"), "after = 0 is not allowed"),
    ],
)
def test_plans_that_cannot_be_are_refused(run, picture: str, given: tuple[str, ...], told: str) -> None:
    code, out, err = run("answer", picture, QUESTION, *given)
    assert (code, out) == (2, "")
    assert told in err


KNOBS = [(name, param) for name, method in METHODS.items() for param in params(method)]
INSIDE = [(name, param) for name, method in STAGED.items() for param in params(method)]
STAGING = ("answer", "sweep", "scenes")  # commands that take methods inside the language model
COMMANDS = (["answer", "a.png", "why?"], ["sweep", "a.png", "why?"], ["scenes"], ["bench", "methods"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_knob_of_every_method_is_an_option(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    nothing_given = parser.parse_args(command)
    knobs = KNOBS + (INSIDE if command[0] in STAGING else [])
    for method, param in knobs:
        build = make if method in METHODS else make_staged
        assert getattr(nothing_given, param.name) is None
        for value in param.choices or (param.lo, param.hi, param.default):
            value = int(value) if param.kind == "int" else value
            given = parser.parse_args([*command, f"--{param.name.replace('_', '-')}={value}"])
            assert build(method, **{param.name: getattr(given, param.name)}) == build(method, **{param.name: value})
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args([*command, f"--{param.name.replace('_', '-')}", "nonsense"])
    assert nothing_given.knobs == tuple(dict.fromkeys(param.name for _, param in knobs))
    capsys.readouterr()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command's help says, on one line."""
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [command[0] for command in COMMANDS])
def test_help_tells_the_knobs_by_method(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = told(capsys, command, "--help")
    assert f"{command} --help METHOD" in first
    for name, method in METHODS.items():
        line = " ".join([f" {name} {method.title}", *(f"--{p.name.replace('_', '-')}" for p in params(method))])
        assert first.count(line) == 1
    for name, method in STAGED.items():
        line = " ".join([f" {name} {method.title}", *(f"--{p.name.replace('_', '-')}" for p in params(method))])
        assert first.count(line) == (command in STAGING)
        assert told(capsys, command, "--help", name).startswith(f"{method.title} ({name}):")
    assert not any(param.help in first for _, param in KNOBS if param.help), "explained where a method is named"
    every = told(capsys, command, "--help", "all")
    for name, method in METHODS.items():
        shown = told(capsys, command, "--help", name)
        assert shown.startswith(f"{method.title} ({name}):")
        assert shown in every
        for param in params(method):
            assert f"--{param.name.replace('_', '-')} " in shown
            assert " ".join(param.help.split()) in shown
            assert f"default: {param.default}" in shown
        own = {param.name for param in params(method)}
        assert not [p.name for _, p in KNOBS if p.name not in own and f"--{p.name.replace('_', '-')} " in shown]
    assert told(capsys, command, "--help", "random", "scope", "random").count("Random (random):") == 1


def test_help_for_what_is_no_method_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["answer", "--help", "idprunr"])
    error = capsys.readouterr().err
    assert "'idprunr'" in error
    assert "idpruner" in error


def test_a_budget_for_each_tile(picture: str, tmp_path: Path, capsys, monkeypatch) -> None:
    tiled = ("--model", str(FAMILIES["internvl"](tmp_path / "tiled")), "--json", "--per", "tile")
    assert main(["answer", picture, QUESTION, "--retention", "0.25", "--max-new-tokens", "1", *tiled]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["per"] == "tile"
    assert result["n"] > 16, "several tiles of 16 tokens"
    assert [i // 16 for i in result["indices"]] == [i // 4 for i in range(result["n"] // 4)]
    assert main(["sweep", picture, QUESTION, "--methods", "divprune", "--retention", "0.04", *tiled]) == 0
    points = json.loads(capsys.readouterr().out)
    few = [p for p in points if p["retention"] == 0.04]
    assert {p["fidelity"] is None for p in few} == {True, False}, "of the plane, of the curves"
    assert {p["budget"] for p in few} == {result["n"] // 16}, "at least one token of each tile"
    asked = []
    monkeypatch.setattr(settings, "chooser", lambda *given: asked.append(given[4]) or chooser(*given))
    assert main(["scenes", "--scenes", "1", "--methods", "random", *tiled]) == 0
    assert set(asked) == {"tile"}


@pytest.mark.parametrize("command", [["answer", "a.png", "why?"], ["sweep", "a.png", "why?"], ["scenes"]])
def test_what_a_budget_is_for_is_one_of_five(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    assert parser.parse_args(command).per == "sample"
    assert parser.parse_args([*command, "--per", "image"]).per == "image"
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([*command, "--per", "patch"])
    assert "'sample', 'image', 'tile', 'frame', 'novelty'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args([command[0], "--help"])
    assert "--per {sample,image,tile,frame,novelty}" in capsys.readouterr().out


LINES = {"answer": ["a.png", "why?"], "sweep": ["a.png", "why?"], "pays": ["a.png", "why?"], "why": ["a.png", "why?"],
         "scenes": [], "race": ["--data", "scenes", "--out", "run"], "recipe": []}  # fmt: skip


@pytest.mark.parametrize("command", LINES)
def test_whatever_asks_a_model_takes_positions(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    assert parser.parse_args([command, *LINES[command]]).positions == "original"
    assert parser.parse_args([command, *LINES[command], "--positions", "compact"]).positions == "compact"
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([command, *LINES[command], "--positions", "dense"])
    assert "'original', 'compact'" in capsys.readouterr().err


def test_a_sweep_is_measured_at_its_positions(run, picture: str) -> None:
    given = ("sweep", picture, QUESTION, "--methods", "random", "fastv", "--retention", "0.1", "0.75", "1", "--json")
    swept = [json.loads(run(*given, "--positions", positions)[1]) for positions in POSITIONS]
    original, compact = (
        {(p["method"], p["retention"]): p["fidelity"] for p in points if p["fidelity"] is not None} for points in swept
    )
    assert original.keys() == compact.keys()
    same = {key for key, value in original.items() if value == pytest.approx(compact[key], abs=1e-9)}
    assert same == original.keys() - {("random", 0.1)}, "with few tokens left whole rows and columns are gone"


def test_sweep_writes_table_and_charts(run, picture: str, tmp_path: Path) -> None:
    table, drawing = tmp_path / "sweep.csv", tmp_path / "sweep.png"
    code, out, _ = run("sweep", picture, QUESTION, "--methods", "idpruner", "random", "--retention", "0.25", "1",
                       "--csv", str(table), "--png", str(drawing), "--json")  # fmt: skip
    assert code == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(json.loads(out))
    curves = [row for row in rows if row["fidelity"]]
    assert [(r["method"], r["budget"]) for r in curves] == [
        ("idpruner", "6"),
        ("random", "6"),
        ("idpruner", "24"),
        ("random", "24"),
    ]
    assert float(curves[-1]["fidelity"]) == pytest.approx(1, abs=1e-5)
    lambdas = {row["mmr_lambda"] for row in rows if row["method"] == "idpruner" and row["hopkins"]}
    assert len(lambdas) >= 11
    with Image.open(drawing) as image:
        assert image.size[0] > image.size[1] > 300


def test_scenes_prints_the_table(run, tmp_path: Path) -> None:
    table = tmp_path / "scenes.csv"
    code, out, _ = run("scenes", "--scenes", "1", "--methods", "random", "idpruner", "--retention", "0.25", "0.1",
                       "--json", "--csv", str(table))  # fmt: skip
    rows = json.loads(out)
    assert code == 0
    assert [(row["method"], row["retention"]) for row in rows] == [
        ("all tokens", 1.0),
        ("random", 0.25),
        ("idpruner", 0.25),
        ("random", 0.1),
        ("idpruner", 0.1),
    ]
    assert {"counting", "reading", "accuracy", "kept", "questions"} <= rows[0].keys()
    assert len(table.read_text().splitlines()) == 6
    assert run("scenes", "--scenes", "0")[0] == 2


def test_scenes_prints_a_block_per_world(run, tmp_path: Path) -> None:
    table = tmp_path / "worlds.csv"
    code, out, _ = run("scenes", "--world", "all", "--scenes", "1", "--methods", "random", "--retention", "0.25",
                       "--json", "--csv", str(table))  # fmt: skip
    rows = json.loads(out)
    assert code == 0
    assert [(row["world"], row["method"]) for row in rows] == [
        (world, method) for world in WORLDS for method in ("all tokens", "random")
    ]
    for row in rows:
        assert set(WORLDS[row["world"]].families) <= row.keys()
    with table.open() as file:
        read = list(csv.DictReader(file))
    assert [row["world"] for row in read] == [row["world"] for row in rows]
    assert read[0]["trend"] == "", "charts alone have trends"
    assert read[2]["trend"] != "" or rows[2]["trend"] is None
    with pytest.raises(SystemExit):
        run("scenes", "--world", "photographs")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--retention", "0"], "retention"),
        (["--retention", "nan"], "retention"),
        (["--importance-weight", "0", "--diversity-weight", "0"], "both 0"),
        (["--importance-weight", "-1"], "at least 0"),
        (["--mmr-lambda", "0.5", "--importance-weight", "1"], "one or the other"),
        (["--mmr-lambda", "7"], "mmr_lambda"),
        (["--seed", "3"], "seed"),
        (["--overlay", "out.gif"], "must end in"),
        (["--overlay", "no/such/folder/out.png"], "does not exist"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--device", "tpu"], "device"),
        (["--dtype", "int8"], "dtype"),
    ],
)
def test_bad_options_exit_with_2_and_a_reason(run, picture: str, arguments: list[str], reason: str) -> None:
    code, out, error = run("answer", picture, QUESTION, *arguments)
    assert code == 2
    assert reason in error
    assert out == ""


def test_bad_image_question_and_model(run, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.png").touch()
    for arguments, reason in (([str(tmp_path / "empty.png"), QUESTION], "empty"), ([picture, ""], "question is empty")):
        code, _, error = run("answer", *arguments)
        assert code == 2
        assert reason in error
    assert main(["answer", picture, QUESTION, "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_failures_that_are_nobody_s_input_exit_with_1(run, picture: str, monkeypatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise RuntimeError("device is out of memory")

    monkeypatch.setattr("pruning.models.VLM.encode", full)
    code, _, error = run("answer", picture, QUESTION)
    assert code == 1
    assert "out of memory" in error


def test_weights_without_a_lambda_are_noted(run, picture: str) -> None:
    code, _, error = run("answer", picture, QUESTION, "--method", "divprune", "--importance-weight", "2", "--json")
    assert code == 0
    assert "divprune has no λ" in error


def test_a_model_without_scorer_falls_back_by_name(picture: str, tiny_folder: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        if not file.name.startswith("scorer"):
            (folder / file.name).symlink_to(file)
    assert main(["answer", picture, QUESTION, "--json", "--max-new-tokens", "1", "--model", str(folder)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["knobs"]["importance"] == "vision_attention"
    assert "no trained scorer" in captured.err
    assert main(["sweep", picture, QUESTION, "--retention", "0.5", "--model", str(folder)]) == 0
    assert "VisionSelector is left out" in capsys.readouterr().err


def test_the_table_of_methods_names_each(capsys) -> None:
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert all(f"`{name}`" in shown for name in METHODS)


def test_as_a_program() -> None:
    shown = subprocess.run([sys.executable, "-m", "pruning", "--help"], capture_output=True, text=True, check=True)
    assert all(command in shown.stdout for command in ("answer", "sweep", "scenes", "methods", "bench"))
    with pytest.raises(SystemExit, match="2"):
        main(["draw"])


def program(*arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "pruning", *arguments], capture_output=True)


@pytest.mark.slow
def test_a_healthy_run_says_nothing_beside_its_result() -> None:
    known = str(ROOT / "assets" / "examples" / "crowd.png")
    for command in (("answer",), ("sweep", "--methods", "idpruner", "--retention", "0.5")):
        done = program(command[0], known, "how many crosses are there?", *command[1:])
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout


def test_bytes_that_are_no_utf_8_are_told_on_the_command_line(picture: str, tmp_path: Path, capsys) -> None:
    assert main(["answer", picture, os.fsdecode(b"caf\xe9?")]) == 2  # as Python gives a program its arguments
    told = capsys.readouterr().err
    assert told == "error: The question holds the byte 0xE9, which is no UTF-8, at place 4: send it as UTF-8\n"
    named = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(os.fsencode(picture), named)
    assert main(["answer", os.fsdecode(named), "how many crosses are there?"]) == 0  # a name may be any bytes
    assert main(["answer", picture, "what", "--model", os.fsdecode(b"mod\xe9l")]) == 2
    assert "neither a folder here nor a hub id" in capsys.readouterr().err


def test_a_model_that_gives_no_numbers_gets_no_verdict(picture: str, tiny_folder: Path, tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "damaged"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.0.mlp.down_proj.weight") and "visual" not in name)
    weights[name][...] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for command in ("answer", "sweep"):
        assert main([command, picture, QUESTION, "--model", str(folder)]) == 2
        told = capsys.readouterr()
        assert "NaN or infinite numbers in dtype float32" in told.err
        assert "download the checkpoint again" in told.err
        assert told.out == ""


def test_bench_times_every_method(capsys) -> None:
    arguments = ["bench", "methods", "--tokens", "36", "--repeats", "1", "--retention", "0.5"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in result["rows"]} == set(METHODS)
    assert (result["n"], result["budget"]) == (36, 18)
    times = [row["select"]["median_ms"] for row in result["rows"]]
    assert times == sorted(times)
    assert min(times) > 0
    apart = {row["method"]: (row["matrices_ms"], row["projector_ms"]) for row in result["rows"]}
    assert apart["random"] == (0, 0)
    assert apart["divprune"] == (0, 0), "the closest kept token is found without"
    assert apart["agile_pruner"][0] == 0, "few pairs are asked for"
    assert apart["dpp"][0] > 0, "of few tokens, of which many stay, the matrix is made"
    assert apart["scope"][0] > 0, "the matrix of the features is read"
    assert apart["mmtok"][0] > 0, "a matrix of its own"
    assert apart["zoo_prune"][1] > 0


def test_bench_takes_methods_and_knobs_and_refuses_no_tokens(capsys) -> None:
    arguments = ["bench", "methods", "--methods", "random", "idpruner", "--mmr-lambda", "1", "--tokens", "9"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| Random |", "| IDPruner |")) for line in lines) == 2
    assert lines[-1].startswith("The median method takes ")
    assert main([*arguments, "--frames", "3"]) == 0
    assert capsys.readouterr().out.startswith("N = 9 in 3 frames, keep 2")
    for given, said in {("--tokens", "0"): "at least 1", ("--frames", "2"): "9 tokens are no whole number"}.items():
        assert main([*arguments, *given]) == 2
        assert said in capsys.readouterr().err


def test_methods_that_the_model_cannot_serve_are_left_out_with_their_reason(run, monkeypatch) -> None:
    signals = frozenset({"vision_attention@-1", "question"})
    monkeypatch.setattr("pruning.models.VLM.signals", signals)
    arguments = ("scenes", "--scenes", "1", "--retention", "0.25", "--json")
    code, out, error = run(*arguments, "--methods", "all")
    assert code == 0
    assert {row["method"] for row in json.loads(out)} == {
        "all tokens",
        *(n for n in METHODS if make(n).needs - {"scorer"} <= signals and n != "vision_selector"),
    }
    assert "VisionSelector is left out: " in error
    assert "needs a trained importance scorer (scorer), which" in error
    code, out, error = run(*arguments, "--methods", "vision_selector")
    assert (code, out) == (2, "")
    assert "no method is left" in error


def test_pays_tells_its_verdict_and_the_same_as_json(run, picture: str, tmp_path: Path) -> None:
    given = ("pays", picture, QUESTION, "--concurrency", "1", "2", "--rounds", "1", "--new-tokens", "2")
    path = tmp_path / "bars.png"
    code, out, error = run(*given, "--png", str(path))
    assert (code, error) == (0, f"written: {path}\n")
    with Image.open(path) as drawn:
        assert drawn.width > drawn.height > 200
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 5
    assert out.startswith("IDPruner ")
    assert "Lower resolution saves: tower, prefill, decode, memory" in out
    code, out, _ = run(*given, "--json", "--method", "fastv", "--retention", "0.75")
    result = json.loads(out)
    assert {row["setting"] for row in result["rows"]} == {"all tokens", "FastV", "Lower resolution"}
    assert len(result["rulings"]) == 4
    code, _, error = run(*given[:3], "--concurrency", "0")
    assert code == 2
    assert "concurrency 0 is not allowed" in error


def test_pays_that_is_interrupted_tells_what_it_knows(run, picture: str, monkeypatch) -> None:
    given = ("pays", picture, QUESTION, "--concurrency", "1", "2", "--rounds", "1", "--new-tokens", "2", "--json")
    seen = []

    def stop(done: float, total: float, left: float | None) -> None:
        seen.append(done)
        if len(seen) > after:
            raise KeyboardInterrupt

    monkeypatch.setattr("pruning.cli.commands._left", stop)
    after = 7  # nothing, then two rounds of three settings: all of one request
    code, out, error = run(*given)
    assert (code, error) == (130, "stopped: what was measured by then is told\nerror: interrupted\n")
    found = json.loads(out)
    assert {row["concurrency"] for row in found["rows"]} == {1}
    assert found["verdict"]
    assert found["sizes"] == []
    after, seen = 0, []
    assert run(*given) == (130, "", "error: interrupted\n")


CROSSES = ("why", str(ROOT / "assets/examples/crowd.png"), "how many crosses are there?")


@pytest.mark.slow
def test_why_names_the_patches_that_bring_an_answer_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, path = (*CROSSES, "--method", "uniform", "--retention", "0.1"), tmp_path / "why.png"
    assert main([*given, "--json", "--overlay", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["way"] == "return"
    assert found["full"] != found["kept"]
    assert found["reached"]
    assert found["minimal"]
    assert len(found["patches"]) == len(found["rects"]) == len(found["fidelities"]) - 1
    (token,) = found["tokens"]
    assert token["text"] == found["full"]
    lost = [each["lost"] for each in token["patches"]]
    assert lost == sorted(lost, reverse=True)
    with Image.open(path) as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 100
    assert main([*given, "--most", "40"]) == 0
    out = capsys.readouterr().out
    assert "40 sets measured" in out
    assert "no set of dropped patches that was measured brings the answer back" in out


@pytest.mark.slow
def test_why_names_the_patches_that_an_answer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CROSSES, "--retention", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "1 of 64 kept patches is needed: without it the answer is lost" in out
    assert "loses most probability without patch" in out


def test_why_says_why_not(capsys: pytest.CaptureFixture[str], picture: str) -> None:
    for given, said in {
        (*CROSSES, "--retention", "1", "--way", "return"): "no patch can be returned: keep fewer",
        (*CROSSES, "--most", "0"): "most 0 must be at least 1",
        ("why", picture, CROSSES[2]): "lies outside what this model knows",
        ("why", CROSSES[1], "who painted this?"): "lies outside what this model knows",
    }.items():
        assert main([*given]) == 2
        assert said in capsys.readouterr().err


HEAVY = ("torch", "transformers", "numba", "matplotlib", "cv2", "numpy")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]], ids=str)
def test_what_names_no_command_waits_for_no_heavy_module(words: list[str]) -> None:
    assert imported(words, HEAVY) == set()


def test_a_command_needs_its_heavy_modules() -> None:
    assert {"torch", "numba"} <= imported(["answer", "--help"], HEAVY), "or the test above could not fail"


def imported(words: list[str], modules: tuple[str, ...]) -> set[str]:
    """Those of the modules that the command line imports until it exits."""
    code = (
        "import sys\nfrom pruning.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write('\\nhas:' + ' '.join(name for name in {modules!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("has:")[2].split())
