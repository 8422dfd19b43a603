"""A page hears of every event that it begins, also of one that begins while the stream before is being closed."""

from tests.helpers.holding import Holding
from tests.helpers.visits import visit

SECONDS = 0.5


def test_what_begins_while_a_stream_is_being_closed_is_answered(served, chromium) -> None:
    proxy = Holding(served.url, SECONDS)
    with proxy.serving() as url, visit(chromium, url) as tab:
        tab.set_default_timeout(20_000)
        for turn in range(12):
            tab.evaluate("document.querySelector('#report .badge').classList.add('before')")
            tab.fill("#retention input[type=number]", ("0.3", "0.5")[turn % 2])
            tab.keyboard.press("Enter")
            tab.wait_for_selector("#report .badge:is(.same, .other):not(.before)")
            tab.wait_for_timeout(turn * 1000 * SECONDS / 12)
    assert proxy.held > 12
