"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the name *path* when all of it is written, and is safe from power loss then.

    Its owner alone may read it. Whatever had the name before is there until then, and stays when an error comes first.

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
    descriptor, name = tempfile.mkstemp(prefix=".audit-logging-", dir=path.parent)
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


def sync_directory(path: Path) -> None:
    """Make the names in a directory safe from power loss."""
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
