"""Windows with tabs, boxes, switches, fields, badges and buttons: small marks that decide an answer."""

from pruning.scenes.interfaces.draw import draw
from pruning.scenes.interfaces.questions import FAMILIES, ask

__all__ = ["FAMILIES", "ask", "draw"]
