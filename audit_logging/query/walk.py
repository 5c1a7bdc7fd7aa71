"""All that a query finds, in order, page after page, with nothing kept on the server in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

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

FIRST_PAGE: Final = 100
"""Events of the first page where bytes count, as long as nobody knows how large they are."""

SAMPLE: Final = 20
"""Events of a page that are looked at to know how large they are."""

_INT64: Final = range(-(1 << 63), 1 << 63)


class Walk:
    """Asks for page after page by ``search_after``.

    Copies of one event are equal under the sort, and OpenSearch would skip those behind a page's end. So the next page
    begins *with* the last event's key, and what had been seen is dropped: an altered copy is never skipped.

    Args:
        stream: Where.
        query: What to find.
        newest: Newest first.
        page_size: Events of a page.
        page_bytes: Size to which pages are made, where that is less. An answer of four times that is not read; ask
            again after :meth:`shrink`.
        source: Which fields.
        after: The key to begin behind.
        seen: Identities that were seen under that key.

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
        page_bytes: int | None = None,
        source: bool | Sequence[str] = True,
        after: SortKey | None = None,
        seen: Sequence[str] = (),
    ) -> None:
        self._stream = stream
        self._newest = newest
        self._page_size = max(page_size, SMALLEST_PAGE)
        self._page_bytes = page_bytes
        self._size = self._page_size if page_bytes is None else min(self._page_size, FIRST_PAGE)
        self._stuck = False
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
        # A page of the copies of one event must come, however large it is.
        free = self._page_bytes is None or self._stuck or self._size <= SMALLEST_PAGE
        return search_request(self._stream, body, most_bytes=None if free else 4 * (self._page_bytes or 0))

    def shrink(self) -> None:
        """Ask for fewer events, since the answer was too large."""
        self._size = max(self._size // 8, SMALLEST_PAGE)

    def take(self, answer: Answer) -> list[Hit]:
        """Return the events of one answer, each once; sets ``done`` on the last page."""
        hits = answer["hits"]["hits"]
        self.done = len(hits) < self._size
        if not hits:
            return []
        last: SortKey = tuple(hits[-1]["sort"])
        self._stuck = last == self._after  # a page of nothing but one event's copies: take a larger one
        self._again = not self._stuck or self._size < LARGEST_PAGE
        self._size = min(self._size * 4, LARGEST_PAGE) if self._stuck else self._fitting(hits)
        self._after = last
        return self.distinct.fresh(hits)

    def _fitting(self, hits: Sequence[dict[str, Any]]) -> int:
        """Return how many events make a page, going by those of this one."""
        if self._page_bytes is None:
            return self._page_size
        sample = hits[:: -(-len(hits) // SAMPLE)]
        mean = sum(len(orjson.dumps(hit)) for hit in sample) / len(sample)
        return max(SMALLEST_PAGE, min(self._page_size, int(self._page_bytes / mean)))

    def _just_before(self, key: SortKey) -> SortKey:
        time, writer, sequence = key
        before = sequence + 1 if self._newest else sequence - 1
        return (time, writer, before if before in _INT64 else sequence)
