"""A frozen view of the trail on the server, read page after page in the server's own order: point in time or scroll.

The server's order is the one in which it can read its disk without seeking. In any other, each document costs it the
decompression of a whole block: with the codec of our indices, a fifteenth of the speed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from audit_logging.errors import (
    AuditError,
    FilterError,
    IncompleteResultError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
)
from audit_logging.query.dsl import all_of
from audit_logging.query.exchange import Request, checked
from audit_logging.query.export.page import Page, Separator, require_all

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from audit_logging.query.dsl import Query


KEEP_ALIVE: Final = "2m"
"""How long the server keeps a view for the next request, and so the view of an export that was killed.

Longer than the sorting of a part takes; where it is not, the next part begins with a new view.
"""

PAGE_BYTES: Final = 4 << 20
"""Size to which pages are made; with the next one under way and the cutting, a few times this is in memory."""

LARGEST_PAGE: Final = 5000
"""Events of a page at most. Larger pages were not faster."""

MOST_INDICES: Final = 10_000
"""Backing indices that one export can read; more than a cluster should have."""

_WHOLE: Final[dict[str, str | bool]] = {"allow_partial_search_results": False, "search_pipeline": "_none"}


class ViewLostError(Exception):
    """The server gave up the view: it expired, or a node left."""


class View(Protocol):
    """A frozen view of one stream."""

    method: str

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the checked answer to a search in the stream."""
        ...

    def pages(self, query: Query, mean_bytes: float) -> Generator[Page, None, None]:
        """Yield all that *query* finds.

        Args:
            query: What to find.
            mean_bytes: Size of a document, as far as it is known.

        Raises:
            ViewLostError: The server gave up the view.
            IncompleteResultError: There came fewer events than the first page had promised.
        """
        ...

    def close(self) -> None:
        """Let the server forget it."""
        ...


class Requests(Protocol):
    """Asks OpenSearch, and may have one request under way while the answer before is worked on."""

    def ask(self, request: Request) -> bytes:
        """Return an answer as it came."""
        ...

    def begin(self, request: Request) -> None:
        """Send a request."""
        ...

    def take(self) -> bytes:
        """Return the answer to what was begun."""
        ...


def page_size(mean_bytes: float) -> int:
    """Return how many documents make a page.

    Example:
        >>> page_size(100), page_size(10_000), page_size(100_000_000)
        (5000, 419, 1)
    """
    return max(1, min(LARGEST_PAGE, int(PAGE_BYTES / max(mean_bytes, 1))))


def open_view(requests: Requests, stream: str, method: str | None = None) -> View:
    """Return a frozen view of *stream*.

    Args:
        requests: Where to ask.
        stream: The data stream.
        method: ``pit`` or ``scroll``; None: a point in time where the server has what it takes.

    Raises:
        FilterError: A point in time was asked for, and the server cannot page it.
    """
    if method != Scroll.method:
        try:
            return PointInTime(requests, stream)
        except RefusedError as error:
            # An older server, or a role that may only search; should it be something else, the scroll meets it too.
            if method is not None:
                raise _without_places(error) from error
    return Scroll(requests, stream)


def _without_places(error: RefusedError) -> AuditError:
    if "_shard_doc" not in error.reason:
        return error
    return FilterError(
        "This OpenSearch cannot page a point in time without gaps, which OpenSearch 3.3 and later can: use --method"
        " scroll."
    )


class PointInTime:
    """A point in time, paged by the place of a document in it. Needs OpenSearch 3.3.

    Raises:
        RefusedError: The server has no such thing, or the role may not use it.
        NotFoundError: There is no such stream.
    """

    method = "pit"

    def __init__(self, requests: Requests, stream: str) -> None:
        self._requests = requests
        self._separator = Separator()
        # The first is quick (measured: 3.6 µs of the server's processor a document, and 5.1 with the second alone), the
        # second tells the shards of an index apart.
        self._sort: list[Any] = ["_doc", {"_shard_doc": "asc"}, self._separator.sort]
        # A view without some of the shards must not come to be.
        params: dict[str, str | bool] = {"keep_alive": KEEP_ALIVE, "allow_partial_pit_creation": False}
        answer = orjson.loads(requests.ask(Request("POST", f"/{stream}/_search/point_in_time", {}, params)))
        self._id: str = answer["pit_id"]
        shards = answer["_shards"]
        if shards["successful"] != shards["total"]:
            self.close()
            raise IncompleteResultError(
                f"Only {shards['successful']} of {shards['total']} shards take part: check the cluster's health and"
                " export again."
            )
        try:
            self.search({"size": 0})  # an older server does not know the sort
        except OpenSearchError:
            self.close()
            raise

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the checked answer to a search in the view."""
        answer: dict[str, Any] = orjson.loads(self._send({"sort": self._sort, **body}))
        return checked(answer)

    def pages(self, query: Query, mean_bytes: float) -> Generator[Page, None, None]:
        """Yield all that *query* finds, one backing index after the other, in the order of the disk."""
        # Measured on 3.8.0: the place of a document counts within its own index, so that documents of two backing
        # indices share places, and a page that goes over both would make the next one skip some.
        indices = {"indices": {"terms": {"field": "_index", "size": MOST_INDICES}}}
        answer = self.search({"query": query, "size": 0, "track_total_hits": True, "aggs": indices})
        buckets = answer["aggregations"]["indices"]["buckets"]
        require_all(sum(bucket["doc_count"] for bucket in buckets), answer["hits"]["total"]["value"])
        for bucket in buckets:
            within = all_of([query, {"term": {"_index": bucket["key"]}}])
            yield from self._pages(within, bucket["doc_count"], page_size(mean_bytes))

    def _pages(self, query: Query, total: int, size: int) -> Iterator[Page]:
        body: dict[str, Any] = {"query": query, "sort": self._sort, "track_total_hits": False}
        self._requests.begin(self._request({**body, "size": size}))
        while total:
            with _noticing_loss():
                page = Page.of(self._requests.take(), self._separator, size, total)
            total -= page.hits
            if total:
                body["search_after"] = page.last
                size = page_size(page.size_bytes / page.hits)
                self._requests.begin(self._request({**body, "size": size}))
            yield page

    def close(self) -> None:
        """Let the server forget it."""
        # It does so by itself after a while; an error here must not hide the one that ended the export.
        with contextlib.suppress(OpenSearchError):
            self._requests.ask(Request("DELETE", "/_search/point_in_time", {"pit_id": [self._id]}, {}))

    def _send(self, body: dict[str, Any]) -> bytes:
        with _noticing_loss():
            return self._requests.ask(self._request(body))

    def _request(self, body: dict[str, Any]) -> Request:
        return Request("POST", "/_search", {"pit": {"id": self._id, "keep_alive": KEEP_ALIVE}, **body}, _WHOLE)


class Scroll:
    """A scroll for each query; so each has a view of its own."""

    method = "scroll"

    def __init__(self, requests: Requests, stream: str) -> None:
        self._requests = requests
        self._path = f"/{stream}/_search"
        self._separator = Separator()

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the checked answer to a search in the stream."""
        answer: dict[str, Any] = orjson.loads(self._requests.ask(Request("POST", self._path, body, _WHOLE)))
        return checked(answer)

    def pages(self, query: Query, mean_bytes: float) -> Generator[Page, None, None]:
        """Yield all that *query* finds, in the order of the disk."""
        size = page_size(mean_bytes)
        body = {"query": query, "size": size, "track_total_hits": True, "sort": ["_doc", self._separator.sort]}
        raw = self._requests.ask(Request("POST", self._path, body, {**_WHOLE, "scroll": KEEP_ALIVE}))
        page = Page.of(raw, self._separator, size)
        scroll_id, left = page.head["_scroll_id"], page.head["hits"]["total"]["value"]
        try:
            while left:
                left -= page.hits
                if left:
                    more = {"scroll": KEEP_ALIVE, "scroll_id": scroll_id}
                    self._requests.begin(Request("POST", "/_search/scroll", more, {}))
                yield page
                if left:
                    with _noticing_loss():
                        page = Page.of(self._requests.take(), self._separator, size, left)
                    scroll_id = page.head.get("_scroll_id", scroll_id)
        finally:
            with contextlib.suppress(OpenSearchError):
                self._requests.ask(Request("DELETE", "/_search/scroll", {"scroll_id": scroll_id}, {}))

    def close(self) -> None:
        """Nothing is kept between queries."""


@contextlib.contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise ViewLostError from error
    except RefusedError as error:
        if "search_context_missing_exception" in str(error.body):
            raise ViewLostError from error
        raise
