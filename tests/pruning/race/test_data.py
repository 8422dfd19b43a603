"""Records: what is read, and that everything wrong with one is told with its row and a remedy."""

import base64
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pruning.race.data import open_data
from pruning.race.pictures import named_picture
from pruning.race.records import Fault, Record
from pruning.video import Sampling, open_clip
from tests.helpers.clips import animation, film


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "outside.png").write_bytes(png())
    for name in ("cat.png", "sub/a b.png"):
        (tmp_path / "data" / name).write_bytes(png())
    return tmp_path / "data"


def lines(folder: Path, *records: object) -> str:
    path = folder / "set.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records), "utf-8")
    return str(path)


GOOD = {"image": "cat.png", "question": "what?", "answers": ["red"], "metric": "exact"}


def test_json_lines_hold_files_addresses_and_bytes(folder: Path) -> None:
    held = base64.b64encode(png()).decode()
    images = ["cat.png", "sub/a b.png", (folder / "sub" / "a b.png").as_uri(), {"bytes": held},
              f"data:image/png;base64,{held}"]  # fmt: skip
    rows = list(open_data(lines(folder, *(GOOD | {"image": image} for image in images))).rows())
    assert [type(row) for row in rows] == [Record] * 5
    assert len({row.picture.digest() for row in rows}) == 1
    assert {row.picture.open().size for row in rows} == {(40, 30)}
    assert [row.id for row in rows] == list("12345")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image": None}, "there is no picture: name a file"),
        ({"image": "dog.png"}, "is not a file in"),
        ({"image": "../outside.png"}, "lies outside the folder"),
        ({"image": "https://example.org/cat.png"}, "is a https address: put the file into"),
        ({"image": {"bytes": "?"}}, "no Base64"),
        ({"question": "  "}, "The question is empty"),
        ({"question": "x" * 10_000}, "10,000 characters, at most 8,000"),
        ({"question": "\ud800"}, "half a character"),
        ({"answers": []}, "the answers are empty"),
        ({"answers": [" "]}, "the answers are empty"),
        ({"answers": {"a": 1}}, "give a text or a list of texts"),
        ({"answers": [True]}, "holds True"),
        ({"metric": "rouge"}, "'rouge' is not known: name one of exact"),
        ({"metric": None}, "no metric: name one of exact"),
        ({"metric": "vqa_soft"}, "at least 4 people"),
        ({"metric": "yes_no"}, "one answer, yes or no, not 'red'"),
        ({"metric": "multiple_choice"}, "2 to 26 choices, not 0"),
        ({"metric": "multiple_choice", "choices": ["blue", "green"]}, "'red' is none of the choices"),
        ({"imgae": 1}, "the field 'imgae' is not known"),
        ({"id": 1.5}, "neither text nor a whole number"),
    ],
)
def test_what_is_wrong_is_told_with_its_row(folder: Path, fields: dict[str, object], told: str) -> None:
    fault, good = open_data(lines(folder, GOOD | fields, GOOD)).rows()
    assert isinstance(fault, Fault)
    assert fault.row == 1
    assert told in fault.reason
    assert isinstance(good, Record), "the other rows stay"


@pytest.mark.parametrize(("line", "told"), [("{", "no JSON"), ("[1]", "holds list, not an object"), ("[" * 99_999, "")])
def test_a_line_that_is_no_record(folder: Path, line: str, told: str) -> None:
    fault, good = open_data(lines(folder, line, GOOD)).rows()
    assert isinstance(fault, Fault)
    assert told in fault.reason
    assert good.row == 2


def test_an_id_is_given_once(folder: Path) -> None:
    first, second, third = open_data(lines(folder, GOOD | {"id": 7}, GOOD | {"id": "7"}, GOOD)).rows()
    assert isinstance(second, Fault)
    assert "row 1" in second.reason
    assert [first.id, third.id] == ["7", "3"]
    assert second.id not in (first.id, third.id)


def test_a_link_does_not_lead_out_of_the_folder(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (fault,) = open_data(lines(folder, GOOD | {"image": "link.png"})).rows()
    assert "outside the folder" in fault.reason


def test_a_folder_of_pictures(folder: Path) -> None:
    (folder / "cat.txt").write_text("what is it?\na cat\ncat\n", "utf-8")
    (folder / "dog.png").write_bytes(png())
    (folder / "._dog.png").write_bytes(b"x")
    cat, dog = open_data(str(folder)).rows()
    assert (cat.id, cat.question, cat.answers, cat.metric) == ("cat.png", "what is it?", ("a cat", "cat"), "exact")
    assert dog.id == "dog.png"
    assert "dog.txt" in dog.reason


def test_choices_stand_in_what_is_asked(folder: Path) -> None:
    fields = {"metric": "multiple_choice", "choices": ["red", "blue"], "answers": "A"}
    (row,) = open_data(lines(folder, GOOD | fields)).rows()
    assert row.asked.splitlines()[:3] == ["what?", "A. red", "B. blue"]
    assert (row.score("A. red"), row.score("blue")) == (1, 0)


def test_a_world_is_asked_the_same_every_time() -> None:
    data = open_data("charts", scenes=2)
    rows = list(data.rows())
    assert rows == list(data.rows())
    assert len(list(open_data("charts", scenes=2, limit=3).rows())) == 3
    assert len({row.picture.digest() for row in rows}) == 2
    assert {row.group for row in rows} > {rows[0].group}
    assert rows[0].picture.open().size == (448, 448)


@pytest.mark.parametrize(
    ("source", "told"),
    [("nowhere", "is not there: name a world"), ("set.csv", "of no known kind"), ("empty", "holds no picture")],
)
def test_what_is_no_data_set(tmp_path: Path, source: str, told: str) -> None:
    (tmp_path / "set.csv").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=told):
        open_data(str(tmp_path / source))


def test_parquet_without_pyarrow_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "set.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"need pyarrow: pip install pyarrow"):
        open_data(str(folder / "set.parquet"))


def test_parquet_with_the_columns_of_others(folder: Path) -> None:
    held = {"bytes": png(), "path": None}
    rows = [
        {"image": held, "query": "what?", "A": "red", "B": "blue", "C": None, "answer": "B", "source": 1},
        {"image": held, "query": "what?", "A": "red", "B": "7", "C": "nan", "answer": "0", "source": 1},
        {"image": held, "query": "what?", "A": "red", "B": "1", "C": "green", "answer": "1", "source": 1},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "set.parquet")
    columns = {"question": "query", "choices": "A,B,C"}
    opened = open_data(str(folder / "set.parquet"), metric="multiple_choice", columns=columns, suffix="Say a letter.")
    first, second, third = opened.rows()
    assert first.picture.open().size == (40, 30)
    assert first.asked == "what?\nA. red\nB. blue\nSay a letter."
    assert [row.answers for row in (first, second, third)] == [("B",), ("A",), ("1",)], "an index, or an option's text"
    assert [row.score(said) for row, said in ((first, "B."), (second, "A"), (third, "B"))] == [1, 1, 1]
    again = open_data(opened.source, **json.loads(json.dumps(opened.reading)))
    assert [row.asked for row in again.rows()] == [row.asked for row in (first, second, third)]
    (fault, *_) = open_data(str(folder / "set.parquet"), metric="exact", columns={"question": "text"}).rows()
    assert "there is no column 'text', only image, query" in fault.reason


def test_columns_of_json_lines_and_of_no_field(folder: Path) -> None:
    path = lines(folder, {"picture": "cat.png", "question": "what?", "label": "red", "other": 1})
    (row,) = open_data(path, metric="exact", columns={"image": "picture", "answers": "label"}).rows()
    assert (row.answers, row.picture.name) == (("red",), "cat.png")
    with pytest.raises(ValueError, match="'label', which is no field of a record"):
        open_data(path, columns={"label": "answers"})


def test_clips_stand_in_a_folder_beside_pictures(folder: Path) -> None:
    film(folder / "a.mp4", 20, fps=10)
    (folder / "a.txt").write_text("what?\nred\n")
    data = open_data(str(folder), fps=5, max_frames=4)
    clip = next(row for row in data.rows() if row.id == "a.mp4").picture
    assert clip.open(Sampling(1, 1)).times == open_clip(folder / "a.mp4", rate=5, frames=4).times
    assert (clip.sampling(), next(iter(data.rows())).id) == (Sampling(5, 4), "a.mp4")
    again = open_data(data.source, **json.loads(json.dumps(data.reading)))
    assert [row.picture for row in again.rows() if row.id == "a.mp4"] == [clip]
    as_told = named_picture("a.mp4", folder)
    assert len(as_told.open(Sampling(2, 3)).frames) == 3
    with pytest.raises(ValueError, match=r"'a\.mp4' is a clip\. Tiny takes none"):
        as_told.open(no_clips="Tiny takes none")
    with pytest.raises(ValueError, match="the most frames must be a whole number"):
        open_data(str(folder), max_frames=0)


def test_of_what_moves_in_a_picture_s_format_a_model_without_clips_is_given_the_first_frame(tmp_path: Path) -> None:
    animation(tmp_path / "a.gif", [500, 500])
    moves = named_picture("a.gif", tmp_path)
    assert moves.open(no_clips="Tiny takes none").size == (40, 30)
    assert moves.sampling(no_clips="Tiny takes none") is None
    assert moves.open().times == (0.0, 0.5)
