"""A server in a process of its own that passes everything on to OpenSearch but bulk requests: those get 429."""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

REFUSAL = b'{"error":{"type":"es_rejected_execution_exception","reason":"rejected execution"},"status":429}'


@contextlib.contextmanager
def throttling(url: str) -> Iterator[str]:
    """Give the URL of such a server in front of *url*; it would take part in this process's turns if it lived here."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(url, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _serve(url: str, parent: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = (429, REFUSAL) if "_bulk" in self.path else self.forward(body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_HEAD = answer

        def forward(self, body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
            connection.request(self.command, self.path, body or None, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

        def log_message(self, *_: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    parent.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()
