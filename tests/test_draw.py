"""Overlays against pixels, charts against the values they show."""

import dataclasses

import numpy as np
import pytest
import torch

from pruning import charts, draw
from pruning.pareto import PlanePoint
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


def test_overlapping_rectangles_count_as_kept_where_any_kept_token_lies():
    rects = np.vstack([RECTS[:3], [[0, 0, SIZE, SIZE]]]).astype(np.float32)
    shown = draw.overlay(SCENE, rects, Selection(torch.tensor([3]), 4))
    assert (shown[4:-4, 4:-4] == SCENE[4:-4, 4:-4]).all()


@pytest.mark.parametrize("style", draw.STYLES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 400), (300, 1), (37, 91)])
def test_any_shape_can_be_drawn_and_the_input_stays(style, height, width):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    rects = np.array([[0, 0, width / 2, height], [width / 2, 0, width, height]], np.float32)
    shown = draw.overlay(image, rects, Selection(torch.tensor([1]), 2, torch.tensor([0.0, 1.0])), style)
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

    vivid = dataclasses.replace(charts.LIGHT, series=("#ff0000", "#00ff00", *charts.LIGHT.series[2:]))
    chart = charts.plane([POINTS[-1], POINTS[0]], [], None, SLOTS, vivid)
    pixels = cv2.imdecode(np.frombuffer(chart.png(100), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    height, width = pixels.shape[:2]
    for mark, colour in zip(chart.marks, ((255, 0, 0), (0, 255, 0)), strict=True):
        x, y = round(mark.left * width), round(mark.top * height)
        assert (pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3) == colour).all(axis=1).any()


def test_page_palette_leaves_no_fixed_colour_and_no_style_sheet():
    svg = charts.plane(POINTS, POINTS[:2], POINTS[0], SLOTS, charts.PAGE).svg()
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
    looks = {charts._look(slot, charts.LIGHT) for slot in range(81)}
    assert len(looks) == 81
