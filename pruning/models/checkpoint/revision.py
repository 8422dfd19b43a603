"""Which files a model's weights and settings are, in a word that is the same wherever they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

EDGE: Final = 1 << 20  # bytes at both ends of a file that its fingerprint reads


def revision(source: str, config: Any) -> str:
    """The hub's commit, or a fingerprint of the folder's files: names, sizes, and a MiB at both ends of each."""
    folder = Path(source)
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None) or source)
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin", ".jinja")):
        size = path.stat().st_size
        found.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            found.update(file.read(EDGE))
            file.seek(max(0, size - EDGE))
            found.update(file.read(EDGE))
    return found.hexdigest()
