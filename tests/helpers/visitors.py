"""Visitors of a page, each in a browser context of its own that it leaves to the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

# Whoever opens the page has been here before: the guide for new visitors stays closed.
NEW_TAB = """if (!sessionStorage.visited) {
  localStorage.clear();
  sessionStorage.visited = 1;
  localStorage.setItem("idpruner-guide-seen", "yes");
}"""
CHANGES = ("add_init_script", "grant_permissions", "on", "route", "set_offline", "set_extra_http_headers")
SIZE = {"width": 1280, "height": 720}  # Playwright's own


class Visitors:
    """Opens contexts of a browser.

    One that is closed stays for the next visitor, without its pages, its cookies and what its pages stored. What stays
    is the cache: compiling the page's scripts anew takes three quarters of the processor time of opening it. A context
    that a test has changed by more than pages ends.
    """

    def __init__(self, chromium: Browser) -> None:
        self._new_context = chromium.new_context
        self._free: dict[str, list[_Kept]] = {}

    def open(
        self, *, viewport: dict[str, int] | None = None, color_scheme: Any = None, **options: Any
    ) -> BrowserContext:
        """As Playwright's `new_context`."""
        free = self._free.setdefault(repr(sorted(options.items())), [])
        kept = free.pop() if free else _Kept(self._new_context(**options), free)
        kept.viewport, kept.color_scheme = viewport or SIZE, color_scheme
        return kept.context


class _Kept:
    """A context whose `close` puts it back among the free ones. Size and colours are its pages', not its own."""

    def __init__(self, context: BrowserContext, free: list[_Kept]) -> None:
        self.context, self._free = context, free
        self.viewport: Any = SIZE
        self.color_scheme: Any = None
        self._changed = False
        context.add_init_script(NEW_TAB)
        self._new_page, self._close = context.new_page, context.close
        context.new_page, context.close = self._open, self._leave  # type: ignore[assignment, method-assign]
        for name in CHANGES:
            setattr(context, name, self._marked(getattr(context, name)))

    def _open(self) -> Page:
        page = self._new_page()
        page.set_viewport_size(self.viewport)
        page.emulate_media(color_scheme=self.color_scheme)
        return page

    def _leave(self) -> None:
        if self._changed:
            self._close()
            return
        for page in self.context.pages:
            page.close()
        self.context.clear_cookies()
        self._free.append(self)

    def _marked(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*values: Any, **named: Any) -> Any:
            self._changed = True
            return change(*values, **named)

        return marked
