"""One request or WebSocket connection on its way, and its event when the trail cannot take it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_logging.capture.configuration import current_trail
from audit_logging.integrations.asgi_scope import REQUEST_ID_KEY, endpoint, full_path, with_header

if TYPE_CHECKING:
    from audit_logging.capture.context import context
    from audit_logging.integrations.asgi_scope import Message, Receive, Scope, Send
    from audit_logging.shipping.notices import Notices

UNAVAILABLE = 503
_BODY = b"Service Unavailable\n"


class Course(NamedTuple):
    """How one request is recorded.

    Attributes:
        around: The scope with the facts of the request.
        proxies: The trusted proxies that it came through.
        recorded: Whether it is an event.
        must_record: Whether it fails when the trail cannot take its event.
        request_id_header: The response header that repeats the id of the request.
        notices: Logs failures, each at most once a minute.
    """

    around: context
    proxies: tuple[str, ...]
    recorded: bool
    must_record: bool
    request_id_header: bytes
    notices: Notices


class Exchange:
    """What requests and WebSocket connections have in common."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, course: Course) -> None:
        self._scope, self._receive, self._send, self._course = scope, receive, send, course
        self._path = full_path(scope)  # mounts change the scope on the way
        self._began = time.perf_counter()
        self.refused = False
        """Whether the client got a 503 because the trail could not take the event; the application is to stop."""

    async def _emit(self, event_type: str, facts: dict[str, Any]) -> Exception | None:
        """Emit an event about the whole exchange; return why the trail could not take it."""
        facts = {"endpoint": endpoint(self._path, self._scope), **facts}
        if self._course.proxies:
            facts["proxies"] = list(self._course.proxies)
        try:
            # The last part of the answer may be sent by a task that is about one part of the request.
            with self._course.around.resumed():
                await current_trail().aemit(event_type, facts)
        except Exception as error:  # noqa: BLE001 - whatever the cause, the trail does not have the event
            log_failure(self._course.notices, event_type, error)
            return error
        return None

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began) * 1000, 3)

    def _with_request_id(self, message: Message) -> Message:
        return with_header(message, self._course.request_id_header, self._scope[REQUEST_ID_KEY])

    async def _refuse(self, prefix: str = "http.response") -> None:
        """Answer 503, and drop whatever the application still sends."""
        self.refused = True
        for message in unavailable(prefix):
            await self._send(self._with_request_id(message) if "headers" in message else message)


def unavailable(prefix: str = "http.response") -> list[Message]:
    """Return the messages of a 503 without details."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_BODY))]
    return [
        {"type": f"{prefix}.start", "status": UNAVAILABLE, "headers": [*headers, (b"cache-control", b"no-store")]},
        {"type": f"{prefix}.body", "body": _BODY},
    ]


def log_failure(notices: Notices, event_type: str, error: Exception) -> None:
    """Log that the trail does not have an event of a request."""
    cause = type(error).__name__
    notices.tell(logging.ERROR, f"{event_type} {cause}", f"Could not record {event_type}: {cause}: {error}")
