"""Visual token pruning for multimodal language models: a library without a web page (see `app` for that).

tokens = VisualTokens(features, (Grid(1, 16, 16),), {"scorer": scores})
selection = make("idpruner", mmr_lambda=0.5).select(tokens, keep_count(tokens.n, 0.25))
selection.indices      # (64,) ascending: the tokens the language model still receives
"""

from pruning import methods as _methods  # noqa: F401  (fills the registry)
from pruning.budget import keep_count
from pruning.grids import Grid
from pruning.method import METHODS, Method, make, register
from pruning.tokens import Selection, VisualTokens

__all__ = ["METHODS", "Grid", "Method", "Selection", "VisualTokens", "keep_count", "make", "register"]
