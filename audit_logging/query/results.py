"""What queries answer."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - pydantic reads it
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from audit_logging.query.event import Event


@dataclass(frozen=True)
class Page:
    """Some of the events that were found, in order.

    Attributes:
        events: The events of this page.
        cursor: What to pass to :meth:`AuditReader.search` for the next page; None when this is the last.
        total: How many events were found in all when the first page was asked for.
    """

    events: list[Event]
    cursor: str | None
    total: int

    def to_dict(self) -> dict[str, Any]:
        """Return the page as plain JSON values."""
        return {"events": [event.to_dict() for event in self.events], "cursor": self.cursor, "total": self.total}


@dataclass(frozen=True)
class Related:
    """An event beside another.

    Attributes:
        event: The event.
        shares: What it has in common with the other: ``request``, ``session``, ``user``.
    """

    event: Event
    shares: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"event": self.event.to_dict(), "shares": list(self.shares)}


@dataclass(frozen=True)
class Context:
    """An event and what happened around it, oldest first.

    Attributes:
        event: The event.
        before: The related events that came before it; of many, those next to it.
        after: The related events that came after it; of many, those next to it.
    """

    event: Event
    before: tuple[Related, ...]
    after: tuple[Related, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "event": self.event.to_dict(),
            "before": [each.to_dict() for each in self.before],
            "after": [each.to_dict() for each in self.after],
        }


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Bucket(_Result):
    """How many events have one value.

    Attributes:
        key: The value, as text.
        count: Events that have it.
        before: Events that had it in the period before, where that was asked for.
    """

    key: str
    count: int
    before: int | None = None


class Interval(_Result):
    """How many events happened in one stretch of time.

    Attributes:
        start: Its begin, in UTC; it ends where the next begins.
        count: Events within.
    """

    start: dt.datetime
    count: int


class Before(_Result):
    """The period of the same length before the one that was asked for.

    Attributes:
        since: Its begin (inclusive).
        until: Its end (exclusive), where the other begins.
        total: Events within.
    """

    since: dt.datetime
    until: dt.datetime
    total: int


class Statistics(_Result):
    """Counts of events by one field, and over time.

    Attributes:
        by: What was counted by.
        since: Begin of the time that was asked for (inclusive), or None.
        until: Its end (exclusive), or None.
        total: Events counted.
        buckets: The most frequent values, most frequent first. An event with two categories counts in both.
        other: Events with values beyond those buckets.
        missing: Events without a value.
        distinct: How many different values there are.
        distinct_exact: Whether that is exact, as it is when all of them are among the buckets; else it is an estimate,
            with an error of some percent above 40,000.
        error_bound: At most this many events are missing from each bucket's count; 0 when the counts are exact.
        before: The period before, where a comparison was asked for.
        interval: Length of the histogram's steps as it was asked for, or None.
        timezone: Time zone in which its days, weeks, months, quarters and years begin.
        histogram: Events over time, oldest first, from the first event to the last without gaps.
    """

    by: str
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    total: int
    buckets: tuple[Bucket, ...]
    other: int
    missing: int
    distinct: int
    distinct_exact: bool
    error_bound: int = 0
    before: Before | None = None
    interval: str | None = None
    timezone: str = "UTC"
    histogram: tuple[Interval, ...] = ()


class ExportReport(_Result):
    """What an export wrote.

    Attributes:
        path: The file, or None for standard output.
        manifest: The manifest beside it; None for standard output.
        events: How many events.
        copies: Identical second copies that were left out.
        bytes: Size of what was written, compressed where it is.
        sha256: SHA-256 of what was written, in hexadecimal.
        content_sha256: The same before compression.
        method: By which method it was read, ``"pit"`` or ``"scroll"``.
        resumed: How often it was ended and gone on with.
        event_id: The ``audit.exported`` that tells of it; None where ``audit_exports`` is off.
        since: Begin of the time range that was asked for (inclusive), or None.
        until: Its end (exclusive), or None.
    """

    path: Path | None
    manifest: Path | None
    events: int
    copies: int
    bytes: int
    sha256: str
    content_sha256: str
    method: str
    resumed: int = 0
    event_id: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
