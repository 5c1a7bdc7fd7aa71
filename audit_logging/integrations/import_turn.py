"""Whose turn it is to import: one process at a time, and not before the one that died is told to its end.

spool directory/
    import-<stream>.lock     locked by the import that runs; holds the id of its writer
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from typing_extensions import Self

from audit_logging.capture.sidecar import sidecar
from audit_logging.errors import OpenSearchError, SettingsError
from audit_logging.private import make_directory
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.lock import FileLock

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from audit_logging.settings import Settings

_POLL_SECONDS: Final = 0.1


class ImportTurn:
    """Holds a stream's turn to import, from entry to exit of a ``with`` block or to the process's death.

    Args:
        spool: The spool directory; made where there is none.
        stream: The stream to import into.
    """

    def __init__(self, spool: Path, stream: str) -> None:
        self._spool = SpoolDirectory(spool, stream)
        self._path = spool / f"import-{stream}.lock"
        self._lock = FileLock()

    def __enter__(self) -> Self:
        spool = self._spool.path
        try:
            make_directory(spool)
            self._spool.check()
            self._path.touch(mode=0o600)
            is_free = self._lock.take(self._path)
        except OSError as error:
            raise SettingsError(
                f"The spool directory {spool} cannot be used ({error.strerror}): give another in spool_dir"
                " (AUDIT_SPOOL_DIR)."
            ) from error
        if not is_free:
            raise SettingsError(f"Another import works with the spool {spool}: wait until it has ended.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def note_writer(self, writer: str) -> None:
        """Leave word for the next import of which writer's events this one emits."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, writer.encode("ascii"), 0)
        finally:
            os.close(descriptor)

    def ship_left_behind(self, settings: Settings, timeout: float) -> None:
        """Ship what dead processes left in the spool: events of an import that was killed may be among it.

        Raises:
            OpenSearchError: It could not be shipped within *timeout* seconds, so nobody knows what is missing.
        """
        deadline = time.monotonic() + timeout
        shipper = sidecar(settings)
        shipper.start()
        shipper.finish(timeout)
        # Another process may be shipping the dead import's events at this moment, and hold the lock on them.
        last = self._spool.path / (self._path.read_text("ascii", "replace") or self._path.name)
        while last.is_dir() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if last.is_dir() or self._has_dead():
            raise OpenSearchError(
                f"What earlier processes left in the spool {self._spool.path} did not reach OpenSearch within"
                f" {timeout:g} seconds, and may be of this file. Nothing was imported: look at the warnings above, and"
                " import again."
            )

    def _has_dead(self) -> bool:
        found = False
        for directory in self._spool.adopt():
            directory.release()
            found = True
        return found
