"""How far loading is: the libraries' progress bars turned into calls of one function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float | None], None]
"""Called with the stage in words and the share done, 0 to 1; None where that is not known. From any thread."""

_hooked = threading.Lock()  # the library holds one hook for the whole process


def byte_bar(report: Progress, stage: str, total: int) -> Any:
    """A class for the hub's `tqdm_class`: bars that count bytes report together, as a share of `total` bytes."""
    from huggingface_hub import utils

    base: Any = utils.tqdm  # type: ignore[attr-defined]
    lock, done = threading.Lock(), 0
    report(stage, 0.0 if total else None)

    class ByteBar(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Some releases show what is received and what is written in a bar each: only one of them is counted.
            self.counts = kwargs.get("unit") == "B" and not str(kwargs.get("name")).endswith(".transfer")
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            if self.counts and total and n:
                with lock:
                    done += int(n)
                    report(stage, min(1.0, done / total))

    return ByteBar


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
