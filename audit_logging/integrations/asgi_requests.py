"""One HTTP request: watches both directions and emits its ``api.call``, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_logging.capture.configuration import current_trail
from audit_logging.errors import AuditError
from audit_logging.events.catalogue import API_CALL
from audit_logging.integrations.asgi_exchange import Exchange, log_failure

if TYPE_CHECKING:
    from audit_logging.integrations.asgi_exchange import Course
    from audit_logging.integrations.asgi_scope import Message, Receive, Scope, Send

SERVER_ERROR: Final = 500
CLIENT_ERROR: Final = 400
CLIENT_GONE: Final = 499
"""What stands for a status code where the client left before there was one. HTTP has none; nginx began with this."""

_BODIES: Final = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend"}
_UNREADY_KINDS: Final = {"disk", "full"}
_UNREADY: Final = "The audit trail cannot take events now (see audit.health()); the response was not started."


class HttpCall(Exchange):
    """One HTTP request.

    Where it must be recorded, the start of the response is held until the first part of its body, so that a response
    of one part can still become a 503. A response of several parts starts only while the trail takes events, and
    breaks off before its end when the trail does not take its ``api.call`` then.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, course: Course) -> None:
        super().__init__(scope, receive, send, course)
        self._status: int | None = None
        self._client_left = self._client_left_early = False
        self._told = not course.recorded
        self._held: Message | None = None
        self._is_started = False
        self._bytes_left: int | None = None

    async def receive(self) -> Message:
        """Pass on what the client sends."""
        message = await self._receive()
        # After the end of the answer this message is how every request ends.
        if message["type"] == "http.disconnect" and not self._told:
            self._client_left = True
            self._client_left_early = self._status is None
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application sends; before the last part, emit the ``api.call``."""
        if self.refused:
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            length, is_endless = _length(message)
            self._bytes_left = length
            message = self._with_request_id(message)
            if self._course.must_record and not self._told:
                self._held = message
                if is_endless:  # its client waits for the start
                    await self._start()
                return
        elif kind in _BODIES:
            if self._is_last(message):
                if (error := await self._record()) is not None:
                    await self._fail(error)
            else:
                await self._start()
        await self.release()
        await self._deliver(message)

    async def release(self) -> None:
        """Send the start of the response, if it is held."""
        if self._held is not None:
            message, self._held = self._held, None
            await self._deliver(message)

    async def end(self, error: BaseException | None = None) -> None:
        """Emit the ``api.call``, unless that is done, for an application that has returned or raised."""
        failure = await self._record(error)
        if failure is not None and self._course.must_record and not (self._is_started or self._client_left):
            await self._refuse()
        elif isinstance(error, Exception) and not self._client_left:
            await self.release()
        if failure is not None and error is None and self._course.must_record and not self.refused:
            raise failure

    async def _start(self) -> None:
        """Let a response begin that has more than one part, unless its ``api.call`` could not be taken now."""
        if self._held is not None and any(each.kind in _UNREADY_KINDS for each in current_trail().health().reasons):
            error = AuditError(_UNREADY)
            log_failure(self._course.notices, API_CALL, error)
            await self._fail(error)
        await self.release()

    async def _fail(self, error: Exception) -> None:
        """Keep the response from being completed, where its ``api.call`` must be recorded."""
        if not self._course.must_record:
            return
        if not self._is_started:
            self._held = None
            await self._refuse()
        raise error

    async def _deliver(self, message: Message) -> None:
        self._is_started = self._is_started or message["type"] == "http.response.start"
        try:
            await self._send(message)
        except OSError:  # ASGI: what send raises once the client is gone
            self._client_left = True
            raise

    def _is_last(self, message: Message) -> bool:
        """Tell whether the response is complete with this part, also where its sender would end it by an empty one."""
        if message["type"] == "http.response.pathsend" or not message.get("more_body", False):
            return True
        if self._bytes_left is None or message["type"] != "http.response.body":
            self._bytes_left = None
            return False
        self._bytes_left -= len(message.get("body", b""))
        return self._bytes_left <= 0

    async def _record(self, error: BaseException | None = None) -> Exception | None:
        if self._told:
            return None
        self._told = True
        facts = {"method": self._scope["method"], "response_time_ms": self._elapsed_ms(), **self._outcome(error)}
        return await self._emit(API_CALL, facts)

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


def _length(start: Message) -> tuple[int | None, bool]:
    """Return the length that the start of a response announces, and whether it begins a stream of events."""
    length, is_endless = None, False
    for name, value in start.get("headers") or ():
        if name.lower() == b"content-length" and value.isdigit():
            length = int(value)
        elif name.lower() == b"content-type":
            is_endless = value.lower().startswith(b"text/event-stream")
    return length, is_endless
