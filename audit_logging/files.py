"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNFINISHED = ".audit-logging-unfinished-"
"""What the name of a file begins with that is being written."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the name *path* when all of it is written, and is safe from power loss then.

    Its owner alone may read it. Whatever had the name before is there until then, and stays when an error comes first.
    What processes left in that directory that were killed in the middle of this is removed.

    Raises:
        OSError: The disk refuses, or *path* is something other than a file, such as a device.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with whole_file(path) as file:
        ...     _ = file.write(b"all of it")
        >>> path.read_bytes(), oct(path.stat().st_mode & 0o777)
        (b'all of it', '0o600')
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is something other than a file", str(path))
    for _ in abandoned(path.parent, UNFINISHED):
        pass
    descriptor, name = _new_file(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a :func:`whole_file` that holds *data*."""
    with whole_file(path) as file:
        file.write(data)


def _new_file(directory: Path) -> tuple[int, str]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=directory)
        if hold(descriptor):
            return descriptor, name
        os.close(descriptor)


def hold(descriptor: int) -> bool:
    """Keep an open file from being :func:`abandoned` while anybody has it open; tell whether it still has a name.

    Where a file system knows no locks, nothing there is held, and nothing is found abandoned either.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return os.fstat(descriptor).st_nlink > 0


def abandoned(directory: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield the files of ours in *directory*, so named, that nobody holds any more, and remove each after that."""
    paths: list[Path] = []
    with contextlib.suppress(OSError):  # it is not there yet, or not ours to read
        paths = [path for path in directory.iterdir() if path.name.startswith(prefix) and path.name.endswith(suffix)]
    for path in paths:
        with contextlib.suppress(OSError):  # held, another's, or gone meanwhile
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    yield path
                    path.unlink()
            finally:
                os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory safe from power loss."""
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
