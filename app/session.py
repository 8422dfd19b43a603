"""What one visitor's page remembers between two events: small, frozen, no pixels, no tensors, no text.

Everything heavy lives in the engine's cache under `image_key`; when it was evicted, `path` brings it back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    """An image as the page knows it: content hash, the file it came from, its size in pixels."""

    image_key: str
    path: str
    width: int
    height: int
