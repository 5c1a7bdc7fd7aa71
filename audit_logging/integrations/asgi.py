"""The middleware for ASGI applications: FastAPI, Starlette, Litestar, Quart, Django's ASGI side, or none of them.

    from fastapi import FastAPI
    from audit_logging.integrations.asgi import AuditMiddleware

    app = FastAPI()
    app.add_middleware(AuditMiddleware, trusted_proxies=["10.0.0.0/8"])

It imports no framework and is plain ASGI, so context variables reach handlers, thread pools and background tasks.
Source: ASGI specification, "HTTP & WebSocket ASGI Message Format", version 2.5.
"""

from __future__ import annotations

import asyncio
import fnmatch
import ipaddress
import re
from typing import TYPE_CHECKING, Final, Literal, get_args

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.context import context
from audit_logging.errors import SettingsError
from audit_logging.events.catalogue import API_CALL
from audit_logging.integrations.asgi_exchange import Course, log_failure, unavailable
from audit_logging.integrations.asgi_requests import HttpCall
from audit_logging.integrations.asgi_scope import (
    REQUEST_ID_KEY,
    Headers,
    full_path,
    own_path,
    peer_of,
    request_facts,
)
from audit_logging.integrations.asgi_websockets import WebSocketCall
from audit_logging.integrations.forwarded import find_origin, find_reported_origin
from audit_logging.shipping.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from audit_logging.integrations.asgi_scope import ASGIApp, Receive, Scope, Send
    from audit_logging.integrations.forwarded import HeaderName, Origin
    from audit_logging.settings import Network

TrailFailure = Literal["fail", "log"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class AuditMiddleware:
    """Gives every event of a request its context, and emits one ``api.call`` for each request.

    The context: ``source_ip``, ``source_port``, ``client_ip`` (where a trusted proxy reported it), ``user_agent``,
    ``request_id``, ``http_method``, ``url_path``, ``url_domain``, ``trace_id`` and ``span_id``. What the application
    adds with ``audit.bind_context(user_id=...)``, also from a thread pool, is in all events from then on.

    The ``api.call`` is emitted just before the last part of the answer goes out: who has the answer finds the event.
    ``url.path`` is the path that the client asked for, and ``http.route`` the template of the route where the
    framework tells it, both with the prefix of proxies and mounts. A handler that raises counts as 500, a client that
    left before the answer began as 499. WebSocket connections emit ``websocket.connected`` and ``websocket.closed``,
    or ``websocket.refused``.

    The request's id is the caller's ``X-Request-ID`` when that is harmless, else a new one; the answer repeats it
    unless the application has set that header itself.

    Args:
        app: The application.
        trusted_proxies: Networks of your own proxies, whose forwarding headers are believed; None: the setting
            ``trusted_proxies``. Where the server itself already takes the address from headers, as uvicorn does by
            default for 127.0.0.1, its answer is the peer seen here.
        forwarding_header: The one header that your proxies write, ``"x-forwarded-for"`` or ``"forwarded"``; None:
            the first of the two that is there. Name it if you know it: proxies pass on the other one unread.
        address_header: The one header with the client's address that your proxies write, such as ``"x-real-ip"`` or
            ``"cf-connecting-ip"``, instead of forwarding headers. Only a trusted proxy's is believed.
        request_id_header: The header with the request's id, such as ``"x-correlation-id"``.
        excluded_paths: Paths, with ``*`` for any text, whose calls are not recorded: ``"/health"``, ``"/static/*"``,
            with or without the prefix of proxies and mounts. What the application emits there is, in its context.
        excluded_methods: Methods whose calls are not recorded, such as ``"OPTIONS"``.
        on_trail_failure: What happens to a request whose event the trail cannot take. ``"fail"``: the client gets a
            503, or a response that breaks off where it has begun. ``"log"``: the response is sent, and the failure
            logged.

    Raises:
        SettingsError: An option is malformed.

    Example:
        >>> import audit_logging as audit
        >>> async def hello(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200, "headers": []})
        ...     await send({"type": "http.response.body", "body": b"hello"})
        >>> app = AuditMiddleware(hello)
        >>> request = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.7", 4711)}
        >>> async def send(message): ...
        >>> with audit.record_events() as events:
        ...     asyncio.run(app(request, None, send))
        >>> events.one("api.call")["message"], events.one("api.call")["source"]["ip"]
        ('GET / answered 200', '203.0.113.7')
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_proxies: Iterable[str | Network] | None = None,
        forwarding_header: HeaderName | None = None,
        address_header: str | None = None,
        request_id_header: str = "x-request-id",
        excluded_paths: Collection[str] = (),
        excluded_methods: Collection[str] = (),
        on_trail_failure: TrailFailure = "fail",
    ) -> None:
        if forwarding_header not in {None, "x-forwarded-for", "forwarded"}:
            raise SettingsError(f"forwarding_header is 'x-forwarded-for' or 'forwarded', not {forwarding_header!r}.")
        if on_trail_failure not in get_args(TrailFailure):
            raise SettingsError(f"on_trail_failure is 'fail' or 'log', not {on_trail_failure!r}.")
        self.app = app
        self._trusted = None if trusted_proxies is None else _networks(trusted_proxies)
        self._header = forwarding_header
        self._address_header = None if address_header is None else _header_name("address_header", address_header)
        if self._address_header in {b"x-forwarded-for", b"forwarded"} or (address_header and forwarding_header):
            raise SettingsError("address_header holds one address: use forwarding_header for a list, and not both.")
        self._request_id_header = _header_name("request_id_header", request_id_header)
        self._excluded = re.compile("|".join(map(fnmatch.translate, _several(excluded_paths))) or r"(?!)")
        self._excluded_methods = frozenset(_method(each) for each in _several(excluded_methods))
        self._must_record = on_trail_failure == "fail"
        self._notices = Notices()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but a request or a WebSocket is passed through untouched."""
        if scope["type"] not in {"http", "websocket"} or REQUEST_ID_KEY in scope:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope)
        try:
            origin = self._origin(scope, headers)
        except Exception as error:  # noqa: BLE001 - the trail cannot be made from its settings
            log_failure(self._notices, API_CALL, error)
            if self._must_record:
                await _refuse(scope, send)
                return
            origin = find_origin(peer_of(scope), trusted=())
        facts = request_facts(scope, headers, origin, self._request_id_header)
        scope = {**scope, REQUEST_ID_KEY: facts["request_id"]}
        around = context(**facts)
        course = Course(
            around=around,
            proxies=origin.proxies if origin else (),
            recorded=self._is_recorded(scope),
            must_record=self._must_record,
            request_id_header=self._request_id_header,
            notices=self._notices,
        )
        with around:
            if scope["type"] == "http":
                await self._run(HttpCall(scope, receive, send, course), scope)
            else:
                await self._run(WebSocketCall(scope, receive, send, course), scope)

    async def _run(self, call: HttpCall | WebSocketCall, scope: Scope) -> None:
        try:
            await self.app(scope, call.receive, call.send)
            await call.release()
        except BaseException as error:
            if call.refused and isinstance(error, Exception):  # the client has its 503, and the log the reason
                return
            # A cancelled task would be cancelled again at its next wait; the event must not go with it.
            await asyncio.shield(call.end(error))
            raise
        await call.end()

    def _is_recorded(self, scope: Scope) -> bool:
        paths = (full_path(scope), own_path(scope), scope["path"])
        return scope.get("method") not in self._excluded_methods and not any(map(self._excluded.match, paths))

    def _origin(self, scope: Scope, headers: Headers) -> Origin | None:
        trusted = current_trail().settings.trusted_proxies if self._trusted is None else self._trusted
        peer = peer_of(scope)
        if self._address_header is not None:
            return find_reported_origin(peer, headers.all(self._address_header), trusted=trusted)
        return find_origin(
            peer,
            trusted=trusted,
            x_forwarded_for=headers.all(b"x-forwarded-for") if self._header != "forwarded" else (),
            forwarded=headers.all(b"forwarded") if self._header != "x-forwarded-for" else (),
        )


async def _refuse(scope: Scope, send: Send) -> None:
    """Answer 503 to what cannot be recorded at all."""
    if scope["type"] == "http":
        for message in unavailable():
            await send(message)
    else:
        await send({"type": "websocket.close", "code": 1013})


def _several(given: Collection[str]) -> Collection[str]:
    return [given] if isinstance(given, str) else given


def _header_name(option: str, given: str) -> bytes:
    if not isinstance(given, str) or not _TOKEN.fullmatch(given):
        raise SettingsError(f"{option} is the name of a header, such as 'x-real-ip', not {given!r}.")
    return given.lower().encode("ascii")


def _method(given: str) -> str:
    if not isinstance(given, str) or not _TOKEN.fullmatch(given):
        raise SettingsError(f"excluded_methods are methods such as 'OPTIONS', not {given!r}.")
    return given.upper()


def _networks(given: Iterable[str | Network]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network) for network in ([given] if isinstance(given, str) else given))
    except ValueError as error:
        raise SettingsError(f"trusted_proxies: {error}. Give networks such as '10.0.0.0/8'.") from None
