"""A server on loopback in front of the real one: answers a few paths itself and passes everything else on."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

Answer = tuple[int, Any]
"""An HTTP status and a JSON body."""


class Front:
    """Use as a context manager; ``answer`` says which paths it answers itself, ``seen`` what it was asked."""

    def __init__(self, behind: str | None) -> None:
        self.behind = behind
        self.seen: list[tuple[str, str]] = []
        self._rules: list[tuple[str, Callable[[str, str, dict[str, Any], Any], Answer]]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart, the second waits for the first one's receipt

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

            def _handle(self) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, body = front._respond(self.command, self.path, sent)
                self.send_response(status)
                self.send_header("content-type", "application/json; charset=UTF-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, prefix: str, how: Answer | Callable[[str, str, dict[str, Any], Any], Answer]) -> None:
        """Answer paths that begin with *prefix* (exactly "/" for the root) with *how*, or with what it returns.

        It is called with the method, the path, the query and the decoded body.
        """
        self._rules.append((prefix, how if callable(how) else lambda *_: how))

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _respond(self, method: str, target: str, sent: bytes) -> tuple[int, bytes]:
        parts = urlsplit(target)
        self.seen.append((method, parts.path))
        for prefix, how in self._rules:
            if parts.path == prefix or (prefix != "/" and parts.path.startswith(prefix)):
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, body = how(method, parts.path, query, json.loads(sent) if sent else None)
                return status, json.dumps(body).encode()
        return self._pass_on(method, target, sent)

    def _pass_on(self, method: str, target: str, sent: bytes) -> tuple[int, bytes]:
        if self.behind is None:
            return 404, b'{"error": "nothing is behind this server"}'
        request = urllib.request.Request(
            self.behind + target, data=sent or None, method=method, headers={"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
