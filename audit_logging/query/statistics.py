"""Counts by a field, over time, and against the period before."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from audit_logging.errors import FilterError, Keyword
from audit_logging.query.copies import total_and_copies, without
from audit_logging.query.dsl import query_of
from audit_logging.query.exchange import Steps, search_request
from audit_logging.query.results import Before, Bucket, Interval, Statistics
from audit_logging.query.times import fixed_length, parts_of, zone_of

if TYPE_CHECKING:
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer
    from audit_logging.query.filter import Filter

By = Literal["event_type", "category", "severity", "outcome", "user", "ip", "service"]

FIELDS: Final[dict[str, str]] = {
    "event_type": "event.action",
    "category": "event.category",
    "severity": "log.level",
    "outcome": "event.outcome",
    "user": "user.id",
    "ip": "source.ip",
    "service": "service.name",
}
assert set(FIELDS) == set(get_args(By))

MAX_TOP: Final = 10_000
SHARD_SIZES: Final = (1000, 50_000)
"""How many values each shard reports: first, and again where that was too few to be exact."""

EXACT_DISTINCT: Final = 40_000
"""Up to so many different values an estimate of them is nearly exact; OpenSearch takes no higher bound."""

MAX_STEP: Final = 999_999
_CALENDAR: Final = {"d": "day", "w": "week", "M": "month", "q": "quarter", "y": "year"}
"""Steps that begin where the calendar has them: a fixed week would begin on a Thursday, as 1970 did."""


@dataclass(frozen=True)
class Counting:
    """What to count, and how.

    Attributes:
        by: One of :data:`FIELDS`.
        top: How many buckets, 1 to :data:`MAX_TOP`.
        interval: Steps of the histogram, like ``"1h"``, or None for no histogram.
        timezone: IANA name of the zone in which days and longer steps begin.
        compare: Whether to count the period before as well.
    """

    by: str
    top: int
    interval: str | None
    timezone: str
    compare: bool

    def check(self) -> None:
        """Raise a :class:`FilterError` for what is malformed."""
        if self.by not in FIELDS:
            raise FilterError(f"Statistics cannot be made by {str(self.by)[:60]!r}; there are {', '.join(FIELDS)}.")
        if isinstance(self.top, bool) or not isinstance(self.top, int) or not 1 <= self.top <= MAX_TOP:
            raise FilterError(Keyword("top"), f" is a number from 1 to {MAX_TOP}, not {str(self.top)[:60]!r}.")
        zone_of(self.timezone)

    def aggregations(self, shard_size: int) -> dict[str, Any]:
        """Return what to ask the server for."""
        field = FIELDS[self.by]
        return {
            "by": {"terms": {"field": field, "size": self.top, "shard_size": max(shard_size, self.top)}},
            "missing": {"missing": {"field": field}},
            "distinct": {"cardinality": {"field": field, "precision_threshold": EXACT_DISTINCT}},
            **self._histogram(),
        }

    def _histogram(self) -> dict[str, Any]:
        if self.interval is None:
            return {}
        histogram = {"field": "@timestamp", "min_doc_count": 0, "time_zone": self.timezone, **_step(self.interval)}
        return {"histogram": {"date_histogram": histogram}}


def _step(interval: str) -> dict[str, str]:
    """Return a step of a histogram as OpenSearch takes it."""
    parts = parts_of(interval) if isinstance(interval, str) and not interval.startswith("-") else None
    if parts is None or len(parts) > 1 or not 0 < parts[0][0] <= MAX_STEP or parts[0][1] in {"us", "ms"}:
        raise FilterError(
            Keyword("interval"),
            f": {str(interval)[:60]!r} is no interval: give one like 15m, 1h, 1d, 1w, 1M (month), 1q or 1y.",
        )
    [[count, unit]] = parts
    if count == 1 and unit in _CALENDAR:
        return {"calendar_interval": _CALENDAR[unit]}
    if fixed_length(parts) is None:
        raise FilterError(
            Keyword("interval", "An interval"),
            f" of {interval} has no fixed length: give 1{unit}, or a number of days.",
        )
    return {"fixed_interval": f"{count * 7}d" if unit == "w" else f"{count}{unit}"}


def statistics_steps(stream: str, filter_: Filter, counting: Counting, *, now: dt.datetime) -> Steps[Statistics]:
    """Count what *filter_* (with absolute times) finds.

    Raises:
        FilterError: What to count is malformed, or there is no period before.
    """
    counting.check()
    earlier = _period_before(filter_, now) if counting.compare else None
    answer = yield from _counted(stream, query_of(filter_), counting.aggregations(SHARD_SIZES[0]))
    if answer["aggregations"]["by"]["doc_count_error_upper_bound"]:
        answer = yield from _counted(stream, query_of(filter_), counting.aggregations(SHARD_SIZES[1]))
    keys = [_key(each) for each in answer["aggregations"]["by"]["buckets"]]
    before = None if earlier is None else (yield from _counted(stream, query_of(earlier), _only(counting.by, keys)))
    return _statistics(answer, before, counting, filter_, earlier)


def _period_before(filter_: Filter, now: dt.datetime) -> Filter:
    if filter_.since is None:
        raise FilterError(
            "To compare with the period before, say with ",
            Keyword("since"),
            " when the period begins, such as ",
            Keyword("since", example="-7d"),
            ".",
        )
    until = filter_.until or now
    assert isinstance(filter_.since, dt.datetime)
    assert isinstance(until, dt.datetime)
    update = {"since": filter_.since - (until - filter_.since), "until": filter_.since}
    earlier: Filter = filter_.model_copy(update=update)
    return earlier.at(now)


def _counted(stream: str, query: Query, aggregations: dict[str, Any]) -> Steps[Answer]:
    """Aggregate what *query* finds, second copies left out."""
    answer = yield _request(stream, query, aggregations)
    _, copies = yield from total_and_copies(stream, query, answer)
    if copies:
        answer = yield _request(stream, without(query, copies), aggregations)
    return answer


def _request(stream: str, query: Query, aggregations: dict[str, Any]) -> Any:
    return search_request(stream, {"query": query, "size": 0, "track_total_hits": True, "aggs": aggregations})


def _only(by: str, keys: list[str]) -> dict[str, Any]:
    """Return the aggregation that counts these values and no others."""
    if not keys:
        return {}
    return {"by": {"terms": {"field": FIELDS[by], "size": len(keys), "shard_size": MAX_TOP, "include": keys}}}


def _statistics(
    answer: Answer, before: Answer | None, counting: Counting, filter_: Filter, earlier: Filter | None
) -> Statistics:
    found = answer["aggregations"]
    buckets = found["by"]["buckets"]
    exact = not found["by"]["sum_other_doc_count"]
    earlier_counts = {} if before is None else _counts(before)
    return Statistics(
        by=counting.by,
        since=filter_.since,
        until=filter_.until,
        total=answer["hits"]["total"]["value"],
        buckets=tuple(
            Bucket(
                key=_key(each),
                count=each["doc_count"],
                before=None if before is None else earlier_counts.get(_key(each), 0),
            )
            for each in buckets
        ),
        other=found["by"]["sum_other_doc_count"],
        missing=found["missing"]["doc_count"],
        distinct=len(buckets) if exact else max(found["distinct"]["value"], len(buckets) + 1),
        distinct_exact=exact,
        error_bound=found["by"]["doc_count_error_upper_bound"],
        before=None
        if before is None or earlier is None
        else Before(since=earlier.since, until=earlier.until, total=before["hits"]["total"]["value"]),
        interval=counting.interval,
        timezone=counting.timezone,
        histogram=tuple(
            Interval(start=_instant(each["key"]), count=each["doc_count"])
            for each in found.get("histogram", {}).get("buckets", ())
        ),
    )


def _counts(answer: Answer) -> dict[str, int]:
    buckets = answer.get("aggregations", {}).get("by", {}).get("buckets", ())
    return {_key(each): each["doc_count"] for each in buckets}


def _key(bucket: dict[str, Any]) -> str:
    return str(bucket["key"])


def _instant(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.timezone.utc)
