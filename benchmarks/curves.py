"""Fidelity curves on the page, methods inside the language model among them: from the click to first and last point.

    python -m benchmarks.curves [--methods idpruner fastv pyramiddrop dart random] [--examples 6] [--json]

A headless browser on the real server with the shipped model, one example after the other, so that no curve comes from
the cache. All times are the page's own clock. Every method is asked for at nine retentions; what its schedule cannot
come to is left out, so the table tells how many points were measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from playwright.sync_api import Browser

from app.examples import EXAMPLES
from benchmarks import server
from benchmarks.report import Times, show, table
from pruning.cli import console
from pruning.runnable import REGISTERED
from tests.helpers.serving import browser
from tests.helpers.visits import A_WHILE

METHODS = ("idpruner", "fastv", "pyramiddrop", "dart", "random")
PATIENCE = 120_000  # milliseconds for what a page waits for
LINKED = "() => document.querySelector('#readout')?.textContent.includes('50 %')"
# Both answers stand, and their costs are of as many tokens as are kept: what else the link brings about has come.
REPORTED = """() => {
  const kept = document.querySelector("#readout").textContent.trim().match(/^[0-9,]+/)?.[0];
  const costs = document.querySelector("#report .badge:is(.same, .other)") && document.querySelector("#report .costs");
  return costs && [...costs.rows[1].cells].some((cell) => cell.textContent.trim() === kept);
}"""
DONE = "() => / points measured/.test(document.querySelector('#progress').textContent)"
# The boxes of these lines and no others are ticked; tells how many are then, and how many of all had to be clicked.
TICK = """(lines) => {
  const labels = [...document.querySelectorAll("#curve-methods label")];
  let clicked = 0;
  for (const label of labels) {
    const input = label.querySelector("input");
    if (input.checked !== lines.some((line) => label.textContent.trim().startsWith(line))) { input.click(); clicked++; }
  }
  return [labels.filter((label) => label.querySelector("input").checked).length, clicked];
}"""
# Milliseconds from the click to the first point and to the last one, and how many points there are.
MEASURE = """(patience) => new Promise((done, failed) => {
  const told = () => document.querySelector("#progress").textContent.trim();
  const start = performance.now(), before = told();
  let first = null;
  document.querySelector("#measure").click();
  const timer = setInterval(() => {
    const now = performance.now() - start, words = told();
    if (words === before && now < patience) return;
    if (first === null && /^[1-9][0-9]* of /.test(words)) first = now;
    const over = words.match(/^([0-9]+) points measured in/);
    if (!over && now < patience) return;
    clearInterval(timer);
    if (over) done([first ?? now, now, Number(over[1])]); else failed(new Error(`no curves: ${words}`));
  }, 5);
})"""


@dataclass(frozen=True)
class Row:
    """Points of the curves of one example after a click, milliseconds."""

    example: str
    points: int
    first_ms: float
    all_ms: float


def measured(chromium: Browser, url: str, methods: Sequence[str], examples: Sequence[str]) -> list[Row]:
    """A row for each example. Raises RuntimeError where the page does not offer a method."""
    lines = [f"{REGISTERED[name].title} ·" for name in methods]
    rows, context = list[Row](), chromium.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    for example in examples:
        tab.goto(f"{url}?example={example}&method={methods[0]}&retention=0.5")
        tab.wait_for_function(LINKED)  # what the page begins with is answered too, and goes when the link is opened
        tab.wait_for_function(REPORTED)
        tab.get_by_role("tab", name="Fidelity curves").click()
        tab.wait_for_function(DONE)  # those that the page begins with
        tab.click("#tradeoff .label-wrap")
        tab.wait_for_selector("#curve-methods label")
        clicked = 1
        while clicked:  # what has just been unfolded is drawn anew, as it was at first: ticks of before are gone
            ticked, clicked = tab.evaluate(TICK, lines)
            for _ in range(6):  # by the page's own clock: a box that is ticked counts a moment later
                tab.evaluate(A_WHILE)
        if ticked != len(methods):
            raise RuntimeError(f"the page offers {ticked} of the methods {', '.join(methods)} on {example}")
        first, last, points = tab.evaluate(MEASURE, PATIENCE)
        rows.append(Row(example, points, round(first, 1), round(last, 1)))
    context.close()
    return rows


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=sorted(REGISTERED), default=METHODS, metavar="METHOD",
                        help=f"default: {' '.join(METHODS)}")  # fmt: skip
    parser.add_argument(
        "--examples", type=int, default=len(EXAMPLES), help="how many of the shipped ones; default: all"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    names = [example.name for example in EXAMPLES[: max(1, options.examples)]]
    with (
        tempfile.TemporaryDirectory() as folder,
        server.started(Path(folder) / "server.log") as (url, _),
        browser() as chromium,
    ):
        rows = measured(chromium, url, options.methods, names)
    cells = [[row.example, str(row.points), f"{row.first_ms:,.0f} ms", f"{row.all_ms:,.0f} ms"] for row in rows]
    for what, of in (("median", 0), ("95 %", 1)):
        times = [Times.of([ms / 1e3 for ms in values]).cells[of]
                 for values in ([row.first_ms for row in rows], [row.all_ms for row in rows])]  # fmt: skip
        cells.append([what, "", *times])
    found = {"methods": list(options.methods), "rows": [asdict(row) for row in rows]}
    show(found, table(["example", "points", "first point", "all points"], cells), options.json)


if __name__ == "__main__":
    main()
