"""Readings on behalf of somebody: each is recorded before it is answered, with who read, what and how much of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.requests import ClientDisconnect

from audit_logging.capture.configuration import current_trail
from audit_logging.query.async_reader import AsyncAuditReader

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fastapi import Request

    from audit_logging.integrations.fastapi_access import Access
    from audit_logging.settings import Settings

SEARCHED: Final = "audit.searched"
EXPORTED: Final = "audit.exported"

Found = TypeVar("Found")


class Readings:
    """Lends the reader of the trail, and records what it was used for.

    Args:
        settings: Where the trail is; None: where this process's own is, from the first request on.
    """

    def __init__(self, settings: Settings | None) -> None:
        self._given = settings
        self._reader: AsyncAuditReader | None = None
        self._made_for: Settings | None = None

    async def reader(self) -> AsyncAuditReader:
        """Return the reader; another one when the application has configured another trail meanwhile.

        Raises:
            SettingsError: No ``opensearch_url`` is set, or its files cannot be used.
        """
        settings = self._given or current_trail().settings
        if self._reader is None or self._made_for is not settings:
            # Each reading is recorded here, with its reader's name and the number of rows.
            quiet = settings.model_copy(update={"audit_searches": False})
            made = await asyncio.to_thread(lambda: AsyncAuditReader(settings=quiet))
            before, self._reader, self._made_for = self._reader, made, settings
            if before is not None:
                await before.aclose()
        return self._reader

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        before, self._reader = self._reader, None
        if before is not None:
            await before.aclose()


class Reading:
    """One reading: who wants to know what.

    Args:
        reader: What it is read with.
        access: Who reads.
        verb: ``search``, ``get``, ``statistics`` or ``export``.
        conditions: What is asked for, as plain JSON values; relative times as they were given.
        more: What else the event is to say.
    """

    def __init__(
        self, reader: AsyncAuditReader, access: Access, verb: str, conditions: dict[str, Any], **more: Any
    ) -> None:
        self._access = access
        self._facts = {
            "resource": reader.settings.stream,
            "opensearch_user": reader.settings.opensearch_username,
            "query": verb,
            "filter": conditions,
            **more,
        }

    async def record(self, event_type: str, *, rows: int | None, **facts: Any) -> None:
        """Emit the event of this reading, which had that many *rows*.

        Raises:
            AuditError: It could not be kept; then nothing must be answered.
        """
        metadata = {**self._facts, "record_count": rows}
        given = {name: value for name, value in metadata.items() if value is not None}
        await current_trail().aemit(event_type, {**self._access.identity, "metadata": given, **facts})


async def unless_client_leaves(request: Request, asking: Coroutine[Any, Any, Found]) -> Found:
    """Return what *asking* finds; it is cancelled when the client leaves before.

    Raises:
        ClientDisconnect: The client left.
    """
    question = asyncio.ensure_future(asking)
    leaving = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait({question, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not question.done():
            raise ClientDisconnect
        return question.result()
    finally:
        question.cancel()
        leaving.cancel()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
