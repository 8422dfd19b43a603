"""Many visitors at once: is every result the right one, how long does each wait, does the server's memory stay?

    python -m benchmarks.visitors --visitors 20 --seconds 120 [--think 0.5 2] [--cases 24] [--alone] [--json]

Starts `python app.py` as a user does; with --alone also one that joins no questions, and both are visited, one after
the other, by the same visitors. Each visitor is a client of the public endpoints with a picture and questions of
their own, who thinks between two calls; one more has the page open in a headless browser and drags its retention
slider. What /select, /answer and /inspect give, and what stands on the page's canvas after a release, is compared with
what the library gives in this process, computed before the first call. Visitors, browser and server share the cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file
from playwright.sync_api import Browser

from app.model_pool.loader import Loader
from app.settings import Settings
from benchmarks.report import Times, show, table
from benchmarks.server import EARLY, Memory, complaints, started, watched
from benchmarks.visitor_cases import Call, Case, Visitor, invite
from benchmarks.visitor_page import ANSWER, EXACT, PAINTED, SCRIPT, WORK, PageVisitor, orders
from pruning.cli import console
from pruning.models import SHIPPED, VLM, hide_progress
from tests.helpers.serving import browser

PATIENCE = 120.0  # seconds for an endpoint to answer
SHARES = {"/select": 0.42, "/answer": 0.42, "/inspect": 0.1, "/pareto": 0.03, "/compare": 0.03}
OWN: dict[str, dict[str, Any]] = {"/pareto": {"methods": ["idpruner", "random"]}, "/compare": {"others": []}}


@dataclass(frozen=True)
class Load:
    """How many visitors come, for how many seconds, how long they think (seconds, from and to), their settings each."""

    visitors: int
    seconds: float
    think: tuple[float, float]
    cases: int


@dataclass(frozen=True)
class Found:
    """All that all visitors did, and the server's memory meanwhile."""

    calls: list[Call]
    memory: Memory


@dataclass(frozen=True)
class Row:
    """All calls of one kind; times are of those that did not fail."""

    what: str
    calls: int
    errors: int
    wrong: int
    times: Times


def measured(vlm: VLM, chromium: Browser, url: str, pid: int, load: Load) -> Found:
    """Visit the app at `url`, process `pid`, which serves the same model as `vlm`."""
    with tempfile.TemporaryDirectory() as folder:
        *visitors, on_page = invite(vlm, Path(folder), load.visitors + 1, load.cases)
        page = PageVisitor(chromium, url, on_page.picture, orders(vlm, on_page.picture))
        clients = [Client(url, verbose=False, download_files=False, analytics_enabled=False) for _ in visitors]
        with watched(pid) as samples, ThreadPoolExecutor(max(1, load.visitors)) as crowd:
            until = time.monotonic() + load.seconds
            visits = [
                crowd.submit(visit, client, place, visitors, load.think, until) for place, client in enumerate(clients)
            ]
            calls = page.stay(until)  # in this thread, which is the browser's
            calls += [call for each in visits for call in each.result()]
        for client in clients:
            client.close()
    return Found(calls, Memory.of(samples))


def visit(
    client: Client, place: int, visitors: Sequence[Visitor], think: tuple[float, float], until: float
) -> list[Call]:
    """The calls of the visitor at `place` until `time.monotonic()` is `until`, one setting after the other."""
    rng, calls = np.random.default_rng(place), list[Call]()
    for case in cycle(visitors[place].cases):
        time.sleep(rng.uniform(*think))
        if time.monotonic() >= until:
            break
        endpoint = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        calls.append(asked(client, place, visitors, case, endpoint))
    return calls


def asked(client: Client, place: int, visitors: Sequence[Visitor], case: Case, endpoint: str) -> Call:
    """One call, timed from the upload of the picture to the result, and checked."""
    own = {"token": case.order[0]} if endpoint == "/inspect" else OWN.get(endpoint, {})
    image = handle_file(visitors[place].picture)
    start = time.perf_counter()
    try:
        result = client.submit(image=image, **case.given, **own, api_name=endpoint).result(PATIENCE)
    except Exception as error:  # whatever it is, a visitor would get it: it is counted and told
        return Call(endpoint, time.perf_counter() - start, f"{type(error).__name__}: {error}")
    seconds, problem = time.perf_counter() - start, case.problem(endpoint, result)
    if problem and endpoint == "/select":
        strangers = [v for v in visitors if any(not c.problem(endpoint, result) for c in v.cases)]
        problem += "".join(f"; it is right for {stranger.picture.stem}" for stranger in strangers)
    return Call(endpoint, seconds, wrong=problem)


def rows(found: Found) -> list[Row]:
    """One for each endpoint, then the page's."""
    lines = []
    for what in (*SHARES, PAINTED, WORK, EXACT, ANSWER, SCRIPT):
        calls = [call for call in found.calls if call.what == what]
        errors, wrong = sum(bool(call.error) for call in calls), sum(bool(call.wrong) for call in calls)
        if calls or what != SCRIPT:
            times = Times.of([call.seconds for call in calls if not call.error])
            lines.append(Row(what, len(calls), errors, wrong, times))
    return lines


def text(load: Load, found: Found) -> str:
    """What was found, to be read."""
    cells = [[r.what, f"{r.calls:,}", str(r.errors), str(r.wrong), *r.times.cells] for r in rows(found)]
    memory = found.memory
    sizes = (memory.start_mb, memory.early_mb, memory.end_mb)
    shown = ["–" if size is None else f"{size:,.0f} MB" for size in sizes]
    slope = "–" if memory.slope_mb_per_min is None else f"{memory.slope_mb_per_min:+.1f} MB/min"
    problems = Counter(f"{call.what}: {call.error or call.wrong}" for call in found.calls if call.error or call.wrong)
    return "\n".join([
        f"{load.visitors} visitors and a page for {load.seconds:g} s; each thinks {load.think[0]:g} to "
        f"{load.think[1]:g} s before a call and has {load.cases} settings\n",
        table(["what", "calls", "errors", "wrong", "median", "p95"], cells) + "\n",
        table(["server's memory", f"after {EARLY:g} s", "at the end", "slope of the second half"], [[*shown, slope]]),
        *(f"\n{count} × {problem}" for problem, count in problems.most_common(10)),
    ])  # fmt: skip


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say = parser.add_argument
    say(
        "--visitors", type=int, default=20, help="clients of the endpoints beside the page, 0 for it alone; default: 20"
    )
    say("--seconds", type=float, default=120, help="how long they stay; default: 120")
    thinks = "seconds that a visitor thinks before each call; default: 0.5 2"
    say("--think", type=float, nargs=2, default=(0.5, 2.0), metavar=("FROM", "TO"), help=thinks)
    say("--cases", type=int, default=24, help="settings of each visitor, asked in turn; default: 24")
    say("--alone", action="store_true", help="also measure a server that answers each question by itself")
    say("--json", action="store_true", help="print one JSON object instead of the tables")
    options = parser.parse_args(arguments)
    load = Load(options.visitors, options.seconds, tuple(options.think), options.cases)
    hide_progress()
    vlm = Loader(Settings(device="cpu")).load(str(SHIPPED))
    runs = [
        _run(vlm, load, *(("--joined", "0") if alone else ()))
        for alone in ((True, False) if options.alone else (False,))
    ]
    data, shown = {"load": asdict(load), **runs[-1][0]}, runs[-1][1]
    if options.alone:
        data["alone"] = runs[0][0]
        shown = f"each question by itself: {runs[0][1]}\n\nquestions joined: {shown}"
    show(data, shown, options.json)


def _run(vlm: VLM, load: Load, *options: str) -> tuple[dict[str, Any], str]:
    """One server with `options` visited: its figures as plain values, and to be read."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "app.log"
        with browser() as chromium, started(log, *options) as (url, pid):
            found, said = measured(vlm, chromium, url, pid, load), complaints(log)
    problems = [asdict(call) for call in found.calls if call.error or call.wrong]
    data = {"rows": [asdict(row) for row in rows(found)], "memory": asdict(found.memory)}
    shown = "\n".join([text(load, found), *(f"\nthe server said: {line}" for line in said[:10])])
    return data | {"problems": problems, "said": said}, shown


if __name__ == "__main__":
    main()
