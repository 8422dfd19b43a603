"""How a program starts: what it imports, and how long that takes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected inside: modules, classes and weights that are loaded last as long as the process, and
    walking through them over and over, as their number grows, takes a quarter of the start.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
