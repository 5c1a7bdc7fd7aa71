"""Restores what was removed of a living writer's spool, from the files that its process still has open.

A deploy script, a cleaner of ``/tmp`` or an administrator removes or moves a spool directory, or files in it. The
kernel keeps the segments as long as they are open here, so what OpenSearch has not acknowledged is copied from there
into a directory of the same name. Reading, shipping and writing continue with the copies.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from audit_logging.interrupts import suppress
from audit_logging.private import make_directory
from audit_logging.spool.cursor import CURSOR, Cursor
from audit_logging.spool.refusals import REFUSALS, Refusals
from audit_logging.spool.sent import SENT, Sent
from audit_logging.spool.stock import STREAM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from audit_logging.spool.directory import SpoolDirectory, WriterDirectory
    from audit_logging.spool.writer import Held, SpoolWriter


class Missing(NamedTuple):
    """What is missing of a writer's directory.

    Attributes:
        segments: The segments with pending events that were removed, replaced or truncated.
        files: The names of other files.
        locks: The names of the locks.
    """

    segments: Sequence[Held]
    files: Sequence[str]
    locks: Sequence[str]

    @property
    def names(self) -> list[str]:
        """The names of all of them."""
        return [*self.files, *self.locks, *(segment.name for segment in self.segments)]


def find_missing(home: WriterDirectory, spool: SpoolWriter, acknowledged: int) -> Missing:
    """Return what is missing of the writer's directory *home*. Takes some microseconds where nothing is.

    Must not run while the writer appends.

    Args:
        home: The writer's directory, whose locks this process holds.
        spool: What appends to it.
        acknowledged: The last acknowledged sequence; what is behind it needs no restoring.

    Raises:
        OSError: That cannot be found out, such as where a parent directory may not be entered.
    """
    files = [name for name in (CURSOR, SENT, REFUSALS, STREAM) if not _exists(home.path / name)]
    return Missing(spool.missing(acknowledged), files, home.missing_locks())


def restore(
    missing: Missing, directory: SpoolDirectory, home: WriterDirectory, spool: SpoolWriter, acknowledged: int
) -> tuple[range, ...]:
    """Restore what is *missing*, and return the sequences of the events that cannot be restored.

    Raises:
        SettingsError: The spool directory that is there now cannot be used.
        OSError: The disk refuses, or another process has taken the directory over.
    """
    make_directory(directory.path)
    directory.check()
    make_directory(home.path)
    lost = spool.restore(missing.segments, acknowledged)
    for name, create in (CURSOR, Cursor.create), (SENT, Sent.create), (REFUSALS, Refusals.create):
        if name in missing.files:
            with suppress(FileExistsError):  # the shipper has written to it meanwhile
                create(home.path)
    if CURSOR in missing.files:
        Cursor(home.path).advance(acknowledged)
    if SENT in missing.files:  # what may have been sent is not known any more, and so must be looked up
        Sent(home.path).note(spool.sequence, None)
    home.restore_locks()
    if STREAM in missing.files:  # last: without it no other process takes the directory for a dead writer's
        directory.name_stream(home.path)
    for path in (home.path, directory.path, directory.path.parent):
        _sync(path)
    return lost


def _exists(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        OSError: That cannot be found out.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _sync(directory: Path) -> None:
    with suppress(PermissionError):  # the parent may be another user's
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
