"""Bring a file of events into the trail, each exactly once, however often and wherever the import is interrupted.

An event is recognised by its ``event.id``. Before a batch is emitted, its ids are looked up in the stream; for that
answer to be true, everything that an earlier import accepted must be in the stream and visible:

1. one import at a time works with a spool directory, so that no other's events wait there unseen;
2. what dead processes left in the spool is shipped first;
3. the batch before is acknowledged, and the stream refreshed, before the next one is looked up.
"""

from __future__ import annotations

import contextvars
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typing_extensions import Self

from audit_logging.capture.trail import Trail
from audit_logging.errors import EventFileError, NotIndexedError, OpenSearchError, QueryError
from audit_logging.integrations.cloudtrail import from_cloudtrail
from audit_logging.integrations.exported import from_own_format
from audit_logging.integrations.import_turn import ImportTurn
from audit_logging.integrations.lookup import Lookup
from audit_logging.opensearch.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from audit_logging.integrations.event_file import Entry, EventFile
    from audit_logging.integrations.incoming import IncomingEvent
    from audit_logging.settings import Settings

BATCH_EVENTS: Final = 1000
BATCH_BYTES: Final = 8 << 20
DEFAULT_PATIENCE_SECONDS: Final = 60.0
FORMATS: Final = ("cloudtrail", "ndjson")

_STOP_SECONDS: Final = 5.0


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        read: Records in the file, up to where it was read.
        imported: Those that are new in the stream.
        already_there: Those that the stream, or the file before them, held already.
        broken: Those that were left out because they are no events.
    """

    read: int = 0
    imported: int = 0
    already_there: int = 0
    broken: int = 0

    def __str__(self) -> str:
        return (
            f"read {self.read:,}, imported {self.imported:,}, already there {self.already_there:,},"
            f" broken {self.broken:,}"
        )


def import_file(
    file: EventFile,
    format: str,  # noqa: A002 - the option's name
    settings: Settings,
    *,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    on_broken: Callable[[int, str], None] | None = None,
    on_progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Bring every event of *file* that is not there yet into the stream; return when all is acknowledged.

    Args:
        file: Open, at its beginning.
        format: ``cloudtrail``, or ``ndjson`` for our own.
        settings: Stream, spool and OpenSearch.
        patience_seconds: How long OpenSearch may take to acknowledge a batch.
        on_broken: Called with the number of a record and why it is no event, which is then left out; None: the first
            such record ends the import.
        on_progress: Called after every batch.

    Raises:
        EventFileError: A record is no event, or the file is damaged. Everything before it is in.
        NotIndexedError: OpenSearch went away. What was accepted is in the spool; a second import goes on.
        SpoolFullError: The spool is full. What was accepted is in it.
        OpenSearchError: OpenSearch could not be reached at all, or the stream is not set up. Nothing was imported.

    Example:
        >>> with EventFile("trail.json.gz") as file:  # doctest: +SKIP
        ...     print(import_file(file, "cloudtrail", Settings.load()))
        read 1,934, imported 1,934, already there 0, broken 0
    """
    or_else = ""
    with Importer(settings, patience_seconds, on_progress) as importer:
        try:
            for entry in file:
                importer.report.read += 1
                try:
                    importer.add(_event_of(entry, format, file), entry.size)
                except EventFileError as error:
                    if on_broken is None:
                        or_else = ", or leave such records out (--skip-broken),"
                        raise EventFileError(
                            f"{file.name}, {file.noun} {entry.number}: {error}", line=entry.number
                        ) from error
                    importer.report.broken += 1
                    on_broken(entry.number, str(error))
        except EventFileError as error:
            importer.finish()
            raise EventFileError(
                f"{error}. Everything before it is in ({importer.report}). Mend the file{or_else} and import it again:"
                " what is in is skipped.",
                line=error.line,
            ) from error
        importer.finish()
        return importer.report


def _event_of(entry: Entry, format: str, file: EventFile) -> IncomingEvent:  # noqa: A002
    if entry.problem is not None:
        raise EventFileError(entry.problem)
    if format == "cloudtrail":
        return from_cloudtrail(entry.value)
    timed = isinstance(entry.value, dict) and entry.value.get("timestamp") is not None
    # Without a time of its own, a line that says the same in another file is another event.
    place = (entry.number,) if timed else (entry.number, os.path.basename(file.name).removesuffix(".gz"))  # noqa: PTH119
    return from_own_format(entry.value, place)


class Importer:
    """Takes events into one stream, batch by batch. Use it in a ``with`` block.

    Args:
        settings: Stream, spool and OpenSearch.
        patience_seconds: How long OpenSearch may take to acknowledge a batch.
        on_progress: Called after every batch.

    Attributes:
        report: What was done so far.
    """

    def __init__(
        self,
        settings: Settings,
        patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
        on_progress: Callable[[ImportReport], None] | None = None,
    ) -> None:
        self.report = ImportReport()
        self._settings = settings.model_copy(update={"console": False, "on_invalid": "record"})
        self._patience_seconds = patience_seconds
        self._on_progress = on_progress
        self._batch: list[IncomingEvent] = []
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

    def add(self, event: IncomingEvent, size: int) -> None:
        """Take one event of *size* bytes; it enters the trail with its batch."""
        self._batch.append(event)
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
            held = self._lookup.held({event.event_id for event in batch})
        for event in batch:
            if event.event_id in held:
                self.report.already_there += 1
                continue
            held.add(event.event_id)
            self._unsettled = True
            self._outside.run(self._trail.emit, event.event_type, event.facts, "process", origin=event.origin)
            self.report.imported += 1
        if self._on_progress is not None:
            self._on_progress(self.report)

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
                f"OpenSearch went away during the import: {str(error).rstrip('.')}. So far {self.report};"
                f" {remaining:,} of the imported events remain in the spool {spool}. They ship with the next process"
                " that uses it. Import the file again when OpenSearch is back: what is in is skipped.",
                event_id=None,
                state="spooled",
            ) from error
