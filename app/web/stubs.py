"""Gradio imported without what it does for editors alone.

For each class of components it parses that class's source, and writes a stub file beside it where that has changed:
a second and more at every start. Editors find the stubs that came with the package.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

MODULE, WRITER = "gradio.component_meta", "create_or_modify_pyi"


class _Quick(MetaPathFinder):
    """Finds the module that writes the stubs, and takes its writer away once it is there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == MODULE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def without_writer(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, WRITER):
                setattr(module, WRITER, lambda *_: None)

        spec.loader.exec_module = without_writer  # type: ignore[method-assign]
        return spec


def skip() -> None:
    """To be called before Gradio is imported; afterwards it changes nothing."""
    if not any(isinstance(finder, _Quick) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Quick())
