"""Group commit: threads that want their events on the disk itself at the same time share the work and the sync.

When as many are here as the last time, the last of them leads: it writes the events of all, and syncs once. The first
waits for them no longer than two syncs take, and then leads those who are here. Without that wait the threads fall into
two halves, each of which waits for the other's sync; and a thread that wrote for itself would have to get the
interpreter back after its write, which costs more than the write. Those who are served wake one another, each the next
before it goes on: all at once they would fight for the interpreter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from audit_logging.capture.amid import Amid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit_logging.events.document import Document

_LONGEST_WAIT_SECONDS: Final = 0.1
"""How long the first waits at most for those who may come."""

_FORGOTTEN_SECONDS: Final = 1.0
"""After how long one who waits looks for itself: an exception set from outside can strike whoever was to wake it."""


class Turn:
    """What one thread waits for: that its document is written and a sync for it was tried.

    Attributes:
        document: What is to be written.
        sequence: What it was written under; 0 as long as it is not.
        error: Why it could not be.
        is_over: Whether its thread may go on.
    """

    __slots__ = ("bell", "document", "error", "is_over", "sequence", "waits")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.bell = threading.Lock()
        self.bell.acquire()
        self.sequence = 0
        self.error: Exception | None = None
        self.is_over = False
        self.waits = True

    def ring(self) -> None:
        """Wake the thread that waits for it."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self.bell.release()


class GroupCommit:
    """Thread-safe. For threads in which no signal's handler can strike, so not for the main thread.

    Args:
        write: Writes the document of one turn, and says in it what came of that; nothing when it would have to wait.
            What it raises is the trouble of the thread that writes.
        sync: Brings everything up to a sequence to the disk itself; what came of it is to be asked for afterwards.

    Attributes:
        members: The threads that are in it. A finalizer that runs in one must not join again: it might wait for the
            thread that it interrupts.
    """

    def __init__(self, write: Callable[[Turn], None], sync: Callable[[int], None]) -> None:
        self._write = write
        self._sync = sync
        self._leading = threading.Lock()
        self.members = Amid()
        self._waiting: deque[Turn] = deque()
        self._served: deque[Turn] = deque()
        self._expected = 0
        self._seconds = 0.0

    def join(self, document: Document) -> int:
        """Return the sequence of *document* when a sync for it was tried; 0 when it was not written yet.

        Raises:
            Exception: Why it could not be written, whichever thread tried.
        """
        turn = Turn(document)
        with self.members.here():
            try:
                self._waiting.append(turn)
                self._wait(turn)
            except BaseException:
                with contextlib.suppress(ValueError):  # it is taken already
                    self._waiting.remove(turn)
                self._wake_first()
                raise
            finally:
                turn.waits = False
                self._wake_next()
        if turn.error is not None:
            raise turn.error
        return turn.sequence

    def _wait(self, turn: Turn) -> None:
        """Return when it is over, which may take leading."""
        has_waited = False
        while not turn.is_over:
            if (has_waited or len(self._waiting) >= self._expected) and not self._leading.locked():
                with self._leading:  # nothing else is safe from an exception that strikes at any moment
                    if not turn.is_over:
                        self._lead(turn)
                self._wake_first()
            else:
                has_waited = not turn.bell.acquire(timeout=self._patience(turn))

    def _patience(self, turn: Turn) -> float:
        """Return for how long a thread waits, unless it is woken, before it leads."""
        if turn is not self._first() or self._leading.locked():
            return _FORGOTTEN_SECONDS
        return min(2 * self._seconds, _LONGEST_WAIT_SECONDS)

    def _first(self) -> Turn | None:
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def _wake_first(self) -> None:
        """Let the first of those who came too late look whether it is to lead."""
        if (first := self._first()) is not None:
            first.ring()

    def _lead(self, own: Turn) -> None:
        turns: list[Turn] = []
        try:
            began = time.perf_counter()
            self._take(turns)
            if own not in turns:  # whoever took it was struck by an exception
                turns.append(own)
            self._serve(turns)
            self._expected = len(turns) + len(self._waiting)
            self._seconds = time.perf_counter() - began
        finally:
            for turn in turns:
                turn.is_over = True
            self._served.extend(turns)

    def _take(self, turns: list[Turn]) -> None:
        with contextlib.suppress(IndexError):
            turns.extend(iter(self._waiting.popleft, None))  # in one step, so that none is lost

    def _serve(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            if not turn.sequence and turn.error is None:
                self._write(turn)
        if last := max((turn.sequence for turn in turns), default=0):
            self._sync(last)

    def _wake_next(self) -> None:
        """Wake one of those who are served; each that goes on does so, so that nobody is forgotten."""
        with contextlib.suppress(IndexError):
            while not (turn := self._served.popleft()).waits:
                pass
            turn.ring()
