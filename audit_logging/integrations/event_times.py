"""Reads the times of imported records: exactly, or not at all.

A record whose time cannot be understood is broken: with the time of the import it would be wrong for ever.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import EventFileError
from audit_logging.events.identity import FIRST_MOMENT, LAST_MOMENT
from audit_logging.events.values import iso_utc

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_COMMON: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(?:Z|\+00:00)", re.ASCII)
_ISO: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d|\d{4}/\d\d/\d\d)"
    r"(?:[Tt_ ]+(?P<time>\d\d:?\d\d(?::?\d\d)?)(?:[.,](?P<fraction>\d+))?)"
    r"\s*(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?(?:\s+[A-Z]{1,4})?|UTC|GMT)?",
    re.ASCII,
)
_COMPACT: Final = re.compile(r"(?P<date>(?:19|20|21)\d{6})(?P<time>\d{6})", re.ASCII)
_NAMED_MONTH: Final = re.compile(
    r"(?:[A-Z][a-z]{2,8},?\s+)?(?P<day>\d{1,2})[ /-](?P<month>[A-Z][a-z]{2})[ /-](?P<year>\d{4})[ :]"
    r"(?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d+))?\s*(?P<zone>[+-]\d{4}|[A-Z]{1,4})?(?:\s*\([^()]*\))?",
    re.ASCII,
)
_WITHOUT_YEAR: Final = re.compile(r"(?P<month>[A-Z][a-z]{2})\s+(?P<day>\d{1,2})\s+(?P<time>\d\d:\d\d:\d\d)", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?", re.ASCII)

_MONTHS: Final = {name: n for n, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_ZONES: Final = {"Z": 0, "UT": 0, "UTC": 0, "GMT": 0}
_ZONES_OF_RFC_2822: Final = _ZONES | {
    "EDT": -4,
    "EST": -5,
    "CDT": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "PST": -8,
}

_UNITS: Final = ((1e10, 1), (1e11, 0), (1e13, 10**3), (1e14, 0), (1e16, 10**6), (1e17, 0), (1e19, 10**9))
"""Limit, and units a second: which unit a number has can be told from its size; 0: it cannot be told."""

_LEAST_SECONDS_IN_TEXT: Final = 10**9
"""Digits in a text are taken for seconds from 2001 on: ``20260301`` and ``2026`` mean something else."""

_CLOCKS_DIFFER: Final = dt.timedelta(days=1)


@dataclass
class EventTimes:
    """Reads times.

    Args:
        zone: Time zone of times that have none; None: such a time is an error.
        year: Year of times that have none; None: the latest that is not after *reference*.
        reference: When the records were written at the latest; None: now.

    Example:
        >>> EventTimes().moment(1772359200123, "timestamp"), EventTimes().moment("2026-03-01 10:00:00,5 UTC", "time")
        ('2026-03-01T10:00:00.123000Z', '2026-03-01T10:00:00.500000Z')
    """

    zone: ZoneInfo | None = None
    year: int | None = None
    reference: dt.datetime | None = None
    _last_month: int = field(default=0, init=False)

    def moment(self, value: Any, name: str, *, may_lack_year: bool = False) -> str:
        """Return a time as the document holds it: UTC, with microseconds.

        Args:
            value: ISO 8601, RFC 2822 and the like, or a number of seconds, milliseconds, microseconds or nanoseconds
                since 1970, as a number or text.
            name: What the record calls it, for errors.
            may_lack_year: Whether the form of syslog, ``Mar  1 10:00:00``, is accepted.

        Raises:
            EventFileError: It is not understood, has no zone, or cannot be stored.
        """
        if value is None:
            raise EventFileError(f"its {name} is missing")
        try:
            found = self._understood(value, may_lack_year=may_lack_year)
        except _ProblemError as problem:
            raise EventFileError(f"its {name} is {value!r:.80}, {problem}") from None
        except (ValueError, OverflowError):
            raise EventFileError(f"its {name} is {value!r:.80}, not a time with a zone between 1970 and 2262") from None
        if not FIRST_MOMENT <= found < LAST_MOMENT:
            raise EventFileError(f"its {name} is {value!r:.80}, not between 1970 and 2262")
        return iso_utc(found)

    def _understood(self, value: Any, *, may_lack_year: bool) -> dt.datetime:
        if isinstance(value, str):
            text = value.strip()
            if common := _COMMON.fullmatch(text):
                return dt.datetime.fromisoformat(f"{common[1]}.{(common[2] or '').ljust(6, '0')}+00:00")
            if found := _ISO.fullmatch(text) or _COMPACT.fullmatch(text):
                return self._from_iso(found)
            if _NUMBER.fullmatch(text):
                return _since_1970(text, least=_LEAST_SECONDS_IN_TEXT)
            if found := _NAMED_MONTH.fullmatch(text):
                return self._from_named_month(found, int(found["year"]), found["zone"])
            if may_lack_year and (found := _WITHOUT_YEAR.fullmatch(text)):
                return self._without_year(found)
            moment = dt.datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment
        elif isinstance(value, int) and not isinstance(value, bool):
            compact = _COMPACT.fullmatch(str(value)) if 0 < value < 10**14 else None
            return self._from_iso(compact) if compact else _since_1970(str(value), least=0)
        raise ValueError

    def _from_iso(self, found: re.Match[str]) -> dt.datetime:
        parts = found.groupdict()
        naive = dt.datetime.fromisoformat(f"{parts['date'].replace('/', '-')}T{parts['time']}")
        naive = naive.replace(microsecond=_microseconds(parts.get("fraction")))
        return self._in_zone(naive, parts.get("zone"), _ZONES)

    def _from_named_month(self, found: re.Match[str], year: int, zone: str | None) -> dt.datetime:
        if found["month"] not in _MONTHS:
            raise ValueError
        time = dt.time.fromisoformat(found["time"])
        naive = dt.datetime.combine(dt.date(year, _MONTHS[found["month"]], int(found["day"])), time)
        naive = naive.replace(microsecond=_microseconds(found.groupdict().get("fraction")))
        return self._in_zone(naive, zone, _ZONES_OF_RFC_2822)

    def _without_year(self, found: re.Match[str]) -> dt.datetime:
        month = _MONTHS.get(found["month"], 0)
        if self.year is not None:
            # A log that is written over the turn of the year goes from December to January.
            self.year += month < self._last_month and (self._last_month, month) == (12, 1)
            self._last_month = month or self._last_month
            return self._from_named_month(found, self.year, None)
        latest = (self.reference or dt.datetime.now(dt.timezone.utc)) + _CLOCKS_DIFFER
        for year in range(latest.year + 1, latest.year - 9, -1):  # 29 February is in every eighth year at least
            try:
                moment = self._from_named_month(found, year, None)
            except ValueError:
                continue
            if moment <= latest:
                return moment
        raise ValueError

    def _in_zone(self, naive: dt.datetime, zone: str | None, names: dict[str, int]) -> dt.datetime:
        if zone is not None:
            zone, _, repeated = zone.upper().partition(" ")
            if zone in names and not repeated:
                return naive.replace(tzinfo=dt.timezone(dt.timedelta(hours=names[zone])))
            offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", zone)
            if offset is None or int(offset[2]) > 23 or int(offset[3] or 0) > 59:  # noqa: PLR2004 - hours, minutes
                raise _ProblemError("whose time zone is not understood: use an offset such as +02:00")
            ahead = dt.timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
            return naive.replace(tzinfo=dt.timezone(-ahead if offset[1] == "-" else ahead))
        if self.zone is None:
            raise _ProblemError("not a time with a zone: say which one it is in (--timezone NAME)")
        moment = naive.replace(tzinfo=self.zone).astimezone(dt.timezone.utc)
        if moment.astimezone(self.zone).replace(tzinfo=None) != naive:
            raise _ProblemError(f"which the clocks of {self.zone.key} skipped")
        return moment


class _ProblemError(Exception):
    """What is wrong with a time, as the end of a sentence."""


def _since_1970(text: str, *, least: int) -> dt.datetime:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    unit = next((unit for limit, unit in _UNITS if number < limit), 0)
    if unit == 0 or number < 0 or (unit == 1 and number < least):
        raise ValueError
    return FIRST_MOMENT + dt.timedelta(microseconds=int(number * 10**6 / unit))


def _microseconds(fraction: str | None) -> int:
    return int((fraction or "")[:6].ljust(6, "0"))
