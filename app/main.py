"""From options to the page: what `python app.py` and the installed `idpruner-lab` do."""

import gc
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.api import mcp
from app.settings import NAME, Settings, parse
from app.web import address, stubs, uploads
from pruning.assets import AssetError
from pruning.cli import console
from pruning.starting import undisturbed


@console.command
def main() -> None:
    """Serve the page until the process is stopped. Exits with 2 where an option is wrong, 1 where it cannot start."""
    settings = parse(sys.argv[1:], os.environ)
    try:
        serve(settings)
    except AssetError as error:
        sys.exit(f"{console.program(NAME, 'app.py')}: {error}")


def serve(settings: Settings) -> None:
    """Load the first model, build the page, listen. Exits with a message where one of them cannot be done."""
    name = console.program(NAME, "app.py")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is reported to anyone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what is removed at the end is removed then too
    os.environ.pop("GRADIO_SERVER_NAME", None)  # settings have it; Gradio would try ports there, and not know IPv6
    try:
        settings = replace(settings, port=address.free_port(settings.host, settings.port))
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    try:
        folder = uploads.private_folder(os.environ)
    except OSError as error:
        sys.exit(f"{name}: no folder for uploads ({error}): let {uploads.VARIABLE} name one that can be written")
    stubs.skip()
    with undisturbed():
        demo, url = _launched(settings, name, folder)
    gc.freeze()  # what a server starts with stays: no later collection walks through it
    url = url.replace("[::]", "[::1]")  # listening everywhere is no address to open
    below = f" (for the proxy that serves it under {settings.root_path}/)" if settings.root_path else ""
    mcp_server = f"\nMCP server: {url}{mcp.PATH}{below}" if settings.mcp else ""
    print(f"IDPruner Lab: {url}{below}{mcp_server}", flush=True)
    demo.block_thread()


def _launched(settings: Settings, name: str, folder: Path) -> tuple[Any, str]:
    """The page, listening, and its address. folder: of uploads."""
    from app.engine import remote  # before torch: on a ZeroGPU Space it has to find CUDA untouched
    from app.engine.resources import Resources
    from app.model_pool.loader import Loader, listed
    from app.model_pool.pool import Models
    from app.race.runs import Races
    from app.training.runs import Trainings
    from app.ui import build_demo, launch_options
    from pruning import ops
    from pruning.models import hide_progress

    hide_progress()
    try:
        if settings.mcp:
            mcp.check_installed()
        loader = Loader(settings)
        allowed = listed(settings.model_ids, loader.fits)
        first = loader.load(allowed[0].model_id)
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    ops.warm_up()
    resources = Resources(int(settings.cache * 2**20), int(settings.upload_limit * 2**20), settings.joined)
    models = Models(allowed, first, loader, resources)
    if remote.is_remote():
        models.open_all()
    runs, starts = settings.runs_folder, settings.own_machine and not remote.is_remote()
    races = None if runs is None else Races(runs, starts)
    try:
        demo = build_demo(models, races, None if runs is None else Trainings(runs))
    except AssetError:
        raise
    except Exception as error:
        sys.exit(f"{name}: {allowed[0].title} does not answer the page's first question: {_cause(error)}")
    uploads.keep_swept(folder)
    address.past_proxies(settings.host, os.environ)
    try:
        _, url, _ = demo.launch(**launch_options(settings), prevent_thread_lock=True)
        if settings.mcp:
            mcp.finish(demo)
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f"{address.bracketed(settings.host)}:{settings.port}"
        sys.exit(f"{name}: cannot listen on {where} ({error}): free it on 127.0.0.1 too, or choose another --port")
    return demo, url


def _cause(error: Exception) -> str:
    """Expected errors carry their own words; the others are named by kind."""
    from app.engine.device import DeviceFullError

    expected = isinstance(error, (ValueError, DeviceFullError, TimeoutError))
    cause = str(error) if expected else f"{type(error).__name__}: {error}"
    return f"{cause.rstrip('.')}; or choose another --model"
