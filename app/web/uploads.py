"""Where visitors' files lie, and when they go: a folder of this process alone, in which nothing grows old.

Gradio writes uploads there, exports lie there, and beside them what nobody keeps a list of: pictures that came as data
URLs, empty temporary files. So what is looked at is the folder, and not a list.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

KEPT, EVERY = 3600.0, 300.0  # seconds that a file stays, and between two looks at the folder
VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio puts files; read when it is imported


def private_folder(environment: MutableMapping[str, str]) -> Path:
    """A new folder that this user alone can enter, in the one that the variable names, or in the system's.

    The variable names it from now on. It goes with the process, and only with the one that made it: a fork has to leave
    it alone.
    """
    outer = environment.get(VARIABLE)
    if outer:
        os.makedirs(outer, exist_ok=True)
    folder, mine = Path(tempfile.mkdtemp(prefix="idpruner-", dir=outer or None)), os.getpid()

    def remove() -> None:
        if os.getpid() == mine:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    environment[VARIABLE] = str(folder)
    return folder


def keep_swept(folder: Path) -> None:
    """From now on, delete what is older than KEPT, every EVERY seconds."""

    def work() -> None:
        while True:
            time.sleep(EVERY)
            sweep(folder, time.time() - KEPT)

    threading.Thread(target=work, name="sweep", daemon=True).start()


def sweep(folder: Path, before: float) -> int:
    """Delete every file in the folder that was written before this time (seconds since the epoch), and every folder in
    it that has long been empty. Returns how many files went; links are deleted and not followed.
    """
    deleted = 0
    for root, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *(name for name in folders if os.path.islink(os.path.join(root, name)))):
            with suppress(OSError):  # somebody else deletes too, or it is written just now
                path = os.path.join(root, name)
                if os.lstat(path).st_ctime < before:
                    os.remove(path)
                    deleted += 1
        with suppress(OSError):  # it is not empty
            if root != str(folder) and os.lstat(root).st_mtime < before:
                os.rmdir(root)
    return deleted
