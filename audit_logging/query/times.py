"""Points in time as people give them: absolute, or relative to now.

=====================================  ==========================================================
given                                  means
=====================================  ==========================================================
``2026-03-01T12:00:00Z``, ``…+02:00``  that instant, to the microsecond
``2026-03-01T12:00`` (no zone)         that instant in UTC
``2026-03-01``                         midnight UTC at which that day begins
``-15m``, ``-24h``, ``-30d``, ``-2w``  that long ago (also ``-1d12h``; the minus may be left out)
``-1M``, ``-1q``, ``-1y``              months, quarters or years ago, by the calendar; ``m`` is minutes
``now``, ``today``, ``yesterday``      now; midnight UTC at which today or yesterday began
``2026-03-01T12:00 Europe/Prague``     that instant on the clocks there (IANA name); so with a day, ``today`` and
                                       ``yesterday``, which begin at that place's midnight
``datetime``, ``date``                 as above; a naive one is UTC
``timedelta``                          that long ago, whatever its sign
=====================================  ==========================================================
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
import zoneinfo
from typing import Final

from audit_logging.errors import FilterError

TimeLike = str | dt.datetime | dt.date | dt.timedelta
"""What a caller may give as a time."""

EARLIEST: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
LATEST: Final = dt.datetime(2262, 4, 11, tzinfo=dt.timezone.utc)
"""The range of the stored type, ``date_nanos``. OpenSearch refuses to compare with anything outside it."""

_LONGEST: Final = LATEST - EARLIEST

_ABSOLUTE: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(?:[.,](\d{1,6})0{0,3})?(Z|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE | re.ASCII,
)
_PARTS: Final = re.compile(r"(\d{1,18})(us|ms|[smhdwMqy])", re.ASCII)
_AGO: Final = re.compile(rf"-?(?:{_PARTS.pattern})+", re.ASCII)
_UNITS: Final = {
    "us": dt.timedelta(microseconds=1),
    "ms": dt.timedelta(milliseconds=1),
    "s": dt.timedelta(seconds=1),
    "m": dt.timedelta(minutes=1),
    "h": dt.timedelta(hours=1),
    "d": dt.timedelta(days=1),
    "w": dt.timedelta(weeks=1),
}
_MONTHS: Final = {"M": 1, "q": 3, "y": 12}
_LOST_PLUS: Final = re.compile(r"\d{2}:\d{2}[\d:.,]* (\d{2}:?\d{2})", re.ASCII)
_TOO_FINE: Final = re.compile(r":\d{2}[.,]\d{7}", re.ASCII)
_NAMED_DAYS: Final = {"today": 0, "yesterday": 1}
# One class for the whole name: two that overlap would try every way to share a long one out between them.
_ZONED: Final = re.compile(r"(.*\S)\s+([a-z_][a-z0-9_/+-]*)", re.IGNORECASE | re.ASCII | re.DOTALL)


def normalise_time(value: TimeLike) -> dt.datetime | str:
    """Return an absolute time as an aware ``datetime`` in UTC, a relative one as text for :func:`resolve_time`.

    Raises:
        FilterError: *value* is no time.

    Example:
        >>> normalise_time("2026-03-01T12:00:00+02:00").isoformat(), normalise_time(dt.timedelta(minutes=1))
        ('2026-03-01T10:00:00+00:00', '-60000000us')
    """
    if isinstance(value, dt.timedelta):
        return f"-{abs(value) // _UNITS['us']}us"
    if isinstance(value, dt.datetime):
        return _in_utc(value)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.timezone.utc)
    if not isinstance(value, str):
        raise _not_a_time(value)
    text, zone = _split_zone(value.strip())
    if (match := _ABSOLUTE.fullmatch(text)) is not None:
        return _absolute(match, zone)
    if (day := text.lower()) in _NAMED_DAYS:
        return day if zone is None else f"{day} {zone_of(zone).key}"
    if zone is None and (day == "now" or _AGO.fullmatch(_in_our_case(text))):
        return day if day == "now" else _in_our_case(text)
    raise _not_a_time(value)


def duration_of(value: str | dt.timedelta) -> dt.timedelta:
    """Return how long *value* is: a ``timedelta``, or a text such as ``5m`` or ``1h30m``.

    Raises:
        FilterError: *value* is no duration.

    Example:
        >>> duration_of("1h30m")
        datetime.timedelta(seconds=5400)
    """
    if isinstance(value, dt.timedelta) and value >= dt.timedelta():
        return min(value, _LONGEST)
    parts = parts_of(value) if isinstance(value, str) and not value.startswith("-") else None
    if parts is None:
        raise FilterError(f"{str(value)[:60]!r} is no duration: give one like 30s, 5m, 1h or 1h30m.")
    length = fixed_length(parts)
    if length is None:
        raise FilterError(f"{str(value)[:60]!r} has no fixed length: give a number of days or weeks, such as 30d.")
    return length


def parts_of(text: str) -> list[tuple[int, str]] | None:
    """Return the numbers and units of a duration or a relative time, such as ``1h30m`` or ``-1M``; None for others.

    The units are ``us``, ``ms``, ``s``, ``m`` (minute), ``h``, ``d``, ``w``, ``M`` (month), ``q`` and ``y``. Case
    matters for ``m`` and ``M`` alone.

    Example:
        >>> parts_of("1h30m"), parts_of("-1M"), parts_of("soon")
        ([(1, 'h'), (30, 'm')], [(1, 'M')], None)
    """
    text = _in_our_case(text)
    return [(int(count), unit) for count, unit in _PARTS.findall(text)] if _AGO.fullmatch(text) else None


def fixed_length(parts: list[tuple[int, str]]) -> dt.timedelta | None:
    """Return how long *parts* are together; None with a month, a quarter or a year, whose length varies."""
    if any(unit in _MONTHS for _, unit in parts):
        return None
    try:
        return min(sum((count * _UNITS[unit] for count, unit in parts), dt.timedelta()), _LONGEST)
    except OverflowError:
        return _LONGEST


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """Return the time zone with this IANA name.

    Raises:
        FilterError: There is none.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise FilterError(
            f"{str(name)[:60]!r} is no time zone known here: give one like Europe/Prague or UTC (the names are IANA's;"
            " a system without them needs the package tzdata)."
        ) from None


def resolve_time(value: dt.datetime | str, *, now: dt.datetime) -> dt.datetime:
    """Return the instant that a normalised time means at *now*, within :data:`EARLIEST` and :data:`LATEST`.

    Example:
        >>> resolve_time("-36h", now=dt.datetime(2026, 3, 2, tzinfo=dt.timezone.utc)).isoformat()
        '2026-02-28T12:00:00+00:00'
    """
    if isinstance(value, dt.datetime):
        instant = value
    elif value == "now":
        instant = now
    elif (day := value.split(" ")[0]) in _NAMED_DAYS:
        name = _split_zone(value)[1]
        zone = dt.timezone.utc if name is None else zone_of(name)
        date = now.astimezone(zone).date() - dt.timedelta(days=_NAMED_DAYS[day])
        instant = dt.datetime(date.year, date.month, date.day, tzinfo=zone).astimezone(dt.timezone.utc)
    else:
        instant = _ago(value, now)
    return min(max(instant, EARLIEST), LATEST)


def _ago(text: str, now: dt.datetime) -> dt.datetime:
    parts = parts_of(text) or []
    moment = _months_before(now, sum(count * _MONTHS.get(unit, 0) for count, unit in parts))
    length = fixed_length([part for part in parts if part[1] in _UNITS]) or dt.timedelta()
    return moment - min(length, moment - EARLIEST)


def _months_before(moment: dt.datetime, months: int) -> dt.datetime:
    """Return the same day of an earlier month, or the last day of that month where it has no such day."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    if year < EARLIEST.year:
        return EARLIEST
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _in_our_case(text: str) -> str:
    return "".join(char if char == "M" else char.lower() for char in text)


def _split_zone(text: str) -> tuple[str, str | None]:
    match = _ZONED.fullmatch(text)
    return (text, None) if match is None else (match[1], match[2])


def _absolute(match: re.Match[str], zone: str | None) -> dt.datetime:
    day, minute, second, fraction, offset = match.groups()
    if zone is not None and offset is not None:
        raise _not_a_time(match.string)
    text = f"{day}T{minute or '00:00'}{second or ':00'}.{(fraction or '0').ljust(6, '0')}{(offset or '').upper()}"
    try:
        instant = dt.datetime.fromisoformat(text)
        return _in_utc(instant if zone is None else instant.replace(tzinfo=zone_of(zone)))
    except ValueError as error:
        raise _not_a_time(match.string) from error


def _in_utc(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.timezone.utc)
    try:
        return value.astimezone(dt.timezone.utc)
    except OverflowError:  # the first and last hours of the calendar, seen from another zone
        return EARLIEST if value.year == 1 else LATEST


def _not_a_time(value: object) -> FilterError:
    text = str(value)[:60]
    if lost := _LOST_PLUS.search(text):
        why = f" In a URL a + stands for a space: write %2B{lost[1]}."
    else:
        why = " A second has at most six decimal places." if _TOO_FINE.search(text) else ""
    return FilterError(
        f"{text!r} is not a time: give one like 2026-03-01T12:00:00Z, 2026-03-01, -24h, -30d, today, now or"
        f" 2026-03-01T12:00 Europe/Prague.{why}"
    )
