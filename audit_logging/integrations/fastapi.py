"""The trail over HTTP, for any FastAPI application.

    from fastapi import Depends, FastAPI
    from audit_logging.integrations.fastapi import Access, audit_router

    def auditor(user: Annotated[User, Depends(current_user)]) -> Access:
        if not user.is_admin:
            raise HTTPException(403)
        return Access(user_id=user.id, organization_id=user.tenant)

    app.include_router(audit_router(access=auditor))

It adds ``/admin/audit-logs``, ``/admin/audit-logs/{event_id}``, ``/admin/audit-stats`` and ``/admin/audit-export``. The
parameters are the keywords of :class:`~audit_logging.query.filter.Filter`.
"""

# FastAPI reads the annotations of the routes below where they stand, inside a function: they must not be texts.

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.convertors import PathConvertor, register_url_convertor

from audit_logging.errors import FilterError, NotFoundError, SettingsError
from audit_logging.integrations.fastapi_access import Access, all_of, granted_by
from audit_logging.integrations.fastapi_export import MEDIA_TYPES, Export, ExportResponse, FormatName, content_of
from audit_logging.integrations.fastapi_parameters import filter_of_query
from audit_logging.integrations.fastapi_problems import HEADERS, ProblemRoute, responses
from audit_logging.integrations.fastapi_readings import SEARCHED, Reading, Readings
from audit_logging.printable import json_bytes
from audit_logging.query.cursor import MAX_LENGTH
from audit_logging.query.paging import MAX_LIMIT, Sort
from audit_logging.query.results import Bucket, Statistics
from audit_logging.query.statistics import By
from audit_logging.settings import Settings

__all__ = ["Access", "audit_router"]

DEFAULT_LIMIT: Final = 50
DEFAULT_TOP: Final = 10

EXAMPLE: Final[dict[str, Any]] = {
    "@timestamp": "2026-03-01T12:00:00.000000Z",
    "event": {
        "id": "0195515e-8e00-7f6b-9a51-0d7a2c3b4e5f",
        "action": "user.login",
        "category": ["authentication"],
        "outcome": "failure",
        "reason": "bad password",
    },
    "log": {"level": "warning"},
    "message": "u-42 failed to log in: bad password",
    "user": {"id": "u-42"},
    "source": {"ip": "203.0.113.7"},
}

PAGE: Final = {"events": [EXAMPLE], "cursor": "eyJ2IjoxLCJxdWVzdGlvbiI6Ii4uLiJ9", "total": 1204}

STATISTICS: Final = Statistics(
    by="outcome",
    total=1204,
    buckets=(Bucket(key="success", count=1100), Bucket(key="failure", count=104)),
    other=0,
    missing=0,
    distinct=2,
    distinct_exact=True,
).model_dump(mode="json")


class _AnyText(PathConvertor):
    """The rest of a path. An imported event brings its id along, which may hold slashes and whatever else."""

    regex = r"[\s\S]*"


register_url_convertor("audit_event_id", _AnyText())


class EventPage(BaseModel):
    """Some of the events that were found."""

    events: list[dict[str, Any]] = Field(description="The events of this page, as they are stored.")
    cursor: str | None = Field(description="What to ask the next page with; null when this is the last.")
    total: int = Field(description="How many were found in all when the first page was asked for.")


def audit_router(
    *,
    access: Callable[..., Any],
    settings: Settings | None = None,
    prefix: str = "/admin",
    max_limit: int = 1000,
) -> APIRouter:
    """Return a router that reads the trail, for ``app.include_router``.

    Every reading is an event, ``audit.searched`` or ``audit.exported``, with the reader, the filter and the number of
    rows; what cannot be recorded is not answered. Errors are problem details (RFC 9457).

    Args:
        access: The application's own authorisation: a dependency that raises (as with ``HTTPException(403)``), or
            returns the :class:`Access` of who asks. Where that names a tenant, nothing of another one can be read.
        settings: Where the trail is, and who reads it there; None: the settings of this process's own trail.
        prefix: Path before those of the routes.
        max_limit: Rows of one answer at most, 1 to 10,000; an export is not bounded.

    Raises:
        SettingsError: *access* is no dependency, or *max_limit* out of range.

    Example:
        >>> def auditor() -> Access:
        ...     return Access(user_id="u-1", organization_id="acme")
        >>> sorted(route.path for route in audit_router(access=auditor).routes)[0]
        '/admin/audit-export'
    """
    if not callable(access):
        raise SettingsError("audit_router needs the application's authorisation: access=, a dependency.")
    if isinstance(max_limit, bool) or not isinstance(max_limit, int) or not 1 <= max_limit <= MAX_LIMIT:
        raise SettingsError(f"max_limit is a number from 1 to {MAX_LIMIT}, not {str(max_limit)[:60]!r}.")
    readings = Readings(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await readings.close()

    router = APIRouter(prefix=prefix, tags=["audit"], route_class=ProblemRoute, lifespan=lifespan)
    granted = granted_by(access)
    filtered = readings.reading(granted, filter_of_query(granted))
    _add_search(router, filtered, max_limit)
    _add_get(router, readings.reading(granted, all_of(granted)))
    _add_statistics(router, filtered, max_limit)
    _add_export(router, filtered)
    return router


def _add_search(router: APIRouter, reading: Callable[..., Any], max_limit: int) -> None:
    default = min(DEFAULT_LIMIT, max_limit)

    @router.get("/audit-logs", responses={**responses(), 200: _example(PAGE)}, response_model=EventPage)
    async def search_events(
        reading: Annotated[Reading, Depends(reading)],
        *,
        limit: Annotated[int, Query(ge=1, le=max_limit, description="Events of the page.")] = default,
        cursor: Annotated[
            str | None,
            Query(
                min_length=1, max_length=MAX_LENGTH, description="`cursor` of the page before, with the same filter."
            ),
        ] = None,
        sort: Annotated[Sort, Query(description="Which events come first.")] = "newest",
    ) -> Response:
        """Find events, a page at a time. An identical second copy of an event is left out."""
        page = await reading.ask(reading.trail.search(reading.where, limit=limit, cursor=cursor, sort=sort))
        await reading.record(SEARCHED, "search", rows=len(page.events))
        return _answer(page.to_dict())


def _add_get(router: APIRouter, reading: Callable[..., Any]) -> None:
    @router.get(
        "/audit-logs/{event_id:audit_event_id}",
        responses={**responses(status_404="There is no such event."), 200: _example(EXAMPLE)},
        response_model=dict[str, Any],
    )
    async def get_event(
        reading: Annotated[Reading, Depends(reading)],
        event_id: Annotated[
            str,
            Path(
                min_length=1,
                max_length=512,
                description="`event.id`, or writer-sequence.",
                openapi_examples={"example": {"value": EXAMPLE["event"]["id"]}},
            ),
        ],
    ) -> Response:
        """Get one event by its id."""
        try:
            event = await reading.ask(reading.trail.get(event_id, reading.where))
        except NotFoundError as error:
            if not error.error_type:  # that somebody tries ids is worth knowing
                await reading.record(SEARCHED, "get", rows=0, event_id=event_id)
            raise
        await reading.record(SEARCHED, "get", rows=1, event_id=event_id)
        return _answer(event.to_dict())


def _add_statistics(router: APIRouter, reading: Callable[..., Any], max_limit: int) -> None:
    default = min(DEFAULT_TOP, max_limit)

    @router.get("/audit-stats", responses={**responses(), 200: _example(STATISTICS)}, response_model=Statistics)
    async def count_events(
        reading: Annotated[Reading, Depends(reading)],
        *,
        by: Annotated[By, Query(description="What to count by.")] = "event_type",
        interval: Annotated[
            str | None,
            Query(
                pattern="^[0-9]{1,6}[smhdwMqy]$", description="Also over time, in steps: 15m, 1h, 1d, 1w, 1M, 1q, 1y."
            ),
        ] = None,
        top: Annotated[int, Query(ge=1, le=max_limit, description="The most frequent values.")] = default,
        timezone: Annotated[str, Query(min_length=1, description="IANA zone in which a day begins.")] = "UTC",
        compare: Annotated[bool, Query(description="Also the period of the same length before `since`.")] = False,
    ) -> Response:
        """Count events by one field, over time, and against the period before."""
        found = await reading.ask(
            reading.trail.statistics(
                reading.where, by=by, interval=interval, top=top, timezone=timezone, compare=compare
            )
        )
        if len(found.histogram) > max_limit:
            raise FilterError(
                f"{len(found.histogram)} steps of {interval} are more than the {max_limit} that one answer may hold:"
                " choose a longer interval, or narrow the range."
            )
        rows = len(found.buckets) + len(found.histogram)
        await reading.record(SEARCHED, "statistics", rows=rows, by=by, interval=interval)
        return _answer(found.model_dump(mode="json"))


def _add_export(router: APIRouter, reading: Callable[..., Any]) -> None:
    content = {media_type: {"example": content_of(name, EXAMPLE)} for name, media_type in MEDIA_TYPES.items()}

    @router.get("/audit-export", responses={**responses(), 200: {"content": content}}, response_class=StreamingResponse)
    async def export_events(
        reading: Annotated[Reading, Depends(reading)],
        format: Annotated[  # noqa: A002
            FormatName, Query(description="An event a line, one array, or a table for spreadsheets.")
        ] = "ndjson",
    ) -> Response:
        """Stream all events that are found, oldest first. An answer that breaks off is not complete."""
        export = Export(reading, format)
        await reading.ask(export.begin())
        # Before the first row leaves; how many they were is told at the end.
        await reading.record(SEARCHED, "export", rows=None, format=format)
        return ExportResponse(export)


def _answer(content: Any) -> Response:
    return Response(json_bytes(content), headers=HEADERS, media_type="application/json")


def _example(example: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"example": example}}}
