"""The spool directory: one subdirectory a writer, locked while that writer's process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from typing import TYPE_CHECKING

from audit_logging.errors import SettingsError, SpoolWriteError
from audit_logging.settings import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEAD_LETTERS = "dead-letters"
_LOCK = "lock"
_STREAM = "stream"
_WRITER = re.compile(r"[0-9a-f]{20}")


class WriterDirectory:
    """One writer's directory, locked by this process until :meth:`release`.

    Attributes:
        path: The directory.
        writer: The writer's id, which is its name.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.writer = path.name
        self._lock = lock

    def release(self) -> None:
        """Give up the lock; whoever comes next may ship what is here."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Delete the directory, of which everything is acknowledged, and the lock with it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


class SpoolDirectory:
    """The directory under which every writer on this host, of this application, has its own.

    Args:
        path: It is made, private, when the first writer needs it.
        stream: The data stream that events written here are for. Those of another stream are left to its own.
    """

    def __init__(self, path: Path, stream: str = DEFAULT_STREAM) -> None:
        self.path = path
        self.stream = stream

    def create(self, writer: str) -> WriterDirectory:
        """Make the directory of a new writer.

        Raises:
            SettingsError: The spool directory cannot be made or written.
            SpoolWriteError: The disk is full.
        """
        # It gets its name when it is locked: nobody may take a writer that is being born for a dead one.
        unborn = self.path / f".{writer}"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            unborn.mkdir(mode=0o700)
            _write_private(unborn / _STREAM, self.stream)
            lock = _try_lock(unborn)
            unborn.rename(self.path / writer)
        except PermissionError as error:
            raise SettingsError(
                f"The spool directory {self.path} cannot be written by this user: give another in spool_dir"
                " (AUDIT_SPOOL_DIR), on a disk that outlives the process."
            ) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise SettingsError(f"The spool directory {self.path} is a file: give another in spool_dir.") from error
        except OSError as error:
            raise SpoolWriteError(
                f"The spool directory {self.path} cannot be written ({error.strerror}): make room or give another in"
                " spool_dir. The event was not accepted.",
                event_id=None,
                state="refused",
            ) from error
        assert lock is not None
        return WriterDirectory(self.path / writer, lock)

    def writers(self) -> list[Path]:
        """Return the directories of all writers, living and dead."""
        with contextlib.suppress(OSError):
            return sorted(path for path in self.path.iterdir() if _WRITER.fullmatch(path.name))
        return []

    def adopt(self) -> Iterator[WriterDirectory]:
        """Yield the directories of dead writers of this stream, locked by this process now."""
        for path in self.writers():
            if _stream_of(path) != self.stream:
                continue
            lock = _try_lock(path)
            if lock is None:
                continue
            if path.exists():
                yield WriterDirectory(path, lock)
            else:  # its last owner was done with it
                os.close(lock)

    @property
    def dead_letters(self) -> Path:
        """Where refused events are kept."""
        return self.path / DEAD_LETTERS


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _stream_of(directory: Path) -> str | None:
    """Return the stream that a writer's events are for; None when its directory is gone meanwhile."""
    try:
        return (directory / _STREAM).read_text()
    except FileNotFoundError:
        return None


def _try_lock(directory: Path) -> int | None:
    """Return a descriptor that holds the directory's lock, or None when another process holds it.

    The lock goes with the process that took it: a forked child must close the descriptor, or it would keep the
    parent's lock after the parent's death.
    """
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
