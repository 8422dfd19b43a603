"""Visual token pruning for multimodal language models: a library without a web page (see `app` for that).

tokens = VisualTokens(features, (Grid(1, 16, 16),), {"scorer": scores})
selection = make("idpruner", mmr_lambda=0.5).select(tokens, keep_count(tokens.n, 0.25))
selection.indices      # (64,) ascending: the tokens the language model still receives
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pruning.budget import keep_count
    from pruning.grids import Grid
    from pruning.handover.pruner import Pruner
    from pruning.method import METHODS, Method, make, register
    from pruning.tokens import Selection, VisualTokens

__all__ = ["METHODS", "Grid", "Method", "Pruner", "Selection", "VisualTokens", "keep_count", "make", "register"]

HOMES = {
    "keep_count": "budget",
    "Grid": "grids",
    "Pruner": "handover.pruner",
    "Selection": "tokens",
    "VisualTokens": "tokens",
}


def __getattr__(name: str) -> object:
    """The names above, from their modules when they are asked for: `app.py --help` need not wait for PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'method')}"), name)
