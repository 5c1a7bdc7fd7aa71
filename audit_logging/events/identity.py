"""Ids and times of events."""

from __future__ import annotations

import os
import time
from collections import deque

_BATCH = 256
_TAIL_BYTES = 10
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""Any digit as one that begins with the two bits of the RFC's variant."""

_tails: deque[str] = deque()
"""The random ends of the ids to come: the system is asked for many at once, since asking takes longer than the rest."""

os.register_at_fork(after_in_child=_tails.clear)  # a child must not draw the parent's


def new_event_id() -> str:
    """Return a new UUID of version 7: unique, and sorted by time (RFC 9562, section 5.7).

    Example:
        >>> len(new_event_id()), new_event_id()[14]
        (36, '7')
    """
    digits = "%012x" % (time.time_ns() // 1_000_000)
    try:
        return f"{digits[:8]}-{digits[8:]}-{_tails.popleft()}"
    except IndexError:
        _tails.extend(_random_tails())
        return new_event_id()


def _random_tails() -> list[str]:
    digits = os.urandom(_TAIL_BYTES * _BATCH).hex()
    parts = [digits[start : start + 2 * _TAIL_BYTES] for start in range(0, len(digits), 2 * _TAIL_BYTES)]
    return [f"7{part[:3]}-{_VARIANTS[part[3]]}{part[4:7]}-{part[7:19]}" for part in parts]


_second: tuple[int, str] = (-1, "")
"""The last second that was asked for, and its text: almost every event falls into the same one as that before."""


def now() -> str:
    """Return the time in UTC, ISO 8601 with microseconds: always 27 characters."""
    global _second
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    known, text = _second
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second, text)
    return f"{text}.{microsecond:06d}Z"
