"""A page hears of every event that it begins, also of one that begins while the stream before is being closed."""

from tests.helpers.holding import Holding
from tests.helpers.visits import visit

TURNS = 30


def test_what_begins_while_a_stream_is_being_closed_is_answered(served, chromium) -> None:
    proxy, told = Holding(served.url, seconds=0.5), []
    with proxy.serving() as url, visit(chromium, url) as tab:
        tab.set_default_timeout(20_000)
        tab.on("response", lambda response: told.append(response.headers.get("x-stream")))
        for turn in range(TURNS):
            tab.evaluate("document.querySelector('#report .badge').classList.add('before')")
            tab.fill("#retention input[type=number]", ("0.3", "0.5")[turn % 2])
            tab.keyboard.press("Enter")
            tab.wait_for_selector("#report .badge:is(.same, .other):not(.before)")
            if told.count("closed") >= 2:
                break
            tab.wait_for_timeout(turn * 110 % 500)  # the next one begins sooner or later in the half second
    assert told.count("closed") >= 2
    assert proxy.held > 2
