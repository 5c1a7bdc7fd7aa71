"""Everything that a filter finds, into a file, with a manifest beside it and an event in the trail that tells of it.

The trail is read part by part (see :mod:`~audit_logging.query.export.parts`), each in the server's own order; putting
it into the order of time, writer and sequence is done here, which is that much cheaper than asking the server for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from audit_logging.errors import (
    AuditError,
    ExportNotRecordedError,
    FilterError,
    IncompleteResultError,
)
from audit_logging.query.dsl import query_of
from audit_logging.query.export import parts
from audit_logging.query.export.event import emit_exported
from audit_logging.query.export.formats import format_of
from audit_logging.query.export.manifest import ORDERED, UNORDERED, manifest_of, manifest_path, write_manifest
from audit_logging.query.export.outfile import (
    COMPRESSED,
    PartFile,
    StandardOutput,
    beside,
    explaining_disk,
    target_of,
)
from audit_logging.query.export.sorting import Copies, Sorter
from audit_logging.query.export.state import State
from audit_logging.query.export.tally import Tally
from audit_logging.query.export.view import PointInTime, Scroll, ViewLostError, open_view
from audit_logging.query.filter import Filter
from audit_logging.query.requests import AheadRequests
from audit_logging.query.results import ExportReport

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.opensearch.client import Client
    from audit_logging.query.export.outfile import Output
    from audit_logging.query.export.page import Page, Stored
    from audit_logging.query.export.parts import Part
    from audit_logging.query.export.view import View
    from audit_logging.query.protected import ProtectedFields
    from audit_logging.settings import Settings

Progress = Callable[[int, int], None]
"""Told (stored events done, in all) as an export goes on."""

METHODS: Final = (PointInTime.method, Scroll.method)

KEPT_BYTES: Final = 30 << 20
"""A block as large as glibc heeds, about (its limit is 32 MiB)."""

LOSSES: Final = 3
"""How often in a row the server may give up its view before a part is complete."""


@dataclass(frozen=True)
class Source:
    """What an export reads from.

    Attributes:
        client: The cluster.
        settings: Which stream.
        protected: How its protected fields are searched.
    """

    client: Client
    settings: Settings
    protected: ProtectedFields | None


def export(
    source: Source,
    given: Filter,
    path: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002
    columns: Sequence[str],
    bom: bool,
    method: str | None,
    unordered: bool,
    fresh: bool,
    progress: Progress | None,
) -> ExportReport:
    """Write what *given* finds to *path*; see :meth:`AuditReader.export`."""
    table = {name: value for name, value in (("columns", list(columns)), ("bom", bom)) if value}
    format_of({"format": format, **table})
    if method is not None:
        _check("method", method, METHODS)
    settings = source.settings
    target = target_of(path)
    begun = _now()
    state = State(
        query={
            "stream": settings.stream,
            "server": list(settings.opensearch_url),
            "filter": given.model_dump(mode="json", exclude_none=True),
            "format": format,
            "order": UNORDERED if unordered else ORDERED,
            "compression": "gzip" if target is not None and target.suffix == COMPRESSED else None,
            **table,
        },
        filter=given.at(begun).model_dump(mode="json", exclude_none=True),
        begun=begun.isoformat(),
    )
    with explaining_disk(target):
        if target is None:
            return _run(_Export(source, StandardOutput(state), method, progress))
        with _part_file(target, state, fresh=fresh) as part_file:
            return _run(_Export(source, part_file, method, progress))


def _run(export: _Export) -> ExportReport:
    try:
        export.run()
    except BaseException as error:
        export.record_failure(error)
        raise
    return _finish(export.output, export.settings)


def _check(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise FilterError(f"There is no export {name} {str(value)[:60]!r}; there is {', '.join(known)}.")


@contextlib.contextmanager
def _part_file(target: Path, wanted: State, *, fresh: bool) -> Iterator[PartFile]:
    """Open the unfinished file: a new one, or the one that an export of the same query left.

    Raises:
        QueryError: Another query left it.
    """
    if fresh:
        for suffix in ("part", "state"):
            beside(target, suffix).unlink(missing_ok=True)
    state = State.load(beside(target, "state"))
    if state is not None and not beside(target, "part").exists():
        # It was ended between the last two steps: the file has its name, and the state was to go.
        state = None
    if state is None:
        state = wanted
    elif state.query != wanted.query:
        different = [name for name, value in wanted.query.items() if state.query.get(name) != value]
        raise FilterError(
            f"{beside(target, 'part')} holds part of an export with another {' and '.join(different)}: repeat that"
            " command to go on with it, choose another --out, or begin anew with --fresh."
        )
    else:
        state.resumed.append(_now().isoformat())
    part_file = PartFile(target, state)
    try:
        part_file.restore()
        yield part_file
    except BaseException:
        if not state.bytes:
            part_file.discard()
        raise
    finally:
        part_file.close()


class _Export:
    """Reads until all is in the output."""

    def __init__(self, source: Source, output: Output, method: str | None, progress: Progress | None) -> None:
        self._source = source
        self.settings = source.settings
        self.output = output
        self._state = output.state
        self._method = method
        self._progress = progress
        self._format = format_of(self._state.query)
        self._ordered = self._state.query["order"] == ORDERED
        self._query = query_of(Filter.of(**self._state.filter))
        self._tally = Tally(self._state.tally)
        self._total = self._read = self._written = 0
        self._mean_bytes = 1.0

    def run(self) -> None:
        """Read all; begin a part again when the server gave up the view of it."""
        _keep_freed_memory()
        losses = 0
        while not self._state.read:
            before = self._state.next
            try:
                with (
                    contextlib.closing(
                        AheadRequests(self._source.client, self.settings, self._source.protected)
                    ) as requests,
                    contextlib.closing(open_view(requests, self.settings.stream, self._method)) as view,
                ):
                    self._read_parts(view)
            except ViewLostError as lost:
                losses = losses + 1 if self._state.next == before else 1
                if losses == LOSSES:
                    raise IncompleteResultError(
                        f"OpenSearch gave up its view of the trail {LOSSES} times in a row: check the cluster's health"
                        " and run the same export again, which goes on where this one ended."
                    ) from lost
                self.output.restore()
                self._tally = Tally(self._state.tally)

    def record_failure(self, error: BaseException) -> None:
        """Record an export that ended early, where something of it had left already: that was read too."""
        if self.settings.audit_exports and self._tally.events:
            self._state.tally = self._tally.facts()
            # What ended the export is told; a second problem must not hide it.
            with contextlib.suppress(AuditError):
                emit_exported(self._state, self.output.path, "", self.settings, failure=type(error).__name__)

    def _read_parts(self, view: View) -> None:
        rest = parts.Part(self._state.next).of(self._query)
        survey = parts.Survey.of(view.search, rest)
        self._mean_bytes = survey.mean_bytes
        done = self._tally.events + self._state.copies
        self._read = self._written = done
        self._total = done + survey.total
        self._state.method = view.method
        if not self._state.content_bytes:
            self.output.write(self._format.begin)
        for part in parts.plan(view.search, rest, survey, self._state.next):
            with contextlib.closing(view.pages(part.of(rest), self._mean_bytes)) as pages:
                self._take(pages)
            self._keep(part)

    def _take(self, pages: Iterator[Page]) -> None:
        """Write the events of one part."""
        if not self._ordered:
            for page in pages:
                events = page.events()
                self._read += page.hits
                self._write(events, hits=page.hits)
            return
        copies = Copies()
        with Sorter(self.output.path.parent if self.output.path else None) as sorter:
            for page in pages:
                sorter.add(page.events())
                self._read += page.hits
                self._show()
            for batch in sorter.batches():
                self._write(copies.without(batch), hits=len(batch))
        self._state.copies += copies.left_out

    def _write(self, events: list[Stored], hits: int) -> None:
        if events:
            first = self._tally.events == 0
            self._tally.add(events)  # before, since part of it may be read by somebody who then goes
            self.output.write(self._format.encode([event[3] for event in events], first=first))
        self._written += hits
        self._show()

    def _show(self) -> None:
        if self._progress is not None:
            self._progress((self._read + self._written) // 2, max(self._total, self._read))

    def _keep(self, part: Part) -> None:
        """Let a resumed export go on behind *part*."""
        self._state.next = part.end
        self._state.read = part.end is None
        if self._state.read:
            self.output.write(self._format.end)
        self._state.tally = self._tally.facts()
        self.output.checkpoint()


def _keep_freed_memory() -> None:
    """Let what a page frees serve the next page, instead of going back to the system and being faulted in again.

    glibc keeps twice the largest block that was freed; this one is never touched, so it costs nothing. Measured with a
    million events: 20,000 page faults instead of 80,000 to 220,000, and 0.3 s less of the processor.
    """
    bytes(KEPT_BYTES)


def _finish(output: Output, settings: Settings) -> ExportReport:
    """Record the export in the trail, put the manifest beside it, and let the file appear."""
    state = output.state
    sha256 = output.sha256 if isinstance(output, PartFile) else state.content_sha256
    failure: AuditError | None = None
    if settings.audit_exports and state.event_id is None:
        try:
            state.event_id = emit_exported(state, output.path, sha256, settings)
        except AuditError as error:
            failure = error
    manifest = None
    if isinstance(output, PartFile):
        assert output.path is not None
        output.checkpoint()
        manifest = manifest_path(output.path)
        write_manifest(manifest, manifest_of(state, output.path, sha256, settings, _now().isoformat()))
        output.finish()
    report = _report(output, sha256, manifest)
    if failure is not None:
        raise ExportNotRecordedError(
            f"The export is complete, but the trail could not record that it was made: {failure} Tell whoever answers"
            f" for the trail; SHA-256 of the export: {sha256}.",
            report=report,
        ) from failure
    return report


def _report(output: Output, sha256: str, manifest: Path | None) -> ExportReport:
    state = output.state
    where = Filter.of(**state.filter)
    return ExportReport(
        path=output.path,
        manifest=manifest,
        events=state.tally["events"],
        copies=state.copies,
        bytes=state.bytes,
        sha256=sha256,
        content_sha256=state.content_sha256,
        method=state.method,
        resumed=len(state.resumed),
        event_id=state.event_id,
        since=where.since,
        until=where.until,
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
