"""One page of what a filter finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from audit_logging.errors import FilterError
from audit_logging.query.copies import INDEX_COUNT, total_and_copies
from audit_logging.query.cursor import Cursor
from audit_logging.query.dsl import query_of
from audit_logging.query.event import Event
from audit_logging.query.results import Page
from audit_logging.query.walk import PAGE_SIZE, Walk

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from audit_logging.query.distinct import Hit, SortKey
    from audit_logging.query.exchange import Steps
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
        raise FilterError(f"limit is a number from 1 to {MAX_LIMIT}, not {str(limit)[:60]!r}.")
    question = filter_.digest(stream, sort)
    start = None if cursor is None else Cursor.decode(cursor, question=question)
    now = start.now if start else now
    query = query_of(filter_.at(now))
    walk = Walk(
        stream,
        query,
        newest=sort == "newest",
        page_size=min(limit + 2, PAGE_SIZE),  # one that is seen already, and one to know whether there are more
        after=start.after if start else None,
        seen=start.seen if start else (),
    )
    if start:
        total, hits = start.total, []
    else:
        answer = yield walk.request(track_total_hits=True, aggs=INDEX_COUNT)
        hits = walk.take(answer)
        total, _ = yield from total_and_copies(stream, query, answer)
    while len(hits) <= limit and not walk.done:
        hits.extend(walk.take((yield walk.request())))
    events = [Event(hit.document) for hit in hits[:limit]]
    if len(hits) <= limit:
        return Page(events, None, total)
    after, seen = _end(hits[:limit], start)
    return Page(events, Cursor(question, now, total, after, seen).encode(), total)


def check_sort(sort: Any) -> None:
    """Raise a :class:`FilterError` unless *sort* is one of :data:`SORTS`."""
    if sort not in SORTS:
        raise FilterError(f"sort is newest or oldest, not {str(sort)[:60]!r}.")


def _end(hits: Sequence[Hit], start: Cursor | None) -> tuple[SortKey, tuple[str, ...]]:
    """Return the last key, and the identities that were shown under it on this page and the one before."""
    key = hits[-1].key
    seen = [hit.identity for hit in hits if hit.key == key]
    if start is not None and start.after == key:
        seen = [*start.seen, *seen]
    return key, tuple(seen)
