"""What threads wait for, and what may be rung from anywhere: by threads, and by the handler of a signal."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Bell:
    """Like :class:`threading.Event`, but for handlers of signals and finalizers too.

    An Event has a lock, which a handler that interrupts its thread in ``set`` would wait for in vain. Here all state is
    in a queue whose ``put`` may be interrupted by another (Python documentation, "SimpleQueue"). It costs less, too.

    Example:
        >>> bell = Bell()
        >>> bell.wait(0), bell.ring(), bell.wait(0), bell.is_rung
        (False, None, True, True)
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Let everybody who waits go on, now and until :meth:`clear`."""
        if self._rings.empty():
            self._rings.put(None)

    @property
    def is_rung(self) -> bool:
        """Whether it was rung. False for a moment, too, while one who waited for it is going on."""
        return not self._rings.empty()

    def wait(self, timeout: float) -> bool:
        """Wait up to *timeout* seconds until it is rung; true when it was."""
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        self._rings.put(None)  # others wait as well
        return True

    def clear(self) -> None:
        """Let those wait who come from now on."""
        with contextlib.suppress(Empty):
            while True:
                self._rings.get_nowait()
