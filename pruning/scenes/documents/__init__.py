"""Receipts, tables, forms, signs and notices: what they say, how they are drawn, what is asked about them."""

from pruning.scenes.documents.draw import draw
from pruning.scenes.documents.questions import FAMILIES, ask

__all__ = ["FAMILIES", "ask", "draw"]
