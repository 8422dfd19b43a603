"""IDPruner Lab: `python app.py`, then open http://127.0.0.1:7860. `python app.py --help` shows every option."""

import logging
import os
import sys

from app.settings import parse


def main() -> None:
    settings = parse(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is reported to anyone
    from app.engine import Engine
    from app.ui import build_demo, launch_options
    from pruning import ops
    from pruning.models import SHIPPED, hide_progress, limit_threads, load

    hide_progress()
    try:
        vlm = load(settings.model or SHIPPED, device=settings.device, dtype=settings.dtype)
    except ValueError as error:
        sys.exit(f"app.py: {error}")
    limit_threads(vlm)
    ops.warm_up()
    engine = Engine(vlm, int(settings.cache * 2**20), int(settings.upload_limit * 2**20))
    demo = build_demo(engine)
    print(f"IDPruner Lab: http://{settings.host}:{settings.port}", flush=True)
    try:
        demo.launch(**launch_options(settings))
    except OSError as error:
        sys.exit(
            f"app.py: cannot listen on {settings.host}:{settings.port} ({error}): free it, or choose another --port"
        )


if __name__ == "__main__":
    main()
