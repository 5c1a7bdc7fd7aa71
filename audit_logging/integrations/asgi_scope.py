"""What an ASGI scope says about a request: its path, its headers and where it came from.

Source: ASGI specification, "HTTP & WebSocket ASGI Message Format", version 2.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from audit_logging.integrations.forwarded import parse_node
from audit_logging.integrations.http_request import choose_request_id, domain_of, endpoint_of, parse_trace_parent

if TYPE_CHECKING:
    from audit_logging.integrations.forwarded import Node, Origin

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID_KEY: Final = "audit_logging.request_id"
"""Key of the ASGI scope that holds the id of the request, for handlers and error pages."""


class Headers:
    """The header lines of one request, as text. Latin-1 takes every byte."""

    def __init__(self, scope: Scope) -> None:
        self._lines = list(scope.get("headers") or ())

    def all(self, wanted: bytes) -> list[str]:
        """Return the values of every line of that name, which is in lower case."""
        return [value.decode("latin-1") for name, value in self._lines if name.lower() == wanted]

    def first(self, wanted: bytes) -> str | None:
        """Return the value of the first line of that name."""
        return next(iter(self.all(wanted)), None)


def full_path(scope: Scope) -> str:
    """Return the path that the client asked for, the prefix of proxies and mounts included.

    Servers and frameworks differ in whether ``path`` repeats ``root_path``.

    Example:
        >>> full_path({"path": "/health", "root_path": "/api"}), full_path({"path": "/api/x", "root_path": "/api/"})
        ('/api/health', '/api/x')
    """
    path: str = scope["path"]
    return path if _below_root(scope) is not None else _root(scope) + path


def own_path(scope: Scope) -> str:
    """Return the path as the application's own routes write it, without the prefix of proxies and mounts.

    Example:
        >>> own_path({"path": "/api/health", "root_path": "/api"}), own_path({"path": "/health", "root_path": "/api"})
        ('/health', '/health')
    """
    below = _below_root(scope)
    return scope["path"] if below is None else below


def _root(scope: Scope) -> str:
    root = (scope.get("root_path") or "").rstrip("/")
    return f"/{root}" if root and not root.startswith("/") else root


def _below_root(scope: Scope) -> str | None:
    """Return what follows the prefix in ``path``, or None where the prefix is not repeated there."""
    root, path = _root(scope), scope["path"]
    if path == root:
        return "/"
    return path[len(root) :] if path.startswith(f"{root}/") else None


def endpoint(path: str, scope: Scope) -> str:
    """Return the template of the route that matched, below the prefix of *path*; *path* where none matched."""
    route = scope.get("route")
    return endpoint_of(path, getattr(route, "path", None), scope.get("path_params") or {})


def request_facts(scope: Scope, headers: Headers, origin: Origin | None, request_id_header: bytes) -> dict[str, Any]:
    """Return the keywords that every event of a request carries."""
    facts: dict[str, Any] = {
        "request_id": choose_request_id(headers.all(request_id_header)),
        "user_agent": headers.first(b"user-agent"),
        "http_method": scope.get("method"),
        "url_path": full_path(scope),
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


def peer_of(scope: Scope) -> Node | None:
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


def with_header(message: Message, name: bytes, value: str) -> Message:
    """Return *message* with that header, unless the application has set it itself."""
    headers = list(message.get("headers") or ())
    if any(given.lower() == name for given, _ in headers):
        return message
    return {**message, "headers": [*headers, (name, value.encode("ascii"))]}
