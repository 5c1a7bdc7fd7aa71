"""This process as a writer: its chain, its spool, and the lock under which an event gets its place."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from audit_logging.errors import SpoolFullError
from audit_logging.events.bounds import MAX_DOCUMENT_BYTES
from audit_logging.integrity.seal import Chain, new_writer_id
from audit_logging.spool.directory import SpoolDirectory, WriterDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.writer import SpoolWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from audit_logging.events.document import Document
    from audit_logging.settings import Settings


class Writer:
    """One process's emitting end. Its directory is made with the first event.

    Thread-safe. A forked child must make a writer of its own and :meth:`abandon` this one.
    """

    def __init__(self, settings: Settings) -> None:
        self.directory = SpoolDirectory(settings.spool_path, settings.stream)
        self._settings = settings
        self._changed = threading.Condition(threading.Lock())
        self._chain = Chain(new_writer_id())
        self._home: WriterDirectory | None = None
        self._spool: SpoolWriter | None = None
        self._bytes_freed = 0
        self._awaited: dict[int, str] = {}
        self.reader: SpoolReader | None = None

    @property
    def id(self) -> str:
        """The writer's id, which names its directory in the spool."""
        return self._chain.writer

    @property
    def sequence(self) -> int:
        """The number of the last event."""
        return self._chain.sequence

    @property
    def waiting(self) -> int:
        """How many events are not acknowledged yet."""
        return self._chain.sequence - (self.reader.acknowledged if self.reader else 0)

    def append(self, document: Document, *, awaited: bool = False) -> int:
        """Seal *document*, write it and return its sequence.

        Args:
            document: What is to be written.
            awaited: Its fate will be asked for with :meth:`wait_for`.

        Raises:
            SpoolFullError: There was no room for as long as the call may block.
            SpoolWriteError: The disk refused.
        """
        with self._changed:
            spool = self._spool or self._begin()
            size = len(document.canonical)
            if not self._has_room(size) and not self._changed.wait_for(
                lambda: self._has_room(size), self._settings.spool_block_seconds
            ):
                raise SpoolFullError(
                    f"The spool {self.directory.path} is full ({self._settings.spool_max_bytes} bytes,"
                    f" {self.waiting} events waiting). Is OpenSearch away? Raise spool_max_bytes or make it reachable."
                    " The event was not accepted.",
                    event_id=document.event_id,
                    state="refused",
                )
            sealed = self._chain.seal(document.canonical, document.splice)
            spool.append(sealed.payload)
            self._chain.advance(sealed)
            if awaited:
                self._awaited[sealed.sequence] = ""
            return sealed.sequence

    @property
    def has_room(self) -> bool:
        """Whether the next event will not have to wait for room, however large it is."""
        return self._spool is None or self._has_room(MAX_DOCUMENT_BYTES)

    def _has_room(self, size: int) -> bool:
        assert self._spool is not None
        return self._spool.bytes_appended - self._bytes_freed + size <= self._settings.spool_max_bytes

    def _begin(self) -> SpoolWriter:
        self._home = self.directory.create(self._chain.writer)
        self.reader = SpoolReader(self._home.path)
        self._spool = SpoolWriter(self._home.path, self._chain.writer, self._settings.segment_max_bytes)
        return self._spool

    def sync(self, sequence: int) -> None:
        """Return when the event is on the disk itself."""
        assert self._spool is not None
        self._spool.sync(sequence)

    def on_acknowledged(self, bytes_freed: int, set_aside: Mapping[int, str]) -> None:
        """Note that shipping moved on: what became free, and which events were refused."""
        with self._changed:
            self._bytes_freed += bytes_freed
            for sequence in self._awaited.keys() & set_aside.keys():
                self._awaited[sequence] = set_aside[sequence]
            self._changed.notify_all()

    def wait_until_acknowledged(self, sequence: int, timeout: float) -> bool:
        """Wait until OpenSearch has everything up to *sequence*; true when it came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_acknowledged(sequence), timeout)

    def wait_for(self, sequence: int, timeout: float) -> str | None:
        """Return what became of an awaited event: empty when indexed, else why not; None when time ran out."""
        try:
            return self._awaited[sequence] if self.wait_until_acknowledged(sequence, timeout) else None
        finally:
            with self._changed:
                del self._awaited[sequence]

    def _is_acknowledged(self, sequence: int) -> bool:
        return self.reader is not None and self.reader.acknowledged >= sequence

    def close(self) -> int:
        """Give the spool up, remove it when all is acknowledged, and return how many events remain."""
        with self._changed:
            remaining = self.waiting
            if self._spool is not None and self._home is not None:
                self._spool.close()
                if remaining:
                    self._home.release()
                else:
                    self._home.remove()
            self._spool = self._home = None
            return remaining

    def abandon(self) -> None:
        """Close what a forked child inherited, without touching what the parent goes on using."""
        if self._spool is not None and self._home is not None:
            self._home.release()
            self._spool.close_inherited()
