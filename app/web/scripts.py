"""The page's scripts: the ES modules of assets/scripts/, served as they are.

Their address holds a digest of what they say: a browser keeps them for good, and asks for others once they change. It
is relative to the page's own, so that it leads to them below a proxy's path too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.web import html
from pruning import assets

IMPORTED = re.compile(r'^(?:import|export) .*?"\./([\w-]+\.js)";$', re.MULTILINE)
TRIGGERED = re.compile(r'trigger\(("\w+")')
LOST = "This part of the page could not be loaded: reload the page"


class _Forever(StaticFiles):
    """Files that never change below their address."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def modules() -> list[Path]:
    """Every module, by name. Raises AssetError where one is missing that another imports."""
    found = sorted(assets.found("scripts").glob("*.js"))
    for path in found:
        for name in IMPORTED.findall(path.read_text("utf-8")):
            assets.found("scripts", name)
    return found


def place() -> str:
    """The folder of the modules below the page's address, without a slash at either end."""
    digest = hashlib.sha256()
    for path in modules():
        digest.update(f"{path.name}\0{path.read_text('utf-8')}\0".encode())
    return f"scripts/{digest.hexdigest()[:16]}"


def routes() -> list[BaseRoute]:
    """What serves them: a route for the app's own, of `launch(app_kwargs={"routes": …})`."""
    return [Mount(f"/{place()}", _Forever(directory=assets.found("scripts")))]


def head(tips: Mapping[str, str]) -> str:
    """For the page's head: page.js runs, and what components will import is fetched meanwhile.

    tips: what tips.js says of components; by CSS selector, or "tab " and the words on it.
    """
    assets.found("scripts", "page.js")
    where = place()
    links = "".join(f'<link rel="modulepreload" href="{where}/{path.name}">' for path in modules())
    words = json.dumps(dict(tips)).replace("<", "\\u003c")  # no markup inside
    said = f'<script type="application/json" id="tips">{words}</script>'
    return f'{said}{links}<script type="module" src="{where}/page.js"></script>'


def start(name: str) -> str:
    """A component's script: `start` of its module gets what Gradio gives: `element`, `props`, `trigger`, `watch`.

    What it tells the server bears the moment: events.Told knows by it which of two came later.
    """
    events = ", ".join(TRIGGERED.findall(assets.text(f"scripts/{name}.js")))
    return f"""// Gradio reads here what a component's events are: {events}
import(new URL("{place()}/{name}.js", document.baseURI)).then(
  (module) => module.start({{
    element, props, watch, trigger: (name, data) => trigger(name, {{ ...data, at: performance.now() }}),
  }}),
  (error) => {{ element.insertAdjacentHTML("beforeend", `{html.notice(LOST, "warn")}`); throw error; }},
);"""
