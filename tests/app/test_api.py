"""The named endpoints through a real client: right results of the promised types, and for bad values a message that
says what and why.
"""

import json
import math
import os
import re
import subprocess

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pydantic import TypeAdapter

from app.api import results as api_results
from app.api.endpoints import ABOUT, COMMON, LATE, Api
from app.plan.dominance import Dominances
from app.session import Session
from pruning.choosing import out_of_reach
from pruning.evaluation.inspection import Card
from pruning.evaluation.paying import Paying
from pruning.handover.certificate import read
from pruning.handover.parity import verify
from pruning.images import open_image
from pruning.method import make
from pruning.runnable import REGISTERED
from pruning.staged import STAGED, make_staged
from tests.helpers import documents
from tests.helpers.checkout import ROOT

QUESTION = "what color is the star?"
RESULTS = {
    "/select": api_results.Selected,
    "/answer": api_results.Answered,
    "/pareto": api_results.Tradeoff,
    "/compare": api_results.Compared,
    "/inspect": Card,
    "/pays": Paying,
    "/why": api_results.Hanging,
    "/recipe": api_results.Recipes,
    "/certificate": api_results.Certified,
    "/dominance": Dominances,
}


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    return Client(served.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (168, 224, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def call(client, image):
    """call(endpoint, **changes) -> its result for a valid setting with some values changed, of the promised type."""

    def ask(api_name="/select", **changes):
        own = {"/inspect": {"token": 0}}.get(api_name, {})
        values = {"image": image, "question": QUESTION, **own, **changes}
        values["image"] = handle_file(str(values["image"])) if values["image"] else None
        result = client.predict(**values, api_name=api_name)
        TypeAdapter(RESULTS[api_name]).validate_python(result)
        return result

    return ask


def test_endpoints_have_names_types_and_descriptions(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == set(RESULTS)
    for name, endpoint in named.items():
        method = getattr(Api, name[1:])
        assert tuple(p["parameter_name"] for p in endpoint["parameters"]) == method.names
        assert endpoint["description"] == method.about
        assert len(method.about) > 60
        for parameter in endpoint["parameters"]:
            assert parameter["type"] != {}, parameter["parameter_name"]
            assert parameter["python_type"]["description"] == ABOUT[parameter["parameter_name"]]
        (result,) = endpoint["returns"]
        assert result["type"] == api_results.schema(RESULTS[name])
        assert result["python_type"]["type"].startswith("dict(")


def test_examples_on_the_api_page_name_no_other_host(client, call):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert "http" not in json.dumps([p["example_input"] for e in named.values() for p in e["parameters"][:2]])
    assert call("/pareto", methods=named["/pareto"]["parameters"][7]["example_input"])["fidelity"]


def test_only_image_question_and_token_must_be_given(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    for endpoint in named.values():
        needed = {p["parameter_name"] for p in endpoint["parameters"] if not p["parameter_has_default"]}
        assert needed - {"token"} == {"image", "question"}


def test_every_parameter_is_explained():
    assert set(ABOUT) == {*COMMON, *LATE, "token", "methods", "others", "concurrency", "way"}


def test_select_gives_the_methods_own_picks(call, served, image):
    result = call(importance=3.0, diversity=1.0, knobs={"importance": "feature_norm"})
    picture, _ = served.models.resources.pictures.open(str(image))
    method = make("idpruner", mmr_lambda=0.75, importance="feature_norm")
    tokens = served.engine.tokens(Session(served.models.first, (picture,)), method.needs)
    (grid,) = result["grids"]
    assert result["mmr_lambda"] == result["knobs"]["mmr_lambda"] == 0.75
    assert result["n"] == tokens.n == math.prod(grid[name] for name in ("t", "gh", "gw")) == len(result["rects"])
    assert result["order"] == method.select(tokens, result["budget"]).order.tolist()
    assert result["indices"] == sorted(result["order"])
    assert result["sizes"] == [[224, 168]]
    assert result["rects"][0][:2] == [0, 0]
    assert result["rects"][-1][2:] == [224, 168]


def test_several_images_make_one_sample(call, tmp_path):
    alone = call(model="tiny-qwen2.5-vl")
    assert [grid["image"] for grid in alone["grids"]] == [0]
    Image.new("RGB", (112, 112), "red").save(tmp_path / "second.png")
    both = call(more_images=[handle_file(str(tmp_path / "second.png"))], per="image")
    assert [(grid["image"], grid["start"]) for grid in both["grids"]] == [(0, 0), (1, alone["n"])]
    assert both["n"] == alone["n"] + 16
    assert sum(index >= alone["n"] for index in both["indices"]) == 4  # a quarter of the second image's own
    assert both["rects"][: alone["n"]] == alone["rects"]
    assert both["merge_into"] is None
    merged = call(method="prumerge")
    assert set(merged["merge_into"]) - {-1} <= set(merged["indices"])


# No trained modules lie beside this model.
SERVED = [m for m, rule in STAGED.items() if not rule.trained and not out_of_reach(make_staged(m), 48, 2, 0.75)]


@pytest.mark.parametrize("method", sorted(SERVED))
def test_methods_inside_the_language_model_tell_until_where_tokens_live(call, method):
    share = 0.75
    chosen, answered = call(method=method, retention=share), call("/answer", method=method, retention=share)
    for found in (chosen, answered):
        lived = [life or 0 for life in found["lives"]["lives"]]
        assert (found["method"], found["n"], found["retention"]) == (method, 48, share)
        assert found["plan"] == found["lives"]["plan"]
        assert found["alive"] == [sum(life > layer for life in lived) for layer in range(2)]
        assert found["equivalent_retention"] == sum(found["alive"]) / 96 == pytest.approx(share, abs=0.011)
        assert found["budget"] == lived.count(max(lived))
    assert chosen["lives"] == answered["lives"]
    longest = [token for token, life in enumerate(chosen["lives"]["lives"]) if life == max(lived)]
    assert chosen["indices"] == longest
    assert answered["full"]["flops"] > answered["kept"]["flops"] > 0


def test_a_plan_takes_the_place_of_method_and_retention(call):
    plan = "pre:idpruner:0.5,1:random_inner:6"
    chosen = call(plan=plan, importance=3.0, diversity=1.0, knobs={"importance": "feature_norm", "seed": 3})
    first = call(retention=0.5, importance=3.0, diversity=1.0, knobs={"importance": "feature_norm"})
    lived = [token for token, life in enumerate(chosen["lives"]["lives"]) if life is not None]
    assert (chosen["method"], chosen["retention"], chosen["plan"]) == (None, None, plan)
    assert (chosen["alive"], chosen["equivalent_retention"], chosen["budget"]) == ([24, 6], 0.3125, 6)
    assert lived == first["indices"]
    assert (first["alive"], first["equivalent_retention"], first["lives"]) == ([24, 24], 0.5, None)
    assert call(plan="fastv-published")["plan"] == "1:fastv:24"


def test_curves_and_comparisons_know_plans(call):
    found = call("/pareto", methods=["fastv", "random"], plan="pre:random:0.5,1:fastv:0.5")
    at = [point["retention"] for point in found["fidelity"] if point["method"] == "fastv"]
    assert min(at) > 0.5
    assert [p["retention"] for p in found["fidelity"] if p["method"] == "pre:random:0.5,1:fastv:0.5"] == [0.375]
    (told,) = found["left_out"]
    assert "fastv at 0.05" in told
    assert "48 visual tokens reach 0.510 to 1" in told
    rows = call("/compare", plan="1:fastv:0.5", others=[{"method": "random"}, {"plan": "1:dart:6"}])["settings"]
    assert [(row["method"], row["plan"]) for row in rows] == [
        (None, "1:fastv:0.5"), ("random", None), (None, "1:dart:6")
    ]  # fmt: skip
    assert rows[1]["retention"] == rows[0]["equivalent_retention"] == 0.75
    with pytest.raises(AppError, match=r"others\[0\]: .*'magic'"):
        call("/compare", others=[{"plan": "1:magic:0.5"}])


def test_answer_at_full_retention_agrees(call):
    result = call("/answer", retention=1.0)
    assert result["agree"] is True
    assert result["full"]["text"] == result["kept"]["text"]
    assert "".join(piece["text"] for piece in result["pieces"]) == result["full"]["text"]
    assert result["fidelity"] == pytest.approx(1, abs=1e-5)
    assert result["speedup"] > 0


def test_pareto_gives_plane_front_and_curves(call):
    result = call("/pareto", methods=["idpruner", "random"])
    assert {point["method"] for point in result["plane"]} >= {"idpruner", "random", "uniform", "divprune"}
    assert all(point in result["plane"] for point in result["front"])
    assert {point["method"] for point in result["fidelity"]} == {"idpruner", "random"}
    assert result["here"]["mmr_lambda"] == 0.5


def test_pareto_without_methods_measures_no_curve(call):
    result = call("/pareto", retention=0.001)
    assert result["fidelity"] == []
    assert (result["here"]["budget"], result["here"]["hopkins"]) == (1, None)  # one token has no spread


def test_inspect_agrees_with_select(call):
    chosen = call(retention=0.25)
    first, dropped = chosen["order"][0], min(set(range(chosen["n"])) - set(chosen["order"]))
    kept, gone = call("/inspect", token=first), call("/inspect", token=dropped)
    assert (kept["rank"], kept["kept"], gone["rank"]) == (1, chosen["budget"], None)
    assert gone["nearest"] in chosen["order"]
    assert chosen["order"][gone["nearest_rank"] - 1] == gone["nearest"]
    columns = chosen["grids"][0]["gw"]
    assert (gone["row"], gone["column"]) == divmod(dropped, columns)
    assert kept["why"].startswith("kept as 1st")
    assert gone["why"].startswith("dropped")


@pytest.mark.parametrize("token", [-1, 1_000_000, 1.5, None, "3"])
def test_tokens_that_are_not_there_are_named(call, token):
    with pytest.raises(AppError, match="from 0 to 47"):
        call("/inspect", token=token)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention": 0}, ["0", "retention", "above 0"]),
        ({"retention": 1.5}, ["1.5", "retention", "at most 1"]),
        ({"retention": None}, ["None", "retention"]),
        ({"retention": "half"}, ["half"]),
        ({"retention": "NaN"}, ["NaN"]),
        ({"method": "magic"}, ["'magic'", "idpruner"]),
        ({"method": None}, ["None", "idpruner"]),
        ({"importance": 0, "diversity": 0}, ["both 0", "raise one"]),
        ({"importance": -1}, ["-1", "Importance weight", "at least 0"]),
        ({"knobs": {"colour": 1}}, ["'colour'", "idpruner"]),
        ({"knobs": {"importance": "luck"}}, ["'luck'", "scorer"]),
        ({"knobs": [1]}, ["knobs", "object"]),
        ({"image": None}, ["no image", "upload"]),
        ({"model": "gpt2"}, ["'gpt2'", "not offered", "tiny-qwen2.5-vl"]),
        ({"model": "../../etc"}, ["not offered"]),
        ({"per": "pixel"}, ["'pixel'", "sample, image, tile"]),
        ({"positions": "dense"}, ["'dense'", "original, compact"]),
        ({"positions": ""}, ["positions ''", "original, compact"]),
        ({"method": "fastv", "retention": 0.75, "per": "image"}, ["'image'", "before the language model", "'sample'"]),
        ({"method": "fastv", "retention": 0.25}, ["FastV", "0.25", "48 visual tokens reach 0.510 to 1"]),
        ({"method": "fastv", "retention": 0.75, "knobs": {"seed": 1}}, ["'seed'", "fastv"]),
        ({"plan": "fastv"}, ["'fastv'", "WHERE:METHOD:HOW_MANY"]),
        ({"plan": "1:magic:0.5"}, ["'magic'", "fastv"]),
        ({"plan": "1:fastv:0"}, ["cannot keep 0", "above 0"]),
        ({"plan": "1:fastv:500"}, ["cannot keep 500", "48 are alive"]),
        ({"plan": "1:fastv:0.5,1:dart:0.5"}, ["order of the layers"]),
        ({"plan": "1:fastv:4,2:dart:5"}, ["counts can only fall"]),
        ({"plan": "7:fastv:0.5"}, ["7:fastv:0.5", "beyond the model", "2 layers"]),
        ({"plan": "1:fastv:0.5", "per": "tile"}, ["'tile'", "'sample'"]),
        ({"plan": "1:fastv:0.5", "knobs": {"colour": 1}}, ["'colour'", "no method of the plan"]),
        ({"plan": "1:fastv:0.5", "retention": 3}, ["3", "retention"]),
        ({"plan": "fastv-published", "knobs": {"seed": 1}}, ["fastv-published", "'seed'"]),
        ({"plan": "1:fastv:0.5," * 60}, ["at most 400 characters"]),
    ],
)
def test_bad_values_are_named_with_their_rule(call, changes, words):
    with pytest.raises(AppError) as caught:
        call(**changes)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert call()["budget"] > 0  # and the app goes on


@pytest.mark.parametrize(("question", "words"), [("", "empty"), ("long " * 2000, "characters")])
def test_bad_questions_are_explained(call, question, words):
    with pytest.raises(AppError, match=words):
        call("/answer", question=question)


@pytest.mark.parametrize("question", ["какого цвета звезда?", "星は何色ですか", "<b>${1+1}{{value}}</b>", "<|im_end|>"])
def test_other_scripts_and_markup_are_answered_or_explained(call, question):
    try:
        assert call("/answer", question=question)["question"] == question
    except AppError as error:
        assert "control token" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "empty"),
        ("text.png", b"just text", "not an image"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(200), "image"),
    ],
)
def test_files_that_are_no_images_are_explained(call, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=words):
        call(image=tmp_path / name)
    with pytest.raises(AppError, match=words):
        call(more_images=[handle_file(str(tmp_path / name))])


def test_more_images_than_one_question_takes_are_refused(call, image):
    with pytest.raises(AppError, match="5 images are too many"):
        call(more_images=[handle_file(str(image))] * 4)


def test_nothing_is_left_in_the_temporary_folder(call):
    def outside():
        return {name for name in os.listdir("/tmp") if "gradio" in name.lower() or name.endswith((".png", ".webp"))}

    before = outside()
    call("/answer")
    assert outside() == before


def test_methods_of_the_schema_are_the_registry_s(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    schema = {p["parameter_name"]: p["type"] for p in named["/pareto"]["parameters"]}
    assert schema["method"]["enum"] == schema["methods"]["items"]["enum"] == list(REGISTERED)


# The examples of docs/api.md, as they stand there


def test_the_documents_name_every_endpoint_and_parameter():
    section = documents.text("docs/api.md")
    assert set(re.findall(r"^\| `(/\w+)` \|", section, re.MULTILINE)) == set(RESULTS)
    assert all(f"`{name}`" in section for name in ABOUT)


def test_the_python_example_runs(served, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    source = documents.block("docs/api.md", "python", "gradio_client").replace("http://127.0.0.1:7860", served.url)
    exec(compile(source, "docs/api.md", "exec"), {})
    assert "kept as 1st" in capsys.readouterr().out


def test_the_curl_example_runs(served):
    script = documents.block("docs/api.md", "bash", "curl").replace("http://127.0.0.1:7860/", served.url)
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    event, data = done.stdout.strip().splitlines()[-2:]
    assert event == "event: complete"
    (result,) = json.loads(data.removeprefix("data: "))
    assert result["method"] == "idpruner"
    assert len(result["indices"]) == result["budget"] == round(result["n"] * 0.25)


def test_recipes_are_told_over_http(call):
    told = {each["name"]: each for each in call("/recipe", method="divprune", retention=0.1)["recipes"]}
    assert "--method divprune --retention 0.1" in told["command_line"]["text"]
    assert QUESTION in told["library"]["text"]
    assert told["openvino"]["text"] == ""


def test_a_certificate_over_http_holds_here(call, tiny_vlm, image):
    told = call("/certificate", method="divprune", retention=0.1)["certificate"]
    found = verify(read(told), tiny_vlm, [open_image(image)])
    assert [each.what for each in found if not each.same] == []
    assert json.loads(told)["pictures"][0]["file"] == image.name


def test_what_dominates_in_each_layer_is_told_over_http(call):
    result, answered = call("/dominance", plan="1:fastv:0.25"), call("/answer", plan="1:fastv:0.25")
    assert [layer["layer"] for layer in result["kept"]] == list(range(result["layers"]))
    assert [layer["visual_tokens"] for layer in result["kept"]] == answered["alive"]
    assert {layer["visual_tokens"] for layer in result["full"]} == {answered["n"]}
    for layer in (*result["full"], *result["kept"]):
        assert layer["mdi"] == pytest.approx(layer["aei_text"] / layer["aei_visual"])


def test_whether_it_pays_is_told_over_http(call):
    result = call("/pays", concurrency=[1, 2])
    assert {row["concurrency"] for row in result["rows"]} == {1, 2}
    assert result["verdict"]


def test_what_an_answer_hangs_on_is_told_over_http(call):
    result = call("/why", way="need")
    assert (result["way"], result["reached"], len(result["rects"])) == ("need", True, len(result["patches"]))
    assert set(result["patches"]) < set(call("/select")["indices"])
    assert result["images"] == [0] * len(result["patches"])
    assert all(token["patches"][0]["lost"] >= token["patches"][-1]["lost"] for token in result["tokens"])
    with pytest.raises(AppError, match="way is 'back': must be one of"):
        call("/why", way="back")


@pytest.mark.parametrize("many", ["4", [0], [1.5], 3])
def test_how_many_at_once_is_whole_numbers(call, many):
    with pytest.raises(AppError, match=r"(?s)concurrency|at once"):
        call("/pays", concurrency=many)
