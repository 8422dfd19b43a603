"""A host that waits for its device."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

FETCHING = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")


@contextmanager
def no_fetching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this block every way to read a tensor's values on the host raises: it would wait for the device."""

    def refuse(tensor: torch.Tensor, *_: object) -> None:
        raise RuntimeError("the host waits for the device")

    with monkeypatch.context() as patch:
        for name in FETCHING:
            patch.setattr(torch.Tensor, name, refuse)
        with pytest.raises(RuntimeError, match="waits"):
            int(torch.tensor(1))
        yield
