"""Recipes: those for what is installed here are run, those for other engines parsed, and refusals give reasons."""

import json
import shlex

import pytest

from pruning.choosing import Asked
from pruning.cli.main import main
from pruning.cli.recipe import written as written_for
from pruning.encoding import make_encoding
from pruning.handover.recipes import WRITERS, document, recipes
from pruning.handover.wanted import Recipe, Wanted
from pruning.method import make
from pruning.models import VLM, load
from pruning.models.scorer import Scorer
from pruning.models.trained import CoViPAL, save
from pruning.models.values import POSITIONS
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.staged import make_staged
from pruning.video import Sampling
from tests.checkpoints import tiny_llava

yaml = pytest.importorskip("yaml")
KNOBS = {"mmr_lambda": 0.7, "importance": "feature_norm"}
PLAN = parse_plan("pre:idpruner:0.6,1:fastv:0.5", lambda name: make(name, **KNOBS))
RUN = {
    "knobs": make("idpruner", **KNOBS),
    "question": make("cdpruner"),
    "between layers": make_staged("fastv"),
    "plan": PLAN,
    "published": PUBLISHED["fastv-3-50"],
}


def by_name(asked: Asked, retention: float = 0.25, kind: str = "qwen2_5_vl", **more) -> dict[str, Recipe]:
    return {each.name: each for each in recipes(Wanted(asked, retention, "owner/model", kind, **more))}


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> tuple[str, VLM]:
    """A model that both loaders can take here."""
    folder = tiny_llava(tmp_path_factory.mktemp("models") / "model")
    return str(folder), load(folder)


@pytest.mark.parametrize("asked", RUN.values(), ids=RUN)
def test_library_transformers_and_command_line_say_the_same(asked, llava, noise, tmp_path, monkeypatch, capsys) -> None:
    folder, vlm = llava
    noise(150, 90).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    retention = 0.6 if asked is RUN["between layers"] else 0.25
    said = answers(Wanted(asked, retention, folder, vlm.config.model_type, question="What color is the star?"), capsys)
    assert said[0]
    assert said == [said[0]] * 3


@pytest.mark.parametrize("method", ["idpruner", "covipal"])
def test_scorer_and_trained_pruner_are_named_where_they_came_from(
    method, llava, noise, tmp_path, monkeypatch, capsys
) -> None:
    folder, plain = llava
    noise(150, 90).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my scorer").mkdir()
    dim = plain.config.get_text_config().hidden_size
    Scorer(dim, 8).save(tmp_path / "my scorer")
    save(CoViPAL(dim, 8), tmp_path / "my, pruner", plain.model, {})
    vlm = load(folder, scorer="my scorer", pruner="my, pruner")
    assert (plain.weights, list(vlm.weights)) == ({}, ["scorer", "pruner"])
    (written,) = written_for(vlm, make(method), 0.25, "sample", POSITIONS[0], "lmms_eval")
    assert ',scorer=my scorer,pruner="my, pruner"' in shlex.split(written.text)[4]
    question = "What color is the star?"
    wanted = Wanted(make(method), 0.25, folder, vlm.config.model_type, question=question, weights=vlm.weights)
    said = answers(wanted, capsys)
    assert said == [said[0]] * 3
    assert make(method).needs - plain.signals, "or it would run without them"


def answers(wanted: Wanted, capsys) -> list[str]:
    """What library, plain transformers and command line answer by their recipes."""
    found = {each.name: each for each in recipes(wanted)}
    said = []
    for name in ("library", "transformers"):
        capsys.readouterr()
        exec(found[name].text, {})
        said.append(capsys.readouterr().out.strip())
    command = shlex.split(found["command_line"].text)
    assert command[0] == "idpruner"
    assert main([*command[1:], "--json"]) == 0
    said.append(json.loads(capsys.readouterr().out)["kept"]["text"])
    return said


@pytest.mark.parametrize(("kind", "needs"), [("qwen2_5_vl", True), ("internvl", True), ("llava", False)])
def test_plain_transformers_says_what_a_processor_of_clips_needs(kind, needs) -> None:
    assert ("pip install torchvision" in by_name(make("divprune"), kind=kind)["transformers"].note) == needs


def test_lmms_eval_takes_one_value_of_a_knob_and_tasks_of_its_own() -> None:
    found = by_name(PLAN)["lmms_eval"]
    assert shlex.split(found.text)[4] == (
        'pretrained=owner/model,plan="pre:idpruner:0.6,1:fastv:0.5",knobs={"importance":"feature_norm","mmr_lambda":0.7}'
    )
    assert "your own tasks in the place of textvqa_val" in found.note
    clip = by_name(make("divprune"), sampling=Sampling(2, 8), per="image", positions=POSITIONS[1])["lmms_eval"]
    given, tasks, task = shlex.split(clip.text)[4:7]
    assert given.endswith("method=divprune,retention=0.25,per=image,positions=" + POSITIONS[1] + ",fps=2,max_frames=8")
    assert (tasks, task) == ("--tasks", "videomme")
    seeds = (lambda name: make(name, seed=1)), (lambda name: make_staged(name, seed=2))
    two = parse_plan("pre:random:0.6,1:random_inner:0.5", *seeds)
    assert "other values of seed" in by_name(two)["lmms_eval"].note


def test_angelslim_is_told_the_share_removed() -> None:
    recipe = by_name(make("idpruner", mmr_lambda=0.3))["angelslim"]
    told = yaml.safe_load(recipe.text)
    strategy = told["compressor"]["strategies"]["global"]
    assert strategy["strategy"] == "idpruner"
    assert strategy["params"] == {"ratio": 0.75, "mmr_lambda": 0.3, "parallel_k": 1}
    assert [each["name"] for each in told["model_mapping"]] == ["vl_model", "text_model"]
    assert "share removed: 0.75 keeps 0.25" in recipe.note
    assert yaml.safe_load(by_name(make("vision_selector"), 0.1)["angelslim"].text)["compressor"]["requirements"] == {
        "inputs_embeds": True,
        "vision_token_mask": True,
    }


def test_openvino_takes_a_whole_percentage_of_cdpruner_alone() -> None:
    recipe = by_name(make("cdpruner"), 0.333)["openvino"]
    assert "config.pruning_ratio = 67 " in recipe.text
    assert "67 % removed" in recipe.note
    compile(recipe.text, "recipe", "exec")


def test_vllm_prunes_clips_alone() -> None:
    recipe = by_name(make("divprune"))["vllm"]
    assert shlex.split(recipe.text) == ["vllm", "serve", "owner/model", "--video-pruning-rate", "0.75"]
    assert "Clips alone" in recipe.note


@pytest.mark.parametrize(
    ("engine", "asked", "more", "reason"),
    [
        ("angelslim", make("divprune"), {}, "not DivPrune"),
        ("angelslim", make("idpruner", importance="feature_norm"), {}, "trained selector"),
        ("angelslim", make("idpruner"), {"kind": "llava"}, "not of llava"),
        ("angelslim", make("idpruner"), {"per": "image"}, "one budget for all pictures"),
        ("openvino", make("divprune"), {}, "CDPruner alone"),
        ("openvino", make("cdpruner"), {"kind": "llava"}, "Qwen-VL models alone"),
        ("openvino", make("cdpruner", variant="code"), {}, "one form of CDPruner"),
        ("vllm", make("cdpruner"), {}, "cache of encoded pictures does not know it"),
        ("vllm", make("visionzip"), {}, "attention maps"),
        ("vllm", make_encoding("lower_resolution"), {}, "budget would not be exact"),
        ("vllm", make("divprune"), {"retention": 1.0}, "nothing is pruned"),
        *((name, each, {}, "between the layers") for name in ("angelslim", "openvino", "vllm")
          for each in (PLAN, make_staged("fastv"), PUBLISHED["fastv-3-50"])),
    ],
)  # fmt: skip
def test_what_cannot_be_served_says_why(engine, asked, more, reason) -> None:
    recipe = by_name(asked, **more)[engine]
    assert not recipe.text
    assert recipe.note.startswith("Cannot be served there, because ")
    assert reason in recipe.note


def test_what_is_forced_by_hand_is_told() -> None:
    found = by_name(make("divprune"), forced=2)
    assert all(
        "forced by hand" in found[name].note for name in ("library", "transformers", "command_line", "lmms_eval")
    )


def test_the_command_writes_them_all_or_one(tiny_folder, capsys) -> None:
    model = ("--model", str(tiny_folder), "--method", "divprune", "--retention", "0.1")
    assert main(["recipe", *model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == [write.__name__ for write in WRITERS]
    assert main(["recipe", *model, "--for", "command_line"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n## ") == 1
    assert "--method divprune --retention 0.1" in out
    assert main(["recipe", "--model", str(tiny_folder), "--retention", "0"]) == 2
    assert document([Recipe("a", "A", "bash", "", "Why.")]).count("```") == 0
