"""The one background thread that moves events from the spool to OpenSearch."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from audit_logging.errors import AuditError
from audit_logging.opensearch.client import Client
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.shipping.delivery import Delivery, StoppedError
from audit_logging.spool.reader import SpoolReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from audit_logging.settings import Settings
    from audit_logging.spool.directory import SpoolDirectory, WriterDirectory

ADOPTION_SECONDS = 5.0
"""How often to look for the spools of processes that died."""

_LAST_SECONDS = 1.0
"""How long a thread that was told to stop may take to notice; it is never inside a request for good."""

_log = logging.getLogger("audit_logging")


class Shipper:
    """Ships one writer's spool, and adopts those of dead processes beside it.

    An event is safe once it is on disk; this only moves it on, so it may be stopped at any moment.

    Args:
        settings: Where to ship, and how large and how long a batch may become.
        directory: The spool directory.
        own: The spool of this process; None for one that only helps others.
        on_acknowledged: Called from the thread whenever *own* has moved on, with the bytes that became free and the
            sequences that were refused with their reasons.
    """

    def __init__(
        self,
        settings: Settings,
        directory: SpoolDirectory,
        own: SpoolReader | None,
        on_acknowledged: Callable[[int, Mapping[int, str]], None],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._own = own
        self._on_acknowledged = on_acknowledged
        self._finishing = threading.Event()
        self._stopping = threading.Event()
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="audit-logging-shipper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to ship."""
        if not self._work.is_set():
            self._work.set()

    def hurry(self) -> None:
        """Say that somebody waits: ship without waiting for a batch to fill."""
        self._hurry.set()
        self._work.set()

    def finish(self, timeout: float) -> None:
        """Ship what there is, the spools of the dead included, and end within about *timeout* seconds."""
        self._finishing.set()
        self.hurry()
        if self._thread is not None:
            self._thread.join(timeout)
            self._stopping.set()
            self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        try:
            client = Client(self._settings)
            try:
                self._ship_until_finished(client)
            finally:
                client.close()
        except StoppedError:
            pass
        except Exception:  # noqa: BLE001 - the thread ends either way; this says so
            _log.exception("The audit shipper ended by a mistake of its own; events stay in %s", self._directory.path)

    def _ship_until_finished(self, client: Client) -> None:
        dead_letters = DeadLetters(self._directory.dead_letters)
        delivery = Delivery(client, self._settings.stream, dead_letters, self._stopping.wait)
        next_adoption = time.monotonic()
        while not self._stopping.is_set():
            finishing = self._finishing.is_set()
            if self._own is not None:
                self._drain(self._own, delivery)
            if finishing or time.monotonic() >= next_adoption:
                self._ship_dead_writers(delivery)
                next_adoption = time.monotonic() + ADOPTION_SECONDS
            if finishing:
                return
            self._pause_until_work()

    def _pause_until_work(self) -> None:
        if self._work.wait(ADOPTION_SECONDS):
            self._hurry.wait(self._settings.batch_seconds)
        self._work.clear()
        self._hurry.clear()

    def _drain(self, reader: SpoolReader, delivery: Delivery) -> None:
        """Ship what *reader* has, batch by batch, until there is no more."""
        writer = reader.directory.name
        while not self._stopping.is_set() and (records := reader.read(self._settings.batch_max_bytes)):
            set_aside = delivery.deliver(records, writer)
            freed = reader.acknowledge(records[-1].sequence)
            if reader is self._own:
                self._on_acknowledged(freed, set_aside)

    def _ship_dead_writers(self, delivery: Delivery) -> None:
        """Adopt the spools of dead writers, ship them and remove them."""
        for directory in self._directory.adopt():
            try:  # one that cannot be read must not keep the others
                self._ship_dead(directory, delivery)
            except AuditError as error:
                directory.release()
                if isinstance(error, StoppedError):
                    raise
                _log.error("The spool %s cannot be shipped: %s", directory.path, error)

    def _ship_dead(self, directory: WriterDirectory, delivery: Delivery) -> None:
        reader = SpoolReader(directory.path)
        self._drain(reader, delivery)
        if self._stopping.is_set():
            directory.release()
        else:
            directory.remove()
