"""A deadline for a whole answer. The time-outs of sockets are for single reads: a byte a second never meets them."""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

import urllib3.connection

if TYPE_CHECKING:
    import socket


class _Reader(io.RawIOBase):
    """Reads from a socket until its time is up; the time is what the socket was given for one read."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._socket, self._raw, self._seconds = sock, raw, sock.gettimeout()
        self.restart()

    def restart(self) -> None:
        """Begin to count anew: an answer that was begun may be read much later."""
        self._until = None if self._seconds is None else time.monotonic() + self._seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer took too long")
            self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.reader = _Reader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self.reader)


class HTTPConnection(urllib3.connection.HTTPConnection):
    """A connection whose answers have a deadline."""

    response_class = _Response


class HTTPSConnection(urllib3.connection.HTTPSConnection):
    """The same over TLS."""

    response_class = _Response


def set_deadlines(pool: Any) -> None:
    """Let every answer on the connections of urllib3's *pool* have its read time-out as a deadline."""
    pool.ConnectionCls = HTTPSConnection if pool.scheme == "https" else HTTPConnection


def restart(answer: Any) -> None:
    """Begin to count anew for an answer that is read later than it was begun."""
    reader = getattr(getattr(answer, "_original_response", None), "reader", None)
    if reader is not None:
        reader.restart()
