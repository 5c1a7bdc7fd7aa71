"""Periods as people name them: a day, week, month, quarter or year, the last one of these, or any range."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from audit_logging.errors import FilterError
from audit_logging.query.times import normalise_time, resolve_time, zone_of

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMED: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?:Q(?P<quarter>[1-4])|W(?P<week>\d{2})|(?P<month>\d{2})(?:-(?P<day>\d{2}))?))?", re.ASCII
)
_LAST: Final = re.compile(r"(last|this)-(day|week|month|quarter|year)")
_MONTHS_OF_A_QUARTER: Final = 3
_MONTHS_OF_A_YEAR: Final = 12


@dataclass(frozen=True)
class Period:
    """A stretch of time with a name.

    Attributes:
        name: As it is shown: ``2026-Q3``.
        since: Its begin, in UTC.
        until: Its end, which is not within.

    Example:
        >>> period = Period.of("2026-Q3")
        >>> period.since.isoformat(), period.until.isoformat()
        ('2026-07-01T00:00:00+00:00', '2026-10-01T00:00:00+00:00')
    """

    name: str
    since: dt.datetime
    until: dt.datetime

    @classmethod
    def of(cls, text: str, *, zone: str = "UTC", now: dt.datetime | None = None) -> Period:
        """Return the period that *text* names.

        Args:
            text: ``2026``, ``2026-Q3``, ``2026-09``, ``2026-W36`` (ISO 8601), ``2026-09-30``, ``last-quarter``,
                ``this-month`` and their like, or two times with ``..`` between them: ``2026-01-15..2026-02-15``.
            zone: IANA name of the time zone in which days begin.
            now: What the relative ones start from; default: the present.

        Raises:
            FilterError: *text* names no period.
        """
        now = now or dt.datetime.now(dt.timezone.utc)
        if ".." in text:
            first, _, second = text.partition("..")
            since, until = (resolve_time(normalise_time(part), now=now) for part in (first, second or "now"))
            name = text
        else:
            name, begin, end = _dates(text, now.astimezone(zone_of(zone)).date())
            since, until = (_midnight(day, zone) for day in (begin, end))
        if since >= until:
            raise FilterError(f"The period {text[:60]!r} ends before it begins.")
        return cls(name, since, until)


def _midnight(day: dt.date, zone: str) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=zone_of(zone)).astimezone(dt.timezone.utc)


def _dates(text: str, today: dt.date) -> tuple[str, dt.date, dt.date]:
    """Return a name, the first day and the day after the last."""
    if (relative := _LAST.fullmatch(text)) is not None:
        which, unit = relative.groups()
        begin = _BEGINS[unit](today)
        if which == "last":
            begin = _BEGINS[unit](begin - dt.timedelta(days=1))
        return _named(unit, begin)
    match = _NAMED.fullmatch(text)
    if match is None:
        raise _no_period(text)
    try:
        return _named(*_unit_and_begin(match))
    except (ValueError, OverflowError) as error:
        raise _no_period(text) from error


def _unit_and_begin(match: re.Match[str]) -> tuple[str, dt.date]:
    year = int(match["year"])
    if match["quarter"]:
        return "quarter", dt.date(year, int(match["quarter"]) * _MONTHS_OF_A_QUARTER - 2, 1)
    if match["week"]:
        return "week", dt.date.fromisocalendar(year, int(match["week"]), 1)
    if match["day"]:
        return "day", dt.date(year, int(match["month"]), int(match["day"]))
    if match["month"]:
        return "month", dt.date(year, int(match["month"]), 1)
    return "year", dt.date(year, 1, 1)


_BEGINS: Final[dict[str, Callable[[dt.date], dt.date]]] = {
    "day": lambda day: day,
    "week": lambda day: day - dt.timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


def _named(unit: str, begin: dt.date) -> tuple[str, dt.date, dt.date]:
    if unit == "day":
        return begin.isoformat(), begin, begin + dt.timedelta(days=1)
    if unit == "week":
        year, week, _ = begin.isocalendar()
        return f"{year}-W{week:02}", begin, begin + dt.timedelta(weeks=1)
    months = {"month": 1, "quarter": _MONTHS_OF_A_QUARTER, "year": _MONTHS_OF_A_YEAR}[unit]
    name = {
        "month": f"{begin:%Y-%m}",
        "quarter": f"{begin.year}-Q{(begin.month + 2) // _MONTHS_OF_A_QUARTER}",
        "year": f"{begin.year}",
    }[unit]
    years, month = divmod(begin.month - 1 + months, _MONTHS_OF_A_YEAR)
    return name, begin, dt.date(begin.year + years, month + 1, 1)


def _no_period(text: str) -> FilterError:
    return FilterError(
        f"{str(text)[:60]!r} is no period: give one like 2026-Q3, 2026-09, 2026-W36, 2026-09-30, 2026, last-quarter or"
        " 2026-01-15..2026-02-15."
    )
