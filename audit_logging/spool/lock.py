"""A lock on a file that lives and dies with the process that took it."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from audit_logging.forks import in_children, undivided

if TYPE_CHECKING:
    from pathlib import Path

# A forked child inherits every descriptor, and an flock stays while any copy of its descriptor is open: without this
# list a child would keep its parent's locks after the parent's death. Taking waits while a fork happens in another
# thread, so that no descriptor is locked before it is in the list.
_held: set[FileLock] = set()


class FileLock:
    """An exclusive flock, held by this process alone: not by children that it forks, nor by programs it starts.

    Python opens every file so that programs do not inherit it (PEP 446); what children inherit is closed in them, or,
    where they were forked behind Python's back, with the first use they make of the trail.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        self._process = 0

    @property
    def held(self) -> bool:
        """Whether this object holds its lock."""
        return self._descriptor >= 0

    def is_at(self, path: Path) -> bool:
        """Whether *path* leads to the file whose lock this object holds, or to any file while it holds none.

        Raises:
            OSError: That cannot be found out.
        """
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not self.held:
            return True
        own = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def take(self, path: Path, *, create: bool = False) -> bool:
        """Take the lock on *path* without waiting; true when this object holds it now, or did so before.

        Args:
            path: The file; false also when it is not there.
            create: Make it, private to this user.

        Raises:
            OSError: The file cannot be opened.
        """
        if self.held:
            return True
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0)
        with undivided():
            try:
                descriptor = os.open(path, flags, 0o600)
            except (FileNotFoundError, NotADirectoryError):
                if create:
                    raise
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return False
                raise
            self._descriptor, self._process = descriptor, os.getpid()
            _held.add(self)
        return True

    def release(self) -> None:
        """Give the lock up, if it is held."""
        with undivided():
            descriptor = self._give_away()
            # A child that was forked behind Python's back may have a copy of the descriptor. In such a child itself,
            # on the other hand, unlocking would take the lock from the parent.
            if descriptor >= 0 and self._process == os.getpid():
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            _close(descriptor)

    def _give_away(self) -> int:
        """Return the descriptor, which is to be closed: once, though a finalizer may release it in the middle."""
        _held.discard(self)
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


@in_children
def _close_inherited() -> None:
    for lock in list(_held):
        _close(lock._give_away())  # noqa: SLF001 - the same module


def is_locked(path: Path) -> bool:
    """Return whether anybody holds the lock on *path*. What is held is not touched; what is free stays free.

    The lock is asked for in common with others for a moment, which nobody notices but one who takes it just then, and
    takes it the next time.
    """
    with undivided():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
