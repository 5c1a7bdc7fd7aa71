"""A proxy in front of a real OpenSearch that commits one fault after another, as scripted."""

import http.client
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FaultProxy:
    """Forwards to *url*; each bulk request takes the next fault from ``faults``, and is forwarded when there is none.

    A fault is a function of the handler and the request's body that answers itself, or returns False to go on.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self.target = (parts.hostname, parts.port)
        self.faults = deque()
        self.bulk_requests = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if "_bulk" in self.path:
                    proxy.bulk_requests.append(body)
                    if proxy.faults and proxy.faults.popleft()(self, body) is not False:
                        return
                self.answer(*proxy.forward(self.command, self.path, self.headers, body))

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do

            def answer(self, status, body, content_type="application/json"):
                self.send_response(status)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                """Stay quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def forward(self, method, path, headers, body):
        connection = http.client.HTTPConnection(*self.target, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": headers.get("content-type", "application/json")})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self, status, body=b"{}", content_type="application/json"):
        """Answer without asking the server."""
        return lambda handler, _: handler.answer(status, body, content_type)

    def store_then_drop(self, handler, body):
        """Let the server store everything, then break the connection instead of answering."""
        self.forward(handler.command, handler.path, handler.headers, body)
        handler.close_connection = True
        handler.connection.close()

    def drop(self, handler, _):
        """Break the connection without asking the server."""
        handler.close_connection = True
        handler.connection.close()

    def items(self, status, error_type, *, every=2):
        """Pass on only some of the events; answer the others with *status*, inside a 200."""

        def fault(handler, body):
            lines = body.split(b"\n")[:-1]
            pairs = [lines[index : index + 2] for index in range(0, len(lines), 2)]
            passed = [pair for index, pair in enumerate(pairs) if index % every]
            items = iter([])
            if passed:
                _, answer = self.forward(
                    handler.command,
                    handler.path,
                    handler.headers,
                    b"".join(b"\n".join(pair) + b"\n" for pair in passed),
                )
                items = iter(json.loads(answer)["items"])
            refused = {"create": {"status": status, "error": {"type": error_type, "reason": "scripted"}}}
            handler.answer(
                200,
                json.dumps(
                    {"items": [next(items) if index % every else refused for index in range(len(pairs))]}
                ).encode(),
            )

        return fault

    def too_large(self, limit):
        """Answer 413 to a body over *limit* bytes, for ever."""

        def fault(handler, body):
            if len(body) > limit:
                self.faults.append(fault)
                return handler.answer(413, b"{}")
            self.faults.append(fault)
            return False

        return fault
