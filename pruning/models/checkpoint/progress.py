"""How far loading is: the libraries' progress bars turned into calls of one function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float | None], None]
"""Called with the stage in words and the share done, 0 to 1; None where that is not known. From any thread."""

TICK = 0.5  # seconds between two words while nothing comes

_hooked = threading.Lock()  # the library holds one hook for the whole process


class Bytes:
    """Bytes of a download, counted from any thread and told as a share of `total`; `report`: None tells nobody."""

    def __init__(self, report: Progress | None, stage: str, total: int, done: int = 0) -> None:
        self._report, self._stage, self._total, self._done = report, stage, total, done
        self._lock = threading.Lock()
        self._tell(stage, done / total if total else None)

    def add(self, count: int) -> None:
        """So many more have come; fewer than none where a file begins anew."""
        with self._lock:
            self._done += count
            if self._total:
                self._tell(self._stage, min(1.0, self._done / self._total))

    def wait(self, why: str, seconds: float) -> None:
        """Let time go by, and say why."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tell(f"{self._stage}: {why}", self._done / self._total if self._total else None)
            time.sleep(min(TICK, seconds))

    def bar(self) -> Any:
        """A class for the hub's `tqdm_class`: its bars count bytes here, and show nothing."""
        from huggingface_hub import utils

        base: Any = utils.tqdm  # type: ignore[attr-defined]
        told = self

        class ByteBar(base):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                # Some releases show what is received and what is written in a bar each: only one of them is counted.
                self.counts = kwargs.get("unit") == "B" and not str(kwargs.get("name")).endswith(".transfer")
                super().__init__(*args, **{**kwargs, "disable": True})

            def update(self, n: float | None = 1) -> None:
                if self.counts and n:
                    told.add(int(n))

        return ByteBar

    def _tell(self, stage: str, share: float | None) -> None:
        if self._report is not None:
            self._report(stage, share)


@contextmanager
def weights_bar(report: Progress | None, stage: str) -> Iterator[None]:
    """While open, the model library's bar over the weights reports as `stage`; other bars stay silent."""
    if report is None:
        yield
        return
    from huggingface_hub import utils
    from transformers.utils import logging

    base: Any = utils.tqdm  # type: ignore[attr-defined]
    tell = report

    class Bar(base):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[Any]:
            for number, item in enumerate(self.iterable, 1):
                yield item
                tell(stage, number / self.total)

    def silent_bar(_factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return Bar(*args, **{**kwargs, "disable": True})

    tell(stage, None)
    with _hooked:
        before = logging.set_tqdm_hook(silent_bar)
        try:
            yield
        finally:
            logging.set_tqdm_hook(before)
