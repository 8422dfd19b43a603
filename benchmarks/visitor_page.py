"""One visitor on the page itself, in a headless browser: drags the retention slider, lets go, waits for the answer.

All times are the page's own clock. λ lies beside the canvas's grid at every release, so that the exact selection has to
come from the server; what then stands on the canvas is compared with the library.
"""

from __future__ import annotations

import time
from itertools import cycle
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from benchmarks.canvas import TIMED
from benchmarks.visitor_cases import Call, selected
from pruning.budget import keep_count
from pruning.models import VLM

MOVES, EVERY = 5, 0.5  # of the slider before it is let go; seconds between two of them
PATIENCE = 60_000  # milliseconds for what a page waits for
PERCENTS = tuple(range(5, 91))  # of the tokens; none comes twice in a row, so an answer cannot be mistaken for the last
WEIGHTS = tuple(step / 20 for step in range(1, 20) if step != 10)  # of importance, against 0.5: λ beside the grid
PAINTED, WORK = "page: slider moved → canvas painted", "page: … of it, the work of the frame"
EXACT, ANSWER = "page: slider let go → exact selection", "page: slider let go → answer"
SCRIPT = "page: script"  # only its errors are noted
CANVAS = "#canvas [data-kept]"
ANSWERED = "#report .badge.same, #report .badge.other"

# The canvas says what it shows in data-kept; a message that is posted then arrives once the frame has been painted.
MOVE = """([id, value, tokens]) => new Promise((done) => {
  const shown = document.querySelector("#canvas [data-kept]");
  const input = document.querySelector(`#${id} input[type=range]`);
  window.spent.length = 0;
  const start = performance.now();
  const late = setTimeout(() => done(null), 10000);
  const seen = new MutationObserver(() => {
    if (tokens && shown.dataset.kept.split(" ").length !== tokens) return;
    seen.disconnect();
    clearTimeout(late);
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done([performance.now() - start, Math.max(0, ...window.spent)]);
    channel.port2.postMessage("");
  });
  seen.observe(shown, { attributes: true, attributeFilter: ["data-kept"] });
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
})"""
RELEASE = """([tokens, patience]) => new Promise((done) => {
  const find = (name) => document.querySelector(name);
  const shown = find("#canvas [data-kept]");
  const start = performance.now();
  let exact = null, kept = "", answered = null;
  find("#retention input[type=range]").dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  const timer = setInterval(() => {
    const now = performance.now() - start;
    if (exact === null && shown.dataset.exact === "true") { exact = now; kept = shown.dataset.kept; }
    const head = find("#report .answer:nth-child(2) h3").innerText;
    const stands = head.includes(`${tokens} tokens`) && find("#report .badge.same, #report .badge.other");
    if (answered === null && stands) answered = now;
    if ((exact === null || answered === null) && now < patience) return;
    clearInterval(timer);
    done([exact, answered, kept]);
  }, 5);
})"""


class PageVisitor:
    """Opens the page and puts their own picture there. `orders`: importance weight -> (N,) the library's picks."""

    def __init__(self, chromium: Browser, url: str, picture: Path, orders: dict[float, list[int]]) -> None:
        self.orders, self.calls = orders, list[Call]()
        rng = np.random.default_rng(0)
        self._weights = cycle(rng.permutation(WEIGHTS).tolist())
        self._percents = cycle(rng.permutation(PERCENTS).tolist())
        self._context = chromium.new_context(viewport={"width": 1440, "height": 900})
        self._context.add_init_script(TIMED)
        self._tab = self._context.new_page()
        self._tab.set_default_timeout(PATIENCE)
        self._tab.on("pageerror", lambda error: self.calls.append(Call(SCRIPT, 0, str(error))))
        self._tab.goto(url)
        _upload(self._tab, picture)

    def stay(self, until: float) -> list[Call]:
        """Move and let go until `time.monotonic()` is `until`, then leave."""
        try:
            while time.monotonic() < until:
                self.drag(until)
        except PlaywrightError as error:
            self.calls.append(Call(SCRIPT, 0, str(error)))
        self._context.close()
        return self.calls

    def drag(self, until: float = inf) -> None:
        """Some moves, one after the other, and the release after the last one, unless `time.monotonic()` is `until`."""
        weight = next(self._weights)
        order, kept = self.orders[weight], 0
        self._move("importance-weight", weight, None)
        for _ in range(MOVES):
            time.sleep(EVERY)
            share = next(self._percents) / 100
            kept = keep_count(len(order), share)
            self._move("retention", share, kept)
        if time.monotonic() < until:
            self._release(weight, order[:kept])

    def _move(self, slider: str, value: float, kept: int | None) -> None:
        found = self._tab.evaluate(MOVE, [slider, value, kept])
        if found is None:
            self.calls.append(Call(PAINTED, 10, f"{slider} at {value} was not painted within 10 s"))
        elif kept is not None:
            self.calls += [Call(what, ms / 1e3) for what, ms in zip((PAINTED, WORK), found, strict=True)]

    def _release(self, weight: float, right: list[int]) -> None:
        exact, answered, kept = self._tab.evaluate(RELEASE, [len(right), PATIENCE])
        wrong = f"importance weight {weight} shows {kept}, the library keeps {right}"
        fine = exact is None or kept == " ".join(map(str, right))
        for what, ms, problem in ((EXACT, exact, "" if fine else wrong), (ANSWER, answered, "")):
            late = f"none within {PATIENCE / 1e3:.0f} s" if ms is None else ""
            self.calls.append(Call(what, (PATIENCE if ms is None else ms) / 1e3, late, problem))


def _upload(tab: Page, picture: Path) -> None:
    """Put the picture in the place of the example, and wait until its answer stands."""
    tab.wait_for_selector(CANVAS, state="attached")
    tab.wait_for_selector(ANSWERED)
    drawn = "() => document.querySelector('#canvas canvas').toDataURL()"
    before = tab.evaluate(drawn)
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
    tab.set_input_files("#image input[type=file]", picture)
    tab.wait_for_function(f"before => ({drawn})() !== before", arg=before)
    tab.wait_for_selector(ANSWERED)


def orders(vlm: VLM, picture: Path) -> dict[float, list[int]]:
    """The picks of all tokens at each of WEIGHTS, in the library."""
    encoded = vlm.encode([Image.open(picture)])
    given: dict[str, Any] = {"question": "", "method": "idpruner", "diversity": 0.5, "retention": 1.0, "knobs": {}}
    return {weight: selected(vlm, encoded, given | {"importance": weight}).order.tolist() for weight in WEIGHTS}
