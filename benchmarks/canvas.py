"""How long the live canvas takes to redraw one move of a slider, in a headless browser: the work of one frame.

    python -m benchmarks.canvas --tokens 1296 4096 [--frames 16] [--moves 60] [--json]

Software rendering, no GPU: an upper bound for a browser with one. A frame at 60 Hz is 16.7 ms.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser

from app.canvas import page as canvas_page
from app.canvas import payload as canvas_payload
from app.web import scripts, theme
from benchmarks.report import Times, show, table
from pruning import Grid, make
from pruning.choosing import one_shot
from pruning.cli import console
from pruning.drawing.overlays import STYLES
from pruning.evaluation.synthetic import tokens as synthetic
from pruning.models import Encoded
from pruning.models.families.geometry import token_rects
from pruning.video import Clip
from tests.helpers.serving import browser

# The drawing happens in an animation frame: every callback's length is noted.
TIMED = """
window.spent = [];
const ask = window.requestAnimationFrame;
window.requestAnimationFrame = (work) => ask((now) => {
  const start = performance.now();
  work(now);
  window.spent.push(performance.now() - start);
});
"""
MOVES = """async ([style, count]) => {
  document.querySelector(`#style input[value=${style}]`).click();
  const input = document.querySelector("#retention input[type=range]");
  const spent = [];
  for (let i = 0; i < count; i++) {
    window.spent.length = 0;
    input.value = 0.02 + (0.98 * ((i * 37) % count)) / count;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => setTimeout(done, 40));
    spent.push(Math.max(...window.spent));
  }
  return spent;
}"""


@dataclass(frozen=True)
class Row:
    """The frames of one overlay style on a picture of so many visual tokens."""

    tokens: int
    style: str
    times: Times


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1296], help="visual tokens; default: 1296")
    parser.add_argument("--frames", type=int, default=1, help="of a clip that they belong to; default: 1, a picture")
    parser.add_argument("--moves", type=int, default=60, help="slider moves of each style; default: 60")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    with browser() as chromium:
        rows = [row for n in options.tokens for row in measured(chromium, n, options.moves, options.frames)]
    cells = [[f"{row.tokens:,}", row.style, *row.times.cells] for row in rows]
    show({"rows": [asdict(row) for row in rows]}, table(["N", "style", "median", "p95"], cells), options.json)


def measured(chromium: Browser, n: int, moves: int, frames: int = 1) -> list[Row]:
    """The work of a frame in every style, for n tokens on a square picture, or on the frames of a clip."""
    side = round((n / frames) ** 0.5)
    grids, size = (Grid(frames, side, side),), 768 if frames == 1 else 448
    n = grids[0].count
    method = make("idpruner" if frames == 1 else "greedy_importance")  # the order itself costs a frame nothing
    rows = torch.randn(n, 64, generator=torch.Generator().manual_seed(0))
    tokens = synthetic(rows, grids, method.needs)
    encoded = Encoded(tokens, token_rects(grids, [(size, size)]), ((size, size),), 0.0, ("",))
    _, methods = canvas_payload.orders_of(method)
    pictures = np.random.default_rng(0).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
    media: list[Any] = list(pictures)
    if frames > 1:
        media = [Clip(tuple(map(Image.fromarray, pictures)), tuple(map(float, range(frames))), frames, frames)]
    else:
        _ = tokens.similarity  # which all orders share, as on the page
    orders = [one_shot(each).select(tokens, tokens.n).order for each in methods]
    value = canvas_payload.payload(media, encoded, method, orders, tokens.signal("scorer"), n, tokens.n)
    with gr.Blocks() as demo:
        gr.Slider(0.02, 1, 0.25, step=0.001, elem_id="retention", interactive=True)
        styles = [(title, key) for key, title in STYLES.items()]
        gr.Radio(styles, value="dimmed", elem_id="style", interactive=True)
        canvas_page.component(value, None)
    _, url, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, css=theme.stylesheet(), app_kwargs={"routes": scripts.routes()}
    )
    context = chromium.new_context(viewport={"width": 820, "height": 1000})
    context.add_init_script(TIMED)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#canvas [data-kept]", state="attached")
    found = {style: page.evaluate(MOVES, [style, moves]) for style in STYLES if style != "merged"}  # milliseconds
    context.close()
    demo.close(verbose=False)
    return [Row(n, style, Times.of([ms / 1e3 for ms in spent])) for style, spent in found.items()]


if __name__ == "__main__":
    main()
