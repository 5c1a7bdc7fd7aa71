"""A proxy in front of a real OpenSearch that commits one fault after another, as scripted or by chance."""

import http.client
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits for a delayed acknowledgement

    def do(self):
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        proxy.paths.append(f"{self.command} {self.path}")
        if (status := proxy.refusal(self)) is not None:
            error = {"type": "security_exception", "reason": "no permissions"}
            self.answer(status, json.dumps({"error": error, "status": status}).encode())
            return
        if "/_bulk" in self.path:
            proxy.bulk_requests.append(body)
            fault = proxy.next_fault()
            if fault is not None and fault(self, body) is not False:
                return
        self.answer(*proxy.forward(self.command, self.path, self.headers, body))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do

    def answer(self, status, body, content_type="application/json", headers=()):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self):
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_):
        """Stay quiet."""

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ValueError):  # the other side hung up, or we did
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (ConnectionError, ValueError):
            self.close_connection = True


class FaultProxy:
    """Forwards to *url*; each bulk request takes the next fault from ``faults``, and is forwarded when there is none.

    A fault is a function of the handler and the request's body that answers itself, or returns False to go on.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self.target = (parts.hostname, parts.port)
        self.faults = deque()
        self.chance = None
        """Called for a fault, or None, when ``faults`` is empty."""
        self.forbidden = ()
        """Parts of paths that are answered with 403, as a role that may not look would be."""
        self.authorization = None
        """The only ``Authorization`` that is let through, if there is one."""
        self.bulk_requests = []
        self.paths = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.proxy = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def refusal(self, handler):
        if self.authorization is not None and handler.headers.get("authorization") != self.authorization:
            return 401
        return 403 if any(part in handler.path for part in self.forbidden) else None

    def next_fault(self):
        try:
            return self.faults.popleft()
        except IndexError:
            return self.chance() if self.chance is not None else None

    def forward(self, method, path, headers, body):
        connection = http.client.HTTPConnection(*self.target, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": headers.get("content-type", "application/json")})
            response = connection.getresponse()
            return response.status, response.read()
        except (ConnectionError, http.client.HTTPException):
            return 502, b"<html>bad gateway</html>", "text/html"
        finally:
            connection.close()

    def status(self, status, body=b"{}", content_type="application/json", headers=()):
        """Answer without asking the server."""
        return lambda handler, _: handler.answer(status, body, content_type, headers)

    def store_then(self, *actions):
        """Let the server store everything, do something, then break the connection instead of answering."""

        def fault(handler, body):
            self.forward(handler.command, handler.path, handler.headers, body)
            for action in actions:
                action()
            handler.hang_up()

        return fault

    def store_then_status(self, status, body=b"<html>gateway timeout</html>", content_type="text/html"):
        """Let the server store everything, then answer something else."""

        def fault(handler, request):
            self.forward(handler.command, handler.path, handler.headers, request)
            handler.answer(status, body, content_type)

        return fault

    def store_then_cut(self, handler, body):
        """Let the server store everything, then break off in the middle of the answer."""
        _, answer = self.forward(handler.command, handler.path, handler.headers, body)
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer[: len(answer) // 2])
        handler.wfile.flush()
        handler.hang_up()

    def delay(self, seconds):
        """Answer late, and rightly."""

        def fault(handler, _):
            time.sleep(seconds)  # the delay is the fault
            return False

        return fault

    def drop(self, handler, _):
        """Break the connection without asking the server."""
        handler.hang_up()

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
            self.faults.append(fault)
            if len(body) > limit:
                return handler.answer(413, b"<html>too large</html>", "text/html")
            return False

        return fault

    def too_many(self, handler, body):
        """Answer 413 unless it is one event alone."""
        return handler.answer(413, b"{}") if body.count(b"\n") > 2 else False

    def anything(self, random, rate, *, late_seconds):
        """Commit faults of every kind by chance, *rate* of the time; the same ones for the same *random*."""
        kinds = [
            lambda: self.status(503),
            lambda: self.status(429, headers=[("retry-after", "0")]),
            lambda: self.status(401),
            lambda: self.status(502, b"<html>bad gateway</html>", "text/html"),
            lambda: self.status(200, b"<html>welcome</html>", "text/html"),
            lambda: self.too_many,
            lambda: self.items(429, "rejected_execution_exception", every=random.choice([1, 2, 3])),
            lambda: self.items(503, "unavailable_shards_exception", every=random.choice([1, 2, 3])),
            lambda: self.items(400, "validation_exception", every=random.choice([1, 2, 3])),
            self.store_then,
            lambda: self.store_then_status(504),
            lambda: self.store_then_cut,
            lambda: self.delay(late_seconds),
            lambda: self.drop,
        ]
        lock = threading.Lock()

        def chance():
            with lock:
                return random.choice(kinds)() if random.random() < rate else None

        self.chance = chance
