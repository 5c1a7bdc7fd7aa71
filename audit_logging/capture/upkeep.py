"""The thread that looks after a trail once a second: its other threads, and the spool on the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from audit_logging.background import BackgroundThread
from audit_logging.shipping.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_SECONDS: Final = 1.0
"""How often, so that a fault is noticed within two seconds also where nothing is emitted."""


class Upkeep:
    """Calls a method every second. Where its thread cannot be started, emit calls do its work.

    Args:
        look: The method. It is not kept alive: the thread ends with the object that the method belongs to.

    Attributes:
        due: When the method is to be called next, by the monotonic clock; never before the start.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = WeakMethod(look)
        self._stopping = Bell()
        self._thread = BackgroundThread("audit-logging-upkeep", self._step, self._stopping.wait)
        self.due = float("inf")

    def start(self) -> None:
        """Start in the background unless it runs already, and note that the method is called now."""
        self.due = time.monotonic() + INTERVAL_SECONDS
        self._thread.ensure_running()

    def stop(self) -> None:
        """Let the thread end soon."""
        self._stopping.ring()

    def _step(self) -> bool:
        if self._stopping.wait(INTERVAL_SECONDS):
            return False
        look = self._look()
        if look is None:
            return False
        look()
        return True
