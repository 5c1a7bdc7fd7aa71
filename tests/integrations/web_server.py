"""A real uvicorn on the loopback address, for what only a server does: threads, sockets, clients that hang up."""

import socket
import threading
from contextlib import contextmanager

import uvicorn

SECONDS = 10


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config):
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.listening.set()


@contextmanager
def serve(app, **options):
    """Run *app* and yield its address."""
    server = _Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", proxy_headers=False, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.listening.wait(SECONDS)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


class Ended:
    """Wraps an application and tells when a request has ended in it."""

    def __init__(self, app):
        self.app, self.event = app, threading.Event()

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        finally:
            self.event.set()

    def wait(self):
        assert self.event.wait(SECONDS)


def connect(address, request):
    """Open a connection and send the beginning of a request on it."""
    connection = socket.create_connection(address, SECONDS)
    connection.sendall(request)
    return connection
