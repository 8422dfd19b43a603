"""Gradio is imported without writing stub files, and nothing else changes."""

import importlib
import sys

from app.web import stubs


def test_the_module_that_writes_stubs_comes_without_its_writer(monkeypatch):
    before = importlib.import_module(stubs.MODULE)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    stubs.skip()
    stubs.skip()
    assert len([finder for finder in sys.meta_path if isinstance(finder, stubs._Quick)]) == 1
    monkeypatch.delitem(sys.modules, stubs.MODULE)
    monkeypatch.setattr(stubs.MODULE, before)  # what is imported below stands in the package too, until the end
    fresh = importlib.import_module(stubs.MODULE)
    assert fresh is not before
    assert getattr(before, stubs.WRITER).__module__ == stubs.MODULE
    assert getattr(fresh, stubs.WRITER).__module__ == "app.web.stubs"
    assert fresh.ComponentMeta.__module__ == stubs.MODULE
