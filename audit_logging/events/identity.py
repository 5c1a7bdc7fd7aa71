"""Ids and times of events."""

from __future__ import annotations

import datetime as dt
import os
import time


def new_event_id() -> str:
    """Return a new UUID of version 7: unique, and sorted by time (RFC 9562, section 5.7).

    Example:
        >>> len(new_event_id()), new_event_id()[14]
        (36, '7')
    """
    random = int.from_bytes(os.urandom(10), "big")
    number = (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | random
    number = number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def now() -> str:
    """Return the time in UTC, ISO 8601 with microseconds: always 27 characters."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="microseconds")[:26] + "Z"
