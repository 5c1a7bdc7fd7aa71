"""One WebSocket connection: emits when it is accepted, when it ends, and when it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_logging.events.catalogue import WEBSOCKET_CLOSED, WEBSOCKET_CONNECTED, WEBSOCKET_REFUSED
from audit_logging.integrations.asgi_exchange import Exchange
from audit_logging.integrations.asgi_requests import CLIENT_GONE, SERVER_ERROR

if TYPE_CHECKING:
    from audit_logging.integrations.asgi_exchange import Course
    from audit_logging.integrations.asgi_scope import Message, Receive, Scope, Send

FORBIDDEN: Final = 403
"""What servers answer when the application closes a connection that it has not accepted (ASGI, "Close")."""

NORMAL, NO_CODE, INTERNAL_ERROR, TRY_AGAIN = 1000, 1005, 1011, 1013
"""Close codes of RFC 6455, section 7.4, and of its IANA registry."""

_DENIAL: Final = "websocket.http.response"


class WebSocketCall(Exchange):
    """One WebSocket connection.

    Where it must be recorded, a connection whose ``websocket.connected`` the trail does not take is not accepted. The
    end of a connection cannot be undone: a ``websocket.closed`` that the trail does not take is only logged.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, course: Course) -> None:
        super().__init__(scope, receive, send, course)
        self._is_accepted = False
        self._told = not course.recorded

    async def receive(self) -> Message:
        """Pass on what the client sends; emit when it leaves."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code") or NO_CODE
            if self._is_accepted:
                await self._close(code, message.get("reason"), closed_by="client")
            else:
                await self._deny(CLIENT_GONE, "client disconnected")
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application sends; emit before it accepts, refuses or closes."""
        if self.refused:
            return
        kind = message["type"]
        if kind == "websocket.accept":
            await self._accept()
            message = self._with_request_id(message)
        elif kind == "websocket.close":
            if self._is_accepted:
                await self._close(message.get("code", NORMAL), message.get("reason"), closed_by="server")
            else:
                await self._deny(FORBIDDEN, message.get("reason"))
        elif kind == f"{_DENIAL}.start":
            await self._deny(message["status"], None)
            message = self._with_request_id(message)
        await self._send(message)

    async def release(self) -> None:
        """Do nothing: no message is held."""

    async def end(self, error: BaseException | None = None) -> None:
        """Emit how the connection ended, unless that is done, for an application that has returned or raised."""
        reason = type(error).__name__ if error is not None else None
        if not self._is_accepted:
            await self._deny(SERVER_ERROR, reason or "no response")
        elif error is None:
            await self._close(NORMAL, None, closed_by="server")
        else:
            await self._close(INTERNAL_ERROR, reason, closed_by="server", outcome="failure")

    async def _accept(self) -> None:
        self._is_accepted = True
        if self._told:
            return
        error = await self._emit(WEBSOCKET_CONNECTED, {})
        if error is not None and self._course.must_record:
            self._told = True
            self._is_accepted = False
            if _DENIAL in (self._scope.get("extensions") or {}):
                await self._refuse(_DENIAL)
            else:
                self.refused = True
                await self._send({"type": "websocket.close", "code": TRY_AGAIN})
            raise error

    async def _deny(self, status: int, reason: str | None) -> None:
        """Emit that the connection was refused, whether the trail takes it or not: it is refused already."""
        await self._finish(WEBSOCKET_REFUSED, {"status_code": status, "reason": reason or None})

    async def _close(self, code: int, reason: str | None, **facts: Any) -> None:
        await self._finish(WEBSOCKET_CLOSED, {"close_code": code, "reason": reason or None, **facts})

    async def _finish(self, event_type: str, facts: dict[str, Any]) -> None:
        if self._told:
            return
        self._told = True
        await self._emit(event_type, {**facts, "duration_ms": self._elapsed_ms()})
