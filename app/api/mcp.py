"""The named endpoints as tools of a Model Context Protocol server. Gradio makes it; here is what that leaves open."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

PATH = "gradio_api/mcp/"  # under the page's address


def check_installed() -> None:
    """Raises ValueError where the package that Gradio's server needs is missing."""
    if importlib.util.find_spec("mcp") is None:
        raise ValueError(
            "--mcp needs the package mcp, which is not installed: pip install -r requirements-mcp.txt, or "
            "idpruner-lab[mcp] outside a checkout"
        )


def finish(demo: Any) -> None:
    """Have the server of a launched page answer in JSON, where Gradio would write Python.

    Raises ValueError with the reason where there is no server: a launch does not fail for that.
    """
    server = demo.mcp_server_obj
    if server is None or demo.mcp_error:
        raise ValueError(
            f"the MCP server did not start ({demo.mcp_error}): start without --mcp, or update the packages"
        )
    as_python = server.postprocess_output_data

    def as_json(data: list[Any], root_url: str) -> Any:
        return as_python([json.dumps(part, ensure_ascii=False) for part in data], root_url)

    server.postprocess_output_data = as_json
