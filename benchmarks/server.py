"""The app as a user starts it, in a process of its own, and the memory that it takes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from pruning.assets import PACKAGE

ROOT = PACKAGE.parent  # the checkout: benchmarks are not installed
READY = "IDPruner Lab: "  # what the app prints before its address, once it listens
PATIENCE = 300.0  # seconds for it to start
EVERY = 2.0  # seconds between two looks at the memory
EARLY = 30.0  # seconds after which caches, compiled kernels and threads are expected to stand


@contextmanager
def started(log: Path, *options: str) -> Iterator[tuple[str, int]]:
    """`python app.py` on a free port with `options`, all else as it is by default: its address and process id.

    What it prints goes to `log`. Raises RuntimeError with that where it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        command = [sys.executable, "app.py", "--port", str(port), *options]
        server = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _address(server, log), server.pid
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where the app listens, as soon as it says so."""
    late = time.monotonic() + PATIENCE
    while time.monotonic() < late and server.poll() is None:
        told = log.read_text("utf-8", "replace").partition(READY)[2]
        if "\n" in told:
            return told.splitlines()[0]
        time.sleep(0.1)
    raise RuntimeError(f"the app did not start within {PATIENCE:.0f} s:\n{log.read_text('utf-8', 'replace')[-2000:]}")


@dataclass(frozen=True)
class Memory:
    """Resident megabytes (10^6 bytes) of a process and its children: at the start, after EARLY seconds (None where it
    was over by then), at the end; and their slope over the second half (None of less than two looks).
    """

    start_mb: float
    early_mb: float | None
    end_mb: float
    slope_mb_per_min: float | None

    @classmethod
    def of(cls, samples: Sequence[tuple[float, float]]) -> Memory:
        """From (seconds, megabytes), at least one, the first one at the start."""
        seconds, sizes = np.array(samples).T
        half = seconds >= seconds[-1] / 2
        slope = float(np.polyfit(seconds[half], sizes[half], 1)[0]) * 60 if half.sum() > 1 else None
        early = sizes[seconds >= EARLY]
        return cls(
            round(float(sizes[0]), 1),
            round(float(early[0]), 1) if early.size else None,
            round(float(sizes[-1]), 1),
            None if slope is None else round(slope, 2),
        )


@contextmanager
def watched(pid: int) -> Iterator[list[tuple[float, float]]]:
    """(seconds, megabytes) of the process and its children, every EVERY seconds until the block ends, and then."""
    samples: list[tuple[float, float]] = []
    start, over = time.monotonic(), threading.Event()

    def look() -> None:
        samples.append((time.monotonic() - start, loaded_model(pid) / 1e6))

    def work() -> None:
        while not over.wait(EVERY):
            look()

    look()
    thread = threading.Thread(target=work, name="memory", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
        look()


def loaded_model(pid: int) -> int:
    """LoadedModel bytes of the process and its children, 0 where it is gone; pages that they share count for each."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def complaints(log: Path) -> list[str]:
    """What the app printed beside its address."""
    return [line for line in log.read_text("utf-8", "replace").splitlines() if line and not line.startswith(READY)]
