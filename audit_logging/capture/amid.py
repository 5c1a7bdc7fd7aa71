"""Which threads are in the middle of something, for what may interrupt them there."""

from __future__ import annotations

import threading


class Amid(dict[int, threading.Lock]):
    """By thread, a lock that it holds meanwhile: nothing else is given back whatever exception strikes at any moment.

    A signal's handler and a finalizer run in the thread that they interrupt, and so find out what they interrupted.

    Example:
        >>> amid = Amid()
        >>> with amid.here():
        ...     amid.is_here()
        True
        >>> amid.is_here()
        False
    """

    def here(self) -> threading.Lock:
        """Return the lock that this thread is to hold meanwhile."""
        return self.setdefault(threading.get_ident(), threading.Lock())

    def is_here(self) -> bool:
        """Whether this thread is in the middle of it."""
        held = self.get(threading.get_ident())
        return held is not None and held.locked()
