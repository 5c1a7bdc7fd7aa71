"""The requests of an export: one is under way while the answer before it is worked on."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import orjson

from audit_logging.errors import OpenSearchError
from audit_logging.query.exchange import checked, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from audit_logging.opensearch.client import Client
    from audit_logging.query.exchange import Answer, Request
    from audit_logging.query.protected import ProtectedFields
    from audit_logging.settings import Settings


class AheadRequests:
    """Sends requests on a thread of its own, and reads the answers on the caller's.

    Reading on the other thread as well would make both wait for the interpreter, dozens of times a page. Close it.
    """

    def __init__(self, client: Client, settings: Settings, protected: ProtectedFields | None) -> None:
        self._client = client
        self._settings = settings
        self._protected = protected
        self._pool = ThreadPoolExecutor(1, "audit-logging-export")
        self._begun: Future[Callable[[], bytes]] | None = None

    def ask(self, request: Request) -> bytes:
        """Return an answer as it came."""
        with self._explaining():
            return self._send(request)()

    def send(self, request: Request) -> Answer:
        """Return a checked answer, with what is protected as it is stored."""
        return checked(orjson.loads(self.ask(request)))

    def begin(self, request: Request) -> None:
        """Send a request whose answer :meth:`take` returns."""
        self._begun = self._pool.submit(self._send, request)
        # Let it be sent before this thread goes on to be busy; a mere yield may go to the thread that writes the file.
        time.sleep(0.0005)

    def take(self) -> bytes:
        """Return the answer to what was begun."""
        assert self._begun is not None
        begun, self._begun = self._begun, None
        with self._explaining():
            return begun.result()()

    def close(self) -> None:
        """Forget what is under way."""
        self._pool.shutdown()
        if self._begun is not None:
            with contextlib.suppress(OpenSearchError):
                self._begun.result()()

    def _send(self, request: Request) -> Callable[[], bytes]:
        body = request.body if self._protected is None else self._protected.asked(request.body)
        return self._client.begin(request.method, request.path, params=request.params, body=body)

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OpenSearchError as error:
            better = explained(error, self._settings)
            if better is error:
                raise
            raise better from error
