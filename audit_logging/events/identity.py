"""Ids and times of events."""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import time
from itertools import count
from typing import Final

from audit_logging.forks import in_children

FIRST_MOMENT: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
LAST_MOMENT: Final = dt.datetime(2262, 4, 11, tzinfo=dt.timezone.utc)
"""What the mapping type ``date_nanos`` can hold (OpenSearch documentation, "Date nanoseconds"), to the day."""

_LAST_SECOND: Final = int(LAST_MOMENT.timestamp()) - 1

_log = logging.getLogger("audit_logging")

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


_NEVER: Final = (-(1 << 62), "")
_second: tuple[int, str] = _NEVER
"""When the last second that was asked for began, and its text: almost every event falls into that one as well."""


clock_problem: list[str] = []
"""What the clock says while that is outside what an event can hold; empty otherwise."""


def new_identity() -> tuple[str, str]:
    """Return what tells an event from all others, by one look at the clock: :func:`new_event_id` and :func:`now`.

    A clock before 1970 or after 2262 counts as the first or the last moment there is (see :data:`clock_problem`).
    """
    global _second
    microseconds = time.time_ns() // 1000
    start, text = _second
    fraction = microseconds - start
    if not 0 <= fraction < 1_000_000:  # noqa: PLR2004 - a second
        second, fraction = divmod(microseconds, 1_000_000)
        if not 0 <= second <= _LAST_SECOND:
            second, fraction = _outside(second)
            microseconds = second * 1_000_000 + fraction
        elif clock_problem:
            clock_problem.clear()
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second * 1_000_000, text) if not clock_problem else _NEVER
    milliseconds = microseconds // 1000
    # In this way it takes a quarter less time than as f-strings.
    event_id = "%08x-%04x-%s-%x" % (milliseconds >> 16, milliseconds & 0xFFFF, _random, next(_counter))  # noqa: UP031
    return event_id, "%s.%06dZ" % (text, fraction)  # noqa: UP031


def _outside(second: int) -> tuple[int, int]:
    """Note that the clock cannot be right, log it once, and return the nearest second and microsecond there are."""
    if not clock_problem:
        _log.error(
            "The system clock is %d s from 1970, which no event can hold: events bear the nearest possible time until"
            " it is set, and are marked in audit.invalid. Set the clock.",
            second,
        )
    clock_problem[:] = [f"{second} s since 1970"]
    return (0, 0) if second < 0 else (_LAST_SECOND, 999_999)
