"""Files that a file system or a desktop leaves beside people's own: nobody made them, they count nowhere."""

from __future__ import annotations

NAMES = frozenset({".ds_store", ".localized", "desktop.ini", "thumbs.db", "ehthumbs.db", "icon\r"})
TWIN = "._"  # begins the name that macOS gives to what it knows of a file, on disks and in archives of other systems


def is_debris(name: str) -> bool:
    """Whether a file of this name (no path) is one of them."""
    return name.startswith(TWIN) or name.lower() in NAMES
