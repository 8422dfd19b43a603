"""For rooms that show what lies in the operator's folder: the shipped model behind them."""

import pytest

from pruning.models import load
from tests.helpers.serving import Shelf, models_of


@pytest.fixture(scope="module")
def models():
    vlm = load()
    return models_of(Shelf({vlm.model_id: vlm}))


@pytest.fixture(scope="module")
def shipped_engine(models, uploads):
    with models.use(models.first, "test") as (engine, _):
        return engine
