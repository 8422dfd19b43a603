"""The shipped model's stages: the fast passes equal the library's, a stopped run goes on where it was."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pruning.models import load
from pruning.scenes import HELD_OUT, render
from pruning.scenes.drawn import MARK_ROLES, TEXT_ROLES
from pruning.scenes.questions import Question
from pruning.scenes.words import CHARACTERS, WORLD_WORDS
from pruning.scenes.worlds import WORLDS
from pruning.training import __main__ as command_line
from pruning.training import asking, data, export, joint, language, loop, pictures, scorer, tower, vision
from pruning.training.data import dense_batch, shared_out
from pruning.training.labels import AT, SLOTS, labels
from pruning.training.shipped import PIECES, new_model, new_tokenizer, save_model
from pruning.training.vision import new_heads


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return new_model().eval()


def test_the_fast_tower_is_the_library_s(model: nn.Module, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    vlm = load(tmp_path)
    image = render(3, 224, 336).image
    with torch.no_grad():
        fast = tower.encode(model.model.visual, tower.windows(torch.from_numpy(image)[None]), 8, 12)[0]
    torch.testing.assert_close(fast, vlm.encode([Image.fromarray(image)]).tokens.features, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["scenes", "documents"])
@pytest.mark.parametrize("kept", [None, torch.tensor([0, 5, 17, 40, 95])])
def test_the_fast_decoder_is_the_library_s(
    model: nn.Module, tmp_path: Path, kept: torch.Tensor | None, world: str
) -> None:
    save_model(model, tmp_path)
    vlm = load(tmp_path)
    picture = WORLDS[world].draw(8, 224, 336)
    encoded = vlm.encode([Image.fromarray(picture.image)])
    asked = asking.ask_all([picture], WORLDS[world], np.random.default_rng(0), 5, reworded=0.5)
    with torch.no_grad():
        seen, rows = encoded.tokens.features[None], None if kept is None else kept[None]
        fast = asking.answer(model, seen, asked, 8, 12, rows)[0]
    for q in range(5):
        said = int(asked.said[0, q])
        ids = asked.ids[0, q][asked.real[0, q]].tolist()
        text = vlm.tokenizer.decode(ids[1 : -said - 3])
        (slow,) = vlm.logprobs(encoded, text, [*ids[-said:], asking.END], [kept])
        torch.testing.assert_close(fast[q, -said - 1 :].log_softmax(-1), slow, atol=1e-4, rtol=1e-4)
    assert world == "scenes" or asked.said.max() > 2, "some answer is spelled"


def test_the_tokenizer_spells_what_is_no_word(tmp_path: Path) -> None:
    tokenizer = new_tokenizer()
    for text, parts in {
        "what is the total?": ["what", "is", "the", "total", "?"],
        "12.50": ["1", "##2", "##.", "##5", "##0"],
        "Vupuz 85-1881": ["v", "##u", "##p", "##u", "##z", "8", "##5", "##-", "##1", "##8", "##8", "##1"],
        "35%": ["3", "##5", "##%"],
    }.items():
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert [PIECES[i] for i in ids] == parts
        assert list(asking.pieces(text)) == ids
        assert tokenizer.decode(ids) == text.lower().replace("?", " ?")
    tokens, said = asking.tokenise(Question("what is the tax?", "0.22", "value"))
    assert [PIECES[i] for i in tokens[-said - 1 :]] == ["assistant", "0", "##.", "##2", "##2"]
    assert set(CHARACTERS) | {f"##{c}" for c in CHARACTERS} <= set(PIECES)


def test_an_answer_is_right_when_every_token_of_it_is() -> None:
    picture = WORLDS["documents"].draw(1, 224, 224)
    asked = asking.ask_all([picture], WORLDS["documents"], np.random.default_rng(3), 8)
    wanted, weight = asked.targets()
    assert ((weight > 0).sum(-1) == asked.said + 1).all()
    logits = nn.functional.one_hot(wanted, len(PIECES)).float() * 20
    assert asking.answer_loss(logits, asked)[1].all()
    for place in range(asked.last):
        wrong = logits.clone()
        wrong[:, :, place] = 0
        wrong[:, :, place, asking.IDS["<unk>"]] = 20
        assert torch.equal(asking.answer_loss(wrong, asked)[1], weight[..., place] == 0)


def test_scene_labels_name_what_is_under_a_token() -> None:
    scene = render(2, 336, 336)
    found = labels(scene)
    assert found.shape == (144, len(AT))
    assert found[:, AT["center"]].sum() == len(scene.objects)
    ground = (scene.owner == 0).reshape(12, 28, 12, 28).all((1, 3)).ravel() & (found[:, AT["center"]] == 0)
    assert (found[ground, :2] == 0).all()
    assert ground.any()


@pytest.mark.parametrize("world", ["charts", "documents", "interfaces"])
def test_drawn_labels_spell_what_is_written_under_a_token(world: str) -> None:
    """Every character is in the label of its token, in order, where it is among the first ones."""
    for seed in range(8):
        picture = WORLDS[world].draw(seed, 336, 224)
        found = labels(picture)
        assert found.shape == (96, len(AT))
        glyphs = found[:, [AT[f"glyph{i}"] for i in range(SLOTS)]]
        for writing in picture.writings:
            for char, (x, y) in zip(writing.text.lower(), writing.centers, strict=True):
                if 0 <= x < 224 and 0 <= y < 336:
                    cell = int(y // 28) * 8 + int(x // 28)
                    assert CHARACTERS.index(char) + 1 in glyphs[cell] or (glyphs[cell] > 0).all()
                    assert found[cell, AT["role"]] > 0
        assert len({int(v) for v in found[:, AT["role"]]} - {0}) <= len(TEXT_ROLES)
        for mark in picture.marks:
            x, y = (mark.box[0] + mark.box[2]) / 2, (mark.box[1] + mark.box[3]) / 2
            cell = min(max(int(y // 28), 0), 11) * 8 + min(max(int(x // 28), 0), 7)
            assert found[cell, AT["mark"]] > 0
        if picture.marks:
            roles = {MARK_ROLES.index(mark.role) + 1 for mark in picture.marks}
            assert set(found[:, AT["mark"]].tolist()) - {0} <= roles
        of = {WORLD_WORDS[i - 1] for i in found[:, AT["of"]].tolist() if i}
        assert of <= {thing.of for thing in (*picture.writings, *picture.marks)}


def test_a_batch_shares_its_pictures_out() -> None:
    worlds = tuple(data.SHARES)
    shared = shared_out(28, worlds)
    assert {world: shared.count(world) for world in worlds} == {
        "scenes": 6, "charts": 8, "documents": 8, "interfaces": 6
    }  # fmt: skip
    assert shared_out(3, ("charts",)) == ["charts"] * 3


def test_a_step_is_always_the_same_batch() -> None:
    sizes = ((224, 224, 5),)
    for one, two in zip(dense_batch(4, sizes), dense_batch(4, sizes), strict=True):
        assert torch.equal(one, two)


def test_muon_updates_are_orthogonal() -> None:
    weight = nn.Parameter(torch.zeros(8, 5))
    weight.grad = torch.randn(8, 5)
    loop.Muon([weight], lr=1.0, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(weight.detach()) / (0.2 * 8**0.5)
    assert singular.min() > 0.5
    assert singular.max() < 1.4


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    part, file = nn.Linear(3, 3), tmp_path / "part.pt"
    opts = loop.optimizers([part], 0.1)
    part(torch.ones(3)).sum().backward()
    for opt in opts:
        opt.step()
    loop.save(file, 7, {"part": part}, opts)
    fresh = nn.Linear(3, 3)
    fresh_opts = loop.optimizers([fresh], 0.1)
    assert loop.restore(file, {"part": fresh}, fresh_opts) == 7
    for p, q in zip(part.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)
    for opt, again in zip(opts, fresh_opts, strict=True):
        for p, q in zip(opt.state.values(), again.state.values(), strict=True):
            assert all(torch.equal(torch.as_tensor(p[k]), torch.as_tensor(q[k])) for k in p)
    assert loop.restore(tmp_path / "none.pt", {"part": fresh}) == 0


@pytest.mark.parametrize("has", [True, False])
def test_products_are_in_bfloat16_only_where_the_processor_has_them(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that emulates them takes some 50 times as long as in float32."""
    monkeypatch.setattr(loop, "multiplies_in_bfloat16", lambda: has)
    weights = torch.randn(4, 4)
    with loop.mixed(torch.device("cpu")):
        assert (weights @ weights).dtype == (torch.bfloat16 if has else torch.float32)
    model, kept = new_model(), torch.arange(0, 64, 2)[None]
    asked = asking.ask_all([WORLDS["scenes"].draw(3, 224, 224)], WORLDS["scenes"], np.random.default_rng(0), 2)
    seen = torch.randn(1, 64, 256).bfloat16()  # as they are cached
    with loop.mixed(torch.device("cpu")):
        loss, _ = asking.answer_loss(asking.answer(model, seen, asked, 8, 8, kept), asked)
    loss.backward()
    assert loss.isfinite()


def test_the_sparse_stage_keeps_a_share_of_the_tokens_in_order() -> None:
    kept = language.mostly_things(new_heads(), torch.randn(3, 64, 256), 0.25, seed=1)
    assert kept.shape == (3, 16)
    assert (kept[:, 1:] > kept[:, :-1]).all()
    assert torch.equal(kept, kept.clone().clamp(0, 63))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of one or two steps on a handful of pictures, uncompiled and in this process."""
    small = ((224, 224, 3),)
    monkeypatch.setattr(vision.torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(vision, "dense_batch", functools.partial(dense_batch, sizes=((224, 224, 4),)))
    for module in (vision, joint, pictures):
        monkeypatch.setattr(module, "stream", lambda make, start, stop: map(make, range(start, stop)))
    for module in (pictures, language, joint):
        monkeypatch.setattr(module, "PICTURES", 3)
    for module in (language, scorer):
        monkeypatch.setattr(module, "CACHED", small)
    for module in (language, joint, scorer):
        monkeypatch.setattr(module, "PER_PICTURE", 4)
    monkeypatch.setattr(language, "VALIDATION", small)
    monkeypatch.setattr(joint, "SIZES", ((224, 224),))
    monkeypatch.setattr(vision, "HELD_OUT_PICTURES", 1)


@pytest.fixture
def shallow(tiny: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], nn.Module]:
    """Of the stages' model, two layers of the tower and two of the language model."""

    def made() -> nn.Module:
        model = new_model()
        model.model.language_model.layers = model.model.language_model.layers[:2]
        model.model.visual.blocks = model.model.visual.blocks[:2]
        return model

    for module in (vision, language, joint):
        monkeypatch.setattr(module, "new_model", made)
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_every_stage_runs_and_ends_in_a_model_that_loads(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    for train in (vision.train, language.train, joint.train, language.sparse, scorer.train):
        train(tmp_path, 1, cpu)
    export.export(tmp_path, tmp_path / "out")
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert size <= 30e6
    vlm = load(tmp_path / "out")
    assert "scorer" in vlm.signals
    image = Image.fromarray(WORLDS["documents"].draw(HELD_OUT, 224, 224).image)
    assert vlm.encode([image], frozenset({"scorer"})).tokens.signal("scorer").shape == (64,)
    assert 6 <= vlm.model.config.text_config.num_hidden_layers <= 8


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vision", "language", "joint"])
def test_a_run_that_stops_ends_where_one_that_does_not_ends(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch, shallow: Callable[[], nn.Module]
) -> None:
    """Bit for bit: batches, questions and rates are functions of the step."""
    cpu, worlds = torch.device("cpu"), ("documents",)
    train = {"vision": vision.train, "language": language.train, "joint": joint.train}[stage]
    update, steps = loop.update, iter(range(100))

    class StoppedError(Exception):
        pass

    def stop(parts, opts):  # type: ignore[no-untyped-def]
        update(parts, opts)
        if next(steps) == 0:
            raise StoppedError

    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        for done in ("vision", "language"):
            if stage != done and (stage, done) != ("vision", "language"):
                model = shallow().model
                parts = {"visual": model.visual, "language": model.language_model, "heads": new_heads()}
                loop.save(folder / f"{done}.pt", 1, parts, [])
    torch.manual_seed(0)
    train(one, 2, cpu, worlds=worlds)
    monkeypatch.setattr(loop, "update", stop)
    monkeypatch.setattr(loop.Keeper, "__init__", functools.partialmethod(loop.Keeper.__init__, every=1))
    torch.manual_seed(0)
    with pytest.raises(StoppedError):
        train(two, 2, cpu, worlds=worlds)
    torch.manual_seed(99)
    train(two, 2, cpu, worlds=worlds)
    for key, state in torch.load(one / f"{stage}.pt").items():
        if key not in ("step", "opts"):
            again = torch.load(two / f"{stage}.pt")[key]
            assert all(torch.equal(state[name], again[name]) for name in state), key


@pytest.mark.usefixtures("tiny")
def test_the_command_trains_on_the_worlds_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(vision, "train", lambda *given, **named: asked.append((given[:2], named)))
    folder = ["--folder", str(tmp_path)]
    assert command_line.main(["vision", "--steps", "2", "--worlds", "charts", "scenes", *folder]) == 0
    assert command_line.main(["vision", *folder]) == 0
    assert asked == [
        ((tmp_path, 2), {"worlds": ("charts", "scenes")}),
        ((tmp_path, command_line.STEPS["vision"]), {"worlds": tuple(WORLDS)}),
    ]
    with pytest.raises(SystemExit):
        command_line.main(["vision", "--worlds", "photographs", *folder])


@pytest.mark.usefixtures("tiny")
def test_a_packed_run_goes_on_elsewhere(tmp_path: Path) -> None:
    here, small, there = tmp_path / "here", tmp_path / "small", tmp_path / "there"
    vision.train(here, 1, torch.device("cpu"), worlds=("scenes",))
    language.train(here, 1, torch.device("cpu"), worlds=("scenes",))
    assert command_line.main(["pack", "--folder", str(here), "--out", str(small)]) == 0
    assert sum(file.stat().st_size for file in small.iterdir()) <= 30e6
    assert command_line.main(["unpack", "--packed", str(small), "--folder", str(there)]) == 0
    for stage, part in (("vision", "visual"), ("vision", "heads"), ("language", "language")):
        before, after = (torch.load(folder / f"{stage}.pt") for folder in (here, there))
        assert after["step"] == before["step"] == 1
        for name, value in before[part].items():
            torch.testing.assert_close(after[part][name], value, atol=1e-3, rtol=1e-3)
    vision.train(there, 2, torch.device("cpu"), worlds=("scenes",))
    assert torch.load(there / "vision.pt")["step"] == 2
    assert command_line.main(["unpack", "--packed", str(small), "--folder", str(there)]) == 2
    assert command_line.main(["unpack", "--packed", str(tmp_path), "--folder", str(tmp_path / "new")]) == 2
    assert command_line.main(["pack", "--folder", str(tmp_path), "--out", str(small)]) == 2


def test_export_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no trained model"):
        export.export(tmp_path, tmp_path / "out")
