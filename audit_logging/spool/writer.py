"""The appending end of a writer's spool."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from audit_logging.errors import SpoolWriteError
from audit_logging.spool.segment import encode_header, encode_record, segment_name

if TYPE_CHECKING:
    from pathlib import Path


class SpoolWriter:
    """Appends records to the segments of one writer.

    Appending is not thread-safe (it happens under the writer's lock); :meth:`sync` is.

    Args:
        directory: The writer's directory, which is locked by this process.
        writer: The writer's id.
        segment_max_bytes: Size at which a segment is closed and the next begun.
    """

    def __init__(self, directory: Path, writer: str, segment_max_bytes: int) -> None:
        self._directory = directory
        self._writer = writer
        self._segment_max_bytes = segment_max_bytes
        self._descriptor = -1
        self._size = 0
        self._sequence = 0
        self._sync_lock = threading.Lock()
        self._synced = 0
        self.bytes_appended = 0

    def append(self, payload: bytes) -> None:
        """Write one record whole, or leave the segment as it was.

        Raises:
            SpoolWriteError: The disk refused.
        """
        record = encode_record(payload)
        size = len(record)
        try:
            if self._size >= self._segment_max_bytes or self._descriptor < 0:
                self._begin_segment()
            if (written := os.write(self._descriptor, record)) < size:
                self._write_rest(record, written)
        except OSError as error:
            raise SpoolWriteError(
                f"The spool {self._directory} cannot be written ({error.strerror}): make room or give another"
                " spool_dir. The event was not accepted.",
                event_id=None,
                state="refused",
            ) from error
        self._sequence += 1
        self._size += size
        self.bytes_appended += size

    def _write_rest(self, record: bytes, written: int) -> None:
        try:
            _write_all(self._descriptor, record[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise

    def _begin_segment(self) -> None:
        if self._descriptor >= 0:
            self.sync(self._sequence)
        path = self._directory / segment_name(self._sequence + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        header = encode_header(self._writer, self._sequence + 1)
        try:
            _write_all(descriptor, header)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        with self._sync_lock:
            previous, self._descriptor = self._descriptor, descriptor
            if previous >= 0:
                os.close(previous)
        self._size = len(header)
        self.bytes_appended += len(header)

    def sync(self, sequence: int) -> None:
        """Return when every record up to *sequence* is on the disk itself (fdatasync).

        Threads that wait at the same time share one call: whoever finds its record already synced returns at once.
        """
        with self._sync_lock:
            if self._synced >= sequence:
                return
            reached = self._sequence
            os.fdatasync(self._descriptor)
            self._synced = reached

    def close_inherited(self) -> None:
        """Close the file in a forked child, whatever the parent's threads were doing with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def close(self) -> None:
        """Close the segment. Nothing can be appended afterwards."""
        with self._sync_lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*: a disk that fills up takes a part first and says why when asked for the rest."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])
