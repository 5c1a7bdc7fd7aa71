"""What the shipper says in the application's log: each cause once in a while, and how often it was held back."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_SECONDS = 60.0
"""How long a cause is held back after it was told."""

_MOST_CAUSES = 1000
_log = logging.getLogger("audit_logging")


class Notices:
    """Tells each cause at once, then at most once an interval. Thread-safe.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._held_back: dict[str, int] = {}
        self.last_problem = ""
        """What last kept events waiting, told or held back; empty after a success."""
        self.credentials_refused = False
        """Whether that was that the credentials were refused."""

        self.stream_missing = False
        """Whether that was that there is no data stream of that name."""

    def passed(self) -> None:
        """Note that events were stored, so that what kept them waiting is over."""
        self.last_problem = ""
        self.credentials_refused = self.stream_missing = False

    def tell(self, level: int, cause: str, message: str) -> None:
        """Say *message*, unless the same *cause* was told within the interval."""
        with self._lock:
            now = self._clock()
            if now - self._told.get(cause, float("-inf")) < INTERVAL_SECONDS:
                self._held_back[cause] = self._held_back.get(cause, 0) + 1
                return
            if len(self._told) >= _MOST_CAUSES:  # a cause that carries something random must not fill the memory
                self._told.clear()
                self._held_back.clear()
            self._told[cause] = now
            held_back = self._held_back.pop(cause, 0)
        more = f" (held back {held_back} more like it)" if held_back else ""
        _log.log(level, "%s%s", message, more, stacklevel=2)

    def once(self, level: int, cause: str, message: str) -> None:
        """Say *message* unless *cause* was told ever."""
        with self._lock:
            told = cause in self._told
            self._told[cause] = float("inf")
        if not told:
            _log.log(level, "%s", message, stacklevel=2)
