"""Where an export goes: a file that appears when it is complete, or standard output."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from audit_logging.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT: Final = "-"
COMPRESSION_LEVEL: Final = 6


class Output:
    """Counts and hashes what passes to a binary file.

    Attributes:
        path: The file, or None for standard output.
        bytes: Bytes written so far, compressed where they are.
    """

    def __init__(self, raw: IO[bytes], path: Path | None) -> None:
        self.path = path
        self.bytes = 0
        self._raw = raw
        self._hash = hashlib.sha256()
        compressed = path is not None and path.suffix == ".gz"
        # No name and no time in the header: the same events give the same file.
        self._gzip = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, _Tap(self), mtime=0) if compressed else None

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Write *data*, compressing it where the file's name says so."""
        if self._gzip is not None:
            self._gzip.write(data)
        else:
            self.pass_on(data)

    def finish(self) -> None:
        """Write what the compressor still holds."""
        if self._gzip is not None:
            self._gzip.close()
        self._raw.flush()

    def pass_on(self, data: bytes) -> None:
        """Write *data* as it is."""
        self._raw.write(data)
        self._hash.update(data)
        self.bytes += len(data)


class _Tap:
    """What the compressor takes for a file."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, data: bytes) -> int:
        self._output.pass_on(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do: the file below is flushed at the end."""


@contextlib.contextmanager
def open_output(path: str | os.PathLike[str]) -> Iterator[Output]:
    """Open *path* for an export, ``"-"`` for standard output.

    The bytes go to a temporary file in the same directory, private to the user, which is renamed when the block ends
    without an error and removed otherwise.

    Raises:
        QueryError: The file cannot be written.
    """
    if os.fspath(path) == STANDARD_OUTPUT:
        output = Output(sys.stdout.buffer, None)
        yield output
        output.finish()
        return
    target = Path(os.path.realpath(path))
    try:
        _check_target(target)
        with _replacing(target) as raw:
            output = Output(raw, target)
            yield output
            output.finish()
    except OSError as error:
        raise QueryError(
            f"The export cannot be written to {target} ({error.strerror or error}): choose another place with --out."
        ) from error


def _check_target(target: Path) -> None:
    # A device or a pipe would be replaced by a file.
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise QueryError(f"{target} is not a file: give a file's name, or - for standard output.")


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
