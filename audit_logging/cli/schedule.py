"""For commands that run from cron or a timer: what is missing is made up, and no two runs work at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

from audit_logging.errors import QueryError
from audit_logging.query.period import Period

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

LOCK: Final = ".audit-logging.lock"
UNITS: Final = ("day", "week", "month", "quarter", "year")


@contextlib.contextmanager
def only_run(directory: Path) -> Iterator[bool]:
    """Make *directory*, private, and hold its lock; give False where another run holds it.

    Raises:
        QueryError: The directory cannot be made or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise QueryError(f"{directory} cannot be written ({error.strerror}): give another directory.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def past_periods(unit: str, count: int, *, zone: str = "UTC", now: dt.datetime | None = None) -> list[Period]:
    """Return the last *count* whole periods of one unit, oldest first.

    Args:
        unit: One of :data:`UNITS`.
        count: How many.
        zone: IANA name of the time zone in which days begin.
        now: What is last, seen from then; default: the present.

    Example:
        >>> import datetime as dt
        >>> [period.name for period in past_periods("month", 2, now=dt.datetime(2026, 3, 5, tzinfo=dt.timezone.utc))]
        ['2026-01', '2026-02']
    """
    periods: list[Period] = []
    moment = now
    while len(periods) < count:
        periods.append(Period.of(f"last-{unit}", zone=zone, now=moment))
        moment = periods[-1].since
    return periods[::-1]
