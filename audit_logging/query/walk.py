"""All that a query finds, in order, page after page, with nothing kept on the server in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_logging.query.distinct import Distinct, Hit, SortKey, sort_of
from audit_logging.query.exchange import search_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.query.exchange import Answer, Request

PAGE_SIZE: Final = 1000
"""Events of a page when everything is wanted. Larger pages are hardly faster, and events may be large."""

SMALLEST_PAGE: Final = 16
"""Room for the copies of one event, which come again at the begin of the next page."""

LARGEST_PAGE: Final = 10_000
"""OpenSearch gives no more at once."""

_INT64: Final = range(-(1 << 63), 1 << 63)


class Walk:
    """Asks for page after page by ``search_after``.

    Copies of one event are equal under the sort, and OpenSearch would skip those behind a page's end. So the next page
    begins *with* the last event's key, and what had been seen is dropped: an altered copy is never skipped.

    Example:
        >>> walk = Walk("audit-events", {"match_all": {}})
        >>> walk.request().body["sort"][0]
        {'@timestamp': 'asc'}
    """

    def __init__(
        self,
        stream: str,
        query: dict[str, Any],
        *,
        newest: bool = False,
        page_size: int = PAGE_SIZE,
        source: bool | Sequence[str] = True,
        after: SortKey | None = None,
        seen: Sequence[str] = (),
    ) -> None:
        self._stream = stream
        self._newest = newest
        self._page_size = self._size = max(page_size, SMALLEST_PAGE)
        self._source = source
        self._query = query
        self._after = after
        self._again = True
        self.distinct = Distinct(after, set(seen))
        self.done = False

    def request(self, **more: Any) -> Request:
        """Return what to ask next; *more* is added to the body."""
        body = {
            "query": self._query,
            "sort": sort_of(newest=self._newest),
            "size": self._size,
            "track_total_hits": False,
            "_source": self._source,
            **more,
        }
        if self._after is not None:
            body["search_after"] = self._just_before(self._after) if self._again else self._after
        return search_request(self._stream, body)

    def take(self, answer: Answer) -> list[Hit]:
        """Return the events of one answer, each once; sets ``done`` on the last page."""
        hits = answer["hits"]["hits"]
        self.done = len(hits) < self._size
        if not hits:
            return []
        last: SortKey = tuple(hits[-1]["sort"])
        stuck = last == self._after  # a page of nothing but one event's copies: take a larger one
        self._again = not stuck or self._size < LARGEST_PAGE
        self._size = min(self._size * 4, LARGEST_PAGE) if stuck else self._page_size
        self._after = last
        return self.distinct.fresh(hits)

    def _just_before(self, key: SortKey) -> SortKey:
        time, writer, sequence = key
        before = sequence + 1 if self._newest else sequence - 1
        return (time, writer, before if before in _INT64 else sequence)
