"""How long events of this process have waited, whatever the wall clock does meanwhile.

The files tell by the wall clock when something was written, and that may be set. What this process saw itself it
knows by the monotonic clock: when something was acknowledged last, or nothing waited any more; and since when it has
seen the oldest event that waits. The truth lies between these two, and within them the files are believed.
"""

from __future__ import annotations

import time
from typing import NamedTuple


class _Seen(NamedTuple):
    """What was seen so far; seconds of the monotonic clock.

    Attributes:
        acknowledged: The last sequence that was acknowledged.
        moved: When that was, or when nothing waited for the last time.
        waiting: When an event behind it was first seen; None when none was.
        wall: What the wall clock was ahead of the monotonic one then.
    """

    acknowledged: int
    moved: float
    waiting: float | None
    wall: float


class Pace:
    """Watches one writer. Any thread may note what it sees; of two at the same moment one counts."""

    def __init__(self) -> None:
        self._seen = _Seen(0, time.monotonic(), None, _wall())

    def note(self, acknowledged: int, last: int) -> None:
        """Note how far the writer and its shipper are.

        Args:
            acknowledged: The last sequence that was acknowledged.
            last: The last one that was written.
        """
        seen, now = self._seen, time.monotonic()
        if acknowledged != seen.acknowledged or acknowledged == last:
            self._seen = _Seen(acknowledged, now, now if last > acknowledged else None, _wall())
        elif seen.waiting is None:
            self._seen = seen._replace(waiting=now)

    @property
    def longest_seconds(self) -> float:
        """For how long the oldest event may have waited at most, and nothing was acknowledged."""
        return time.monotonic() - self._seen.moved

    @property
    def shortest_seconds(self) -> float:
        """For how long it has waited at least."""
        return 0.0 if self._seen.waiting is None else time.monotonic() - self._seen.waiting

    def seconds_since(self, written_at: float) -> float:
        """Return for how long the oldest event has waited.

        Args:
            written_at: When it was written by the wall clock; seconds since 1970.
        """
        waited = time.time() - written_at
        for told in (waited, waited - (_wall() - self._seen.wall)):  # as if the clock was set before it, or after
            if self.shortest_seconds <= told <= self.longest_seconds:
                return told
        return self.shortest_seconds


def _wall() -> float:
    return time.time() - time.monotonic()
