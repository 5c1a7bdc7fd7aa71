"""The reading side for asyncio: the same questions as :class:`AuditReader`'s, awaited."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_logging.opensearch.client import CONNECTIONS_PER_HOST
from audit_logging.query.access import arecord_search
from audit_logging.query.connection import Connection
from audit_logging.query.exchange import arun
from audit_logging.query.outage import Outage
from audit_logging.query.report.retention_status import RetentionStatus
from audit_logging.query.statistics import Counting

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from audit_logging.query.event import Event
    from audit_logging.query.exchange import Answer, Request, Result
    from audit_logging.query.export.run import Progress
    from audit_logging.query.filter import Filter
    from audit_logging.query.outage import OnWait
    from audit_logging.query.paging import Sort
    from audit_logging.query.period import Period
    from audit_logging.query.questions import Question
    from audit_logging.query.reader import AuditReader
    from audit_logging.query.report.run import Report
    from audit_logging.query.results import Context, ExportReport, Page, Statistics
    from audit_logging.query.scan import Scan
    from audit_logging.query.statistics import By
    from audit_logging.query.tail import Tail
    from audit_logging.query.verification.proof import Proof
    from audit_logging.query.verification.report import VerifyReport


class AsyncAuditReader(Connection):
    """The twin of :class:`~audit_logging.AuditReader` for coroutines; arguments, answers and errors are the same.

    Each request is sent in one of a few threads of its own, and never holds up the event loop. A query that is
    cancelled ends at once; a request that was on its way then is left to end by itself, within the setting
    ``opensearch_timeout_seconds``, and its answer is dropped.

    Example:
        >>> async def failures():
        ...     async with AsyncAuditReader(opensearch_url="http://127.0.0.1:9200") as reader:
        ...         async for event in reader.scan(outcome="failure", since="-24h"):
        ...             print(event.timestamp, event.message)
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._threads = ThreadPoolExecutor(CONNECTIONS_PER_HOST, thread_name_prefix="audit-reader")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Requests on their way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def search(
        self,
        where: Filter | None = None,
        /,
        *,
        limit: int = 50,
        cursor: str | None = None,
        sort: Sort = "newest",
        **conditions: Any,
    ) -> Page:
        """Return one page of events; see :meth:`AuditReader.search`."""
        return await self._ask(self._questions.search(where, conditions, limit=limit, cursor=cursor, sort=sort))

    def scan(self, where: Filter | None = None, /, *, sort: Sort = "oldest", **conditions: Any) -> AsyncIterator[Event]:
        """Iterate over all events; see :meth:`AuditReader.scan`."""
        return self._scan(self._questions.scan(where, conditions, sort=sort))

    def pages(
        self, where: Filter | None = None, /, *, sort: Sort = "oldest", **conditions: Any
    ) -> AsyncIterator[list[Event]]:
        """Iterate over all events, those of one answer at a time: for who passes them on in pieces."""
        return self._pages(self._questions.scan(where, conditions, sort=sort))

    def tail(
        self,
        where: Filter | None = None,
        /,
        *,
        last: int = 0,
        poll_seconds: float = 1.0,
        on_wait: OnWait | None = None,
        **conditions: Any,
    ) -> AsyncIterator[Event]:
        """Iterate over the events that arrive; see :meth:`AuditReader.tail`."""
        return self._tail(self._questions.tail(where, conditions, last=last), poll_seconds, on_wait)

    async def count(self, where: Filter | None = None, /, **conditions: Any) -> int:
        """Return how many events there are; see :meth:`AuditReader.count`."""
        return await self._ask(self._questions.count(where, conditions))

    async def get(self, event_id: str, where: Filter | None = None, /, **conditions: Any) -> Event:
        """Return one event; see :meth:`AuditReader.get`."""
        return await self._ask(self._questions.get(event_id, where, conditions))

    async def context(self, event_id: str, *, within: str | dt.timedelta = "5m", limit: int = 50) -> Context:
        """Return one event and what happened around it; see :meth:`AuditReader.context`."""
        return await self._ask(self._questions.context(event_id, within=within, limit=limit))

    async def statistics(
        self,
        where: Filter | None = None,
        /,
        *,
        by: By = "event_type",
        interval: str | None = None,
        top: int = 10,
        timezone: str = "UTC",
        compare: bool = False,
        **conditions: Any,
    ) -> Statistics:
        """Return counts by one field, and over time; see :meth:`AuditReader.statistics`."""
        counting = Counting(by, top, interval, timezone, compare)
        return await self._ask(self._questions.statistics(where, conditions, counting))

    async def export(
        self, path: str | os.PathLike[str], where: Filter | None = None, /, **options: Any
    ) -> ExportReport:
        """Write all events to a file; see :meth:`AuditReader.export`.

        It runs in a thread as a whole. Cancelled, it ends at the next page, and ``progress`` is called in that thread.
        """
        told = options.pop("progress", None)
        return await self._in_a_thread(
            lambda reader, progress: reader.export(path, where, progress=progress, **options), told
        )

    async def verify(
        self,
        where: Filter | None = None,
        /,
        *,
        public_keys: Sequence[str | os.PathLike[str]] = (),
        checkpoints: Sequence[str | os.PathLike[str]] = (),
        from_last: bool = False,
        progress: Progress | None = None,
        **conditions: Any,
    ) -> VerifyReport:
        """Tell what was changed; see :meth:`AuditReader.verify`. It runs in a thread as :meth:`export` does."""
        return await self._in_a_thread(
            lambda reader, told: reader.verify(
                where,
                public_keys=public_keys,
                checkpoints=checkpoints,
                from_last=from_last,
                progress=told,
                **conditions,
            ),
            progress,
        )

    async def prove(self, event_id: str, *, public_keys: Sequence[str | os.PathLike[str]] = ()) -> Proof:
        """Return the proof of one event; see :meth:`AuditReader.prove`."""
        return await self._in_a_thread(lambda reader, _: reader.prove(event_id, public_keys=public_keys), None)

    async def _in_a_thread(self, work: Callable[[AuditReader, Progress], Result], told: Progress | None) -> Result:
        """Return what *work* does with a reader of its own; cancelled, it ends when it next tells its progress."""
        from audit_logging.query.reader import AuditReader

        cancelled = False

        def progress(done: int, total: int) -> None:
            if cancelled:
                raise asyncio.CancelledError
            if told is not None:
                told(done, total)

        def run() -> Result:
            with AuditReader(settings=self.settings) as reader:
                return work(reader, progress)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        finally:
            cancelled = True

    async def report(self, period: Period) -> Report:
        """Return what happened in *period*; see :meth:`AuditReader.report`."""
        report = await self._ask(self._questions.report(period))
        looking = asyncio.get_running_loop().run_in_executor(self._threads, RetentionStatus.of, self.settings)
        return replace(report, retention=await looking)

    def about(self, subject: str, period: Period | None = None) -> AsyncIterator[Event]:
        """Return everything that concerns one person; see :meth:`AuditReader.about`."""
        return self._scan(self._questions.about(subject, period))

    async def _scan(self, scan: Scan) -> AsyncIterator[Event]:
        async for events in self._pages(scan):
            for event in events:
                yield event

    async def _pages(self, scan: Scan) -> AsyncIterator[list[Event]]:
        await arecord_search(scan, self.settings)
        while not scan.done:
            yield await arun(scan.page(), self._asend)

    async def _tail(self, tail: Tail, poll_seconds: float, on_wait: OnWait | None) -> AsyncIterator[Event]:
        await arecord_search(tail, self.settings)
        for event in await arun(tail.begin(), self._asend):
            yield event
        outage = Outage(on_wait)
        while True:
            events: list[Event] = []
            with outage:
                events = await arun(tail.look(), self._asend)
            for event in events:
                yield event
            if outage.lasts or not tail.behind:
                await asyncio.sleep(poll_seconds)

    async def _ask(self, question: Question[Result]) -> Result:
        await arecord_search(question, self.settings)
        return await arun(question.steps, self._asend)

    async def _asend(self, request: Request) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, request)
