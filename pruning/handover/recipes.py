"""All recipes of a setting, and as one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pruning.handover import engines, ours
from pruning.handover.wanted import Recipe, Wanted

WRITERS: tuple[Callable[[Wanted], Recipe], ...] = (
    ours.library,
    ours.transformers,
    ours.command_line,
    ours.lmms_eval,
    engines.angelslim,
    engines.openvino,
    engines.vllm,
)
PROGRAMS: tuple[tuple[str, str, str], ...] = (
    ("library", "This library", "python"),
    ("transformers", "Plain transformers", "python"),
    ("command_line", "Command line", "bash"),
    ("lmms_eval", "lmms-eval", "bash"),
    ("angelslim", "AngelSlim", "yaml"),
    ("openvino", "OpenVINO GenAI", "python"),
    ("vllm", "vLLM", "bash"),
)
"""Key, title and language of each, in the order of WRITERS."""


def recipes(wanted: Wanted) -> tuple[Recipe, ...]:
    """The setting written for every program that is known here. Nothing is run for it."""
    return tuple(write(wanted) for write in WRITERS)


def document(found: Sequence[Recipe]) -> str:
    """Markdown: of each its text and its note."""
    parts = ["# Use this setting\n"]
    for recipe in found:
        parts.append(f"## {recipe.title}\n\n{recipe.note}\n")
        if recipe.text:
            parts.append(f"```{recipe.language}\n{recipe.text}```\n")
    return "\n".join(parts)
