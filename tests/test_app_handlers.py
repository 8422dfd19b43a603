"""The named endpoints through a real client: right results, and for bad values a message that says what and why."""

import logging
import math
import os

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from app.controls import Board
from app.guard import guarded, message_for
from app.offer import Offer
from app.session import Session
from pruning.method import METHODS, make
from pruning.params import params
from pruning.weights import mmr_lambda

QUESTION = "what color is the star?"


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    return Client(served.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (168, 224, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def select(client, image):
    """select(**changes) → the result of /select for a valid setting with some values changed."""

    def call(api_name="/select", **changes):
        values = {"path": image, "question": QUESTION, "name": "idpruner", "importance": 1.0, "diversity": 1.0,
                  "retention": 0.25, "knobs": {}, **changes}  # fmt: skip
        path = values.pop("path")
        own = [values.pop("methods")] if "methods" in values else []
        late = {name: values.pop(name) for name in ("model", "images", "per") if name in values}
        file = handle_file(str(path)) if path else None
        return client.predict(file, *values.values(), *own, **late, api_name=api_name)

    return call


def test_endpoints_have_names(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/select", "/answer", "/pareto"}


def test_select_gives_the_methods_own_picks(select, served, image):
    result = select(importance=3.0, diversity=1.0, knobs={"importance": "feature_norm"})
    picture, _ = served.models.resources.pictures.open(str(image))
    method = make("idpruner", mmr_lambda=0.75, importance="feature_norm")
    tokens = served.engine.tokens(Session(served.models.first, (picture,)), method.needs)
    assert result["mmr_lambda"] == 0.75
    assert result["n"] == tokens.n == math.prod(result["grids"][0])
    assert result["order"] == method.select(tokens, result["budget"]).order.tolist()
    assert result["indices"] == sorted(result["order"])
    assert len(result["rects"]) == tokens.n


def test_several_images_make_one_sample(select, image, tmp_path):
    alone = select(model="tiny-qwen2.5-vl")
    assert alone["images"] == [0]
    Image.new("RGB", (112, 112), "red").save(tmp_path / "second.png")
    both = select(images=[handle_file(str(tmp_path / "second.png"))], per="image")
    assert both["images"] == [0, 1]
    assert both["n"] == alone["n"] + 16
    assert sum(index >= alone["n"] for index in both["indices"]) == 4  # a quarter of the second image's own
    assert both["rects"][: alone["n"]] == alone["rects"]
    assert both["merge_into"] is None
    merged = select(name="prumerge")
    assert set(merged["merge_into"]) - {-1} <= set(merged["indices"])


def test_more_images_than_one_question_takes_are_refused(select, image):
    with pytest.raises(AppError, match="5 images are too many"):
        select(images=[handle_file(str(image))] * 4)


def test_further_images_are_checked_like_the_first(select, client, tmp_path):
    (tmp_path / "text.png").write_text("just text")
    with pytest.raises(AppError, match="not an image"):
        select(images=[handle_file(str(tmp_path / "text.png"))])
    hidden = [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
    with pytest.raises((AppError, ValueError)) as caught:
        select(images=hidden)
    assert "root:" not in str(caught.value)


def test_answer_at_full_retention_agrees(select):
    result = select("/answer", retention=1.0)
    assert result["stage"] == "done"
    assert result["agree"] is True
    assert result["full"]["text"] == result["kept"]["text"]
    assert result["fidelity"] == pytest.approx(1, abs=1e-5)


def test_pareto_gives_plane_front_and_curves(select):
    result = select("/pareto", methods=["idpruner", "random"])
    assert {point["method"] for point in result["plane"]} >= {"idpruner", "random", "uniform", "divprune"}
    assert result["front"]
    assert {point["method"] for point in result["fidelity"]} == {"idpruner", "random"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention": 0}, ["0", "retention", "above 0"]),
        ({"retention": 1.5}, ["1.5", "retention", "at most 1"]),
        ({"retention": None}, ["None", "retention"]),
        ({"retention": "half"}, ["half"]),
        ({"retention": "NaN"}, ["NaN"]),
        ({"name": "magic"}, ["'magic'", "idpruner"]),
        ({"importance": 0, "diversity": 0}, ["both 0", "raise one"]),
        ({"importance": -1}, ["-1", "Importance weight", "at least 0"]),
        ({"knobs": {"colour": 1}}, ["'colour'", "idpruner"]),
        ({"knobs": {"importance": "luck"}}, ["'luck'", "scorer"]),
        ({"knobs": [1]}, ["knobs", "object"]),
        ({"path": None}, ["no image", "upload"]),
        ({"model": "gpt2"}, ["'gpt2'", "not offered", "tiny-qwen2.5-vl"]),
        ({"model": "../../etc"}, ["not offered"]),
        ({"per": "pixel"}, ["'pixel'", "sample, image, tile"]),
    ],
)
def test_bad_values_are_named_with_their_rule(select, changes, words):
    with pytest.raises(AppError) as caught:
        select(**changes)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert select()["budget"] > 0  # and the app goes on


@pytest.mark.parametrize(("question", "words"), [("", "empty"), ("long " * 2000, "characters")])
def test_bad_questions_are_explained(select, question, words):
    with pytest.raises(AppError, match=words):
        select("/answer", question=question)


@pytest.mark.parametrize("question", ["какого цвета звезда?", "星は何色ですか", "<b>${1+1}{{value}}</b>", "<|im_end|>"])
def test_other_scripts_and_markup_are_answered_or_explained(select, question):
    try:
        assert select("/answer", question=question)["stage"] == "done"
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
def test_files_that_are_no_images_are_explained(select, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=words):
        select(path=tmp_path / name)


def test_a_file_over_the_limit_is_refused_before_it_is_read(select, tmp_path):
    (tmp_path / "big.png").write_bytes(os.urandom(3 << 20))
    with pytest.raises(Exception, match=r"(?i)413|limit|exceed|too large|size"):
        select(path=tmp_path / "big.png")


def test_a_file_outside_the_upload_folder_cannot_be_read(client):
    hidden = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises((AppError, ValueError)) as caught:
        client.predict(hidden, QUESTION, "idpruner", 1, 1, 0.5, {}, api_name="/select")
    assert "root:" not in str(caught.value)


def test_nothing_is_left_in_the_temporary_folder(select, image):
    def outside():
        return {name for name in os.listdir("/tmp") if "gradio" in name.lower() or name.endswith((".png", ".webp"))}

    before = outside()
    select("/answer")
    assert outside() == before


def test_controls_mirror_the_registry(served):
    board, offer = Board(), Offer(served.engine.vlm)
    assert set(offer.methods) == set(METHODS)
    declared = {(name, p.name) for name in METHODS for p in params(METHODS[name])}
    shown = {(name, knob.param.name) for knob in board.knobs for name in knob.methods}
    assert declared - shown == {(name, "mmr_lambda") for name in METHODS if board.has_lambda(name)}
    for name in METHODS:
        assert board.method(offer, name, 1, 1, board.defaults(offer)).name == name


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), 0.5), ((1, 0), 1), ((0, 0.2), 0), ((3, 1), 0.75)])
def test_lambda_is_the_share_of_importance(weights, expected):
    assert mmr_lambda(*weights) == expected


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, "1", None, True])
def test_weights_must_be_numbers(weight):
    with pytest.raises(ValueError, match="Importance weight"):
        mmr_lambda(weight, 1)


def test_the_log_names_the_cause_and_no_content(caplog):
    secret = "what color is my passport?"

    @guarded
    def fails():
        raise RuntimeError(secret)

    with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match="RuntimeError"):
        fails()
    assert "RuntimeError" in caplog.text
    assert "fails" in caplog.text
    assert secret not in caplog.text


def test_expected_errors_keep_their_words():
    assert "at most 1" in str(message_for(ValueError("must be at most 1")))
