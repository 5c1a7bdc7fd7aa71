"""Ids and times of events."""

from __future__ import annotations

import secrets
import time
from itertools import count

from audit_logging.forks import in_children

_random, _counter = "", count()


@in_children
def _begin() -> None:
    """Choose this process's part of its ids, and where it begins to count."""
    global _random, _counter
    digits = f"{secrets.randbits(24):06x}"
    _random = f"7{digits[:3]}-{secrets.choice('89ab')}{digits[3:]}"
    _counter = count(1 << 44 | secrets.randbits(47))  # always twelve hexadecimal digits


_begin()


def new_event_id() -> str:
    """Return a new UUID of version 7: unique, and sorted by time (RFC 9562, section 5.7).

    Behind the time stand 26 bits chosen at random for the process and a counter of 48 bits from a random start (section
    6.2, method 1), so that ids of one millisecond are in order too. An id is no secret: the next one can be guessed.

    Example:
        >>> len(new_event_id()), new_event_id()[14]
        (36, '7')
    """
    return new_identity()[0]


def now() -> str:
    """Return the time in UTC, ISO 8601 with microseconds: always 27 characters."""
    return new_identity()[1]


_second: tuple[int, str] = (-1_000_000, "")
"""When the last second that was asked for began, and its text: almost every event falls into that one as well."""


def new_identity() -> tuple[str, str]:
    """Return what tells an event from all others, by one look at the clock: :func:`new_event_id` and :func:`now`."""
    global _second
    microseconds = time.time_ns() // 1000
    start, text = _second
    fraction = microseconds - start
    if not 0 <= fraction < 1_000_000:  # noqa: PLR2004 - a second
        second, fraction = divmod(microseconds, 1_000_000)
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second * 1_000_000, text)
    milliseconds = microseconds // 1000
    # In this way it takes a quarter less time than as f-strings.
    event_id = "%08x-%04x-%s-%x" % (milliseconds >> 16, milliseconds & 0xFFFF, _random, next(_counter))  # noqa: UP031
    return event_id, "%s.%06dZ" % (text, fraction)  # noqa: UP031
