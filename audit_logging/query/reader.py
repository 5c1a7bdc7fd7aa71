"""The reading side: search, count, statistics, export."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from audit_logging.errors import FilterError, IncompleteResultError, NotFoundError, OpenSearchError, SettingsError
from audit_logging.opensearch.client import Client
from audit_logging.query.copies import INDEX_COUNT, total_and_copies
from audit_logging.query.dsl import any_of, query_of
from audit_logging.query.event import Event
from audit_logging.query.exchange import Request, checked, explained, run, search_request
from audit_logging.query.filter import Filter
from audit_logging.query.paging import check_sort, page_steps
from audit_logging.query.statistics import statistics_steps
from audit_logging.query.walk import PAGE_SIZE, SMALLEST_PAGE, Walk
from audit_logging.settings import Settings

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer, Result, Steps
    from audit_logging.query.export import Progress
    from audit_logging.query.paging import Sort
    from audit_logging.query.results import ExportReport, Page, Statistics
    from audit_logging.query.statistics import By


class AuditReader:
    """Reads the trail. Thread-safe; close it, or use it in a ``with`` statement.

    Every query takes its conditions as keywords (see :class:`~audit_logging.query.filter.Filter`), or one ready
    ``Filter`` as its only positional argument. An event is found once, even where an identical second copy is stored.
    OpenSearch shows new events with a delay of about a second.

    All queries raise:
        FilterError: A condition, time, cursor or option is malformed.
        IncompleteResultError: A shard failed or time ran out; part of an answer is never given.
        NotFoundError: The stream does not exist yet.
        UnreachableError, RefusedError: OpenSearch does not answer, or says no.

    Example:
        >>> with AuditReader(opensearch_url="http://127.0.0.1:9200") as reader:  # doctest: +SKIP
        ...     page = reader.search(category="authentication", outcome="failure", since="-24h")
        ...     [(event.timestamp, event.user_id, event.source_ip) for event in page.events]
    """

    def __init__(self, *, settings: Settings | None = None, **keywords: Any) -> None:
        if settings is not None and keywords:
            raise SettingsError("Give AuditReader either settings= or single settings, not both.")
        self.settings = settings if settings is not None else Settings.load(**keywords)
        self._stream = self.settings.stream
        self._client = Client(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def search(
        self,
        where: Filter | None = None,
        /,
        *,
        limit: int = 50,
        cursor: str | None = None,
        sort: Sort = "newest",
        **conditions: Any,
    ) -> Page:
        """Return one page of events.

        Pages stay exact while events arrive: what is stored after the first page and belongs in front of a later
        one appears in a new search only. Relative times keep the "now" of the first page.

        Args:
            where: A ready filter, instead of *conditions*.
            limit: Events of the page, 1 to 10,000.
            cursor: The cursor of the page before; with the same filter and sort.
            sort: ``"newest"`` or ``"oldest"`` first.
            conditions: What to look for.
        """
        filter_ = _filter(where, conditions)
        return self._run(page_steps(self._stream, filter_, limit=limit, cursor=cursor, sort=sort, now=_now()))

    def scan(self, where: Filter | None = None, /, *, sort: Sort = "oldest", **conditions: Any) -> Iterator[Event]:
        """Return all events in the order of time, writer and sequence; memory stays at a page of them.

        Raises:
            IncompleteResultError: At the end, when there came fewer than the first page had promised (a backing index
                left meanwhile).
        """
        check_sort(sort)
        query = query_of(_filter(where, conditions).at(_now()))
        return self._scan(query, newest=sort == "newest")

    def count(self, where: Filter | None = None, /, **conditions: Any) -> int:
        """Return how many events there are, exactly; an identical second copy does not count."""
        return self._run(_count_steps(self._stream, query_of(_filter(where, conditions).at(_now()))))

    def get(self, event_id: str) -> Event:
        """Return the event with this ``event.id``, or with this ``<writer>-<sequence>``.

        Raises:
            NotFoundError: There is none.
        """
        events = self._run(_get_steps(self._stream, event_id))
        if not events:
            raise NotFoundError(
                f"There is no event {event_id!r} in {self._stream!r}: it may not have arrived yet, or left with its"
                " retention period.",
                status=404,
                error_type="",
                reason="no such event",
            )
        return events[0]

    def statistics(
        self,
        where: Filter | None = None,
        /,
        *,
        by: By = "event_type",
        interval: str | None = None,
        top: int = 10,
        **conditions: Any,
    ) -> Statistics:
        """Return how many events there are by one field, and over time.

        Args:
            where: A ready filter, instead of *conditions*.
            by: ``event_type``, ``category``, ``severity``, ``outcome``, ``user``, ``ip`` or ``service``.
            interval: Steps of a histogram over time: a number and ``s``, ``m``, ``h``, ``d`` or ``w``.
            top: How many of the most frequent values, 1 to 10,000.
            conditions: What to look for.
        """
        query = query_of(_filter(where, conditions).at(_now()))
        return self._run(statistics_steps(self._stream, query, by=by, interval=interval, top=top))

    def export(
        self,
        path: str | os.PathLike[str],
        where: Filter | None = None,
        /,
        *,
        format: str = "ndjson",  # noqa: A002 - the word that users look for
        method: str = "scroll",
        progress: Progress | None = None,
        **conditions: Any,
    ) -> ExportReport:
        """Write all events to a file, one stored document a line, in the order of time, writer and sequence.

        The file appears under its name when it is complete, readable by its owner only; an existing one is replaced.

        Args:
            path: The file, gzip-compressed when it ends in ``.gz``; ``"-"`` is standard output.
            where: A ready filter, instead of *conditions*.
            format: ``"ndjson"``.
            method: ``"scroll"``.
            progress: Called after each page with (hits done, hits in all).
            conditions: What to look for.

        Raises:
            IncompleteResultError: The answer ended early; no file is left.
            QueryError: The file cannot be written.
        """
        from audit_logging.query.export import export

        filter_ = _filter(where, conditions).at(_now())
        return export(self._send, self._stream, filter_, path, format=format, method=method, progress=progress)

    def _scan(self, query: Query, *, newest: bool) -> Iterator[Event]:
        walk = Walk(self._stream, query, newest=newest, page_size=PAGE_SIZE)
        answer = self._send(walk.request(track_total_hits=True))
        promised = answer["hits"]["total"]["value"]
        while True:
            for hit in walk.take(answer):
                yield Event(hit.document)
            if walk.done:
                break
            answer = self._send(walk.request())
        if walk.distinct.hits < promised:
            raise IncompleteResultError(
                f"The scan ended after {walk.distinct.hits} of {promised} stored events: did a backing index leave"
                " meanwhile? Scan again."
            )

    def _run(self, steps: Steps[Result]) -> Result:
        return run(steps, self._send)

    def _send(self, request: Request) -> Answer:
        try:
            answer = self._client.request(request.method, request.path, params=request.params, body=request.body)
        except OpenSearchError as error:
            better = explained(error, self.settings)
            if better is error:
                raise
            raise better from error
        return checked(answer)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _filter(where: Filter | None, conditions: dict[str, Any]) -> Filter:
    if where is None:
        return Filter.of(**conditions)
    if not isinstance(where, Filter):
        raise FilterError(f"Give conditions as keywords, like user_id='u-42', not {type(where).__name__}.")
    if conditions:
        raise FilterError("Give either a ready filter or conditions as keywords, not both.")
    return where


def _count_steps(stream: str, query: Query) -> Steps[int]:
    answer = yield search_request(stream, {"query": query, "size": 0, "track_total_hits": True, "aggs": INDEX_COUNT})
    total, _ = yield from total_and_copies(stream, query, answer)
    return total


def _get_steps(stream: str, event_id: str) -> Steps[list[Event]]:
    if not isinstance(event_id, str) or not event_id.isprintable():
        raise FilterError(f"{str(event_id)[:60]!r} is not an event's id.")
    query = any_of([{"term": {"event.id": event_id}}, {"ids": {"values": [event_id]}}])
    walk = Walk(stream, query, page_size=SMALLEST_PAGE)
    return [Event(hit.document) for hit in walk.take((yield walk.request()))]
