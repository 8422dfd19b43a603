"""The procedural question set: what the shipped model was trained on and is measured with."""

from pruning.scenes.questions import FAMILIES, Question, questions
from pruning.scenes.render import HELD_OUT, Scene, render

__all__ = ["FAMILIES", "HELD_OUT", "Question", "Scene", "questions", "render"]
