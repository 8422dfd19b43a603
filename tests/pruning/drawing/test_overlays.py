"""Overlays against pixels, charts against the values they show."""

import dataclasses

import numpy as np
import pytest
import torch

from pruning.drawing import charts, paint
from pruning.drawing import overlays as draw
from pruning.drawing.palettes import LIGHT, PAGE
from pruning.evaluation.plane import PlanePoint
from pruning.tokens import Selection

SIZE, CELL = 80, 20  # 4 x 4 tokens
RECTS = np.array([[x, y, x + CELL, y + CELL] for y in range(0, SIZE, CELL) for x in range(0, SIZE, CELL)], np.float32)
SCENE = np.random.default_rng(0).integers(40, 216, (SIZE, SIZE, 3), dtype=np.uint8)
KEPT = [5, 0, 10]


def selection(order=KEPT, scores=None):
    return Selection(torch.tensor(order), 16, scores)


def inside(image, token):
    """The cell without its border of 4 pixels."""
    x0, y0, x1, y1 = RECTS[token].astype(int)
    return image[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].astype(float)


def test_dimmed_leaves_kept_pixels_and_takes_colour_and_light_from_the_others():
    shown = draw.overlay(SCENE, RECTS, selection())
    for token in range(16):
        before, after = inside(SCENE, token), inside(shown, token)
        if token in KEPT:
            assert (after == before).all()
        else:
            assert after.mean() < before.mean()
            assert np.ptp(after, axis=2).max() == 0  # grey


def test_the_later_a_token_leaves_the_more_of_it_is_seen():
    depths = np.zeros(16, np.float32)
    depths[KEPT], depths[[1, 2, 3]] = 1, (0.25, 0.5, 0.75)
    plain, shown = draw.overlay(SCENE, RECTS, selection()), draw.overlay(SCENE, RECTS, selection(), depths=depths)
    for token, depth in enumerate(depths.tolist()):
        share = {0: 0, 1: 1}.get(depth, paint.SEEN[0] + depth * (paint.SEEN[1] - paint.SEEN[0]))
        wanted = share * inside(SCENE, token) + (1 - share) * inside(plain, token)
        assert np.abs(inside(shown, token) - wanted).max() < 0.51


def test_the_shades_of_depth_are_told_in_words():
    words = draw.depth_words([0, 1, 1, 2, 4], 4)
    assert "leaves after layer 1, 32 %; after layer 2, 45 % of the colours is seen" in words
    assert "leaves" not in draw.depth_words([0, 4], 4)


def test_grid_outlines_every_kept_cell_and_keeps_its_inside():
    shown = draw.overlay(SCENE, RECTS, selection(), "grid")
    for token in KEPT:
        x0, y0, _, _ = RECTS[token].astype(int)
        assert tuple(shown[y0 + 10, x0]) == draw.KEPT
        assert (inside(shown, token) == inside(SCENE, token)).all()
    assert inside(shown, 3).mean() > inside(SCENE, 3).mean()


def test_heat_follows_the_scores_and_constant_scores_are_one_colour():
    grey = np.full_like(SCENE, 128)
    rising = draw.overlay(grey, RECTS, selection(scores=torch.arange(16.0)), "heat")
    low, high = inside(rising, 0).mean((0, 1)), inside(rising, 15).mean((0, 1))
    assert low[1] < 70
    assert high[1] > 160  # viridis: green rises from dark violet to yellow
    flat = draw.overlay(grey, RECTS, selection(scores=torch.ones(16)), "heat")
    assert np.ptp([inside(flat, t).mean((0, 1)) for t in range(16)], axis=0).max() == 0


def test_order_paints_the_first_pick_brightest():
    shown = draw.overlay(np.full_like(SCENE, 128), RECTS, selection(list(range(16))), "order")
    corners = RECTS[:, :2].astype(int) + 2  # beside the number
    greens = [int(shown[y, x, 1]) for x, y in corners]
    assert greens == sorted(greens, reverse=True)


INTO = [0, 0, -1, 5, 0, 5, -1, 5, -1, -1, 10, -1, -1, -1, -1, 5]  # 0 took 1 and 4; 5 took 3, 7 and 15; 10 nothing


def merging(order=KEPT, into=INTO):
    return Selection(torch.tensor(order), len(into), None, torch.tensor(into), torch.zeros(len(order), 1))


def corner(image, token):
    """Just inside the frame and beside the number: (5, 5) pixels of the cell."""
    x0, y0, _, _ = RECTS[token].astype(int)
    return image[y0 + 3 : y0 + 8, x0 + 3 : x0 + 5].astype(float).mean((0, 1))


def hue_of(colour, pixel):
    """Whether a pixel's colour, without its grey, points to where the given one does."""
    wanted, found = (np.array(value, float) - np.mean(value) for value in (colour, pixel))
    return wanted @ found / np.linalg.norm(wanted) / np.linalg.norm(found) > 0.99


def test_merged_tints_what_went_into_a_token_in_the_colour_of_its_frame():
    grey = np.full_like(SCENE, 128)
    shown = draw.overlay(grey, RECTS, merging(), "merged")
    first, second = paint.GROUPS[:2]  # in pick order: 5, then 0
    for colour, home, members in ((first, 5, (3, 7, 15)), (second, 0, (1, 4))):
        x0, y0, _, _ = RECTS[home].astype(int)
        assert tuple(shown[y0 + 10, x0 + 1]) == colour
        assert all(hue_of(colour, corner(shown, token)) for token in members)
    for dropped in (2, 6, 9, 14):
        assert np.ptp(inside(shown, dropped), axis=2).max() == 0
        assert inside(shown, dropped).mean() < 128


def test_merged_leaves_what_is_kept_as_it_is_but_for_the_number_of_what_absorbed():
    shown = draw.overlay(SCENE, RECTS, merging(), "merged")
    assert (inside(shown, 10) == inside(SCENE, 10)).all(), "10 absorbed nothing: no number"
    assert tuple(shown[40, 50]) == draw.KEPT
    for token in (5, 0):
        assert (corner(shown, token) == corner(SCENE, token)).all()
        assert (inside(shown, token) != inside(SCENE, token)).any()


def test_merged_numbers_are_those_of_the_pick_order_once_per_stretch(monkeypatch):
    written = {}
    monkeypatch.setattr(
        "pruning.drawing.merged.write",
        lambda _image, box, text, *_: written.update({(box[0] // CELL, box[1] // CELL): text}),
    )
    draw.overlay(SCENE, RECTS, merging(), "merged")
    assert written == {
        (1, 1): "1",  # token 5, the first pick
        (3, 0): "1",  # 3; 7 lies below it and belongs to the same stretch
        (3, 3): "1",  # 15 lies apart
        (0, 0): "2",  # token 0; 1 and 4 are beside it
    }


def test_merged_borders_lie_between_groups_and_nowhere_else():
    grey = np.full_like(SCENE, 128)
    into = [0, 0, 0, 0, 0, 0, 0, 0, 15, 15, 15, 15, 15, 15, 15, 15]
    shown = draw.overlay(grey, RECTS, merging([0, 15], into), "merged")
    assert (shown[40, 25:55] == paint.SEAM).all()
    assert not (shown[25:35, 40] == paint.SEAM).all(axis=1).any()


def test_merged_shows_a_selection_that_merges_nothing_dimmed():
    assert (draw.overlay(SCENE, RECTS, selection(), "merged") == draw.overlay(SCENE, RECTS, selection())).all()
    nothing = merging(KEPT, [i if i in KEPT else -1 for i in range(16)])
    shown = draw.overlay(SCENE, RECTS, nothing, "merged")
    assert (inside(shown, 5) == inside(SCENE, 5)).all()
    assert (inside(shown, 3) == inside(draw.overlay(SCENE, RECTS, selection()), 3)).all()


def test_merged_small_rectangles_lie_on_the_one_that_covers_all():
    rects = np.vstack([RECTS[:4], [[0, 0, SIZE, SIZE]], RECTS[4:6]]).astype(np.float32)
    shown = draw.overlay(np.full_like(SCENE, 128), rects, merging([0, 5], [0, 0, -1, 0, 5, 5, -1]), "merged")
    assert hue_of(paint.GROUPS[0], corner(shown, 1))
    assert hue_of(paint.GROUPS[1], corner(shown, 14)), "where only the large one lies"
    assert np.ptp(inside(shown, 2), axis=2).max() == 0


@pytest.mark.parametrize("style", draw.STYLES)
def test_tokens_in_a_model_s_padding_leave_no_mark(style):
    beyond = np.array([[0, 0, 0, SIZE], [SIZE, 0, SIZE, SIZE], [0, SIZE, SIZE, SIZE]], np.float32)
    rects = np.vstack([RECTS, beyond])
    into = torch.tensor([*INTO, 16, 16, 5])
    plain = Selection(torch.tensor([*KEPT]), 16, torch.ones(16), into[:16], torch.zeros(3, 1))
    padded = Selection(torch.tensor([*KEPT, 16]), 19, torch.ones(19), into, torch.zeros(4, 1))
    order = draw.overlay(SCENE, RECTS, plain, style), draw.overlay(SCENE, rects, padded, style)
    assert style == "order" or (order[0] == order[1]).all(), "in the pick order, one more token shifts the colours"


def test_overlapping_rectangles_count_as_kept_where_any_kept_token_lies():
    rects = np.vstack([RECTS[:3], [[0, 0, SIZE, SIZE]]]).astype(np.float32)
    shown = draw.overlay(SCENE, rects, Selection(torch.tensor([3]), 4))
    assert (shown[4:-4, 4:-4] == SCENE[4:-4, 4:-4]).all()


def test_the_mask_is_white_where_a_kept_token_lies_and_survives_a_file():
    import cv2

    mask = draw.kept_mask(SCENE.shape, RECTS, selection())
    expected = np.kron(np.isin(np.arange(16).reshape(4, 4), KEPT), np.ones((CELL, CELL))) * 255
    assert mask.dtype == np.uint8
    assert (mask == expected).all()
    assert (cv2.imdecode(np.frombuffer(draw.png(mask), np.uint8), cv2.IMREAD_UNCHANGED) == mask).all()


@pytest.mark.parametrize("style", draw.STYLES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 400), (300, 1), (37, 91)])
def test_any_shape_can_be_drawn_and_the_input_stays(style, height, width):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    rects = np.array([[0, 0, width / 2, height], [width / 2, 0, width, height]], np.float32)
    kept, scores = torch.tensor([1]), torch.tensor([0.0, 1.0])
    for more in ({}, {"merge_into": torch.tensor([1, 1]), "rows": torch.zeros(1, 3)}):
        shown = draw.overlay(image, rects, Selection(kept, 2, scores, **more), style)
        assert shown.shape == image.shape
        assert shown.dtype == np.uint8
    assert (image == before).all()


@pytest.mark.parametrize(("size", "longest"), [((448, 448), 768), ((20, 2000), 768), ((1, 4000), 500)])
def test_fit_keeps_the_aspect_and_one_pixel(size, longest):
    small, factor = draw.fit(np.zeros((*size, 3), np.uint8), longest)
    assert max(small.shape[:2]) == longest
    assert min(small.shape[:2]) == max(1, round(min(size) * factor))


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"'sepia'.*dimmed"):
        draw.overlay(SCENE, RECTS, selection(), "sepia")
    with pytest.raises(ValueError, match=r"\(15, 4\).*\(16, 4\)"):
        draw.overlay(SCENE, RECTS[:15], selection())
    with pytest.raises(ValueError, match="needs scores"):
        draw.overlay(SCENE, RECTS, selection(), "heat")
    with pytest.raises(ValueError, match=r"\(3,\)"):
        draw.overlay(SCENE, RECTS, selection(), "heat", np.ones(3))
    with pytest.raises(ValueError, match=r"depths have shape \(3,\).*\(16,\)"):
        draw.overlay(SCENE, RECTS, selection(), depths=np.ones(3))


def test_encodings_decode_to_the_image():
    import cv2

    back = cv2.imdecode(np.frombuffer(draw.png(SCENE), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert (back == SCENE).all()
    smooth, _ = draw.fit(SCENE[::20, ::20], 80)
    lossy = cv2.imdecode(np.frombuffer(draw.jpeg(smooth), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(lossy.astype(int) - smooth).mean() < 3
    assert draw.data_url(SCENE).startswith("data:image/jpeg;base64,")


POINTS = [
    PlanePoint("idpruner", "IDPruner", step / 4, 4, 0.25, 0.2 + step / 10, 0.3 + step**2 / 100) for step in range(5)
] + [PlanePoint("random", "Random", None, 4, 0.25, 0.25, 0.5)]
SLOTS = {"idpruner": 0, "random": 1}


def test_plane_marks_lie_where_the_points_are():
    chart = charts.plane(POINTS, POINTS[:5], POINTS[2], SLOTS)
    assert len(chart.marks) == len(POINTS)
    by_x = sorted(chart.marks, key=lambda mark: mark.left)
    assert [m.mmr_lambda for m in by_x if m.method == "idpruner"] == [0, 0.25, 0.5, 0.75, 1]
    assert by_x[-1].method == "random"  # the highest Hopkins statistic
    highest = min(chart.marks, key=lambda mark: mark.top)
    assert (highest.method, highest.mmr_lambda) == ("idpruner", 1)  # the most importance
    assert all(0 <= m.left <= 1 and 0 <= m.top <= 1 for m in chart.marks)
    assert "0.250" in by_x[-1].label
    assert "0.500" in by_x[-1].label


def test_mark_positions_agree_with_the_drawn_pixels():
    import cv2

    vivid = dataclasses.replace(LIGHT, series=("#ff0000", "#00ff00", *LIGHT.series[2:]))
    chart = charts.plane([POINTS[-1], POINTS[0]], [], None, SLOTS, vivid)
    pixels = cv2.imdecode(np.frombuffer(chart.png(100), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    height, width = pixels.shape[:2]
    for mark, colour in zip(chart.marks, ((255, 0, 0), (0, 255, 0)), strict=True):
        x, y = round(mark.left * width), round(mark.top * height)
        assert (pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3) == colour).all(axis=1).any()


def test_page_palette_leaves_no_fixed_colour_and_no_style_sheet():
    svg = charts.plane(POINTS, POINTS[:2], POINTS[0], SLOTS, PAGE).svg()
    assert svg.startswith("<svg")
    assert "var(--chart-ink)" in svg
    assert "var(--chart-series-0)" in svg
    assert "#0102" not in svg
    assert "<style" not in svg
    assert "you are here" in svg


def test_fidelity_chart_draws_partial_data_and_carries_settings():
    lines = [charts.Series("idpruner", "IDPruner", 0.3, 0, ((4, 0.25, 0.5), (16, 1.0, 1.0)))]
    chart = charts.fidelity(lines, 16, 4)
    assert [(m.mmr_lambda, m.retention) for m in chart.marks] == [(0.3, 0.25), (0.3, 1.0)]
    assert chart.marks[0].left < chart.marks[1].left
    assert chart.marks[0].top > chart.marks[1].top
    assert charts.fidelity([], 16, None).marks == ()


def test_an_empty_plane_and_many_methods_can_be_drawn():
    assert charts.plane([], [], None, {}).marks == ()
    looks = {LIGHT.look(slot) for slot in range(81)}
    assert len(looks) == 81
