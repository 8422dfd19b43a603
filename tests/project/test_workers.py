"""Processes of tests side by side: who has to be alone is, and is not put off by others that come."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.helpers import workers

fcntl = pytest.importorskip("fcntl")


def waits_at(gate: Path) -> bool:
    with gate.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_is_alone_waits_for_those_inside_and_holds_up_those_who_come(tmp_path: Path) -> None:
    inside, other, third = (workers.Turns(tmp_path / "turns") for _ in range(3))
    order, ends = list[str](), threading.Event()

    def alone() -> None:
        with other.taken(alone=True):
            order.append("alone")
            ends.wait()
            order.append("no longer")

    def beside() -> None:
        with third.taken(alone=False):
            order.append("beside")

    threads = [threading.Thread(target=alone), threading.Thread(target=beside)]
    with inside.taken(alone=False):
        with third.taken(alone=False):
            pass  # two are beside each other
        threads[0].start()
        while not waits_at(tmp_path / "turns" / "gate"):
            time.sleep(0.001)
        threads[1].start()
        time.sleep(0.05)
        assert order == []
    while order != ["alone"]:
        time.sleep(0.001)
    time.sleep(0.05)
    assert order == ["alone"]
    ends.set()
    for thread in threads:
        thread.join()
    assert order == ["alone", "no longer", "beside"]


def test_what_fails_gives_up_its_turn(tmp_path: Path) -> None:
    first, second = (workers.Turns(tmp_path / "turns") for _ in range(2))
    with pytest.raises(ZeroDivisionError), first.taken(alone=True):
        1 / 0  # noqa: B018
    with second.taken(alone=True):
        pass


def test_tests_that_run_in_one_process_need_no_turn(request: pytest.FixtureRequest) -> None:
    class Config:
        pass

    with workers.turn(Config(), alone=True), workers.turn(Config(), alone=True):
        pass
