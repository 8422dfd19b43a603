"""Pieces of work of one kind that wait for the device at once go through the model together.

Nobody waits in order to be joined: while the device is at work others come, and whoever's turn is next takes those
along that fit with it. Alone, a piece is done as if there were no others. No Gradio, no model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.engine.device import CURRENT, RiddenError, Ride, Task, out_of_memory, release_memory

W = TypeVar("W")
R = TypeVar("R")
Together = Callable[[Sequence[tuple[W, Task]]], Sequence[R]]

MOST_TOKENS = 8192  # of one pass, padding included
PADDING = 1.25  # tokens of a pass over those of its pieces alone, at most


@dataclass(eq=False)
class Piece(Ride, Generic[W]):
    """A piece of work, its size in tokens, and whose it is; `result` once it is over. alone: it is not joined."""

    work: W = None  # type: ignore[assignment]
    tokens: int = 1
    task: Task | None = None
    alone: bool = False
    result: Any = None


class Joint(Generic[W, R]):
    """One kind of one model's work. First come, first served: a turn goes to the piece that has waited longest, and of
    the others those join that came first. An error in a pass with others is nobody's: each then has a turn alone.
    """

    def __init__(self, most: int = MOST_TOKENS) -> None:
        """most: tokens of a pass of several, all padded to the longest; 0: one by one."""
        self._most, self._lock, self._waiting = most, threading.Lock(), list[Piece[W]]()

    def run(
        self, work: W, tokens: int, together: Together[W, R], turn: Callable[[Callable[[], None], Ride], None]
    ) -> R:
        """The result of `work`, of a prompt of so many tokens.

        together: does one or several pieces, each with the task that stops it. turn: runs what it is given once it has
        the device, as `Device.run`. Raises as that does, but for RiddenError.
        """
        piece = Piece(work=work, tokens=tokens, task=CURRENT.get())
        with self._lock:
            self._waiting.append(piece)
        try:
            with suppress(RiddenError):
                turn(lambda: self._lead(piece, together), piece)
        finally:
            with self._lock:
                if piece in self._waiting:
                    self._waiting.remove(piece)
        result: R = piece.result
        return result

    def _lead(self, piece: Piece[W], together: Together[W, R]) -> None:
        """Do this piece, and those that fit with it."""
        if piece.over:
            return
        pack = self._taken(piece)
        try:
            _done(pack, together)
        except Exception as error:
            if len(pack) == 1:
                raise
            full = out_of_memory(error)
            self._give_back(pack, piece)
        else:
            return
        if full:
            release_memory()
        _done([piece], together)

    def _taken(self, piece: Piece[W]) -> list[Piece[W]]:
        """This one and those that go with it, in the order in which they came; they wait no longer."""
        with self._lock:
            pack = [piece]
            for other in () if piece.alone else self._waiting:
                stopped = other.task is not None and other.task.is_set()
                if other is not piece and not (other.alone or stopped) and self._fit([*pack, other]):
                    pack.append(other)
            for one in pack:
                one.begun = True
            self._waiting = [one for one in self._waiting if one not in pack]
        return pack

    def _fit(self, pack: Sequence[Piece[W]]) -> bool:
        padded = len(pack) * max(one.tokens for one in pack)
        return padded <= min(self._most, PADDING * sum(one.tokens for one in pack))

    def _give_back(self, pack: Sequence[Piece[W]], leader: Piece[W]) -> None:
        """Each will be done alone; those whose turn is still to come wait on."""
        with self._lock:
            for one in pack:
                one.alone, one.begun = True, one is leader
            self._waiting = [*(one for one in pack if one is not leader), *self._waiting]


def _done(pack: Sequence[Piece[W]], together: Together[W, R]) -> None:
    results = together([(one.work, one.task or Task()) for one in pack])
    for one, result in zip(pack, results, strict=True):
        one.result, one.over = result, True
