"""One page of what a filter finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from audit_logging.errors import FilterError, Keyword
from audit_logging.query.copies import total_and_copies
from audit_logging.query.cursor import Cursor
from audit_logging.query.distinct import Distinct, sort_of
from audit_logging.query.dsl import query_of
from audit_logging.query.event import Event
from audit_logging.query.exchange import search_request
from audit_logging.query.results import Page
from audit_logging.query.walk import PAGE_SIZE, Walk

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from audit_logging.query.distinct import Hit, SortKey
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Request, Steps
    from audit_logging.query.filter import Filter

Sort = Literal["newest", "oldest"]
SORTS: Final = ("newest", "oldest")
MAX_LIMIT: Final = 10_000


def page_steps(
    stream: str, filter_: Filter, *, limit: int, cursor: str | None, sort: str, now: dt.datetime
) -> Steps[Page]:
    """Find the page behind *cursor*, or the first.

    Raises:
        FilterError: The limit, the sort or the cursor is malformed.
    """
    check_sort(sort)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise FilterError(Keyword("limit"), f" is a number from 1 to {MAX_LIMIT}, not {str(limit)[:60]!r}.")
    question = filter_.digest(stream, sort)
    start = None if cursor is None else Cursor.decode(cursor, question=question)
    now = start.now if start else now
    query = query_of(filter_.at(now))
    newest = sort == "newest"
    room = min(limit + 2, PAGE_SIZE)  # one that is seen already, and one to know whether there are more
    hits: list[Hit] | None = None
    if start:
        total = start.total
    else:
        answer = yield _first_request(stream, query, newest=newest, room=room)
        hits = _in_order(answer["hits"]["hits"], newest=newest, room=room, enough=limit + 1)
        total, _ = yield from total_and_copies(stream, query, answer)
    if hits is None:
        after, seen = (start.after, start.seen) if start else (None, ())
        walk = Walk(stream, query, newest=newest, page_size=room, after=after, seen=seen)
        hits = []
        while len(hits) <= limit and not walk.done:
            hits.extend(walk.take((yield walk.request())))
    events = [Event(hit.document) for hit in hits[:limit]]
    if len(hits) <= limit:
        return Page(events, None, total)
    after, seen = _end(hits[:limit], start)
    return Page(events, Cursor(question, now, total, after, seen).encode(), total)


def _first_request(stream: str, query: Query, *, newest: bool, room: int) -> Request:
    """Ask for the first events by time alone: where much is found, the full order takes half as long again."""
    return search_request(
        stream, {"query": query, "sort": sort_of(newest=newest)[:1], "size": room, "track_total_hits": True}
    )


def _in_order(raw_hits: list[dict[str, Any]], *, newest: bool, room: int, enough: int) -> list[Hit] | None:
    """Return the hits of :func:`_first_request` in the full order; None when the full order must be asked for.

    That is so when more events of the last moment may be there and there is not *enough* before it, or when an event
    has no seal to be ordered by.
    """
    whole = len(raw_hits) < room
    last_time = raw_hits[-1]["sort"][0] if raw_hits else None
    keyed = []
    for raw in raw_hits:
        seal = raw["_source"].get("audit", {}).get("integrity", {})
        writer, sequence = seal.get("writer"), seal.get("sequence")
        if not isinstance(writer, str) or not isinstance(sequence, int):
            return None
        if whole or raw["sort"][0] != last_time:
            keyed.append({**raw, "sort": [*raw["sort"], writer, sequence]})
    keyed.sort(key=lambda raw: raw["sort"], reverse=newest)
    hits = Distinct().fresh(keyed)
    return hits if whole or len(hits) >= enough else None


def check_sort(sort: Any) -> None:
    """Raise a :class:`FilterError` unless *sort* is one of :data:`SORTS`."""
    if sort not in SORTS:
        raise FilterError(Keyword("sort"), f" is newest or oldest, not {str(sort)[:60]!r}.")


def _end(hits: Sequence[Hit], start: Cursor | None) -> tuple[SortKey, tuple[str, ...]]:
    """Return the last key, and the identities that were shown under it on this page and the one before."""
    key = hits[-1].key
    seen = [hit.identity for hit in hits if hit.key == key]
    if start is not None and start.after == key:
        seen = [*start.seen, *seen]
    return key, tuple(seen)
