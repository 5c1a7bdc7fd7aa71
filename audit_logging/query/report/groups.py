"""Counts by several fields at once: who did what to whom, and how often."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from audit_logging.query.copies import total_and_copies, without
from audit_logging.query.exchange import Steps, search_request
from audit_logging.query.times import EARLIEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.query.dsl import Query

GROUPS_PER_PAGE: Final = 2000
MOST_GROUPS: Final = 100_000
"""From there on, groups are counted and no longer kept: who would read them?"""


@dataclass(frozen=True)
class Group:
    """The events that have these values in common.

    Attributes:
        values: One for each field that was asked for; None where an event has none.
        count: How many they are.
        first: When the first of them happened.
        last: When the last of them happened.
    """

    values: tuple[str | None, ...]
    count: int
    first: dt.datetime
    last: dt.datetime


@dataclass(frozen=True)
class Groups:
    """The groups that were found, the largest first.

    Attributes:
        total: How many events were counted.
        shown: The largest groups, as many as were asked for.
        hidden: How many more groups there are.
    """

    total: int
    shown: tuple[Group, ...]
    hidden: int


def groups_steps(stream: str, query: Query, fields: Sequence[str], *, top: int) -> Steps[Groups]:
    """Count what *query* finds by *fields*; an identical second copy does not count.

    Args:
        stream: The data stream.
        query: What to count.
        fields: Paths of keyword or ip fields.
        top: How many of the largest groups to return.
    """
    answer = yield search_request(stream, {"query": query, "size": 0, "track_total_hits": True})
    total, copies = yield from total_and_copies(stream, query, answer)
    query = without(query, copies)
    found: list[Group] = []
    number = 0
    after: dict[str, Any] | None = {}
    while after is not None:
        page = (yield _request(stream, query, fields, after))["aggregations"]["groups"]
        number += len(page["buckets"])
        found.extend(_group(bucket, fields) for bucket in page["buckets"])
        if len(found) > MOST_GROUPS:
            found = _largest(found, top)
        after = page.get("after_key") if len(page["buckets"]) == GROUPS_PER_PAGE else None
    shown = _largest(found, top)
    return Groups(total, tuple(shown), number - len(shown))


def _largest(groups: list[Group], top: int) -> list[Group]:
    return sorted(groups, key=lambda group: (-group.count, [value or "" for value in group.values]))[:top]


def _request(stream: str, query: Query, fields: Sequence[str], after: dict[str, Any]) -> Any:
    sources = [{field: {"terms": {"field": field, "missing_bucket": True}}} for field in fields]
    composite: dict[str, Any] = {"size": GROUPS_PER_PAGE, "sources": sources}
    if after:
        composite["after"] = after
    times = {"first": {"min": {"field": "@timestamp"}}, "last": {"max": {"field": "@timestamp"}}}
    aggregations = {"groups": {"composite": composite, "aggs": times}}
    return search_request(stream, {"query": query, "size": 0, "track_total_hits": False, "aggs": aggregations})


def _group(bucket: dict[str, Any], fields: Sequence[str]) -> Group:
    values = tuple(None if bucket["key"][field] is None else str(bucket["key"][field]) for field in fields)
    first, last = (EARLIEST + dt.timedelta(milliseconds=bucket[name]["value"]) for name in ("first", "last"))
    return Group(values, bucket["doc_count"], first, last)
