"""Everything that a filter finds, into a file, through OpenSearch's scroll.

A scroll reads one frozen view of the trail, forward only. Two ways in which it could end early without an error are
ruled out: a page is refused when a shard failed or time ran out, and the hits are counted against the first total.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import FilterError, IncompleteResultError, NotFoundError, OpenSearchError
from audit_logging.query.distinct import Distinct, sort_of
from audit_logging.query.dsl import query_of
from audit_logging.query.exchange import Request, search_request
from audit_logging.query.outfile import open_output
from audit_logging.query.results import ExportReport

if TYPE_CHECKING:
    import os
    from collections.abc import Generator

    from audit_logging.query.exchange import Answer
    from audit_logging.query.filter import Filter

Send = Callable[[Request], "Answer"]
Progress = Callable[[int, int], None]
"""Told (hits done, hits in all) after each page."""

KEEP_ALIVE: Final = "5m"
"""How long the server keeps its view for the next page: longer than any page takes to be written."""

PAGE_SIZE: Final = 1000
"""Events of a page. Of a sorted scroll, larger ones are slower: with 5000 the server took six times as long."""

FORMATS: Final = ("ndjson",)
METHODS: Final = ("scroll",)


def export(
    send: Send,
    stream: str,
    filter_: Filter,
    path: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002
    method: str,
    progress: Progress | None,
) -> ExportReport:
    """Write what *filter_* (with absolute times) finds to *path*; see :meth:`AuditReader.export`."""
    _check("format", format, FORMATS)
    _check("method", method, METHODS)
    distinct = Distinct()
    body = {"query": query_of(filter_), "sort": sort_of(newest=False), "size": PAGE_SIZE, "track_total_hits": True}
    events = 0
    with contextlib.closing(_scroll(send, stream, body)) as pages, open_output(path) as output:
        for hits, total in pages:
            lines = [orjson.dumps(hit.document, option=orjson.OPT_APPEND_NEWLINE) for hit in distinct.fresh(hits)]
            output.write(b"".join(lines))
            events += len(lines)
            if progress is not None:
                progress(distinct.hits, total)
    return ExportReport(
        path=output.path,
        events=events,
        copies=len(distinct.copies),
        bytes=output.bytes,
        sha256=output.sha256,
        since=filter_.since,
        until=filter_.until,
    )


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise FilterError(f"There is no export {name} {str(value)[:60]!r}; there is {', '.join(known)}.")


def _scroll(send: Send, stream: str, body: dict[str, Any]) -> Generator[tuple[list[dict[str, Any]], int], None, None]:
    """Yield each page's hits and the total; release the server's view however it ends."""
    answer = send(search_request(stream, body, scroll=KEEP_ALIVE))
    scroll_id = answer["_scroll_id"]
    total: int = answer["hits"]["total"]["value"]
    done = 0
    try:
        while hits := answer["hits"]["hits"]:
            done += len(hits)
            yield hits, total
            if done >= total:
                break
            answer = _next_page(send, scroll_id, done, total)
            scroll_id = answer.get("_scroll_id", scroll_id)
    finally:
        # The server forgets it by itself after a while; an error here must not hide the one that ended the export.
        with contextlib.suppress(OpenSearchError):
            send(Request("DELETE", "/_search/scroll", {"scroll_id": scroll_id}, {}))
    if done != total:
        raise IncompleteResultError(f"The export ended after {done} of {total} stored events: export again.")


def _next_page(send: Send, scroll_id: str, done: int, total: int) -> Answer:
    try:
        return send(Request("POST", "/_search/scroll", {"scroll": KEEP_ALIVE, "scroll_id": scroll_id}, {}))
    except NotFoundError as error:
        raise IncompleteResultError(
            f"OpenSearch gave up its view of the trail after {done} of {total} stored events (longer than {KEEP_ALIVE}"
            " between two pages, or a node left): export again."
        ) from error
