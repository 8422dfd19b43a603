"""Where every family's tokens lie: rectangles without overlap, and what happens to features when pixels change."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pruning.grids import Grid
from pruning.models import VLM, Encoded, load
from pruning.models.families.geometry import centre_crop_box, part_of, shortest_edge, square_box
from tests.checkpoints.llava import tiny_llava

SIZES = [(300, 90), (60, 200), (7, 9), (128, 128), (168, 112)]
CROPPED = ("llava", "vipllava")  # the square in the middle is all that they see
BLUR = 6  # pixels around a change that resizing may carry it to


def part(encoded: Encoded, grid: Grid) -> slice:
    return slice(grid.start, grid.stop)


def areas(rects: np.ndarray) -> np.ndarray:
    return (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])


def moved(vlm: VLM, before: Encoded, *images: Image.Image) -> torch.Tensor:
    """(N,) how far each token's feature is from what it was."""
    return (vlm.encode(images).tokens.features - before.tokens.features).norm(dim=1)


def painted(image: Image.Image, box, colour: str = "red") -> Image.Image:
    """With the whole pixels inside a box painted."""
    (x0, y0), (x1, y1) = np.ceil(box[:2]).astype(int).tolist(), np.floor(box[2:]).astype(int).tolist()
    changed = image.copy()
    changed.paste(colour, (x0, y0, x1, y1))
    return changed


@pytest.mark.parametrize("size", SIZES)
def test_rectangles_do_not_overlap_within_a_grid_and_cover_what_is_seen(any_vlm: VLM, noise, size) -> None:
    encoded, (width, height) = any_vlm.encode([noise(*size)]), size
    covered = np.zeros((height * 4, width * 4), bool)  # quarter pixels
    assert encoded.rects.shape == (encoded.tokens.n, 4)
    assert (encoded.rects >= 0).all()
    assert (encoded.rects <= [*size, *size]).all()
    for grid in encoded.tokens.grids:
        rects = encoded.rects[part(encoded, grid)]
        whole = [*rects[:, :2].min(0), *rects[:, 2:].max(0)]
        np.testing.assert_allclose(areas(rects).sum(), areas(np.array([whole]))[0], rtol=1e-4)
        x0, y0, x1, y1 = (np.array(whole) * 4).round().astype(int)
        covered[y0:y1, x0:x1] = True
        cells = rects.reshape(grid.gh, grid.gw, 4)  # raster order
        assert (np.diff(cells[:, :, 0], axis=1) >= 0).all()
        assert (np.diff(cells[:, :, 1], axis=0) >= 0).all()
        assert (cells[0, :, 1] == cells[0, 0, 1]).all()
        assert (cells[:, 0, 0] == cells[0, 0, 0]).all()
    if any_vlm.config.model_type in CROPPED:
        assert covered.mean() == pytest.approx(min(size) / max(size), abs=0.01)
    else:
        assert covered.mean() > 0.88  # some towers drop pixels that no patch fits into


@pytest.mark.parametrize("size", SIZES)
def test_what_no_token_covers_is_not_seen(any_vlm: VLM, noise, size) -> None:
    image, (width, height) = noise(*size), size
    before = any_vlm.encode([image])
    covered = np.zeros((height, width), np.uint8)
    for rect in before.rects[areas(before.rects) > 0]:
        x0, y0 = np.floor(rect[:2]).astype(int)
        x1, y1 = np.ceil(rect[2:]).astype(int)
        covered[y0:y1, x0:x1] = 1
    unseen = cv2.dilate(covered, np.ones((2 * BLUR + 1, 2 * BLUR + 1), np.uint8)) == 0
    assert unseen.any() == (any_vlm.config.model_type in CROPPED and max(size) - min(size) > 3 * BLUR)
    pixels = np.asarray(image).copy()
    pixels[unseen] = 255 - pixels[unseen]
    assert float(moved(any_vlm, before, Image.fromarray(pixels)).max()) < 1e-4


@pytest.mark.parametrize("size", [(300, 90), (60, 200), (128, 128), (168, 112)])
def test_a_token_sees_its_own_rectangle(any_vlm: VLM, size) -> None:
    """Paint what lies under one rectangle: among the tokens of its grid that one changes most.

    Where a raster was scaled down, its cells are mixed from patches of two tiles: a neighbour may change more.
    """
    blank = Image.new("RGB", size, "grey")
    before = any_vlm.encode([blank])
    for grid in before.tokens.grids:
        rects = before.rects[part(before, grid)]
        visible = np.flatnonzero(areas(rects) > 0.6 * areas(rects).max())
        for token in visible[:: max(1, len(visible) // 3)].tolist():
            found = int(moved(any_vlm, before, painted(blank, rects[token]))[part(before, grid)].argmax())
            apart = max(abs(found // grid.gw - token // grid.gw), abs(found % grid.gw - token % grid.gw))
            mixed = grid.role == "tile" and (grid.gh, grid.gw) > (4, 4) and "llava" in any_vlm.config.model_type
            assert apart <= int(mixed), (grid, token, found)


def test_of_a_tiny_image_the_tokens_of_a_painted_half_change_most(any_vlm: VLM) -> None:
    """Seen in the values of the first layer, where no patch has seen another yet."""
    name, blank = "vision_values@0", Image.new("RGB", (7, 9), "grey")
    before = any_vlm.encode([blank], frozenset({name}))
    centre = (before.rects[:, 0] + before.rects[:, 2]) / 2
    for box, near, far in (((0, 0, 3, 9), centre < 2, centre > 5), ((4, 0, 7, 9), centre > 5, centre < 2)):
        after = any_vlm.encode([painted(blank, box)], frozenset({name})).tokens.signal(name)
        distance = (after - before.tokens.signal(name)).flatten(1).norm(dim=1).numpy()
        there = areas(before.rects) > 0
        assert distance[there & near].mean() > 1.5 * distance[there & far].mean()  # enlarging makes edges ring


def test_images_of_one_question_do_not_see_each_other(any_vlm: VLM, noise) -> None:
    images = [noise(70, 100), noise(64, 40, seed=1), noise(40, 90, seed=2)]
    before = any_vlm.encode(images)
    assert [size for size in before.sizes] == [image.size for image in images]
    owners = torch.tensor([grid.image for grid in before.tokens.grids for _ in range(grid.count)])
    assert owners.unique().tolist() == [0, 1, 2]
    assert owners.tolist() == sorted(owners.tolist())
    for changed in range(3):
        others = [image if i != changed else painted(image, (0, 0, *image.size)) for i, image in enumerate(images)]
        distance = moved(any_vlm, before, *others)
        assert float(distance[owners == changed].min()) > 0.01
        assert float(distance[owners != changed].max()) < 1e-3
    for grid in before.tokens.grids:
        limits = before.sizes[grid.image]
        assert (before.rects[part(before, grid)] <= [*limits, *limits]).all()


# LLaVA's image processors


@pytest.mark.parametrize("size", [(301, 90), (60, 200), (41, 40), (128, 128)])
def test_padding_processors_show_the_image_within_a_square(tmp_path_factory, size) -> None:
    vlm = load(tiny_llava(tmp_path_factory.mktemp("models") / "padded", pad=True))
    blank = Image.new("RGB", size, "grey")
    before = vlm.encode([blank])
    (grid,) = before.tokens.grids
    visible = areas(before.rects) > 0.6 * areas(before.rects).max()
    np.testing.assert_allclose(before.rects[:, :2].min(0), 0)
    np.testing.assert_allclose(before.rects[:, 2:].max(0), size)
    padding = areas(before.rects) == 0
    assert padding.sum() == (5 * 2 if size == (60, 200) else 5 * 2 if size == (301, 90) else 0)
    for token in np.flatnonzero(visible)[::4].tolist():
        assert int(moved(vlm, before, painted(blank, before.rects[token])).argmax()) == token
    assert (grid.gh, grid.gw) == (5, 5)


def test_boxes_by_hand() -> None:
    assert shortest_edge(300, 200, 100) == (150, 100)
    assert shortest_edge(200, 301, 100) == (100, 150)
    assert centre_crop_box((150, 100), (100, 100)) == pytest.approx((25 / 150, 0, 125 / 150, 1))
    assert centre_crop_box((10, 10), (14, 14)) == pytest.approx((-0.2, -0.2, 1.2, 1.2))
    assert square_box(40, 20) == (0, -0.5, 1, 1.5)
    assert part_of((0, -0.5, 1, 1.5), (0.25, 0.25, 0.75, 0.75)) == (0.25, 0, 0.75, 1)


# Tiles of LLaVA-NeXT and LLaVA-OneVision


def test_tiles_are_told_one_by_one_though_rows_run_across_them(tiny, noise) -> None:
    vlm = tiny("llava-next")
    encoded = vlm.encode([noise(90, 60)])
    roles = [(grid.role, grid.gh, grid.gw) for grid in encoded.tokens.grids]
    assert roles == [("thumbnail", 4, 4), *[("tile", 3, 4)] * 4]
    lines = encoded.places[16:].view(4, 3, 4) - 16  # what follows the thumbnail: 6 lines of 8 tokens and a newline
    for tile, (top, left) in enumerate([(0, 0), (0, 4), (3, 0), (3, 4)]):
        expected = [[(top + y) * 9 + left + x for x in range(4)] for y in range(3)]
        assert lines[tile].tolist() == expected
    newline = vlm.model.model.image_newline
    torch.testing.assert_close(encoded.marks, newline.expand(6, -1))


def test_rectangles_of_tiles_are_exact_to_the_padding(tiny, noise) -> None:
    """A picture of 200 × 60 lies 10 pixels high, from pixel 11, on a canvas of 96 × 32; nothing of it is dropped."""
    vlm = tiny("llava-next")
    encoded = vlm.encode([noise(200, 60)])
    assert [grid.role for grid in encoded.tokens.grids] == ["thumbnail", "tile", "tile", "tile"]
    tile = encoded.tokens.grids[1]
    assert tile.box == (0, -1 / 29, 1 / 3, 31 / 29)


def test_scaled_down_rasters_are_one_grid(tiny, noise) -> None:
    vlm = tiny("llava-onevision")
    encoded = vlm.encode([noise(102, 102)])
    assert [(grid.role, grid.gh, grid.gw) for grid in encoded.tokens.grids] == [("thumbnail", 4, 4), ("tile", 8, 8)]
    assert len(encoded.marks) == 8
    assert encoded.tokens.grids[1].box == (0, 0, 100 / 102, 100 / 102)


def test_several_images_of_onevision_are_padded_and_not_cut(tiny, noise) -> None:
    vlm = tiny("llava-onevision")
    encoded = vlm.encode([noise(40, 20), noise(102, 102)])
    assert [(grid.role, grid.count, grid.image) for grid in encoded.tokens.grids] == [
        ("whole", 16, 0),
        ("whole", 16, 1),
    ]
    assert encoded.tokens.grids[0].box == pytest.approx((0, -0.5, 32 / 34, -0.5 + 2 * 32 / 34))
    assert len(encoded.marks) == 2


def test_an_image_too_thin_for_its_canvas_keeps_its_thumbnail(tiny, noise) -> None:
    encoded = tiny("llava-next").encode([noise(400, 3)])
    assert [grid.role for grid in encoded.tokens.grids] == ["thumbnail"]


@pytest.mark.parametrize("family", ["llava-next", "llava-onevision"])
def test_large_images_are_scaled_down_to_the_limit(tiny, noise, family: str) -> None:
    vlm = tiny(family)
    image = noise(200, 190)
    free = vlm.family.preprocess([image], 4096)
    tight = vlm.family.preprocess([image], 60)
    assert sum(free.counts) > 60 >= sum(tight.counts)
    assert tight.sizes == free.sizes == ((200, 190),)
    grids, places = vlm.family.layout(tight)
    assert grids[-1].stop == len(places)
    assert max(places.tolist()) < sum(tight.counts)
    assert sum(vlm.family.preprocess([image], 1).counts) <= 40  # one tile's worth beside the thumbnail, never less


@pytest.mark.parametrize("size", [(10, 2000), (2000, 10), (7, 1400)])
@pytest.mark.parametrize("images", [1, 2])
def test_an_aspect_ratio_that_is_allowed_stays_so_when_pictures_are_scaled(any_vlm: VLM, size, images: int) -> None:
    encoded = any_vlm.encode([Image.new("RGB", size)] * images)
    assert encoded.sizes == (size,) * images


def test_a_strip_is_scaled_down_before_it_is_padded_to_a_square(tmp_path, tiny) -> None:
    """57,800 × 57,800 pixels would be 9 GiB."""
    strip = Image.new("RGB", (290, 57_800))
    for vlm, images in ((load(tiny_llava(tmp_path / "padded", pad=True)), 1), (tiny("llava-onevision"), 2)):
        given = vlm.family.fitted(strip, images, vlm.max_visual_tokens)
        assert max(given.size) ** 2 <= 1 << 24
        assert vlm.encode([strip] * images).sizes == (strip.size,) * images
