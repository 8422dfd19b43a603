"""Bar, line, pie and scatter charts: their numbers, how they are drawn, what is asked about them."""

from pruning.scenes.charts.draw import draw
from pruning.scenes.charts.questions import FAMILIES, ask

__all__ = ["FAMILIES", "ask", "draw"]
