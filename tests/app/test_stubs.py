"""Gradio is imported without writing stub files, and nothing else changes."""

import importlib
import sys
from types import ModuleType

from app.web import stubs


def test_the_module_that_writes_stubs_comes_without_its_writer(monkeypatch):
    there = importlib.import_module(stubs.MODULE)  # without its writer already: tests skip stubs from the start

    def anew() -> ModuleType:
        monkeypatch.delitem(sys.modules, stubs.MODULE)
        monkeypatch.setattr(stubs.MODULE, there)  # what is imported below stands in the package too, until the end
        return importlib.import_module(stubs.MODULE)

    finders = [finder for finder in sys.meta_path if not isinstance(finder, stubs._Quick)]
    monkeypatch.setattr(sys, "meta_path", finders)
    before = anew()
    stubs.skip()
    stubs.skip()
    assert len([finder for finder in sys.meta_path if isinstance(finder, stubs._Quick)]) == 1
    fresh = anew()
    assert fresh is not before
    assert getattr(before, stubs.WRITER).__module__ == stubs.MODULE
    assert getattr(fresh, stubs.WRITER).__module__ == "app.web.stubs"
    assert fresh.ComponentMeta.__module__ == stubs.MODULE
