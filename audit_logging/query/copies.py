"""Identical second copies, found without looking at every event.

A copy can only lie in another backing index, for within one an id exists once. Copies of one event have its writer
and sequence; so where the sequences that a writer has in one backing index do not overlap those it has in another,
there is none. That is proven by one aggregation over writers and backing indices; only the overlaps, normally a
batch or two around a rollover, are then read. What is found is exact as far as the trail stands still meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from audit_logging.query.dsl import Query, all_of, any_of
from audit_logging.query.exchange import Steps, search_request
from audit_logging.query.walk import PAGE_SIZE, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITER: Final = "audit.integrity.writer"
SEQUENCE: Final = "audit.integrity.sequence"

PAIRS_PER_PAGE: Final = 5000
OVERLAPS_PER_WALK: Final = 200
"""Stretches that one query asks for; Lucene takes 1,024 clauses."""

IDS_PER_CLAUSE: Final = 10_000

Copy = tuple[str, str]
"""Backing index and document id."""

Range = tuple[int, int]
"""First and last sequence, both within."""


def total_and_copies(stream: str, query: Query, answer: dict[str, Any]) -> Steps[tuple[int, list[Copy]]]:
    """Tell how many events *query* finds, and which second copies to leave out.

    Args:
        stream: The data stream.
        query: The query.
        answer: To a search for it with exact total.
    """
    total: int = answer["hits"]["total"]["value"]
    if _asked(answer) < 2 or not (yield from _in_several_indices(stream, query)):  # noqa: PLR2004
        return total, []
    copies = yield from find_copies(stream, query)
    return total - len(copies), copies


def _asked(answer: dict[str, Any]) -> int:
    """Return how many shards had to be searched; the others hold nothing within the query's time."""
    shards = answer["_shards"]
    asked: int = shards["total"] - shards["skipped"]
    return asked


def _in_several_indices(stream: str, query: Query) -> Steps[bool]:
    """Tell whether what is found lies in more than one backing index."""
    indices = {"indices": {"terms": {"field": "_index", "size": 2}}}
    answer = yield search_request(stream, {"query": query, "size": 0, "track_total_hits": False, "aggs": indices})
    return len(answer["aggregations"]["indices"]["buckets"]) > 1


def find_copies(stream: str, query: Query) -> Steps[list[Copy]]:
    """Return every copy but the first of each event that *query* finds."""
    stretches = yield from _overlaps(stream, query)
    copies: list[Copy] = []
    for start in range(0, len(stretches), OVERLAPS_PER_WALK):
        within = any_of(stretches[start : start + OVERLAPS_PER_WALK])
        walk = Walk(stream, all_of([query, within]), page_size=PAGE_SIZE, source=["audit.integrity"])
        while not walk.done:
            walk.take((yield walk.request()))
        copies.extend(walk.distinct.copies)
    return copies


def without(query: Query, copies: list[Copy]) -> Query:
    """Return *query* with *copies* left out."""
    by_index: dict[str, list[str]] = defaultdict(list)
    for index, doc_id in copies:
        by_index[index].append(doc_id)
    unwanted = [
        all_of([{"term": {"_index": index}}, {"ids": {"values": ids[start : start + IDS_PER_CLAUSE]}}])
        for index, ids in by_index.items()
        for start in range(0, len(ids), IDS_PER_CLAUSE)
    ]
    return all_of([query], unwanted) if unwanted else query


def _overlaps(stream: str, query: Query) -> Steps[list[Query]]:
    """Return one query for every stretch of sequences that a writer has in two backing indices."""
    stretches: list[Query] = []
    writer: str | None = None
    ranges: list[Range] = []
    after: dict[str, Any] | None = {}
    while after is not None:
        page = (yield _pairs_request(stream, query, after))["aggregations"]["pairs"]
        for bucket in page["buckets"]:
            if bucket["key"]["writer"] != writer:
                stretches.extend(_stretches(writer, ranges))
                writer, ranges = bucket["key"]["writer"], []
            if bucket["low"]["value"] is not None:
                ranges.append((int(bucket["low"]["value"]), int(bucket["high"]["value"])))
        after = page.get("after_key") if len(page["buckets"]) == PAIRS_PER_PAGE else None
    stretches.extend(_stretches(writer, ranges))
    return stretches


def _pairs_request(stream: str, query: Query, after: dict[str, Any]) -> Any:
    pairs: dict[str, Any] = {
        "size": PAIRS_PER_PAGE,
        "sources": [{"writer": {"terms": {"field": WRITER}}}, {"index": {"terms": {"field": "_index"}}}],
    }
    if after:
        pairs["after"] = after
    bounds = {"low": {"min": {"field": SEQUENCE}}, "high": {"max": {"field": SEQUENCE}}}
    body = {
        "query": query,
        "size": 0,
        "track_total_hits": False,
        "aggs": {"pairs": {"composite": pairs, "aggs": bounds}},
    }
    return search_request(stream, body)


def _stretches(writer: str | None, ranges: list[Range]) -> Iterator[Query]:
    for low, high in shared(ranges):
        yield all_of([{"term": {WRITER: writer}}, {"range": {SEQUENCE: {"gte": low, "lte": high}}}])


def shared(ranges: list[Range]) -> list[Range]:
    """Return the stretches that at least two of *ranges* cover.

    Example:
        >>> shared([(1, 10), (8, 20), (19, 30), (40, 50)])
        [(8, 10), (19, 20)]
    """
    found: list[Range] = []
    reach: int | None = None
    for low, high in sorted(ranges):
        if reach is not None and low <= reach:
            end = min(reach, high)
            if found and low <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            else:
                found.append((low, end))
        reach = high if reach is None else max(reach, high)
    return found
