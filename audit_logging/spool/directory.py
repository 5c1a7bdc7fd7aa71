"""The spool directory: one subdirectory a writer, with two locks.

The writer's own lock is held while its process lives, so that nobody takes what it still writes for a dead one's. The
shipping lock is held by whoever ships it: the process itself, one that adopted it, or a sidecar.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import time
from typing import TYPE_CHECKING

from audit_logging.errors import SettingsError, SpoolWriteError
from audit_logging.interrupts import is_interrupt, suppress
from audit_logging.private import check_private_directory, make_directory
from audit_logging.settings import DEFAULT_STREAM
from audit_logging.spool.closed import DEAD_LETTERS, ClosedWriters
from audit_logging.spool.cursor import Cursor
from audit_logging.spool.lock import FileLock
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.sent import Sent
from audit_logging.spool.stock import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from audit_logging.settings import Settings

LOCK = "lock"
SHIPPING = "shipping"
_WRITER = re.compile(r"[0-9a-f]{20}")
_LEFT = re.compile(r"\.[0-9a-f]{20}\.(new|done)")
_NEW, _DONE = ".new", ".done"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

BIRTH_SECONDS = 3600.0
"""How old a directory must be that has no lock yet, to be taken for one whose process died before it had one."""

_log = logging.getLogger("audit_logging")


class WriterDirectory:
    """One writer's directory and what this process holds of it, until :meth:`release`.

    A writer holds its own lock, and the shipping lock when it ships itself. Another process may ship while it holds
    the shipping lock, and remove the directory when it could take the writer's over as well.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._life = FileLock()
        self._shipping = FileLock()
        self._former: list[FileLock] = []

    @property
    def writer(self) -> str:
        """The writer's id, which is the directory's name."""
        return self.path.name

    def take_over(self) -> bool:
        """Take the writer's own lock: true when its process is dead, so that nothing more is written here.

        Whoever ships asks first and reads to the end afterwards; only then has it read everything.
        """
        return self._life.take(self.path / LOCK)

    def take_shipping(self) -> bool:
        """Take the shipping lock; true when nobody else ships this writer."""
        return self._shipping.take(self.path / SHIPPING)

    def lock_new(self) -> None:
        """Make both locks and take them.

        Raises:
            OSError: The disk refused, or another process took this for what a dead one left.
        """
        if not (
            self._life.take(self.path / LOCK, create=True) and self._shipping.take(self.path / SHIPPING, create=True)
        ):
            raise BlockingIOError(None, "another process took the new writer for a dead one")

    def missing_locks(self) -> list[str]:
        """Return the names of the locks whose files were removed, or replaced while this process holds them.

        Raises:
            OSError: That cannot be found out.
        """
        locks = {LOCK: self._life, SHIPPING: self._shipping}
        return [name for name, lock in locks.items() if not lock.is_at(self.path / name)]

    def restore_locks(self) -> None:
        """Make the missing locks again, and take them.

        Raises:
            OSError: The disk refused, or another process has taken this writer over.
        """
        for name in self.missing_locks():
            former = self._life if name == LOCK else self._shipping
            if not former.held:  # it is left to a sidecar
                _write_private(self.path / name, "")
                continue
            fresh = FileLock()
            if not (fresh.take(self.path / name) or fresh.take(self.path / name, create=True)):
                raise BlockingIOError(None, "another process has taken this writer over")
            # The former stays locked where its file was moved: nobody may take what is there for a dead writer's.
            self._former.append(former)
            if name == LOCK:
                self._life = fresh
            else:
                self._shipping = fresh

    def leave_shipping(self) -> None:
        """Give up the shipping lock alone."""
        self._shipping.release()

    def release(self) -> None:
        """Give up the locks; whoever comes next may go on."""
        self._shipping.release()
        self._life.release()
        while self._former:
            self._former.pop().release()

    def remove(self) -> None:
        """Delete the directory, of which everything is acknowledged, and give up the locks, both of which are held."""
        assert self._life.held
        assert self._shipping.held
        ClosedWriters(self.path.parent).note(self.path)
        # Renamed first: what is killed in the middle of deleting must not leave half a writer.
        with suppress(OSError):
            done = self.path.rename(self.path.with_name(f".{self.writer}{_DONE}"))
            shutil.rmtree(done, ignore_errors=True)
        self.release()


def check_home(settings: Settings) -> None:
    """Return unless others could put another spool in the place of the one under `home`.

    Raises:
        SettingsError: They could: `home`, or a directory between it and the spool, is writable by others.
    """
    if settings.spool_dir is not None:
        return
    try:
        check_private_directory(settings.spool_path, within=settings.home)
    except OSError as error:
        raise SettingsError(
            f"The spool {settings.spool_path} cannot be used with this home (AUDIT_HOME): {error.strerror}."
        ) from error


class SpoolDirectory:
    """The directory under which every writer on this host, of this application, has its own.

    Args:
        path: It is made, private, when the first writer needs it.
        stream: The data stream that events written here are for. Those of another stream are left to its own.
    """

    def __init__(self, path: Path, stream: str = DEFAULT_STREAM) -> None:
        self.path = path
        self.stream = stream
        self.unreadable: dict[Path, str] = {}
        """What could not be opened when writers were last looked for, and why."""

    def create(self, writer: str, *, ships: bool = True) -> WriterDirectory:
        """Make the directory of a new writer.

        Args:
            writer: Its id.
            ships: The writer's process ships it itself; otherwise the shipping lock is left to a sidecar.

        Raises:
            SettingsError: The spool directory cannot be made or written, or is not private.
            SpoolWriteError: The disk is full.
        """
        # It gets its name when it is locked: nobody may take a writer that is being born for a dead one.
        unborn = self.path / f".{writer}{_NEW}"
        born = WriterDirectory(unborn)
        try:
            make_directory(self.path)
            self.check()
            unborn.mkdir(mode=0o700)
            self.name_stream(unborn)
            Cursor.create(unborn)
            Sent.create(unborn)
            Refusals.create(unborn)
            born.lock_new()
            born.path = unborn.rename(self.path / writer)
        except BaseException as error:
            born.release()
            shutil.rmtree(unborn, ignore_errors=True)
            if isinstance(error, OSError) and not is_interrupt(error):
                raise self._explain(error) from error
            raise
        if not ships:
            born.leave_shipping()
        return born

    def name_stream(self, home: Path) -> None:
        """Write down which stream the events in a writer's directory are for.

        Raises:
            OSError: The disk refused.
        """
        _write_private(home / STREAM, self.stream)

    def check(self) -> None:
        """Return when the directory is this user's alone to write, or is not there yet.

        Raises:
            SettingsError: It cannot be examined, is a link, another user's, or open to others. Whoever may write into
                it could put events in the place of others, or lead what is written elsewhere.
        """
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._explain(error) from error
        user = os.geteuid()
        if stat.S_ISLNK(found.st_mode):
            why = f"is a symbolic link, which others may turn: give where it leads ({self.path.resolve()})"
        elif found.st_uid != user:
            # A volume belongs to root, and lets its pod's users write: what is made below it is theirs.
            other = (
                "give a directory below it" if os.access(self.path, os.W_OK) else "run as that user, or give another"
            )
            why = f"belongs to another user ({found.st_uid}, this is {user}): {other}"
        elif found.st_mode & _WRITABLE_BY_OTHERS:
            why = f"can be written by others: run `chmod 700 {self.path}`, or give another"
        else:
            return
        raise SettingsError(f"The spool directory {self.path} {why} in spool_dir (AUDIT_SPOOL_DIR).")

    def _explain(self, error: OSError) -> SettingsError | SpoolWriteError:
        if isinstance(error, PermissionError):
            return SettingsError(
                f"The spool directory {self.path} cannot be written by this user: give another in spool_dir"
                " (AUDIT_SPOOL_DIR), on a disk that outlives the process."
            )
        if isinstance(error, FileExistsError | NotADirectoryError):
            return SettingsError(f"The spool directory {self.path} is a file: give another in spool_dir.")
        remedy = "" if error.errno == errno.EROFS else "make room or "
        return SpoolWriteError(
            f"The spool directory {self.path} cannot be used ({error.strerror}): {remedy}give another in spool_dir"
            " (AUDIT_SPOOL_DIR), on a disk that outlives the process. The event was not accepted.",
            event_id=None,
            state="refused",
        )

    def writers(self) -> list[Path]:
        """Return the directories of all writers, living and dead; none where there is no spool directory yet.

        Raises:
            OSError: The spool directory cannot be read.
        """
        try:
            return sorted(path for path in self.path.iterdir() if _WRITER.fullmatch(path.name))
        except FileNotFoundError:
            return []

    def adopt(self) -> Iterator[WriterDirectory]:
        """Yield the directories of dead writers of this stream that nobody ships; both locks are this process's now."""
        # The writer's lock first: the shipping lock of a living writer is a sidecar's, even for a moment.
        return self._take(lambda directory: directory.take_over() and directory.take_shipping())

    def claim(self) -> Iterator[WriterDirectory]:
        """Yield the directories of this stream that nobody ships, the living among them; their shipping is ours now.

        Example:
            What lives goes on writing; what is dead may be removed, once it was read to its end::

                for directory in spool.claim():
                    final = directory.take_over()
                    ship(SpoolReader(directory.path))
                    directory.remove() if final else directory.release()
        """
        return self._take(WriterDirectory.take_shipping)

    def _take(self, take: Callable[[WriterDirectory], bool]) -> Iterator[WriterDirectory]:
        self._sweep()
        try:
            writers = self.writers()
            self.unreadable.pop(self.path, None)
        except OSError as error:
            self._complain(self.path, error)
            return
        for path in writers:
            directory = WriterDirectory(path)
            try:  # it may have gone, once its last owner was done with it
                taken = _stream_of(path) == self.stream and take(directory) and path.exists()
                if not taken:
                    _require_complete(path)
                self.unreadable.pop(path, None)
            except OSError as error:
                taken = False
                self._complain(path, error)
            if taken:
                yield directory
            else:
                directory.release()

    def _complain(self, path: Path, error: OSError) -> None:
        if path not in self.unreadable:
            _log.error("The spool %s cannot be opened (%s), so it is not shipped.", path, error.strerror)
        self.unreadable[path] = f"The spool {path} cannot be opened ({error.strerror})."

    def _sweep(self) -> None:
        """Delete what processes were killed over while they were making or removing it."""
        with suppress(OSError):  # gone meanwhile, or another sweeps
            for path in self.path.iterdir():
                if _LEFT.fullmatch(path.name) and (path.suffix == _DONE or _is_stillborn(path)):
                    shutil.rmtree(path, ignore_errors=True)

    @property
    def dead_letters(self) -> Path:
        """Where refused events are kept."""
        return self.path / DEAD_LETTERS


def _is_stillborn(unborn: Path) -> bool:
    """Whether the process that was making a writer is dead: its lock is free, and has been for long enough.

    One that lives holds the lock of what it makes, but for the moment before it has made the lock.
    """
    if time.time() - unborn.stat().st_mtime < BIRTH_SECONDS:
        return False
    lock = FileLock()
    is_free = not (unborn / LOCK).exists() or lock.take(unborn / LOCK)
    lock.release()
    return is_free


def _require_complete(path: Path) -> None:
    """Return unless files are missing without which nobody can take a writer's directory.

    Raises:
        FileNotFoundError: One is missing. A process that lives restores it within a second or two.
    """
    for name in (STREAM, LOCK, SHIPPING):
        if not (path / name).exists() and path.exists():
            raise FileNotFoundError(errno.ENOENT, f"its file `{name}` is missing", str(path / name))


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _stream_of(directory: Path) -> str | None:
    """Return the stream that a writer's events are for; None when its directory is gone meanwhile."""
    try:
        return (directory / STREAM).read_text()
    except FileNotFoundError:
        return None


def require_trusted_spool(settings: Settings) -> None:
    """Return when the spool directory can be trusted, or is not there yet.

    Raises:
        SettingsError: Others could have put events there, or another directory in its place.
    """
    check_home(settings)
    SpoolDirectory(settings.spool_path).check()
