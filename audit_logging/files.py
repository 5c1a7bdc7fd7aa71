"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE_BYTES: Final = 4 << 20
"""Longest line that is read: a document has 1 MiB at most, and twice that as text within its stand-in."""

MAX_FILE_BYTES: Final = 64 << 20
"""Largest file that is read whole, such as a manifest."""

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
            appear(descriptor, Path(name), path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


class TooLargeError(OSError):
    """A line or a file is larger than anything this library writes; ``strerror`` says which and how large."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(errno.EFBIG, why, str(path))


def bounded_lines(file: IO[bytes], path: str | Path) -> Iterator[bytes]:
    """Yield the lines of *file* with their ends, and never hold more than :data:`MAX_LINE_BYTES` of it.

    Args:
        file: Open for reading; what it decompresses is bounded too.
        path: Its name in an error.

    Raises:
        TooLargeError: A line is longer; the error gives its number.

    Example:
        >>> import io
        >>> list(bounded_lines(io.BytesIO(b"one\\ntwo"), "notes"))
        [b'one\\n', b'two']
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise TooLargeError(path, f"line {number:,} is longer than {MAX_LINE_BYTES:,} bytes")
        yield line


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; never waits, as opening a named pipe would.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path) -> bytes:
    """Return the content of a file that :func:`open_regular` opens.

    Raises:
        TooLargeError: It is larger than :data:`MAX_FILE_BYTES`.
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise TooLargeError(path, f"it is larger than {MAX_FILE_BYTES:,} bytes")
    return content


def names_in(directory: Path) -> list[str]:
    """Return the names in *directory*; none when it is not there.

    Raises:
        OSError: It cannot be read. ``Path.glob`` would say that it is empty.
    """
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []


def write_durably(path: Path, data: bytes) -> None:
    """Write a :func:`whole_file` that holds *data*."""
    with whole_file(path) as file:
        file.write(data)


def appear(descriptor: int, unfinished: Path, path: Path) -> None:
    """Give the open file *descriptor*, whose name is *unfinished*, the name *path*.

    Raises:
        OSError: It cannot, or another file has the name: another user who can write the directory put it there.
    """
    unfinished.replace(path)
    if not os.path.samestat(os.fstat(descriptor), path.lstat()):
        raise OSError(
            errno.EACCES, "another user put another file in its place: choose a directory of your own", str(path)
        )


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
