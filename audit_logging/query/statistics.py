"""Counts by a field and over time."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from audit_logging.errors import FilterError
from audit_logging.query.copies import INDEX_COUNT, total_and_copies, without
from audit_logging.query.exchange import Steps, search_request
from audit_logging.query.results import Bucket, Interval, Statistics

if TYPE_CHECKING:
    from audit_logging.query.dsl import Query

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

_INTERVAL: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)


def statistics_steps(stream: str, query: Query, *, by: str, interval: str | None, top: int) -> Steps[Statistics]:
    """Count what *query* finds.

    Args:
        stream: The data stream.
        query: The query.
        by: One of :data:`FIELDS`.
        interval: Steps of the histogram, like ``"1h"``, or None for no histogram.
        top: How many buckets, 1 to :data:`MAX_TOP`.

    Raises:
        FilterError: *by*, *interval* or *top* is malformed.
    """
    _check(by, top)
    histogram = _histogram(interval)
    aggregations = _aggregations(FIELDS[by], top, SHARD_SIZES[0], histogram)
    answer = yield _request(stream, query, {**aggregations, **INDEX_COUNT})
    _, copies = yield from total_and_copies(stream, query, answer)
    exact = without(query, copies)
    if copies:
        answer = yield _request(stream, exact, aggregations)
    if answer["aggregations"]["by"]["doc_count_error_upper_bound"]:
        answer = yield _request(stream, exact, _aggregations(FIELDS[by], top, SHARD_SIZES[1], histogram))
    return _statistics(answer, by, interval)


def _check(by: str, top: int) -> None:
    if by not in FIELDS:
        raise FilterError(f"Statistics cannot be made by {str(by)[:60]!r}; there are {', '.join(FIELDS)}.")
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= MAX_TOP:
        raise FilterError(f"top is a number from 1 to {MAX_TOP}, not {str(top)[:60]!r}.")


def _histogram(interval: str | None) -> dict[str, Any]:
    if interval is None:
        return {}
    match = _INTERVAL.fullmatch(interval) if isinstance(interval, str) else None
    if match is None or not int(match[1]):
        raise FilterError(f"{str(interval)[:60]!r} is no interval: give one like 15m, 1h, 1d or 1w.")
    count, unit = int(match[1]), match[2]
    if (count, unit) == (1, "w"):
        length = {"calendar_interval": "week"}  # begins on Monday; a fixed week would begin on a Thursday, as 1970 did
    else:
        length = {"fixed_interval": f"{count * 7}d" if unit == "w" else interval}
    return {"histogram": {"date_histogram": {"field": "@timestamp", "min_doc_count": 0, **length}}}


def _aggregations(field: str, top: int, shard_size: int, histogram: dict[str, Any]) -> dict[str, Any]:
    terms = {"field": field, "size": top, "shard_size": max(shard_size, top)}
    return {"by": {"terms": terms}, "missing": {"missing": {"field": field}}, **histogram}


def _request(stream: str, query: Query, aggregations: dict[str, Any]) -> Any:
    return search_request(stream, {"query": query, "size": 0, "track_total_hits": True, "aggs": aggregations})


def _statistics(answer: dict[str, Any], by: str, interval: str | None) -> Statistics:
    found = answer["aggregations"]
    intervals = found["histogram"]["buckets"] if interval is not None else ()
    return Statistics(
        by=by,
        total=answer["hits"]["total"]["value"],
        buckets=tuple(Bucket(key=str(each["key"]), count=each["doc_count"]) for each in found["by"]["buckets"]),
        other=found["by"]["sum_other_doc_count"],
        missing=found["missing"]["doc_count"],
        error_bound=found["by"]["doc_count_error_upper_bound"],
        interval=interval,
        histogram=tuple(Interval(start=_instant(each["key"]), count=each["doc_count"]) for each in intervals),
    )


def _instant(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.timezone.utc)
