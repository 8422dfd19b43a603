"""A model's own world: held-out pictures are inside, photographs and unknown words outside; damage of its files."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app.examples import EXAMPLES
from pruning.images import open_image
from pruning.models import SHIPPED, VLM, InWorld, ModelError, in_world, load
from pruning.models import world as worlds
from pruning.models.look import NUMBERS, look
from pruning.models.world import SETTINGS, WEIGHTS, World, unknown_words
from pruning.rgb import as_rgb
from pruning.scenes.render import HELD_OUT, render
from pruning.training import world as build
from pruning.training.__main__ import main
from pruning.training.shipped import new_tokenizer

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
KNOWN, UNKNOWN = "what color is the star?", "what animal is this?"


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load()


@pytest.fixture(scope="module")
def photograph() -> Callable[[str], Image.Image]:
    """photograph(name) -> one of those that the package scikit-image brings along."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        pytest.skip("scikit-image is not installed: pip install -r requirements-dev.txt")
    folder = Path(next(iter(package.submodule_search_locations))) / "data"
    return lambda name: as_rgb(Image.open(folder / name))[0]


def scene(seed: int, height: int = 448, width: int = 448) -> Image.Image:
    return Image.fromarray(render(HELD_OUT + seed, height, width).image)


def verdict(vlm: VLM, picture: Image.Image, question: str = KNOWN) -> InWorld:
    return in_world(vlm, vlm.encode([picture]), question)


def strangeness(vlm: VLM, picture: Image.Image) -> float:
    assert vlm.world is not None
    return vlm.world.strangeness([picture])


# Pictures


def test_held_out_scenes_are_inside(vlm: VLM) -> None:
    sizes = ((448, 448), (336, 448), (336, 336), (224, 224), (560, 392))
    found = [strangeness(vlm, scene(i, *sizes[i % len(sizes)])) for i in range(150)]
    assert sum(value <= 1 for value in found) >= 149


def test_scenes_are_inside_as_people_send_them(vlm: VLM) -> None:
    found = [strangeness(vlm, build.picture("scenes", i, first=HELD_OUT)) for i in range(100)]
    assert sum(value <= 1 for value in found) >= 98


def test_the_examples_and_their_questions_are_inside(vlm: VLM) -> None:
    for example in EXAMPLES:
        encoded = vlm.encode([open_image(example.path)])
        for question in example.questions:
            found = in_world(vlm, encoded, question)
            assert found == InWorld(), (example.title, question)
            assert found.inside


def test_photographs_are_outside(vlm: VLM, photograph) -> None:
    inside = [name for name in PHOTOGRAPHS if strangeness(vlm, photograph(name)) <= 1]
    assert len(inside) <= 0.1 * len(PHOTOGRAPHS), inside
    found = verdict(vlm, photograph("chelsea.png"))
    assert (found.inside, found.strange, found.unknown) == (False, True, ())
    assert found.reason == "the model knows drawn scenes alone, and this picture is none of them"


def test_half_a_photograph_is_mostly_outside(vlm: VLM, photograph) -> None:
    names = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "rocket.jpg")
    halves = [(name, seed) for name in names for seed in range(3)]
    inside = []
    for name, seed in halves:
        half = scene(seed)
        half.paste(photograph(name).resize((448, 448)).crop((0, 0, 224, 448)), (0, 0))
        inside += [(name, seed)] * (strangeness(vlm, half) <= 1)
    assert len(inside) <= 0.2 * len(halves), inside


def test_one_photograph_among_scenes_is_outside(vlm: VLM, photograph) -> None:
    encoded = vlm.encode([scene(0), photograph("coffee.png"), scene(1)])
    assert in_world(vlm, encoded, KNOWN).strange
    assert not in_world(vlm, vlm.encode([scene(0), scene(1)]), KNOWN).strange


@pytest.mark.parametrize("color", ["white", "black", "grey", "red"])
def test_an_empty_picture_is_outside(vlm: VLM, color: str) -> None:
    assert verdict(vlm, Image.new("RGB", (400, 300), color)).strange


def test_a_scan_without_text_is_outside(vlm: VLM) -> None:
    paper = np.random.default_rng(0).normal(246, 2, (600, 420, 1)).repeat(3, 2).clip(0, 255).astype(np.uint8)
    assert verdict(vlm, Image.fromarray(paper)).strange


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (13, 13), (4000, 30), (3000, 2000)])
def test_pictures_of_any_size_are_compared(size: tuple[int, int]) -> None:
    numbers = look(Image.new("RGB", size, "teal"))
    assert numbers.shape == (NUMBERS,)
    assert np.isfinite(numbers).all()


# Questions


def test_unknown_words_are_outside_and_named(vlm: VLM) -> None:
    found = verdict(vlm, scene(0), UNKNOWN)
    assert (found.inside, found.strange, found.unknown) == (False, False, ("animal", "this"))
    assert found.reason == "the model does not know the words animal, this"


@pytest.mark.parametrize("question", ["какого цвета звезда?", "星は何色ですか？", "ما لون النجمة؟", "🐈?"])
def test_another_script_is_outside(vlm: VLM, question: str) -> None:
    assert verdict(vlm, scene(0), question).unknown


def test_many_unknown_words_are_counted(vlm: VLM) -> None:
    found = verdict(vlm, scene(0), " ".join(f"word{i}" for i in range(40)))
    assert len(found.unknown) == 40
    assert found.reason.endswith("word5 and 34 more")


def test_forty_questions_in_a_row_leave_nothing_behind(vlm: VLM) -> None:
    encoded = vlm.encode([scene(0)])
    for i in range(40):
        assert in_world(vlm, encoded, f"what is the gnu{i}?").unknown == (f"gnu{i}",)
        assert in_world(vlm, encoded, KNOWN).inside


def test_both_reasons_are_given(vlm: VLM) -> None:
    found = verdict(vlm, Image.new("RGB", (300, 300), "white"), UNKNOWN)
    assert found.reason.startswith(
        "the model knows drawn scenes alone, and this picture is none of them and the model does not know"
    )


def speller(*frames: str) -> Any:
    """As much of a model as is asked: its tokenizer spells what it has no word for, its world these questions."""
    empty = torch.zeros(0)
    return SimpleNamespace(tokenizer=new_tokenizer(), world=World("pages", empty, empty, empty, 1.0, frozenset(frames)))


def test_spelled_words_are_unknown_but_where_the_world_has_them() -> None:
    vlm = speller("in which line is _")
    assert unknown_words(vlm, "what animal is this?") == ("animal", "this")
    assert unknown_words(vlm, "What is the value of B?") == ()
    assert unknown_words(vlm, "which item costs 3.50?") == ()  # numbers are always spelled
    assert unknown_words(vlm, "in which line is kodiru?") == ()
    assert unknown_words(vlm, "in which drawer is kodiru?") == ("drawer", "kodiru")
    assert unknown_words(vlm, "星?") == ("星",)


def test_without_a_world_only_what_the_tokenizer_lacks_is_unknown() -> None:
    vlm = speller()
    vlm.world = None
    assert unknown_words(vlm, "what animal is this? 星") == ("星",)


# Files


def test_a_model_without_a_world_claims_nothing(tiny_vlm: VLM, noise) -> None:
    encoded = tiny_vlm.encode([noise(90, 60)])
    assert encoded.strangeness == 0
    assert in_world(tiny_vlm, encoded, "what is a xylophone?") == InWorld()


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint with the shipped model's world."""
    made = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    for name in (WEIGHTS, SETTINGS):
        shutil.copy(SHIPPED / name, made / name)
    return made


def test_it_is_small_and_loaded_with_its_checkpoint(folder: Path, vlm: VLM) -> None:
    assert sum((SHIPPED / name).stat().st_size for name in (WEIGHTS, SETTINGS)) < 600_000
    loaded = load(folder)
    assert loaded.world is not None
    assert vlm.world is not None
    assert torch.equal(loaded.world.pictures, vlm.world.pictures)
    assert loaded.encode([scene(0)]).strangeness == pytest.approx(strangeness(vlm, scene(0)))


@pytest.mark.parametrize(("lost", "kept"), [(WEIGHTS, SETTINGS), (SETTINGS, WEIGHTS)])
def test_one_file_without_the_other(lost: str, kept: str, folder: Path) -> None:
    (folder / lost).unlink()
    with pytest.raises(ModelError, match=f"has {kept} but no {lost}: copy it from the same release, or remove"):
        load(folder)


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[1]", "{}", '{"name": "x", "farthest": 0.0, "frames": []}',
     '{"name": "x", "farthest": "1", "frames": []}', '{"name": "x", "farthest": 1.0, "frames": [1]}'],
)  # fmt: skip
def test_damaged_settings(text: str, folder: Path) -> None:
    (folder / SETTINGS).write_text(text)
    with pytest.raises(ModelError, match=rf"{SETTINGS}, what it knows of its own world, cannot be read"):
        load(folder)


def broken(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "a tensor is missing": {name: tensors[name] for name in ("center", "axes")},
        "a tensor too many": {**tensors, "more": torch.zeros(1)},
        "another width": {**tensors, "pictures": torch.zeros(9, 3)},
        "no pictures": {**tensors, "pictures": tensors["pictures"][:2]},
        "not finite": {**tensors, "center": tensors["center"] * float("nan")},
    }


@pytest.mark.parametrize("how", [*broken(dict.fromkeys(("center", "axes", "pictures"), torch.zeros(3))), "cut off"])
def test_damaged_tensors(how: str, folder: Path) -> None:
    if how == "cut off":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    else:
        save_file(broken(load_file(folder / WEIGHTS))[how], folder / WEIGHTS)
    with pytest.raises(ModelError, match=rf"{WEIGHTS}, what it knows of its own world, cannot be read"):
        load(folder)


# The command


def test_the_command_writes_the_same_world_again(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    command = ["world", "--model", str(folder), "--worlds", "scenes", "documents", "--pictures", "20"]
    assert main(command) == 0
    first = {name: (folder / name).read_bytes() for name in (WEIGHTS, SETTINGS)}
    assert main(command) == 0
    assert {name: (folder / name).read_bytes() for name in (WEIGHTS, SETTINGS)} == first
    found = worlds.beside(folder)
    assert found is not None
    assert (found.name, len(found.pictures)) == ("drawn scenes and documents", 20)
    assert json.loads(first[SETTINGS])["farthest"] == found.farthest
    assert load(folder).encode([scene(0)]).strangeness > 0


def test_the_command_refuses_what_it_cannot_do(tiny_folder: Path, tmp_path: Path, capsys) -> None:
    assert main(["world", "--model", str(tiny_folder), "--pictures", "3"]) == 2
    assert "3 pictures of each world are too few: at least 20" in capsys.readouterr().err
    assert main(["world", "--model", str(tmp_path)]) == 2
    assert "is no checkpoint" in capsys.readouterr().err


def test_held_out_pictures_set_the_distance(tiny_folder: Path) -> None:
    found = build.build(tiny_folder, ["scenes"], 40)
    looks = torch.stack([torch.from_numpy(look(build.picture("scenes", i))) for i in range(1, 40, 2)])
    distances = found.distances(looks)
    assert float(distances.quantile(build.INSIDE)) == pytest.approx(1, abs=1e-3)
