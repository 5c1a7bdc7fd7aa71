"""Readings on behalf of somebody: each is recorded before it is answered, with who read, what and how much of it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from audit_logging.capture.configuration import current_trail
from audit_logging.integrations.fastapi_access import Access
from audit_logging.integrations.fastapi_parameters import check_names
from audit_logging.query.async_reader import AsyncAuditReader
from audit_logging.query.filter import Filter
from audit_logging.settings import Settings

SEARCHED: Final = "audit.searched"
EXPORTED: Final = "audit.exported"

Found = TypeVar("Found")


class Reading:
    """One request to read the trail.

    Attributes:
        trail: What to read it with.
        where: What is asked for, confined to what the reader may see.
    """

    def __init__(self, request: Request, trail: AsyncAuditReader, access: Access, where: Filter) -> None:
        self.trail = trail
        self.where = where
        self._request = request
        self._access = access

    async def ask(self, asking: Coroutine[Any, Any, Found]) -> Found:
        """Return what *asking* finds; it is cancelled when the client leaves before.

        Raises:
            ClientDisconnect: The client left.
        """
        question = asyncio.ensure_future(asking)
        leaving = asyncio.ensure_future(self._client_leaves())
        try:
            await asyncio.wait({question, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not question.done():
                raise ClientDisconnect
            return question.result()
        finally:
            question.cancel()
            leaving.cancel()

    async def record(
        self,
        event_type: str,
        verb: str,
        *,
        rows: int | None,
        event_id: str | None = None,
        failure: str | None = None,
        **more: Any,
    ) -> None:
        """Emit the event of this reading.

        Args:
            event_type: :data:`SEARCHED` or :data:`EXPORTED`.
            verb: ``search``, ``get``, ``statistics`` or ``export``.
            rows: How many rows the answer has; None: not known yet.
            event_id: What was asked for by its id.
            failure: What ended the answer early.
            more: What else the event is to say.

        Raises:
            AuditError: It could not be kept; then nothing must be answered.
        """
        settings = self.trail.settings
        by_id = {} if event_id is None else {"event_id": event_id}
        metadata = {
            "resource": settings.stream,
            "opensearch_user": settings.opensearch_username,
            "query": verb,
            "filter": {**by_id, **self.where.given()},
            "record_count": rows,
            **more,
        }
        given = {name: value for name, value in metadata.items() if value is not None}
        facts = {**self._access.identity, "metadata": given}
        if failure is not None:
            facts |= {"outcome": "failure", "reason": f"ended early: {failure}"}
        await current_trail().aemit(event_type, facts)

    async def _client_leaves(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


class Readings:
    """Makes readings, all with the same connections.

    Args:
        settings: Where the trail is; None: where this process's own is, from the first request on.
    """

    def __init__(self, settings: Settings | None) -> None:
        self._given = settings
        self._reader: AsyncAuditReader | None = None
        self._made_for: Settings | None = None

    def reading(self, access: Callable[..., Any], where: Callable[..., Filter]) -> Callable[..., Any]:
        """Return the dependency that makes a reading of what *access* grants and *where* asks for."""

        async def reading(
            request: Request,
            access: Annotated[Access, Depends(access)],
            where: Annotated[Filter, Depends(where)],
        ) -> Reading:
            check_names(request)
            return Reading(request, await self._open(), access, where)

        return reading

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        before, self._reader = self._reader, None
        if before is not None:
            await before.aclose()

    async def _open(self) -> AsyncAuditReader:
        """Return the reader; another one when the application has configured another trail meanwhile."""
        settings = self._given or current_trail().settings
        if self._reader is None or self._made_for is not settings:
            # Each reading is recorded here, with its reader's name and the number of rows.
            quiet = settings.model_copy(update={"audit_searches": False})
            made = await asyncio.to_thread(lambda: AsyncAuditReader(settings=quiet))
            await self.close()
            self._reader, self._made_for = made, settings
        return self._reader
