"""What an HTTP request says about itself, taken from headers that anybody can write.

Pure functions over text. What is malformed is left out or replaced, and nothing raises.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from audit_logging.events.identity import new_event_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<rest>-.*)?"
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::[0-9]*)?")
_PARAMETER: Final = re.compile(r"{([A-Za-z_][A-Za-z0-9_]*)(?::[^{}]*)?}")


class Trace(NamedTuple):
    """The caller's place in a distributed trace. A hint for correlation, never proof of identity."""

    trace_id: str
    span_id: str


def choose_request_id(given: Sequence[str]) -> str:
    """Return the caller's request id when exactly one is given and it is harmless, else a new one.

    Harmless: 1 to 128 letters, digits, dots, underscores and hyphens, so that it can stand in any log and header.

    Example:
        >>> choose_request_id(["r-1"]), len(choose_request_id(["<script>"]))
        ('r-1', 36)
    """
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else new_event_id()


def parse_trace_parent(given: Sequence[str]) -> Trace | None:
    """Return the ids in ``traceparent``, or None when there is not exactly one valid value.

    Source: W3C Trace Context, section 3.2: version ``ff`` and ids of zeros are invalid, version ``00`` has four
    parts, later versions may have more.

    Example:
        >>> parse_trace_parent(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]).span_id
        'b7ad6b7169203331'
    """
    match = _TRACE_PARENT.fullmatch(given[0].strip(" \t")) if len(given) == 1 else None
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    trace = Trace(match["trace"], match["span"])
    return trace if all(part.strip("0") for part in trace) else None


def domain_of(host: str) -> str:
    """Return the ``Host`` header without its port and in lower case; a malformed one as it is.

    Example:
        >>> domain_of("Shop.Example:8443"), domain_of("[2001:DB8::1]:80"), domain_of("a b")
        ('shop.example', '[2001:db8::1]', 'a b')
    """
    match = _HOST.fullmatch(host)
    return match[1].lower() if match else host


def endpoint_of(path: str, template: Any, parameters: Mapping[str, Any]) -> str:
    """Return the route of a request, so that calls of one endpoint can be counted together.

    What a framework calls the path of a route may lack the prefix under which a router was included or an application
    mounted. So *template* is laid over *path* from the right, and what is left of it is the prefix. Where they do not
    match (static files, an unknown URL), the path itself is returned.

    Args:
        path: The path of the request.
        template: The route's path as Starlette and FastAPI write it, ``/items/{item_id}``; None without a route.
        parameters: The values of all path parameters, those of the prefix included.

    Example:
        >>> endpoint_of("/v1/acme/items/7", "/items/{item}", {"tenant": "acme", "item": 7})
        '/v1/{tenant}/items/{item}'
    """
    if not isinstance(template, str) or not template.startswith("/"):
        return path
    parts, position = path.split("/"), path.count("/") + 1
    named: set[str] = set()
    for part in reversed(template.split("/")[1:]):
        names = _PARAMETER.findall(part)
        named.update(names)
        # A parameter may hold slashes: /files/{path:path}.
        position -= 1 + sum(str(parameters.get(name, "")).count("/") for name in names)
        if position < 1 or (not names and parts[position] != part):
            return path
    prefix = parts[:position]
    for name, value in parameters.items():
        if name not in named and str(value) in prefix:
            prefix[_last_index(prefix, str(value))] = f"{{{name}}}"
    return "/".join(prefix) + template


def _last_index(parts: list[str], wanted: str) -> int:
    return len(parts) - 1 - parts[::-1].index(wanted)
