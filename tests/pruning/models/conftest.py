"""What tests of every family share."""

from collections.abc import Callable, Sequence

import pytest
from PIL import Image

from pruning.models import VLM

Sizes = Sequence[tuple[int, int]]


@pytest.fixture
def vlm(any_vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> VLM:
    """Every family in turn, none of which ends its answers by itself: random weights may do so at once."""
    monkeypatch.setattr(any_vlm.model.generation_config, "eos_token_id", -1)
    return any_vlm


@pytest.fixture
def pictures(noise: Callable[..., Image.Image]) -> Callable[[Sizes], list[Image.Image]]:
    """Noise of these widths and heights, each another."""
    return lambda sizes: [noise(*size, seed=i) for i, size in enumerate(sizes)]
