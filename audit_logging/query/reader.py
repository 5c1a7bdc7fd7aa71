"""The reading side: search, count, statistics, export."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_logging.opensearch.connected import Closing
from audit_logging.query.access import record_search
from audit_logging.query.connection import Connection
from audit_logging.query.exchange import run
from audit_logging.query.outage import Outage
from audit_logging.query.questions import filter_of, now
from audit_logging.query.report.retention_status import RetentionStatus
from audit_logging.query.statistics import Counting

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Iterator, Sequence

    from audit_logging.query.event import Event
    from audit_logging.query.exchange import Result
    from audit_logging.query.export.run import Progress
    from audit_logging.query.filter import Filter
    from audit_logging.query.outage import OnWait
    from audit_logging.query.paging import Sort
    from audit_logging.query.period import Period
    from audit_logging.query.questions import Question
    from audit_logging.query.report.run import Report
    from audit_logging.query.results import Context, ExportReport, Page, Statistics
    from audit_logging.query.scan import Scan
    from audit_logging.query.statistics import By
    from audit_logging.query.tail import Tail
    from audit_logging.query.verification.proof import Proof
    from audit_logging.query.verification.report import VerifyReport


class AuditReader(Connection, Closing):
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
        return self._ask(self._questions.search(where, conditions, limit=limit, cursor=cursor, sort=sort))

    def scan(self, where: Filter | None = None, /, *, sort: Sort = "oldest", **conditions: Any) -> Iterator[Event]:
        """Return all events in the order of time, writer and sequence; memory stays at a page of them.

        Raises:
            IncompleteResultError: At the end, when there came fewer than the first page had promised (a backing index
                left meanwhile).
        """
        return self._scan(self._questions.scan(where, conditions, sort=sort))

    def tail(
        self,
        where: Filter | None = None,
        /,
        *,
        last: int = 0,
        poll_seconds: float = 1.0,
        on_wait: OnWait | None = None,
        **conditions: Any,
    ) -> Iterator[Event]:
        """Return the events that arrive, for ever: each once, soon after it is stored, however late it comes.

        What comes together is in the order of time, writer and sequence. An outage of OpenSearch is waited out, and
        what arrived meanwhile follows. Memory stays the same however long it runs.

        Args:
            where: A ready filter, instead of *conditions*.
            last: Begin with that many of the newest events that are there already, 0 to 10,000.
            poll_seconds: Seconds between two looks.
            on_wait: Called with the error at each look that OpenSearch could not answer, and with None at the first
                that it could again.
            conditions: What to look for; relative times are those of now.
        """
        return self._tail(self._questions.tail(where, conditions, last=last), poll_seconds, on_wait)

    def count(self, where: Filter | None = None, /, **conditions: Any) -> int:
        """Return how many events there are, exactly; an identical second copy does not count."""
        return self._ask(self._questions.count(where, conditions))

    def get(self, event_id: str, where: Filter | None = None, /, **conditions: Any) -> Event:
        """Return the event with this ``event.id``, or with this ``<writer>-<sequence>``.

        Args:
            event_id: The id.
            where: A ready filter, instead of *conditions*.
            conditions: What it must meet; what does not is as if it were not there. With a tenant's
                ``organization_id``, no event of another can be got by its id.

        Raises:
            NotFoundError: There is none.
        """
        return self._ask(self._questions.get(event_id, where, conditions))

    def context(self, event_id: str, *, within: str | dt.timedelta = "5m", limit: int = 50) -> Context:
        """Return one event, and those around it of the same request, session or user.

        Args:
            event_id: As :meth:`get` takes it.
            within: How long before and after: a ``timedelta``, or a text such as ``5m`` or ``1h30m``.
            limit: At most that many before it and that many after it, 0 to 1,000; the nearest ones.

        Raises:
            NotFoundError: There is no such event.
        """
        return self._ask(self._questions.context(event_id, within=within, limit=limit))

    def statistics(
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
        """Return how many events there are by one field, over time, and against the period before.

        Args:
            where: A ready filter, instead of *conditions*.
            by: ``event_type``, ``category``, ``severity``, ``outcome``, ``user``, ``ip`` or ``service``.
            interval: Steps of a histogram over time: a number and ``s``, ``m``, ``h``, ``d`` or ``w``; ``1M`` (month),
                ``1q`` (quarter) or ``1y`` (year).
            top: How many of the most frequent values, 1 to 10,000.
            timezone: IANA name of the time zone in which a day, week, month, quarter or year begins.
            compare: Also count the period of the same length before ``since``.
            conditions: What to look for.
        """
        counting = Counting(by, top, interval, timezone, compare)
        return self._ask(self._questions.statistics(where, conditions, counting))

    def export(
        self,
        path: str | os.PathLike[str],
        where: Filter | None = None,
        /,
        *,
        format: str = "ndjson",  # noqa: A002 - the word that users look for
        columns: Sequence[str] = (),
        bom: bool = False,
        method: str | None = None,
        unordered: bool = False,
        fresh: bool = False,
        progress: Progress | None = None,
        **conditions: Any,
    ) -> ExportReport:
        """Write all events to a file, byte for byte as they are stored, with a manifest beside it.

        Protected values stay sealed, so that an erasure reaches them in the export as well.

        The file appears under its name when it is complete, readable by its owner only; an existing one is replaced.
        Until then it grows as ``<path>.part``; whatever ends the export, the same call goes on with it. The export is
        itself an event of the trail, ``audit.exported``, unless the setting ``audit_exports`` is off.

        Args:
            path: The file, gzip-compressed when it ends in ``.gz``; ``"-"`` is standard output.
            where: A ready filter, instead of *conditions*.
            format: ``"ndjson"``, ``"json"`` (one array) or ``"csv"`` (for spreadsheets).
            columns: For ``csv``, which columns, in this order; none: all. Without ``document``, which holds the whole
                event, `export verify` proves the file and not its single events.
            bom: For ``csv``, begin with a byte order mark, so that Excel reads it as UTF-8.
            method: ``"pit"`` or ``"scroll"``; None: a point in time where the server has it.
            unordered: In the server's order, which is faster, instead of that of time, writer and sequence; an
                identical second copy of an event may then appear.
            fresh: Begin anew, whatever an earlier export to that file left.
            progress: Called as it goes on with (stored events done, in all).
            conditions: What to look for.

        Raises:
            IncompleteResultError: The answer was not whole.
            FilterError: What an export with another query left is in the way.
            QueryError: The file cannot be written.
            ExportNotRecordedError: The file is complete, but the trail could not record the export.
        """
        from audit_logging.query.export.run import Source, export

        return export(
            Source(self._client, self.settings, self._protected),
            filter_of(where, conditions),
            path,
            format=format,
            columns=columns,
            bom=bom,
            method=method,
            unordered=unordered,
            fresh=fresh,
            progress=progress,
        )

    def report(self, period: Period) -> Report:
        """Return what happened in *period*, as :func:`audit_logging.query.report.page.report_page` shows it."""
        return replace(self._ask(self._questions.report(period)), retention=RetentionStatus.of(self.settings))

    def about(self, subject: str, period: Period | None = None) -> Iterator[Event]:
        """Return everything that concerns one person, newest first.

        Args:
            subject: An id, a name or an address of mail, exactly.
            period: Only what happened in it.
        """
        return self._scan(self._questions.about(subject, period))

    def verify(
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
        """Tell what was edited, deleted, inserted, reordered, cut off or forged, by name.

        Memory grows with writers and not with events. Under conditions other than times, only the content of each
        event is checked.

        Args:
            where: A ready filter, instead of *conditions*.
            public_keys: PEM files of the keys to believe; none: all that lie beside the signing key.
            checkpoints: Files of signed events that were kept elsewhere; none: the setting ``checkpoint_file``.
            from_last: Go on from where the last such verification ended without a finding.
            progress: Called after each page with (events done, events in all).
            conditions: What to verify; usually ``since``, or nothing.

        Raises:
            SettingsError: A key cannot be read, or the package ``cryptography`` is not installed.
        """
        from audit_logging.query.requests import AheadRequests
        from audit_logging.query.verification.run import verify_stream

        with contextlib.closing(AheadRequests(self._client, self.settings, self._protected)) as requests:
            return verify_stream(
                requests,
                self.settings,
                filter_of(where, conditions).at(now()),
                public_keys=[Path(path) for path in public_keys],
                checkpoints=[Path(path) for path in checkpoints],
                from_last=from_last,
                progress=progress,
            )

    def prove(self, event_id: str, *, public_keys: Sequence[str | os.PathLike[str]] = ()) -> Proof:
        """Return the proof that the event with this ``event.id`` (or ``<writer>-<sequence>``) is as it was written.

        Anybody who holds the public key can check it, with ``docs/check_proof.py``. It discloses the events that the
        same writer wrote between this one and its next signature.

        Raises:
            NotFoundError: There is no such event.
            ProofError: Its chain does not hold, or nothing behind it is signed yet.
        """
        from audit_logging.query.requests import AheadRequests
        from audit_logging.query.verification.proof import proof_steps
        from audit_logging.query.verification.run import trusted_keys

        event = self.get(event_id)
        place = (str(event.get("audit.integrity.writer")), int(event.get("audit.integrity.sequence", 0)))
        keys = trusted_keys(self.settings, [Path(path) for path in public_keys])
        with contextlib.closing(AheadRequests(self._client, self.settings, self._protected)) as requests:
            return run(proof_steps(self._stream, place, keys), requests.send)

    def _scan(self, scan: Scan) -> Iterator[Event]:
        record_search(scan, self.settings)
        while not scan.done:
            yield from run(scan.page(), self._send)

    def _tail(self, tail: Tail, poll_seconds: float, on_wait: OnWait | None) -> Iterator[Event]:
        record_search(tail, self.settings)
        yield from run(tail.begin(), self._send)
        outage = Outage(on_wait)
        while True:
            events: list[Event] = []
            with outage:
                events = run(tail.look(), self._send)
            yield from events
            if outage.lasts or not tail.behind:
                time.sleep(poll_seconds)

    def _ask(self, question: Question[Result]) -> Result:
        record_search(question, self.settings)
        return run(question.steps, self._send)
