"""Background threads that survive every exception, and are started again when they could not be started."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from audit_logging.interrupts import is_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 5.0

_LOG_SECONDS: Final = 60.0
"""How often the same thread reports its problem in the log."""

_log = logging.getLogger("audit_logging")


class BackgroundThread:
    """Calls *step* in a daemon thread again and again until it returns false.

    A step that raises is reported, and called again after a pause. A thread that could not be started, or that was
    killed, is started by the next :meth:`ensure_running`. Nothing here raises.

    Args:
        name: The thread's name.
        step: One unit of work; true when there may be more.
        pause: Waits that many seconds; true when the thread is to end instead of trying again.

    Attributes:
        problem: Why the last step failed, or the thread could not be started; empty once a step has succeeded.
        failed_at: When that was, by the monotonic clock.
        is_done: Whether the thread has ended for good.
    """

    def __init__(self, name: str, step: Callable[[], bool], pause: Callable[[float], bool]) -> None:
        self._name = name
        self._step = step
        self._pause = pause
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._running = threading.Lock()
        self._reported_at = float("-inf")
        self.problem = ""
        self.failed_at = float("-inf")
        self.is_done = False

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def ensure_running(self) -> None:
        """Start the thread unless it runs or is done. Returns at once, also where it cannot be started."""
        # `with`, since a signal handler may raise at any moment; reentrant, since it may come here itself.
        with self._starting:
            if self.is_done or self.is_alive:
                return
            try:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                if not self.is_alive:
                    self._thread = thread
            except (RuntimeError, MemoryError) as error:
                if is_interrupt(error):
                    raise
                self._report("cannot be started", error)

    def join(self, timeout: float) -> bool:
        """Wait up to *timeout* seconds for the thread to end; true when it is done for good."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.is_done

    def _run(self) -> None:
        if not self._running.acquire(blocking=False):  # two were started, if a signal handler came between
            return
        try:
            self._thread = threading.current_thread()
            self._take_steps()
        finally:
            self._running.release()

    def _take_steps(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self.is_done:
            try:
                self.is_done = not self._step()
                self.problem, pause = "", FIRST_PAUSE_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever the step failed on, the thread must not die of it
                self._report("failed", error)
                self.is_done = self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _report(self, what: str, error: BaseException) -> None:
        """Note the problem, and log it once a minute."""
        self.failed_at = time.monotonic()
        self.problem = f"thread {self._name} {what} ({describe(error)})"
        if sys.is_finalizing() or self.failed_at - self._reported_at < _LOG_SECONDS:
            return
        self._reported_at = self.failed_at
        _log.error("Audit %s; retrying.", self.problem)
        _log.debug("The traceback of that error:", exc_info=error)


def describe(error: BaseException) -> str:
    """Return the type and the text of *error* as one printable line.

    Example:
        >>> describe(OSError(24, "Too many open files"))
        'OSError: [Errno 24] Too many open files'
    """
    return f"{type(error).__name__}: {ascii(str(error))[1:-1][:300]}"
