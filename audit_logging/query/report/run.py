"""What a report says: of a period, or of one person."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard

from audit_logging.query.dsl import all_of, any_of, query_of
from audit_logging.query.filter import Filter
from audit_logging.query.paging import page_steps
from audit_logging.query.report.groups import Groups, groups_steps
from audit_logging.query.report.retention_status import NOT_LOOKED_AT, RetentionStatus
from audit_logging.query.statistics import Counting, statistics_steps

if TYPE_CHECKING:
    from audit_logging.query.dsl import Query
    from audit_logging.query.event import Event
    from audit_logging.query.exchange import Steps
    from audit_logging.query.period import Period
    from audit_logging.query.results import Page, Statistics

TOP: Final = 50
"""Rows of a table; what is beyond is counted and named."""

CHARTS: Final = ("event_type", "severity", "outcome", "user")
PRIVILEGED: Final = ("admin.*", "security.*", "api_key.*")
READINGS: Final = ("audit.exported", "audit.searched", "security.data_export")
VERIFICATIONS: Final = ("audit.verified",)
KEEPING: Final = (
    *("audit.index_sealed", "audit.retention_applied", "audit.hold_placed", "audit.hold_released", "audit.erased"),
)
TROUBLE: Final = ("audit.quarantined", "audit.dead_lettered")

_SUBJECT_FIELDS: Final = (
    *("user.id", "user.name", "user.email", "user.target.id", "user.target.name", "user.effective.id", "related.user"),
)
_SCOPES: Final = {"chain": "each in its chain", "content": "each by itself, within a filter"}
_DAYS_SHOWN: Final = 62
"""Up to two months a chart has a column a day, above that one a week."""


@dataclass(frozen=True)
class Verified:
    """What one ``audit.verified`` tells.

    Attributes:
        event: The event.
        findings: How many there were; None: it does not tell.
        kinds: How many of each kind, where it tells that.
    """

    event: Event
    findings: int | None
    kinds: tuple[tuple[str, int], ...] = ()

    @property
    def scope(self) -> str:
        """What was verified, in words: all of the trail, or a part."""
        count, scope = (self.event.metadata.get(name) for name in ("record_count", "scope"))
        told = (f"{count:,} events" if _is_count(count) else "", _SCOPES.get(str(scope), str(scope or "")))
        return ", ".join(filter(None, told))

    @classmethod
    def of(cls, event: Event) -> Verified:
        """Read an event, which anybody who may write to the trail may have written.

        Example:
            >>> from audit_logging.query.event import Event
        >>> found = Verified.of(Event({"audit": {"metadata": {"findings": {"edited": 2, "deleted": 0}}}}))
            >>> found.findings, found.kinds
            (2, (('edited', 2),))
        """
        told = event.metadata.get("findings")
        if isinstance(told, dict):
            counts = {str(kind): count for kind, count in told.items() if _is_count(count)}
            kinds = tuple((kind, count) for kind, count in sorted(counts.items()) if count)
            return cls(event, sum(counts.values()) if len(counts) == len(told) else None, kinds)
        return cls(event, told if _is_count(told) else None)


@dataclass(frozen=True)
class Report:
    """What happened in a period.

    Attributes:
        stream: The data stream.
        period: The time.
        made: When the report was made.
        charts: Counts by event type, severity, outcome and user, beside the period before.
        deeds: Who did what to whom: actor, event type, target.
        failed_logins: Whose log-ins failed, and from where: user, address.
        privileged: Administration and security: actor, event type, target, outcome.
        readings: Exports and searches of the trail, and exports of data, newest first.
        verifications: When the trail was verified in the period, and what was found.
        last_verified: The last verification of all, whenever it was; None: there never was one.
        keeping: What left by retention, was held, or erased.
        trouble: Events that OpenSearch refused.
        retention: How retention stands when the report is made; it is no matter of the period.
    """

    stream: str
    period: Period
    made: dt.datetime
    charts: tuple[Statistics, ...]
    deeds: Groups
    failed_logins: Groups
    privileged: Groups
    readings: Page
    verifications: Page
    last_verified: Verified | None
    keeping: Page
    trouble: Page
    retention: RetentionStatus = NOT_LOOKED_AT


def report_steps(stream: str, period: Period, *, now: dt.datetime) -> Steps[Report]:
    """Gather what a report of *period* says."""
    interval = "1d" if period.until - period.since <= dt.timedelta(days=_DAYS_SHOWN) else "1w"
    charts = []
    for number, by in enumerate(CHARTS):
        counting = Counting(by, 12, None if number else interval, "UTC", compare=True)
        charts.append(_compared((yield from statistics_steps(stream, _filter(period), counting, now=now))))
    targeted = all_of([query_of(_filter(period)), {"exists": {"field": "user.target.id"}}])
    failed = query_of(_filter(period, category="authentication", outcome="failure"))
    privileged = query_of(_filter(period, event_type=list(PRIVILEGED)))
    who, what, whom = "user.id", "event.action", "user.target.id"
    return Report(
        stream=stream,
        period=period,
        made=now,
        charts=tuple(charts),
        deeds=(yield from groups_steps(stream, targeted, (who, what, whom), top=TOP)),
        failed_logins=(yield from groups_steps(stream, failed, (who, "source.ip"), top=TOP)),
        privileged=(yield from groups_steps(stream, privileged, (who, what, whom, "event.outcome"), top=TOP)),
        readings=(yield from _newest(stream, period, READINGS, now)),
        verifications=(yield from _newest(stream, period, VERIFICATIONS, now)),
        last_verified=(yield from _last_verified(stream, now)),
        keeping=(yield from _newest(stream, period, KEEPING, now)),
        trouble=(yield from _newest(stream, period, TROUBLE, now)),
    )


def subject_query(subject: str, period: Period | None) -> Query:
    """Return the query for everything that concerns one person, by id, name or address of mail."""
    concerned = any_of([{"term": {field: subject}} for field in _SUBJECT_FIELDS])
    return concerned if period is None else all_of([concerned, query_of(_filter(period))])


def _last_verified(stream: str, now: dt.datetime) -> Steps[Verified | None]:
    page = yield from page_steps(
        stream, Filter.of(event_type=list(VERIFICATIONS)), limit=1, cursor=None, sort="newest", now=now
    )
    return Verified.of(page.events[0]) if page.events else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _compared(found: Statistics) -> Statistics:
    """Leave the period before out where it was empty: that everything is new tells nobody anything."""
    if found.before is None or found.before.total:
        return found
    buckets = tuple(bucket.model_copy(update={"before": None}) for bucket in found.buckets)
    return found.model_copy(update={"before": None, "buckets": buckets})


def _filter(period: Period, **conditions: object) -> Filter:
    return Filter.of(since=period.since, until=period.until, **conditions)


def _newest(stream: str, period: Period, event_types: tuple[str, ...], now: dt.datetime) -> Steps[Page]:
    filter_ = _filter(period, event_type=list(event_types))
    return (yield from page_steps(stream, filter_, limit=TOP, cursor=None, sort="newest", now=now))
