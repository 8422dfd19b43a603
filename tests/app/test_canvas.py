"""The live canvas alone on a page, in a real browser, against the selections of the library."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import torch
from playwright.sync_api import Page

from app.canvas import page as canvas_page
from app.canvas import payload as canvas_payload
from app.canvas import views as canvas_views
from app.web import scripts, theme
from pruning import Grid, make
from pruning.allocation import select_within
from pruning.budget import keep_count
from pruning.drawing import overlays as draw
from pruning.drawing import paint
from pruning.drawing.overlays import STYLES
from pruning.evaluation.inspection import inspect, nearest_kept
from pruning.evaluation.lives import survivors
from pruning.models import Encoded
from pruning.models.families.geometry import token_rects
from pruning.models.language.trace import Trace
from pruning.overrides import with_overrides
from pruning.staged import make_staged
from pruning.weights import mmr_lambda
from tests.helpers.samples import sample

SIZES = ((300, 180), (140, 200))
GRIDS = (
    Grid(1, 3, 5, 0, role="thumbnail"),
    Grid(1, 6, 5, 15, role="tile", box=(0, 0, 0.5, 1)),
    Grid(1, 6, 5, 45, role="tile", box=(0.5, 0, 1, 1)),
    Grid(1, 9, 6, 75, image=1),
)
TOKENS = sample(129, grids=GRIDS)
ENCODED = Encoded(TOKENS, token_rects(GRIDS, SIZES), SIZES, 0.0, ("", ""))
PICTURES = [np.full((h, w, 3), 60 + 90 * i, np.uint8) for i, (w, h) in enumerate(SIZES)]
METHOD = make("idpruner")
FLAT = make("uniform")


def payload(method):
    _, methods = canvas_payload.orders_of(method)
    selections = [m.select(TOKENS, TOKENS.n) for m in methods]
    orders = [selection.order for selection in selections]
    return canvas_payload.payload(PICTURES, ENCODED, method, orders, TOKENS.signal("scorer"), "two images", TOKENS.n)


LIVES = torch.arange(TOKENS.n) * 7 % 5  # of 4 layers
ALIVE = tuple(int((layer < LIVES).sum()) for layer in range(4))
TRACE = Trace(ALIVE, ALIVE, LIVES, ALIVE[0], ())


def leaving():
    """A method that drops tokens between layers, and what it came to."""
    rule, kept = make_staged("fastv"), survivors(TRACE)
    told = canvas_payload.payload(PICTURES, ENCODED, rule, [], TOKENS.signal("scorer"), "two images", TOKENS.n)
    near = nearest_kept(TOKENS, kept)
    return told, canvas_payload.exact_selection(kept, near, rule, 0.25, "sample", "two images", TRACE)


def exact(method, retention: float, scope: str = "sample"):
    selection = select_within(method, TOKENS, retention, scope)
    return canvas_payload.exact_selection(
        selection, nearest_kept(TOKENS, selection), method, retention, scope, "two images"
    )


def test_the_page_is_told_of_tokens_that_are_not_on_a_grid() -> None:
    assert payload(METHOD)["placed"]
    grids = tuple(replace(grid, placed=False) for grid in TOKENS.grids)
    nowhere = replace(ENCODED, tokens=replace(TOKENS, grids=grids), rects=token_rects(grids, ENCODED.sizes))
    told = canvas_payload.payload(PICTURES, nowhere, FLAT, [torch.arange(TOKENS.n)], None, "two images", TOKENS.n)
    assert not told["placed"]
    assert not nowhere.rects.any()
    found = inspect(nowhere.tokens, FLAT.select(nowhere.tokens, 3), FLAT, 2, None)
    assert "token 3, on no grid" in canvas_views.card(found)
    assert "patch (1, 3)" in canvas_views.card(replace(found, placed=True))


@pytest.fixture(scope="module")
def address(uploads: None):
    """A page with the canvas, the sliders it reads, and what it tells the server."""
    with gr.Blocks() as demo:
        gr.Slider(0.02, 1, 0.25, step=0.01, elem_id="retention", interactive=True)
        for name in ("importance-weight", "diversity-weight"):
            gr.Slider(0, 1, 0.5, step=0.05, elem_id=name, interactive=True)
        styles = [(title, key) for key, title in STYLES.items()]
        gr.Radio(styles, value="dimmed", elem_id="style", interactive=True)
        live = canvas_page.component(payload(METHOD), None)
        said, change = gr.Textbox(elem_id="said"), gr.Textbox(elem_id="change")

        def told(event: gr.EventData) -> str:
            return json.dumps(event._data)

        def changed(text: str):
            if text == "leaving":
                told, came_to = leaving()
                return gr.HTML(told, exact=came_to)
            name, retention = text.split()
            method = make(name, **({"mmr_lambda": 0.523} if name == "idpruner" else {}))
            return gr.HTML(payload(method), exact=exact(method, float(retention)))

        live.select(told, None, said)
        live.edit(told, None, said)
        change.submit(changed, change, live)
    _, url, _ = demo.launch(
        prevent_thread_lock=True,
        quiet=True,
        css=".nothing {}",
        app_kwargs={"routes": scripts.routes()},
        _frontend=False,  # as `launch_options`
    )
    yield url
    demo.close(verbose=False)


@pytest.fixture
def page(chromium, address: str):
    context = chromium.new_context(viewport={"width": 1000, "height": 1400})
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    page.wait_for_selector("#canvas [data-kept]", state="attached")
    yield page
    context.close()
    assert not errors


SET = """([id, value]) => new Promise((done) => {
  const input = document.querySelector(`#${id} input[type=range]`);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""
KEPT = "() => document.querySelector('#canvas [data-kept]').dataset.kept.split(' ').map(Number)"


def put(page: Page, retention: float, importance: float = 0.5, diversity: float = 0.5) -> list[int]:
    for name, value in (("importance-weight", importance), ("diversity-weight", diversity), ("retention", retention)):
        page.evaluate(SET, [name, value])
    return page.evaluate(KEPT)


def is_exact(page: Page) -> bool:
    return page.evaluate("() => document.querySelector('#canvas [data-exact]').dataset.exact") == "true"


def centre(page: Page, token: int, share: float = 0.5) -> tuple[float, float]:
    """Where a token lies on the screen, from its rectangle and the layout: pictures side by side at equal heights.

    share: of the patch's sides from its upper left corner.
    """
    box = page.locator("#canvas canvas").bounding_box()
    grid = next(g for g in GRIDS if g.start <= token < g.stop)
    x0, y0, x1, y1 = ENCODED.rects[token].tolist()
    scales = [200 / h for _, h in SIZES]
    offset = 0.0 if grid.image == 0 else SIZES[0][0] * scales[0] + 200 * 0.02
    width = SIZES[0][0] * scales[0] + 200 * 0.02 + SIZES[1][0] * scales[1]
    fit = min(box["width"] / width, box["height"] / 200)
    left, top = box["x"] + (box["width"] - width * fit) / 2, box["y"] + (box["height"] - 200 * fit) / 2
    scale = scales[grid.image]
    x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    return left + (offset + x * scale) * fit, top + y * scale * fit


ALL_KEPT = """async (settings) => {
  const found = [];
  for (const values of settings) {
    for (const [id, value] of Object.entries(values)) {
      const input = document.querySelector(`#${id} input[type=range]`);
      input.value = value;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const shown = document.querySelector("#canvas [data-kept]").dataset;
    found.push([shown.exact, shown.kept.split(" ").map(Number)]);
  }
  return found;
}"""


def test_agrees_with_the_library_over_the_grid(page: Page) -> None:
    weights = [(round(step / 20, 2), round(1 - step / 20, 2)) for step in range(21)]
    wanted = [(*pair, retention) for pair in weights for retention in (0.02, 0.1, 0.25, 0.33, 0.5, 0.87, 1.0)]
    names = ("importance-weight", "diversity-weight", "retention")
    found = page.evaluate(ALL_KEPT, [dict(zip(names, setting, strict=True)) for setting in wanted])
    orders = {pair: make("idpruner", mmr_lambda=mmr_lambda(*pair)).select(TOKENS, TOKENS.n).order for pair in weights}
    for (importance, diversity, retention), (known, kept) in zip(wanted, found, strict=True):
        expected = orders[importance, diversity][: keep_count(TOKENS.n, retention)].tolist()
        assert (known, kept) == ("true", expected), (importance, retention)


def test_beside_the_grid_it_previews_until_the_server_tells(page: Page) -> None:
    kept = put(page, 0.3, 0.9, 0.8)
    assert len(kept) == keep_count(TOKENS.n, 0.3)
    assert not is_exact(page)
    assert "preview" in page.inner_text("[data-part=count]")


def test_what_only_the_server_knows_is_shown_as_it_says(page: Page) -> None:
    for name in ("uniform", "idpruner"):
        method = make(name, **({"mmr_lambda": 0.523} if name == "idpruner" else {}))
        page.fill("#change textarea, #change input", f"{name} 0.25")
        page.press("#change textarea, #change input", "Enter")
        if name == "idpruner":  # the weights stand at 0.5 / 0.5: the exact selection is for another λ, and not used
            page.wait_for_function("() => document.querySelector('[data-part=count]').textContent.includes('of 129')")
            continue
        wanted = method.select(TOKENS, keep_count(TOKENS.n, 0.25)).order.tolist()
        page.wait_for_function(
            f"() => document.querySelector('[data-kept]').dataset.kept === '{' '.join(map(str, wanted))}'"
        )
        assert is_exact(page)
        page.mouse.move(*centre(page, 100))
        nearest = max(float(TOKENS.similarity[100, kept]) for kept in wanted if kept != 100)
        assert f"{nearest:.2f} similar to the nearest kept" in page.inner_text("[data-part=tip]")
        put(page, 0.4)
        assert not is_exact(page)
        page.mouse.move(*centre(page, 101))
        assert "similar" not in page.inner_text("[data-part=tip]")


@pytest.mark.parametrize("token", [20, 74, 75, 128])
def test_a_click_asks_for_the_patch_under_it(page: Page, token: int) -> None:
    page.mouse.click(*centre(page, token))
    page.wait_for_function("() => document.querySelector('#said textarea, #said input').value.includes('token')")
    assert json.loads(page.input_value("#said textarea, #said input"))["token"] == token


def test_a_click_hits_the_same_patch_when_zoomed_and_moved(page: Page) -> None:
    x, y = centre(page, 100)
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    for _ in range(3):
        page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.mouse.down()
    page.mouse.move(x + 30, y + 20, steps=4)
    page.mouse.up()
    page.mouse.click(x + 30, y + 20)
    page.wait_for_function("() => document.querySelector('#said textarea, #said input').value.includes('token')")
    assert json.loads(page.input_value("#said textarea, #said input"))["token"] == 100


def test_what_was_zoomed_into_stays_while_the_texts_below_grow(page: Page) -> None:
    x, y = centre(page, 100)
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -600)
    page.keyboard.up("Control")
    zoomed = page.inner_text("[data-part=tip]")
    page.evaluate("document.querySelector('#canvas .canvas-status').style.minHeight = '200px'")
    page.wait_for_timeout(400)  # the page is laid out anew
    page.mouse.move(x + 40, y + 30)
    near = page.inner_text("[data-part=tip]")
    page.click("[data-zoom=whole]")
    page.mouse.move(x, y)
    page.mouse.move(x + 40, y + 30)
    assert near.split("·")[0] == zoomed.split("·")[0] != page.inner_text("[data-part=tip]").split("·")[0]


@pytest.mark.parametrize("size", [(690, 15420), (15420, 690)])
def test_a_strip_has_pixels_to_zoom_into_and_its_rectangles_cover_it(size: tuple[int, int]) -> None:
    width, height = size
    grid = Grid(1, *((90, 4) if height > width else (4, 90)))
    tokens = sample(360, grids=(grid,))
    encoded = Encoded(tokens, token_rects((grid,), (size,)), (size,), 0.0, ("",))
    picture = np.zeros((height, width, 3), np.uint8)
    told = canvas_payload.payload([picture], encoded, FLAT, [FLAT.select(tokens, 360).order], None, "strip", 360)
    (image,) = told["images"]
    assert min(image["width"], image["height"]) > 200
    assert image["width"] * image["height"] <= canvas_payload.DISPLAY**2
    rects = np.frombuffer(base64.b64decode(told["rects"]), "<f4").reshape(-1, 4)
    np.testing.assert_allclose(rects.max(0)[2:], [image["width"], image["height"]], rtol=1e-5)
    assert rects.min(0).tolist()[:2] == [0, 0]


def test_keyboard_walks_over_patches_and_asks(page: Page) -> None:
    page.focus("#canvas canvas")
    for key in ("ArrowRight", "PageDown", "ArrowRight", "ArrowDown", "ArrowDown"):  # first press: the cursor appears
        page.keyboard.press(key)
    assert "patch (3, 2), tile" in page.inner_text("[data-part=tip]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#said textarea, #said input').value.includes('token')")
    assert json.loads(page.input_value("#said textarea, #said input"))["token"] == 15 + 2 * 5 + 1


def test_what_a_key_forces_is_told(page: Page) -> None:
    put(page, 0.1)
    page.focus("#canvas canvas")
    page.keyboard.press("ArrowRight")
    for key, words in (("i", "kept, pick 1"), ("o", "dropped"), ("i", "kept, pick 1")):
        page.keyboard.press(key)
        assert f"patch (1, 1), thumbnail · {words}" in page.inner_text("[data-part=tip]")
    page.keyboard.press("Delete")
    assert "patch (1, 1), thumbnail" in page.inner_text("[data-part=tip]")
    assert put(page, 0.1)[0] == 127  # the method's own first pick again


def test_brush_forces_patches_and_the_budget_holds(page: Page) -> None:
    before = put(page, 0.1)
    row = [75 + 6 * 4 + column for column in range(6)]
    page.click("[data-tool=in]")
    page.mouse.move(*centre(page, row[0]))
    page.mouse.down()
    page.mouse.move(*centre(page, row[-1]), steps=25)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('#said textarea, #said input').value.includes('in')")
    told = json.loads(page.input_value("#said textarea, #said input"))
    assert set(told["in"]) == set(row)
    chosen = METHOD.select(TOKENS, len(before))
    expected = with_overrides(chosen, METHOD.select(TOKENS, TOKENS.n), told["in"], told["out"])
    assert page.evaluate(KEPT) == expected.order.tolist()
    page.click("[data-part=clear]")
    page.wait_for_function("() => document.querySelector('[data-part=clear]').disabled")
    assert page.evaluate(KEPT) == before


def test_more_cannot_be_forced_than_the_budget_holds(page: Page) -> None:
    put(page, 0.02)  # three tokens
    page.focus("#canvas canvas")
    page.keyboard.press("ArrowRight")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("i")
    assert "budget of 3 tokens" in page.inner_text("[data-part=tip]")
    assert len(page.evaluate(KEPT)) == 3


def test_replay_shows_the_first_picks(page: Page) -> None:
    put(page, 0.5)
    page.locator("[data-part=step]").fill("7")
    page.wait_for_function("() => document.querySelector('[data-part=at]').textContent === 'pick 7 of 65'")
    page.click("[data-part=play]")
    page.wait_for_function("() => document.querySelector('[data-part=at]').textContent === 'all picks'")


DRAWN = """() => {
  const canvas = document.querySelector('#canvas canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 0; i < data.length; i += 97) sum = (sum * 31 + data[i]) % 1000000007;
  return sum;
}"""


def test_every_style_draws_something_of_its_own(page: Page) -> None:
    drawn = set()
    for style in STYLES:
        if style == "merged":  # a selection that merges nothing looks like the dimmed one
            continue
        page.check(f"#style input[value={style}]")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        drawn.add(page.evaluate(DRAWN))
    assert len(drawn) == len([style for style in STYLES if style != "merged"])


PIXELS = """(points) => {
  const canvas = document.querySelector('#canvas canvas'), box = canvas.getBoundingClientRect();
  const context = canvas.getContext('2d');
  return points.map(([x, y]) => [...context.getImageData((x - box.x) * canvas.width / box.width,
    (y - box.y) * canvas.height / box.height, 1, 1).data].slice(0, 3));
}"""
ASIDE = 0.25  # of a patch's side from its corner: inside its frame


def drawn(selection, style: str, scores, depths=None) -> list[list[int]]:
    """The colour of every patch on the picture that the library draws."""
    found = {}
    for image, picture in enumerate(PICTURES):
        here = np.array([g.image == image for g in GRIDS for _ in range(g.count)])
        rects = np.where(here[:, None], ENCODED.rects, 1000).astype(np.float32)
        shown = draw.overlay(picture, rects, selection, style, scores, depths)
        for token in np.flatnonzero(here).tolist():
            x0, y0, x1, y1 = rects[token]
            found[token] = shown[int(y0 + ASIDE * (y1 - y0)), int(x0 + ASIDE * (x1 - x0))].tolist()
    return [found[token] for token in range(TOKENS.n)]


def painted(page: Page) -> list[list[int]]:
    """The colour of every patch on the page."""
    points = [centre(page, token, ASIDE) for token in range(TOKENS.n)]
    return page.evaluate(PIXELS, points)


@pytest.mark.parametrize(
    ("style", "name"), [("merged", "visionzip"), ("merged", "prumerge"), ("heat", "uniform"), ("order", "uniform")]
)
def test_the_page_shows_a_patch_in_the_colour_of_the_picture(page: Page, style: str, name: str, monkeypatch) -> None:
    for module in ("merged", "overlays"):  # numbers lie across patches
        monkeypatch.setattr(f"pruning.drawing.{module}.write", lambda *_: None)
    page.evaluate("() => { CanvasRenderingContext2D.prototype.fillText = () => {}; }")
    selection = select_within(make(name), TOKENS, 0.25, "sample")
    page.fill("#change textarea, #change input", f"{name} 0.25")
    page.press("#change textarea, #change input", "Enter")
    wanted = " ".join(map(str, selection.order.tolist()))
    page.wait_for_function("(kept) => document.querySelector('[data-kept]').dataset.kept === kept", arg=wanted)
    page.check(f"#style input[value={style}]")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    library, shown = drawn(selection, style, TOKENS.signal("scorer").numpy()), painted(page)
    colours = set()
    for token in range(GRIDS[1].start, TOKENS.n):  # the thumbnail lies below the tiles
        one, other = library[token], shown[token]
        if np.ptp(one) > 20:
            colours.add(tuple(one))
            assert np.abs(np.subtract(one, other)).max() <= 8, (token, one, other)
        else:  # as it is, or dark
            assert np.ptp(other) <= 8, (token, one, other)
    assert len(colours) >= 5


def test_page_picture_and_legend_show_until_which_layer_a_patch_lives(page: Page) -> None:
    page.fill("#change textarea, #change input", "leaving")
    page.press("#change textarea, #change input", "Enter")
    page.wait_for_selector("#canvas [data-legend=depth]:not([hidden])")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    library, shown = drawn(survivors(TRACE), "dimmed", None, TRACE.depths.numpy()), painted(page)
    first, last = theme.painting()["seen"]
    veil = theme.painting()["veil"]
    colours = set()
    for token in range(GRIDS[1].start, TOKENS.n):  # the thumbnail lies below the tiles
        (grid,) = (grid for grid in GRIDS if grid.start <= token < grid.stop)
        deepest = int(LIVES[token])
        if grid.role == "tile":  # the patch of the thumbnail there has twice its sides
            row, column = divmod(token - grid.start, 5)
            deepest = max(deepest, int(LIVES[row // 2 * 5 + (column + 5 * (grid is GRIDS[2])) // 2]))
        share = 1.0 if deepest == 4 else (first + (last - first) * deepest / 4) * (deepest > 0)
        plain = int(PICTURES[grid.image][0, 0, 0])
        wanted = plain * (share + (1 - share) * veil)
        assert np.abs(np.subtract(library[token], wanted)).max() <= 1.5, (token, library[token], wanted)
        assert np.abs(np.subtract(shown[token], wanted)).max() <= 2.5, (token, shown[token], wanted)
        colours.add((plain, deepest))
    assert len(colours) >= 9
    keys = page.locator("#canvas .key.depth")
    assert page.locator("#canvas [data-part=depths]").text_content() == "123"
    alphas = keys.evaluate_all("(keys) => keys.map((key) => Number(key.style.getPropertyValue('--depth')))")
    assert alphas == pytest.approx([paint.seen(depth) for depth in (0.25, 0.5, 0.75)])


def test_no_request_while_sliders_move(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for retention in (0.1, 0.2, 0.3):
        put(page, retention, 0.25, 0.75)
    assert not [url for url in asked if "heartbeat" not in url]
