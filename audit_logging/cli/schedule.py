"""For commands that run from cron or a timer: what is missing is made up, and no two runs work at once."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from audit_logging.errors import QueryError
from audit_logging.private import make_directory, why_not_private
from audit_logging.query.period import Period

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

UNITS: Final = ("day", "week", "month", "quarter", "year")

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Schedule:
    """What a run from cron has to see to.

    Attributes:
        unit: One of :data:`UNITS`: each has a file.
        directory: Where the files lie.
        catch_up: How many units to look back.
        zone: IANA name of the time zone in which days begin.
    """

    unit: str
    directory: Path
    catch_up: int
    zone: str

    def periods(self) -> list[Period]:
        """Return the periods that are over, oldest first."""
        return past_periods(self.unit, self.catch_up, zone=self.zone)


@contextlib.contextmanager
def only_run(directory: Path, what: str, *, option: str = "--out-dir") -> Iterator[bool]:
    """Make *directory*, private, and hold its lock; say so and give False where another run holds it.

    Args:
        directory: Where something is written.
        what: What that is, such as ``"reports"``; runs that write something else do not matter.
        option: Where the directory was given, for people.

    Raises:
        QueryError: The directory cannot be made or written.
    """
    try:
        make_directory(directory)
        lock = directory / f".audit-logging-{what}.lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise QueryError(
            f"{directory} cannot be written ({error.strerror}): give another directory with {option}."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo(f"Another run is writing {what} into {directory}.", err=True)
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def is_made(path: Path) -> bool:
    """Return whether an earlier run wrote *path*.

    Raises:
        QueryError: Another user did, or can change it.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if why := why_not_private(found):
        raise QueryError(f"{path} {why}, so it is not what an earlier run wrote: remove it, or give another --out-dir.")
    return True


def schedule_options(command: Command) -> Command:
    """Add the options of a run from cron; the command receives ``schedule`` (or None) and ``timezone``."""

    @click.option("--every", type=click.Choice(UNITS), help="For cron: the last whole day, week …, into --out-dir.")
    @click.option(
        "--out-dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where --every writes."
    )
    @click.option(
        "--catch-up", type=click.IntRange(1, 366), default=7, show_default=True, help="How far --every looks back."
    )
    @click.option(
        "--timezone", metavar="ZONE", default="UTC", show_default=True, help="Where the days of a period begin."
    )
    @functools.wraps(command)
    def with_schedule(*, every: str | None, out_dir: Path | None, catch_up: int, timezone: str, **rest: Any) -> Any:
        if (every is None) != (out_dir is None):
            raise click.UsageError("--every and --out-dir go together.")
        schedule = Schedule(every, out_dir, catch_up, timezone) if every and out_dir else None
        return command(schedule=schedule, timezone=timezone, **rest)

    return with_schedule  # type: ignore[return-value]


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
