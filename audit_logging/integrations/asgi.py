"""The ASGI middleware: every event of a request knows the request, and the request itself is an event."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.context import context
from audit_logging.integrations.forwarded import find_origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence

    from audit_logging.settings import Network

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, section 3.2: version, trace id, parent id, flags; all zeros are invalid.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_INTERNAL_ERROR = 500


class AuditMiddleware:
    """Gives every event within a request its facts, and emits ``api.call`` when it is answered.

    The facts: source address, user agent, request id, method, path, host, trace. What the application learns during
    the request, such as the user, it adds with :func:`audit_logging.bind_context`. Pure ASGI: it wraps any framework.
    Anything but an HTTP request passes through untouched.

    Args:
        app: The application.
        trusted_proxies: Networks whose forwarding headers are believed; None: the setting ``trusted_proxies``.
        excluded_paths: Paths that are no event, such as health checks. They have their context all the same.

    Example:
        >>> from fastapi import FastAPI
        >>> app = FastAPI()
        >>> app.add_middleware(AuditMiddleware, excluded_paths={"/health"})
    """

    def __init__(
        self, app: App, *, trusted_proxies: Sequence[Network] | None = None, excluded_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._excluded_paths = frozenset(excluded_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI specification, "HTTP connection scope")."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope.get("headers", ()))
        request_id = _request_id(headers)
        status = _INTERNAL_ERROR  # until the application says otherwise; an exception leaves it so

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
            await send(message)

        facts = {**self._origin_facts(scope, headers), **_request_facts(scope, headers), "request_id": request_id}
        with context(**facts):
            started = time.perf_counter()
            try:
                await self._app(scope, receive, send_with_request_id)
            finally:
                if scope["path"] not in self._excluded_paths:
                    await _emit(scope, status, (time.perf_counter() - started) * 1000)

    def _origin_facts(self, scope: Scope, headers: _Headers) -> dict[str, Any]:
        trusted = self._trusted_proxies
        if trusted is None:
            trusted = current_trail().settings.trusted_proxies
        peer, port = scope.get("client") or (None, None)
        origin = find_origin(
            peer, x_forwarded_for=headers.all("x-forwarded-for"), forwarded=headers.all("forwarded"), trusted=trusted
        )
        if origin.forwarded:
            return {"source_ip": origin.address, "client_ip": origin.address}
        return {"source_ip": origin.address, "source_port": port if origin.address else None}


class _Headers:
    """The headers of one request, by lower-case name."""

    def __init__(self, pairs: Collection[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def all(self, name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._pairs if key.lower() == wanted]

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


def _request_id(headers: _Headers) -> str:
    given = headers.first("x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else str(uuid4())


def _request_facts(scope: Scope, headers: _Headers) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "user_agent": headers.first("user-agent"),
        "http_method": scope["method"],
        "url_path": scope["path"],
        "url_domain": headers.first("host"),
    }
    if match := _TRACEPARENT.fullmatch(headers.first("traceparent") or ""):
        facts["trace_id"], facts["span_id"] = match.groups()
    return facts


async def _emit(scope: Scope, status: int, milliseconds: float) -> None:
    route = getattr(scope.get("route"), "path", None)  # Starlette and FastAPI leave the route that matched here
    facts = {
        "endpoint": route if isinstance(route, str) else scope["path"],
        "method": scope["method"],
        "status_code": status,
        "response_time_ms": milliseconds,
    }
    await current_trail().aemit("api.call", facts)
