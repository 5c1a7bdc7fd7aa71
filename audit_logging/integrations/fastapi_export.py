"""Everything that a filter finds, as an answer that streams: memory stays at a page, however many events there are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import orjson
from fastapi.responses import StreamingResponse

from audit_logging.errors import AuditError
from audit_logging.integrations.fastapi_problems import HEADERS
from audit_logging.integrations.fastapi_readings import EXPORTED
from audit_logging.printable import json_bytes
from audit_logging.query.export.formats import FORMATS
from audit_logging.query.questions import now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import Receive, Scope, Send

    from audit_logging.integrations.fastapi_readings import Reading
    from audit_logging.query.event import Event

FormatName = Literal["ndjson", "json", "csv"]
assert set(FORMATS) == set(get_args(FormatName))

MEDIA_TYPES: Final[dict[str, str]] = {
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "csv": "text/csv",
}
"""What each of the formats of an export is to a browser."""


def content_of(name: str, document: dict[str, Any]) -> Any:
    """Return what an export of one event is, for the API's description."""
    format_ = FORMATS[name]
    content = format_.begin + format_.encode([json_bytes(document)], first=True) + format_.end
    return orjson.loads(content) if name == "json" else content.decode()


class Export:
    """One export on its way.

    Args:
        reading: What is read, and for whom.
        format_: One of :data:`~audit_logging.query.export.formats.FORMATS`, the same as those of files.
    """

    def __init__(self, reading: Reading, format_: FormatName) -> None:
        self._reading = reading
        self._name = format_
        self._format = FORMATS[format_]
        self._pages = reading.trail.pages(reading.where)
        self._first: list[Event] = []
        self._rows = 0
        self._ending: asyncio.Task[None] | None = None

        self.media_type = MEDIA_TYPES[format_]
        self.file_name = f"{reading.trail.settings.stream}-{now():%Y%m%dT%H%M%SZ}.{format_}"

    async def begin(self) -> None:
        """Find the first events, so that what is wrong with the question is known before anything is answered."""
        self._first = await anext(self._pages, [])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content. The last of it comes when the export is recorded, or does not come at all."""
        first, self._first = self._first, []
        try:
            yield self._format.begin + await self._encoded(first)
            async for events in self._pages:
                yield await self._encoded(events)
        except AuditError as error:
            await self.end(type(error).__name__)
            raise
        await self.end()
        yield self._format.end

    async def end(self, failure: str | None = None) -> None:
        """Record how it ended, once, whatever becomes of the request's task."""
        if self._ending is None:
            recording = self._reading.record(EXPORTED, "export", rows=self._rows, failure=failure, format=self._name)
            self._ending = asyncio.create_task(recording)
        await asyncio.shield(self._ending)

    async def _encoded(self, events: Sequence[Event]) -> bytes:
        if not events:
            return b""
        first, self._rows = self._rows == 0, self._rows + len(events)
        return await asyncio.to_thread(self._encode, events, first=first)

    def _encode(self, events: Sequence[Event], *, first: bool) -> bytes:
        return self._format.encode([json_bytes(event.document) for event in events], first=first)


class ExportResponse(StreamingResponse):
    """The answer that streams an export that has begun."""

    def __init__(self, export: Export) -> None:
        headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{export.file_name}"'}
        super().__init__(export.chunks(), headers=headers, media_type=export.media_type)
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the trail hears how far it came."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._export.end("client disconnected")  # without effect when it is known how it ended
