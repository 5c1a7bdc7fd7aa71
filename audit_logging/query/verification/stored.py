"""Stored events for verification: from the stream as it stands at one moment, or from exported files."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from audit_logging.errors import EventFileError, IncompleteResultError
from audit_logging.files import TooLargeError, bounded_lines
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.query.copies import SEQUENCE, WRITER
from audit_logging.query.dsl import all_of, any_of, timestamp
from audit_logging.query.export.view import KEEP_ALIVE, ViewLostError, open_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from audit_logging.integrity.verification import Place, Stretch
    from audit_logging.query.dsl import Query
    from audit_logging.query.export.view import Requests, View
    from audit_logging.query.filter import Filter

Progress = Callable[[int, int], None]
"""Told (done, in all) now and then: events of a stream, bytes of files."""

MEAN_BYTES: Final = 1000.0
"""Size of a document, for the first page; what comes tells of the next."""

STRETCHES_PER_QUERY: Final = 300
"""Lucene takes 1,024 clauses, and each stretch is up to three."""

_MARKS: Final[dict[str, Any]] = {
    "indices": {
        "terms": {"field": "_index", "size": 10_000},
        "aggs": {"through": {"max": {"field": "_seq_no"}}},
    }
}

GZIP_MAGIC: Final = b"\x1f\x8b"
BYTES_PER_STEP: Final = 1 << 22


Stored = tuple["str | None", bytes]
"""One stored event: the id that it is stored under (None in a file), and its JSON."""


class Mark(NamedTuple):
    """How far a backing index was read: the highest number of a write, and how many documents came."""

    through: int
    documents: int


class Store(Protocol):
    """What holds events.

    Attributes:
        knows_all: Whether it finds every event of the trail, also outside what is to be verified.
    """

    knows_all: bool

    def all(self) -> Iterator[Stored]:
        """Yield all events that are to be verified, in any order."""
        ...

    def under(self, places: Sequence[Place]) -> Iterator[Stored]:
        """Yield whatever is stored under these numbers, whether it is to be verified or not."""
        ...

    def within(self, stretches: Sequence[Stretch]) -> Iterator[Stored]:
        """Yield whatever is stored within these stretches; nothing, where :meth:`all` had it all."""
        ...

    def of_type(self, event_type: str) -> Iterator[Stored]:
        """Yield every event of one of the library's own types, whether it is to be verified or not."""
        ...


class StoredInStream:
    """Events of a data stream as their bytes are stored, in the order of the server, which is the fastest.

    Args:
        requests: Where to ask.
        stream: The data stream.
        query: What is to be verified.
        progress: Told after each page.

    Attributes:
        marks: How far each backing index was read by :meth:`all`.
    """

    knows_all = True

    def __init__(self, requests: Requests, stream: str, query: Query, progress: Progress | None = None) -> None:
        self.marks: dict[str, Mark] = {}
        self._requests = requests
        self._stream = stream
        self._query = query
        self._progress = progress

    def all(self) -> Iterator[Stored]:
        """Yield all events that are to be verified."""
        with self._view() as view:
            answer = view.search({"query": self._query, "size": 0, "track_total_hits": True, "aggs": _MARKS})
            buckets, total = answer["aggregations"]["indices"]["buckets"], answer["hits"]["total"]["value"]
            self.marks = {each["key"]: Mark(int(each["through"]["value"]), each["doc_count"]) for each in buckets}
            done = 0
            with contextlib.closing(view.pages(self._query, MEAN_BYTES)) as pages:
                for page in pages:
                    yield from page.documents()
                    done += page.hits
                    if self._progress is not None:
                        self._progress(done, max(total, done))

    def under(self, places: Sequence[Place]) -> Iterator[Stored]:
        """Yield whatever is stored under these numbers."""
        yield from self.within([(writer, sequence, sequence) for writer, sequence in places])

    def within(self, stretches: Sequence[Stretch]) -> Iterator[Stored]:
        """Yield whatever is stored within these stretches."""
        for start in range(0, len(stretches), STRETCHES_PER_QUERY):
            wanted = [
                all_of([{"term": {WRITER: writer}}, {"range": {SEQUENCE: {"gte": first, "lte": last}}}])
                for writer, first, last in stretches[start : start + STRETCHES_PER_QUERY]
            ]
            yield from self._find(any_of(wanted))

    def of_type(self, event_type: str) -> Iterator[Stored]:
        """Yield every event of one of the library's own types."""
        yield from self._find({"term": {"event.action": event_type}})

    def _find(self, query: Query) -> Iterator[Stored]:
        with self._view() as view, contextlib.closing(view.pages(query, MEAN_BYTES)) as pages:
            for page in pages:
                yield from page.documents()

    @contextlib.contextmanager
    def _view(self) -> Iterator[View]:
        try:
            with contextlib.closing(open_view(self._requests, self._stream)) as view:
                yield view
        except ViewLostError as error:
            raise IncompleteResultError(
                f"OpenSearch gave up its view of the trail (longer than {KEEP_ALIVE} between two pages, or a node"
                " left): verify again."
            ) from error


class StoredInFiles:
    """Events of exported files, one JSON document a line, plain or gzip.

    Args:
        paths: The files.
        filter_: With absolute times; no other conditions.
        progress: Told now and then how many bytes of the files are read.
    """

    knows_all = False

    def __init__(self, paths: Sequence[Path], filter_: Filter, progress: Progress | None = None) -> None:
        self._paths = paths
        since, until = filter_.since, filter_.until
        self._since = timestamp(since) if isinstance(since, dt.datetime) else ""
        self._until = timestamp(until) if isinstance(until, dt.datetime) else "\x7f"
        self._progress = progress

    def all(self) -> Iterator[Stored]:
        """Yield all events that are to be verified."""
        bounded = self._since != "" or self._until != "\x7f"
        for document in self._lines(self._progress):
            if not bounded or self._since <= _time_of(document) < self._until:
                yield None, document

    def under(self, places: Sequence[Place]) -> Iterator[Stored]:
        """Yield whatever is stored under these numbers."""
        if not places:
            return
        wanted = set(places)
        for document in self._lines(None):
            event = read_sealed_event(document)
            if event is not None and (event.writer, event.sequence) in wanted:
                yield None, document

    def within(self, stretches: Sequence[Stretch]) -> Iterator[Stored]:
        """Yield nothing: what the files hold was read."""
        del stretches
        return iter(())

    def of_type(self, event_type: str) -> Iterator[Stored]:
        """Yield every event of one of the library's own types."""
        wanted = event_type.encode()
        for document in self._lines(None):
            if wanted in document:
                yield None, document

    def _lines(self, progress: Progress | None) -> Iterator[bytes]:
        sizes = [_size_of(path) for path in self._paths]
        behind = 0
        for path, size in zip(self._paths, sizes, strict=True):
            told = 0
            try:
                with path.open("rb") as raw:
                    for line in bounded_lines(_opened(raw), path):
                        if line.strip():
                            yield line.rstrip(b"\r\n")
                        if progress is not None and raw.tell() - told > BYTES_PER_STEP:
                            told = raw.tell()
                            progress(behind + told, sum(sizes))
            except TooLargeError as error:
                raise EventFileError(
                    f"{path} is no export of audit events: {error.strerror}. Give the file as it was exported."
                ) from error
            except (OSError, EOFError, zlib.error) as error:
                raise EventFileError(f"{path} cannot be read to its end ({error}): is it whole?") from error
            behind += size
        if progress is not None:
            progress(behind, sum(sizes))


def _opened(raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(len(GZIP_MAGIC))
    raw.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if magic == GZIP_MAGIC else raw


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise EventFileError(f"{path} cannot be read ({error.strerror}): give an exported NDJSON file.") from error


def _time_of(document: bytes) -> str:
    event = read_sealed_event(document)
    return "" if event is None else event.time
