"""A scorer for any model: the objective, the records, and a run that learns, stops, goes on and is used."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from pruning.images import open_image
from pruning.models import VLM, Scorer, Turn, load
from pruning.models.language.generation import stop_ids
from pruning.models.scorer import load_scorer
from pruning.training import fit
from pruning.training.__main__ import main
from pruning.training.fit import Plan, losses, train
from pruning.training.objective import ANNEAL, anneal, binary_loss, new_scorer, soft_top_k
from pruning.training.records import FileRecords, Record, SceneRecords
from pruning.training.runs import Run
from tests.checkpoints import FAMILIES
from tests.helpers.trainings import interrupted


def test_soft_top_k_adds_up_to_k_and_has_the_right_gradient() -> None:
    scores = torch.randn(2, 9, dtype=torch.float64).requires_grad_()
    assert soft_top_k(scores, 3).sum(-1).tolist() == pytest.approx([3.0, 3.0])
    assert torch.equal(soft_top_k(scores, 3).topk(3).indices, scores.topk(3).indices)
    assert torch.autograd.gradcheck(lambda s: soft_top_k(s, 3), (scores,), eps=1e-3, atol=1e-3)


def test_annealing_runs_from_the_paper_s_first_weight_to_its_last() -> None:
    assert anneal(0, 50) == pytest.approx(0.1)
    assert anneal(49, 50) == pytest.approx(2.0)


def test_the_mask_s_loss_is_nothing_once_it_is_binary() -> None:
    scores = torch.tensor([[3.0, -2.0, 5.0, 0.0]])
    assert float(binary_loss(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), scores, 2)) < 1e-5
    even = torch.full((1, 4), 0.5)
    assert float(binary_loss(even, scores, 2)) == pytest.approx(torch.log(torch.tensor(2.0)))


# Records


@pytest.fixture
def pictures(tmp_path: Path, noise) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        noise(90 + 20 * i, 60, seed=i).save(folder / f"{i}.png")
    return folder


def write(file: Path, *lines: object) -> Path:
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return file


def row(**changes: object) -> dict[str, object]:
    return {"image": "0.png", "question": "what color is it?", "answer": "red", **changes}


def test_records_are_read_from_lines(pictures: Path, tmp_path: Path) -> None:
    lines = [row(image=f"{i}.png", answer=str(i), more="ignored") for i in range(4)]
    file = write(tmp_path / "data.jsonl", lines[0], "", *lines[1:])
    records = FileRecords(file, pictures)
    assert (records.size, records.title) == (4, str(file))
    first, second = ([records.at(epoch * 4 + i) for i in range(4)] for epoch in (0, 1))
    assert {r.answer for r in first} == {r.answer for r in second} == set("0123")
    orders = [[records.at(epoch * 4 + i).answer for i in range(4)] for epoch in range(6)]
    assert len({tuple(order) for order in orders}) > 1  # reshuffled
    assert orders == [[FileRecords(file, pictures).at(e * 4 + i).answer for i in range(4)] for e in range(6)]
    by_answer = {r.answer: r for r in first}
    assert by_answer["1"].picture().size == (110, 60)
    assert by_answer["1"].name == f"{file}, line 3"


def test_other_data_of_the_same_name_have_another_digest(pictures: Path, noise) -> None:
    file = write(pictures / "data.jsonl", row())
    first = FileRecords(file).digest
    assert len(first) == 16
    assert FileRecords(file, pictures).digest == first, "the folder is none of the data"
    noise(400, 60).save(pictures / "0.png")
    second = FileRecords(file).digest
    assert FileRecords(write(file, row(answer="blue"))).digest not in (first, second)
    assert first != second
    assert SceneRecords().digest == ""


def test_pictures_lie_beside_the_file_unless_said_otherwise(pictures: Path) -> None:
    assert FileRecords(write(pictures / "data.jsonl", row())).at(0).picture().mode == "RGB"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is not JSON"),
        ("[1, 2]", "not an object with the fields image, question, answer"),
        (row(answer=3), "the field 'answer' must be a text that is not empty, not 3"),
        (row(question="  "), "the field 'question' must be a text"),
        ({"image": "0.png", "answer": "x"}, "the field 'question' must be a text that is not empty, not None"),
        (row(question="a \ud83d b"), "the field 'question' holds half a character"),
        (row(answer="caf\udce9"), "the field 'answer' holds the byte 0xE9"),
        (row(image="9.png"), r"9\.png does not exist: .*--images"),
        (row(image="text.png"), "cannot be opened"),
    ],
    ids=["json", "list", "number", "blank", "missing", "half", "byte", "no-image", "no-picture"],
)
def test_bad_records_are_named_by_line_with_the_rule(line: object, reason: str, pictures: Path) -> None:
    (pictures / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=rf"1 bad records:\nline 2: .*{reason}"):
        FileRecords(write(pictures / "data.jsonl", row(), line))


def test_of_many_bad_records_the_first_are_shown(pictures: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)8 bad records:\nline 1:.*line 5:[^\n]*\n… and 3 more$"):
        FileRecords(write(pictures / "data.jsonl", *["{"] * 8))


def test_files_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no records"):
        FileRecords(write(tmp_path / "empty.jsonl", "", ""))
    with pytest.raises(ValueError, match="cannot be read as UTF-8 text"):
        FileRecords(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(ValueError, match="cannot be read as UTF-8 text"):
        FileRecords(tmp_path / "latin.jsonl")


def test_a_file_is_read_as_json_lines_says(pictures: Path) -> None:
    """Byte order marks, also between files put together; line ends of Windows; other line ends within a text."""
    texts = ["first", "a\u2028b\u0085c", "last"]
    lines = [json.dumps(row(answer=text), ensure_ascii=False) for text in texts]
    file = pictures / "windows.jsonl"
    file.write_bytes("".join(f"\ufeff{line}\r\n" for line in lines).encode())
    records = FileRecords(file)
    assert {records.at(i).answer for i in range(3)} == set(texts)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_another_coding_is_refused_with_the_remedy(coding: str, pictures: Path) -> None:
    file = pictures / "wide.jsonl"
    file.write_bytes(json.dumps(row()).encode(coding))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        FileRecords(file)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row(image="data:image/png;base64," + "A" * 12_000), "is an address: save the picture as a file"),
        (row(image="https://example.org/a.png"), "is an address"),
        (row(image="x" * 12_000), "does not exist"),
        (row(image="a\0b"), "does not exist"),
        (row(answer=["long"] * 4000), "must be a text"),
        ('{"image": "0.png", "question": "what \\ud83d?", "answer": "x"}', "holds half a character"),
        ("[" * 100_000, "too deep"),
    ],
    ids=["data", "http", "long", "null", "list", "surrogate", "deep"],
)
def test_a_bad_record_is_told_in_few_words(line: object, reason: str, pictures: Path) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        FileRecords(write(pictures / "data.jsonl", line))
    assert len(str(refusal.value)) < 700
    str(refusal.value).encode()


def cut(image: Image.Image, path: Path) -> None:
    image.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["a.avif", "a.ppm", "a.jp2", "a.ico", "cut.jpg", "cut.png", "large.png", "strip.png"])
def test_the_check_refuses_what_could_not_be_read_later(name: str, pictures: Path, noise) -> None:
    image, path = noise(64, 64), pictures / name
    if name.startswith("cut"):
        cut(image, path)
    elif name == "large.png":
        Image.new("1", (9000, 7000)).save(path)
    elif name == "strip.png":  # no model takes it
        Image.new("L", (3, 603)).save(path)
    else:
        image.save(path)
    with pytest.raises(ValueError, match=rf"1 bad records:\nline 2: the image .*{name} cannot be opened: ."):
        FileRecords(write(pictures / "data.jsonl", row(), row(image=name)))


def test_every_picture_is_checked_once_and_told_of(pictures: Path, monkeypatch, caplog) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "pruning.training.records.open_image", lambda path: opened.append(path.name) or open_image(path)
    )
    monkeypatch.setattr("pruning.training.records.EVERY", -1.0)
    caplog.set_level("INFO")
    found = FileRecords(write(pictures / "data.jsonl", *[row(image=f"{i % 4}.png") for i in range(40)]))
    assert sorted(opened) == ["0.png", "1.png", "2.png", "3.png"]
    assert found.size == 40
    assert "checked 4 of 4 pictures" in caplog.messages


def test_scenes_never_repeat_and_follow_from_their_place() -> None:
    one, other = SceneRecords(), SceneRecords()
    assert one.size is None
    for place in (0, 7):
        a, b = one.at(place), other.at(place)
        assert (a.question, a.answer, a.picture().tobytes()) == (b.question, b.answer, b.picture().tobytes())
    assert one.at(0).picture().tobytes() != one.at(1).picture().tobytes()
    assert SceneRecords(seed=1).at(0).picture().tobytes() != one.at(0).picture().tobytes()


# The pass


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pass_is_the_models_own(family: str, noise, tmp_path: Path) -> None:
    """With nothing masked away the cross entropy is that of the model's own teacher-forced log-probabilities."""
    any_vlm = load(FAMILIES[family](tmp_path))
    record = Record("here", "what color is it?", "red circle", lambda: noise(120, 90))
    encoded = any_vlm.encode([record.picture()])
    ids, _, target = fit.sequence(any_vlm, encoded, record.question, record.answer)
    assert int(target[-1]) in stop_ids(any_vlm.model)
    assert any_vlm.tokenizer.decode(target[:-1]).strip() == "red circle"
    told = any_vlm.prompt(encoded, "and?", [Turn(record.question, record.answer)]).input_ids[0]
    torch.testing.assert_close(told[: ids.shape[1]], ids[0])  # the template itself would write the same

    rows = fit._masked(encoded, torch.ones(encoded.tokens.n))
    with torch.no_grad():
        logits = (
            fit.forced(any_vlm, *fit.sequence(any_vlm, encoded, record.question, record.answer)[:2], rows, 3)
            .logits[0]
            .float()
        )
    (slow,) = any_vlm.logprobs(encoded, record.question, target.tolist(), [None])
    torch.testing.assert_close(logits.log_softmax(-1), slow, atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_softly_masked_tokens(tiny_vlm: VLM, noise, monkeypatch) -> None:
    scorer, record = new_scorer(48), Record("here", "what is it?", "red", lambda: noise(120, 90))
    generator = torch.Generator().manual_seed(3)
    for part in (scorer.q_proj, scorer.k_proj):
        torch.nn.init.normal_(part.weight, std=0.1, generator=generator)
    loss, binary = losses(tiny_vlm, scorer, record, 0.25)
    loss.backward()
    assert float(scorer.q_proj.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in tiny_vlm.model.parameters())
    encoded = tiny_vlm.encode([record.picture()])
    n = encoded.tokens.n
    p = soft_top_k(scorer(encoded.tokens.features)[None].detach(), n // 4)
    assert float(p.sum()) == pytest.approx(n // 4)
    rows = encoded.tokens.features * p[0, :, None]
    monkeypatch.setattr(type(encoded), "rows", lambda self, kept: fit.Rows(rows))
    target = fit.sequence(tiny_vlm, encoded, "what is it?", "red")[2]
    (slow,) = tiny_vlm.logprobs(encoded, "what is it?", target.tolist(), [None])
    assert float(loss.detach()) == pytest.approx(float(F.nll_loss(slow, target)), rel=1e-3)
    assert float(binary.detach()) > 0


def test_marks_among_the_rows_stay_and_levels_are_masked_in_step(tiny_vlm: VLM, noise) -> None:
    from dataclasses import replace

    encoded = tiny_vlm.encode([noise(60, 60)])
    n, width = encoded.tokens.features.shape
    places = torch.arange(n) * 2  # a mark after every token
    marks, level = torch.randn(n, width), torch.randn(2 * n, width)
    laid_out = replace(encoded, places=places, marks=marks, deepstack=(level,))
    p = torch.rand(n)
    rows = fit._masked(laid_out, p)
    torch.testing.assert_close(rows.features[0::2], encoded.tokens.features * p[:, None])
    torch.testing.assert_close(rows.features[1::2], marks)
    torch.testing.assert_close(rows.deepstack[0][0::2], level[0::2] * p[:, None])
    torch.testing.assert_close(rows.deepstack[0][1::2], level[1::2])


# The run


class Same:
    """One record for ever: what a scorer can learn by heart."""

    title, size = "same", 1

    def __init__(self, noise) -> None:
        self.image = noise(200, 160)

    def at(self, place: int) -> Record:
        return Record("the one", "what color is it?", "red", lambda: self.image)


def plan(vlm: VLM, steps: int, **changes: object) -> Plan:
    return Plan(vlm.model_id, "same", steps, **{"batch": 1, "rate": 0.02, "max_visual_tokens": 64, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_for_every_family_and_the_scorer_is_used(family: str, noise, tmp_path: Path) -> None:
    vlm, records = load(FAMILIES[family](tmp_path / "model")), Same(noise)

    def total(scorer: Scorer) -> float:
        loss, binary = losses(vlm, scorer, records.at(0), 0.2)
        return float(loss.detach() + ANNEAL[1] * binary.detach())

    before = total(new_scorer(48, torch.Generator().manual_seed(0)))
    scorer = train(vlm, records, plan(vlm, 30), tmp_path / "out")
    assert total(scorer) < before - 0.2
    again = load(vlm.model_id, scorer=str(tmp_path / "out"))
    encoded = again.encode([records.image], frozenset({"scorer"}))
    torch.testing.assert_close(encoded.tokens.signal("scorer"), scorer(encoded.tokens.features))


def test_a_stopped_run_ends_like_one_that_was_not(tiny_vlm: VLM, noise, tmp_path: Path) -> None:
    records, whole = Same(noise), tmp_path / "whole"
    train(tiny_vlm, records, plan(tiny_vlm, 6), whole)
    stopped = tmp_path / "stopped"
    with interrupted(fit, after=4):
        train(tiny_vlm, records, plan(tiny_vlm, 6), stopped, every=2)
    with pytest.raises(ValueError, match="--resume"):
        train(tiny_vlm, records, plan(tiny_vlm, 6), stopped)
    with pytest.raises(ValueError, match=r"other settings \(batch 1 → 2, budget 0\.2 → 0\.3\)"):
        train(tiny_vlm, records, plan(tiny_vlm, 6, batch=2, budget=0.3), stopped, resume=True)
    train(tiny_vlm, records, plan(tiny_vlm, 6), stopped, resume=True)
    one, other = (load_file(folder / "scorer.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_foreign_scorer_is_not_overwritten(tiny_vlm: VLM, noise, tmp_path: Path) -> None:
    new_scorer(48).save(tmp_path)
    with pytest.raises(ValueError, match="holds a scorer already"):
        train(tiny_vlm, Same(noise), plan(tiny_vlm, 1), tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"steps": 0}, "steps 0"), ({"batch": 0}, "batch 0"), ({"budget": 1.0}, r"budget 1\.0"),
     ({"budget": float("nan")}, "budget nan"), ({"rate": 0.0}, r"rate 0\.0"), ({"max_visual_tokens": 0}, "tokens 0")],
)  # fmt: skip
def test_plans_that_cannot_be(changes: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Plan(**{"model": "m", "data": "d", "steps": 1, **changes})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record("line 4", "a <|image_pad|> b", "red", lambda: Image.new("RGB", (60, 60))), "line 4: .*control token"),
        (Record("line 5", "what?", "<|im_end|>", lambda: Image.new("RGB", (60, 60))), "line 5: .*control token"),
        (Record("line 6", "what?", "red", lambda: Image.new("RGB", (1, 4000))), "line 6: .*1×4000"),
    ],
)
def test_records_that_the_model_cannot_take_are_named(tiny_vlm: VLM, record: Record, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        losses(tiny_vlm, new_scorer(48), record, 0.2)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_vlm: VLM, noise, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fit, "losses", lambda *args: (torch.tensor(float("nan")), torch.tensor(0.0)))
    with pytest.raises(ValueError, match=r"the one: the loss is NaN or infinite in dtype float32: .*--rate"):
        train(tiny_vlm, Same(noise), plan(tiny_vlm, 2), tmp_path / "out")


# The command


def test_the_command_trains_on_a_file_and_on_scenes(
    tiny_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.jsonl", *[row(image=f"{i}.png") for i in range(4)])
    common = ["scorer", "--model", str(tiny_folder), "--batch", "2", "--device", "cpu"]
    assert main([*common, "--data", str(data), "--images", str(pictures), "--out", str(tmp_path / "file")]) == 0
    assert json.loads((tmp_path / "file" / "plan.json").read_text())["steps"] == 2  # one epoch
    assert json.loads((tmp_path / "file" / "plan.json").read_text())["digest"] == FileRecords(data, pictures).digest
    other = ["--data", str(write(data, *[row(image=f"{i}.png", answer="blue") for i in range(4)]))]
    assert main([*common, *other, "--images", str(pictures), "--out", str(tmp_path / "file"), "--resume"]) == 2
    assert "was begun with other settings (digest " in capsys.readouterr().err
    told = json.loads((tmp_path / "file" / "plan.json").read_text())
    (tmp_path / "file" / "plan.json").write_text(json.dumps({name: told[name] for name in told if name != "digest"}))
    assert main([*common, *other, "--images", str(pictures), "--out", str(tmp_path / "file"), "--resume"]) == 0
    assert main([*common, "--steps", "1", "--held-out", "2", "--out", str(tmp_path / "drawn")]) == 0
    assert json.loads((tmp_path / "drawn" / "curve.jsonl").read_text())["held_out"] in (0.0, 0.5, 1.0)
    assert load_scorer(Run(tmp_path / "file").modules[2], 48)
    for folder in ("file", "drawn"):
        assert "scorer" in load(tiny_folder, scorer=str(tmp_path / folder)).signals


def test_the_command_says_what_is_wrong(tiny_folder: Path, tmp_path: Path, capsys) -> None:
    common = ["scorer", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path / "out")]
    for more, reason in (
        (["--data", str(write(tmp_path / "bad.jsonl", "{"))], "line 1: it is not JSON"),
        (["--batch", "0"], "batch 0"),
        (["--budget", "1.5"], "budget 1.5"),
    ):
        assert main([*common, *more]) == 2
        assert reason in capsys.readouterr().err
    assert main(["scorer", "--model", str(tmp_path / "absent")]) == 2
    assert not (tmp_path / "out").exists()


def test_without_a_model_the_shipped_scorer_is_trained(tmp_path: Path, monkeypatch) -> None:
    given = []
    monkeypatch.setattr("pruning.training.scorer.train", lambda *args, worlds: given.append((*args, worlds)))
    assert main(["scorer", "--folder", str(tmp_path), "--device", "cpu"]) == 0
    assert given == [(tmp_path, 400, torch.device("cpu"), ("scenes", "charts", "documents", "interfaces"))]
