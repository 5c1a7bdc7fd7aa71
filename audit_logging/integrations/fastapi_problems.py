"""Errors as problem details, and nothing in them that is no business of the caller's.

What OpenSearch or the disk said, with its addresses, goes to the log ``audit_logging``; the caller is told what it
means to him. Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as BaseHTTPException
from starlette.requests import ClientDisconnect

from audit_logging.errors import (
    AuditError,
    DurabilityError,
    FilterError,
    IncompleteResultError,
    Keyword,
    NotFoundError,
)
from audit_logging.integrations.asgi_requests import CLIENT_ERROR, CLIENT_GONE
from audit_logging.integrations.asgi_scope import REQUEST_ID_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Request, Response
    from starlette.types import Receive, Scope, Send

MEDIA_TYPE: Final = "application/problem+json"

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of every answer: what it tells of people is not for caches, and is never to be taken for a page."""

UNPROCESSABLE: Final = 422

_log = logging.getLogger("audit_logging")


class ProblemError(BaseModel):
    """One mistake of the caller's."""

    parameter: str = Field(description="The parameter that it is about.")
    reason: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field("about:blank", description="Kind of problem; `about:blank` is the one of its status.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str | None = Field(None, description="What happened, and what to do.")
    request_id: str | None = Field(None, description="Id of the request, by which the application's log knows it.")
    errors: list[ProblemError] | None = Field(None, description="The mistakes, where there may be several.")


class ProblemRoute(APIRoute):
    """A route whose every error is a problem."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                if _is_the_applications(error, request):
                    raise
                return problem_of(error, request.scope)

        return handle

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a method that there is not, too."""
        if scope["method"] in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        allowed = {"Allow": ", ".join(sorted(self.methods or ()))}
        await problem_of(HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers=allowed), scope)(scope, receive, send)


def responses(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route for OpenAPI; keywords are ``status_404`` and so on.

    Example:
        >>> list(responses(status_404="There is no such event."))
        [401, 403, 404, 422, 503, 'default']
    """
    known: dict[int | str, str] = {
        401: "The application does not know who asks.",
        403: "Who asks may not read the trail.",
        **{int(name.removeprefix("status_")): text for name, text in descriptions.items()},
        422: "A parameter is malformed, or there is none of that name.",
        503: "The trail cannot be read at the moment, or the reading could not be recorded.",
        "default": "Any other problem.",
    }
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs")
    schema["properties"]["errors"]["anyOf"][0]["items"] = definitions["ProblemError"]
    return {
        status: {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}} for status, text in known.items()
    }


def problem_of(error: Exception, scope: Scope) -> Response:
    """Return the answer to a request that ended in *error*."""
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    detail: Any
    if isinstance(error, BaseHTTPException):
        status, detail = error.status_code, error.detail
        headers.update(error.headers or {})
        if isinstance(detail, Mapping):  # RFC 9457, 3.2: further members are the application's to give
            more = jsonable_encoder(dict(detail))
            detail = more.get("detail")
    elif isinstance(error, RequestValidationError):
        more["errors"] = [_mistake(each) for each in error.errors()]
        status = UNPROCESSABLE
        detail = " ".join(f"{each['parameter']}: {each['reason'].rstrip('.')}." for each in more["errors"])
    elif isinstance(error, ClientDisconnect):
        status, detail = CLIENT_GONE, None
    else:
        status, detail = _status_and_detail(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("The audit trail could not be read over HTTP: %s", error, exc_info=error)
    members = {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": None if detail is None else str(detail),
        "request_id": scope.get(REQUEST_ID_KEY),
    }
    content = {name: value for name, value in {**members, **more, **members}.items() if value is not None}
    return JSONResponse(content, status, {**HEADERS, **headers}, MEDIA_TYPE)


def _status_and_detail(error: Exception) -> tuple[int, str]:
    unavailable = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, FilterError):
        return UNPROCESSABLE, error.spelled(_parameter)
    if isinstance(error, NotFoundError) and not error.error_type:
        return HTTPStatus.NOT_FOUND, "There is no such event: it may not have arrived yet, or left with its retention."
    if isinstance(error, IncompleteResultError):
        return unavailable, "Only a part of the answer could be had, so it is not given: ask again, or for less."
    if isinstance(error, DurabilityError):
        return unavailable, "This reading could not be recorded in the trail, so it is not answered: ask again later."
    if isinstance(error, AuditError):
        return unavailable, "The trail cannot be read at the moment: ask again later. The application's log says why."
    return HTTPStatus.INTERNAL_SERVER_ERROR, "The application's log says what happened."


def _parameter(keyword: Keyword) -> str:
    return f"The parameter {keyword.name!r}" if keyword.example is None else f"{keyword.name}={keyword.example}"


def _is_the_applications(error: Exception, request: Request) -> bool:
    """Tell whether *error* is one that the application has its own answer for, such as a way to its log-in page."""
    if isinstance(error, BaseHTTPException):
        return error.status_code < CLIENT_ERROR
    if isinstance(error, (RequestValidationError, AuditError)):
        return False
    handled = request.app.exception_handlers
    return any(kind in handled for kind in type(error).__mro__ if kind is not Exception)


def _mistake(detail: Any) -> dict[str, str]:
    where = detail["loc"][1:] or detail["loc"]  # the first says whether it is in the query, the path or a header
    return {"parameter": ".".join(map(str, where)), "reason": str(detail["msg"])}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
