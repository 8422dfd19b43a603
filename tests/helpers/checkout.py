"""Where the checkout is that these tests belong to."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NOWHERE = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
"""The environment of a machine with a proxy that nobody answers at."""


def start_app(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`python app.py` with these arguments, in the checkout."""
    command = [sys.executable, "app.py", *arguments]
    where = os.environ | environment
    return subprocess.Popen(command, cwd=ROOT, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
