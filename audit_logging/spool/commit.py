"""Turns at the disk: threads that wait for it at the same time share one sync.

The first to come leads: it waits until as many have joined as the last time, though not longer than two syncs take, and
then syncs for all. Without that wait the threads fall into two halves, each of which waits for the other's sync. Those
who wait then wake one another, each the next before it goes on: all at once they would fight for the interpreter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_WAIT_SECONDS: Final = 0.05
"""After which whoever waits looks for itself, whatever became of the one that leads."""


class GroupCommit:
    """The turn at the disk. Thread-safe.

    Attributes:
        turn: Held by whoever syncs, or must not be disturbed by it.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._served: deque[threading.Lock] = deque()
        self._expected = 0
        self._are_here: SimpleQueue[None] = SimpleQueue()
        self._seconds = 0.0

    def share(self, sync: Callable[[], bool]) -> None:
        """Call *sync* for everybody who waits; or wait, if somebody else is about to, and find out what it did.

        Args:
            sync: Returns false when there was nothing to do after all.
        """
        if self.turn.locked():
            self._wait()
            return
        try:
            with self.turn:  # nothing else is safe from a signal's handler that raises
                self._gather()
                began = time.perf_counter()
                if sync():
                    self._seconds = min(time.perf_counter() - began, _LONGEST_WAIT_SECONDS)
                    self._expected = len(self._waiting)
        finally:
            self._serve()

    def _wait(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        if len(self._waiting) >= self._expected:
            self._are_here.put(None)
        is_woken = False
        try:  # where nobody has the turn any more, nobody may be there to wake this one
            is_woken = self.turn.locked() and mine.acquire(timeout=_LONGEST_WAIT_SECONDS)
        finally:
            if not is_woken:
                self._withdraw(mine)
            self._wake_next()

    def _withdraw(self, mine: threading.Lock) -> None:
        """Be woken no more: a lock that nobody waits for would wake nobody after it."""
        try:
            self._waiting.remove(mine)
        except ValueError:  # it is served, and woken in its turn
            mine.acquire(timeout=_LONGEST_WAIT_SECONDS)

    def _gather(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._are_here.get_nowait()
        if len(self._waiting) < self._expected:
            with contextlib.suppress(Empty):
                self._are_here.get(timeout=2 * self._seconds)

    def _serve(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._served.append(self._waiting.popleft())
        self._wake_next()

    def _wake_next(self) -> None:
        with contextlib.suppress(IndexError):
            self._served.popleft().release()
