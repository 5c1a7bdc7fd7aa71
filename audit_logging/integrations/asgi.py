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
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.context import context
from audit_logging.errors import SettingsError
from audit_logging.events.catalogue import API_CALL
from audit_logging.integrations.forwarded import find_origin, parse_node
from audit_logging.integrations.http_request import choose_request_id, domain_of, endpoint_of, parse_trace_parent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from audit_logging.integrations.forwarded import HeaderName, Node, Origin
    from audit_logging.settings import Network

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID_HEADER: Final = b"x-request-id"
REQUEST_ID_KEY: Final = "audit_logging.request_id"
"""Key of the ASGI scope that holds the id of the request, for handlers and error pages."""

SERVER_ERROR: Final = 500
CLIENT_ERROR: Final = 400
CLIENT_GONE: Final = 499
"""What stands for a status code where the client left before there was one. HTTP has none; nginx began with this."""


class AuditMiddleware:
    """Gives every event of a request its context, and emits one ``api.call`` for each request.

    The context: ``source_ip``, ``source_port``, ``client_ip`` (where a trusted proxy reported it), ``user_agent``,
    ``request_id``, ``http_method``, ``url_path``, ``url_domain``, ``trace_id`` and ``span_id``. What the application
    adds with ``audit.bind_context(user_id=...)``, also from a thread pool, is in all events from then on.

    The ``api.call`` is emitted just before the last part of the answer goes out: who has the answer finds the event.
    Its ``endpoint`` is the route's template where the framework tells it; the path itself is then in the metadata. A
    handler that raises counts as 500, a client that left before the answer began as 499.

    The request's id is the caller's ``X-Request-ID`` when that is harmless, else a new one; the answer repeats it
    unless the application has set that header itself.

    Args:
        app: The application.
        trusted_proxies: Networks of your own proxies, whose forwarding headers are believed; None: the setting
            ``trusted_proxies``. Where the server itself already takes the address from headers, as uvicorn does by
            default for 127.0.0.1, its answer is the peer seen here.
        forwarding_header: The one header that your proxies write, ``"x-forwarded-for"`` or ``"forwarded"``; None:
            the first of the two that is there. Name it if you know it: proxies pass on the other one unread.
        excluded_paths: Paths, with ``*`` for any text, whose calls are not recorded: ``"/health"``, ``"/static/*"``.
            What the application emits there is, in its context.

    Raises:
        SettingsError: A network or header is malformed.
        DurabilityError: From a request, when the trail could not take its ``api.call``.

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
        excluded_paths: Collection[str] = (),
    ) -> None:
        if forwarding_header not in {None, "x-forwarded-for", "forwarded"}:
            raise SettingsError(f"forwarding_header is 'x-forwarded-for' or 'forwarded', not {forwarding_header!r}.")
        self.app = app
        self._trusted = None if trusted_proxies is None else _networks(trusted_proxies)
        self._header = forwarding_header
        patterns = [excluded_paths] if isinstance(excluded_paths, str) else excluded_paths
        self._excluded = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but an HTTP request is passed through untouched."""
        if scope["type"] != "http" or REQUEST_ID_KEY in scope:
            await self.app(scope, receive, send)
            return
        headers = _Headers(scope)
        origin = self._origin(scope, headers)
        facts = _request_facts(scope, headers, origin)
        scope = {**scope, REQUEST_ID_KEY: facts["request_id"]}
        around = context(**facts)
        call = _Call(scope, receive, send, origin, around, recorded=not self._excluded.match(scope["path"]))
        with around:
            try:
                await self.app(scope, call.receive, call.send)
            except BaseException as error:
                # A cancelled task would be cancelled again at its next wait; the event must not go with it.
                await asyncio.shield(call.finish(error))
                raise
            await call.finish()

    def _origin(self, scope: Scope, headers: _Headers) -> Origin | None:
        trusted = current_trail().settings.trusted_proxies if self._trusted is None else self._trusted
        return find_origin(
            _peer(scope),
            trusted=trusted,
            x_forwarded_for=headers.all(b"x-forwarded-for") if self._header != "forwarded" else (),
            forwarded=headers.all(b"forwarded") if self._header != "x-forwarded-for" else (),
        )


class _Headers:
    """The header lines of one request, as text. Latin-1 takes every byte (ASGI gives bytes, names in lower case)."""

    def __init__(self, scope: Scope) -> None:
        self._lines = list(scope.get("headers") or ())

    def all(self, wanted: bytes) -> list[str]:
        return [value.decode("latin-1") for name, value in self._lines if name == wanted]

    def first(self, wanted: bytes) -> str | None:
        return next(iter(self.all(wanted)), None)


class _Call:
    """One request on its way: watches what is said in both directions, and tells it at the end, once."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, origin: Origin | None, around: context, *, recorded: bool
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._around = around
        self._path: str = scope["path"]  # some frameworks shorten it on the way
        self._proxies = origin.proxies if origin else ()
        self._began = time.perf_counter()
        self._status: int | None = None
        self._client_left = self._client_left_early = False
        self._told = not recorded

    async def receive(self) -> Message:
        message = await self._receive()
        # After the end of the answer this message is how every request ends.
        if message["type"] == "http.disconnect" and not self._told:
            self._client_left = True
            self._client_left_early = self._status is None
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = _with_request_id(message, self._scope[REQUEST_ID_KEY])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self.finish()
        try:
            await self._send(message)
        except OSError:  # ASGI: what send raises once the client is gone
            self._client_left = True
            raise

    async def finish(self, error: BaseException | None = None) -> None:
        """Emit the ``api.call``, unless that is done."""
        if self._told:
            return
        self._told = True
        elapsed_ms = (time.perf_counter() - self._began) * 1000
        route = self._scope.get("route")
        endpoint = endpoint_of(self._path, getattr(route, "path", None), self._scope.get("path_params") or {})
        facts = {
            "endpoint": endpoint,
            "method": self._scope["method"],
            "response_time_ms": round(elapsed_ms, 3),
            **self._outcome(error),
        }
        if self._proxies:
            facts["proxies"] = list(self._proxies)
        # The last part of the answer may be sent by a task that is about one part of the request.
        with self._around.resumed():
            await current_trail().aemit(API_CALL, facts)

    def _outcome(self, error: BaseException | None) -> dict[str, Any]:
        sent = {} if self._status is None else {"status_sent": self._status}
        if self._client_left_early:
            return {"status_code": CLIENT_GONE, "reason": "client disconnected", **sent}
        if self._client_left and self._status is not None:
            known = {} if self._status >= CLIENT_ERROR else {"outcome": "unknown"}
            return {"status_code": self._status, "reason": "client disconnected", **known}
        if error is not None:
            return {"status_code": SERVER_ERROR, "reason": type(error).__name__, **sent}
        if self._status is None:
            return {"status_code": SERVER_ERROR, "reason": "no response"}
        return {"status_code": self._status}


def _request_facts(scope: Scope, headers: _Headers, origin: Origin | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": choose_request_id(headers.all(REQUEST_ID_HEADER)),
        "user_agent": headers.first(b"user-agent"),
        "http_method": scope["method"],
        "url_path": scope["path"],
    }
    host = headers.first(b"host")
    if host:
        facts["url_domain"] = domain_of(host)
    if origin is not None:
        facts["source_ip"], facts["source_port"] = str(origin.node.address), origin.node.port
        if origin.proxies:
            facts["client_ip"] = facts["source_ip"]
    trace = parse_trace_parent(headers.all(b"traceparent"))
    if trace is not None:
        facts["trace_id"], facts["span_id"] = trace
    return {name: value for name, value in facts.items() if value is not None}


def _peer(scope: Scope) -> Node | None:
    """Return the socket's other end.

    None for a Unix socket and where the server does not know. That is not trusted, whatever the settings say: a
    server may also have lost the address of a client that hung up at once.
    """
    client = scope.get("client")
    if not client:
        return None
    host, port = client
    peer = parse_node(str(host).partition("%")[0])  # fe80::1%eth0: the zone means nothing outside this host
    return peer and peer._replace(port=port or None)  # servers give 0 where they do not know


def _with_request_id(message: Message, request_id: str) -> Message:
    headers = list(message.get("headers") or ())
    if any(name.lower() == REQUEST_ID_HEADER for name, _ in headers):
        return message
    return {**message, "headers": [*headers, (REQUEST_ID_HEADER, request_id.encode("ascii"))]}


def _networks(given: Iterable[str | Network]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network) for network in ([given] if isinstance(given, str) else given))
    except ValueError as error:
        raise SettingsError(f"trusted_proxies: {error}. Give networks such as '10.0.0.0/8'.") from None
