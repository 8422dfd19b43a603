"""IDPruner Lab: `python app.py`, then open http://127.0.0.1:7860. `python app.py --help` shows every option."""

import logging
import os
import signal
import sys

from app import mcp, uploads
from app.settings import parse


def _cause(error: Exception) -> str:
    """Expected errors carry their own words; the others are named by kind."""
    from app.device import DeviceFullError

    expected = isinstance(error, (ValueError, DeviceFullError, TimeoutError))
    told = str(error) if expected else f"{type(error).__name__}: {error}"
    return f"{told.rstrip('.')}; or choose another --model"


def main() -> None:
    settings = parse(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is reported to anyone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what is removed at the end is removed then too
    folder = uploads.private_folder(os.environ)
    from app import gpu  # before torch: on a ZeroGPU Space it has to find CUDA untouched
    from app.loader import Loader, listed
    from app.models import Models
    from app.resources import Resources
    from app.ui import build_demo, launch_options
    from pruning import ops
    from pruning.models import hide_progress

    hide_progress()
    try:
        if settings.mcp:
            mcp.check_installed()
        allowed, loader = listed(settings.model_ids), Loader(settings)
        first = loader.load(allowed[0].model_id)
    except ValueError as error:
        sys.exit(f"app.py: {error}")
    ops.warm_up()
    resources = Resources(int(settings.cache * 2**20), int(settings.upload_limit * 2**20))
    models = Models(allowed, first, loader, resources)
    if gpu.is_remote():
        models.open_all()
    try:
        demo = build_demo(models)
    except Exception as error:
        sys.exit(f"app.py: {allowed[0].title} does not answer the page's first question: {_cause(error)}")
    uploads.keep_swept(folder)
    try:
        _, url, _ = demo.launch(**launch_options(settings), prevent_thread_lock=True)
        if settings.mcp:
            mcp.finish(demo)
    except ValueError as error:
        sys.exit(f"app.py: {error}")
    except OSError as error:
        sys.exit(
            f"app.py: cannot listen on {settings.host}:{settings.port} ({error}): free it, or choose another --port"
        )
    print(f"IDPruner Lab: {url}" + (f"\nMCP server: {url}{mcp.PATH}" if settings.mcp else ""), flush=True)
    demo.block_thread()


if __name__ == "__main__":
    main()
