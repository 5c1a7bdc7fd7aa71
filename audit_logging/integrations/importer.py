"""Bring a file of events into the trail, each exactly once, however often and wherever the import is interrupted.

An event is recognised by its ``event.id``. Before a batch is emitted, its ids are looked up in the stream; for that
answer to be true, everything that an earlier import accepted must be in the stream and visible:

1. one import at a time works with a spool directory, so that no other's events wait there unseen;
2. what dead processes left in the spool is shipped first;
3. the batch before is acknowledged, and the stream refreshed, before the next one is looked up.
"""

from __future__ import annotations

import contextvars
import datetime as dt
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from typing_extensions import Self

from audit_logging.capture.trail import Trail
from audit_logging.errors import EventFileError, NotIndexedError, OpenSearchError, QueryError
from audit_logging.integrations.event_file import EventFile
from audit_logging.integrations.event_times import EventTimes
from audit_logging.integrations.import_formats import format_named
from audit_logging.integrations.import_turn import ImportTurn
from audit_logging.integrations.lookup import Lookup
from audit_logging.opensearch.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from zoneinfo import ZoneInfo

    from audit_logging.integrations.event_file import Entry
    from audit_logging.integrations.import_formats import ImportFormat
    from audit_logging.integrations.incoming import IncomingEvent
    from audit_logging.settings import Settings

BATCH_EVENTS: Final = 1000
BATCH_BYTES: Final = 8 << 20
DEFAULT_PATIENCE_SECONDS: Final = 60.0

_STOP_SECONDS: Final = 5.0


@dataclass
class ImportReport:
    """What an import did. ``read`` is at any time the sum of the next three.

    Attributes:
        read: Records that were dealt with.
        imported: Those that are new in the stream.
        already_there: Those that the stream, or the import before them, held already.
        broken: Those that were left out because they are no events.
        undated: Those that have no time of their own, and were imported with the time of the import.
    """

    read: int = 0
    imported: int = 0
    already_there: int = 0
    broken: int = 0
    undated: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return (
            f"read {self.read:,}, imported {self.imported:,}, already there {self.already_there:,},"
            f" broken {self.broken:,}"
        )

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass
class FileReport:
    """What became of one file.

    Attributes:
        name: Its name.
        report: What was done with its records.
        problem: Why it could not be read, or not to its end.
    """

    name: str
    report: ImportReport = field(default_factory=ImportReport)
    problem: str | None = None


@dataclass
class ImportAccount:
    """What became of every file; true at any time, also when an error ends the import.

    Attributes:
        files: The files so far, in order.
        stopped: The record, or the file, that ended the import before its end.
    """

    files: list[FileReport] = field(default_factory=list)
    stopped: str | None = None

    @property
    def total(self) -> ImportReport:
        """The sum of all files."""
        return sum((file.report for file in self.files), ImportReport())

    @property
    def is_complete(self) -> bool:
        """Whether everything is in the stream: nothing was left out, and there was something."""
        total = self.total
        return (
            self.stopped is None
            and not total.broken
            and total.read > 0
            and not any(file.problem for file in self.files)
        )


@dataclass(frozen=True)
class ImportOptions:
    """How records are read.

    Attributes:
        zone: Time zone of times that have none.
        year: Year of times that have none.
        on_broken: Called with the file, a record and why it is no event, which is then left out; None: the first such
            record ends the import.
        on_progress: Called after every batch with the sum so far.
        patience_seconds: How long OpenSearch may take to acknowledge a batch.
    """

    zone: ZoneInfo | None = None
    year: int | None = None
    on_broken: Callable[[EventFile, Entry, str], None] | None = None
    on_progress: Callable[[ImportReport], None] | None = None
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS

    def times_of(self, file: EventFile) -> EventTimes:
        """Return what reads the times of *file*."""
        changed = file.modified
        reference = None if changed is None else dt.datetime.fromtimestamp(changed, tz=dt.timezone.utc)
        return EventTimes(self.zone, self.year, reference)


def import_files(
    paths: Iterable[str | Path],
    format: ImportFormat,  # noqa: A002 - the option's name
    settings: Settings,
    options: ImportOptions,
    account: ImportAccount,
    *,
    on_file: Callable[[EventFile], None] | None = None,
) -> None:
    """Bring every event of the files that is not there yet into the stream; return when all are acknowledged.

    Args:
        paths: The files; ``"-"`` is standard input.
        format: What the files hold.
        settings: Stream, spool and OpenSearch.
        options: How records are read.
        account: Receives what became of each file. Where records are not left out, the first that is broken, or the
            first file that cannot be read, ends the import and is in ``stopped``.
        on_file: Called with each file when it is opened.

    Raises:
        NotIndexedError: OpenSearch went away. What was accepted is in the spool; import the files again.
        SpoolFullError: The spool is full. What was accepted is in it.
        OpenSearchError: OpenSearch could not be reached at all, or the stream is not set up. Nothing was imported.
    """
    with Importer(settings, options, account) as importer:
        for path in paths:
            of_file = FileReport("standard input" if str(path) == "-" else str(path))
            account.files.append(of_file)
            try:
                with EventFile(path) as file:
                    if on_file is not None:
                        on_file(file)
                    _read(importer, file, format, options, of_file.report)
            except EventFileError as error:
                of_file.problem = str(error)
                if options.on_broken is None:
                    account.stopped = str(error)
                    break
        importer.finish()


def import_file(
    file: EventFile,
    format: str,  # noqa: A002 - the option's name
    settings: Settings,
    *,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    on_broken: Callable[[int, str], None] | None = None,
    on_progress: Callable[[ImportReport], None] | None = None,
    zone: ZoneInfo | None = None,
    year: int | None = None,
) -> ImportReport:
    """Bring every event of one open file that is not there yet into the stream; return when all are acknowledged.

    Args:
        file: Open, at its beginning.
        format: Name of a format, such as ``cloudtrail`` or ``ndjson``.
        settings: Stream, spool and OpenSearch.
        patience_seconds: How long OpenSearch may take to acknowledge a batch.
        on_broken: Called with the number of a line or record and why it is no event, which is then left out; None: the
            first such record ends the import.
        on_progress: Called after every batch.
        zone: Time zone of times that have none.
        year: Year of times that have none.

    Raises:
        EventFileError: A record is no event, or the file is damaged. Everything before it is in.
        AuditError: As :func:`import_files` does.

    Example:
        >>> with EventFile("trail.json.gz") as file:  # doctest: +SKIP
        ...     print(import_file(file, "cloudtrail", Settings.load()))
        read 1,934, imported 1,934, already there 0, broken 0
    """
    left_out = None if on_broken is None else lambda _, entry, why: on_broken(entry.number, why)
    options = ImportOptions(zone, year, left_out, on_progress, patience_seconds)
    account = ImportAccount([FileReport(file.name)])
    report = account.files[0].report
    with Importer(settings, options, account) as importer:
        try:
            _read(importer, file, format_named(format), options, report)
        except EventFileError as error:
            importer.finish()
            raise EventFileError(what_is_in(str(error), report), line=error.line) from error
        importer.finish()
        return report


def what_is_in(error: str, report: ImportReport) -> str:
    """Return *error* with what to do about it."""
    return (
        f"{error}. Everything before it is in ({report}). Correct the file, or leave such records out (--skip-broken),"
        " and import it again: records that are in the stream are skipped."
    )


def _read(
    importer: Importer,
    file: EventFile,
    format: ImportFormat,  # noqa: A002
    options: ImportOptions,
    report: ImportReport,
) -> None:
    times = options.times_of(file)
    for entry in format.entries(file):
        problem, event = entry.problem, None
        if problem is None:
            try:
                event = format.event_of(entry, file, times)
            except EventFileError as error:
                problem = str(error)
        if event is not None:
            importer.add(event, entry.size, report)
            continue
        report.read += 1
        report.broken += 1
        if options.on_broken is None:
            raise EventFileError(f"{file.name}, {entry.where}: {problem}", line=entry.line)
        options.on_broken(file, entry, str(problem))


class Importer:
    """Takes events into one stream, batch by batch. Use it in a ``with`` block.

    Args:
        settings: Stream, spool and OpenSearch.
        options: How long to wait, and what to call after every batch.
        account: What was done so far.
    """

    def __init__(
        self,
        settings: Settings,
        options: ImportOptions,
        account: ImportAccount,
    ) -> None:
        self._account = account
        self._settings = settings.model_copy(update={"console": False, "on_invalid": "record"})
        self._patience_seconds = options.patience_seconds
        self._on_progress = options.on_progress
        self._batch: list[tuple[IncomingEvent, ImportReport]] = []
        self._batch_bytes = 0
        self._unsettled = False
        self._open = ExitStack()
        # What a context around the import knows is not true of the events in the file.
        self._outside = contextvars.Context()

    def __enter__(self) -> Self:
        client = Client(self._settings)
        with ExitStack() as opening:
            opening.callback(client.close)
            self._lookup = Lookup(client, self._settings)
            self._lookup.require_stream()
            turn = opening.enter_context(ImportTurn(self._settings.spool_path, self._settings.stream))
            turn.ship_left_behind(self._settings, self._patience_seconds)
            self._lookup.refresh()
            self._trail = Trail(self._settings)
            turn.note_writer(self._trail.writer_id)
            opening.callback(self._trail.shutdown, _STOP_SECONDS)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, event: IncomingEvent, size: int, report: ImportReport) -> None:
        """Take one event of *size* bytes; it enters the trail, and *report*, with its batch."""
        self._batch.append((event, report))
        self._batch_bytes += size
        if len(self._batch) >= BATCH_EVENTS or self._batch_bytes >= BATCH_BYTES:
            self._take_batch()

    def finish(self) -> None:
        """Return when everything that was added is acknowledged by OpenSearch."""
        self._take_batch()
        self._settle()

    def _take_batch(self) -> None:
        """Emit what the stream does not hold yet. Shipping goes on while the next batch is being read."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch:
            return
        self._settle()
        with self._stopping_when_away():
            held = self._lookup.held({event.event_id for event, _ in batch})
        for event, report in batch:
            if event.event_id in held:
                report.read += 1
                report.already_there += 1
                continue
            held.add(event.event_id)
            self._unsettled = True
            self._outside.run(self._trail.emit, event.event_type, event.facts, "process", origin=event.origin)
            report.read += 1
            report.imported += 1
            report.undated += "timestamp" not in event.facts
        if self._on_progress is not None:
            self._on_progress(self._account.total)

    def _settle(self) -> None:
        """Return when what was emitted is in the stream and can be found there."""
        if not self._unsettled:
            return
        with self._stopping_when_away():
            if not self._trail.flush(self._patience_seconds):
                raise OpenSearchError(f"it did not take a batch within {self._patience_seconds:g} seconds")
            self._lookup.refresh()
        self._unsettled = False

    @contextmanager
    def _stopping_when_away(self) -> Iterator[None]:
        try:
            yield
        except (OpenSearchError, QueryError) as error:
            remaining = self._trail.shutdown(0.0)
            spool = self._settings.spool_path
            raise NotIndexedError(
                f"OpenSearch went away during the import: {str(error).rstrip('.')}. So far {self._account.total};"
                f" {remaining:,} of the imported events remain in the spool {spool}. They ship with the next process"
                " that uses it. Run the import again when OpenSearch is back: what is in the stream is skipped.",
                event_id=None,
                state="spooled",
            ) from error
