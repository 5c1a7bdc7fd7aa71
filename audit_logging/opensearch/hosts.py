"""Which hosts of a cluster are passed over for the moment."""

from __future__ import annotations

import time
from typing import Any

import opensearchpy


class Hosts(opensearchpy.ConnectionPool):
    """opensearch-py's pool, by a clock that nobody sets.

    Its own asks the wall clock until when a host is passed over. Set back by hours, that would keep a host that is well
    again from being asked for as long, though the others have failed meanwhile.
    """

    def mark_dead(self, connection: Any, now: float | None = None) -> None:
        """Pass *connection*'s host over for a while, from *now* on the monotonic clock."""
        super().mark_dead(connection, time.monotonic() if now is None else now)

    def resurrect(self, force: bool = False) -> Any:
        """Return a host to those that are asked, if its time has come or *force* says so."""
        with self.dead.mutex:
            waiting = self.dead.queue
            is_due = bool(waiting) and waiting[0][0] <= time.monotonic()
        return super().resurrect(force=True) if force or is_due else None
