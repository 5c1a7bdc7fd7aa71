"""Where an export goes: a file that appears when it is complete and can be gone on with, or standard output."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import sys
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from audit_logging.errors import IncompleteResultError, QueryError
from audit_logging.files import appear, sync_directory
from audit_logging.private import NotPrivateError, open_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.export.state import State

STANDARD_OUTPUT: Final = "-"
COMPRESSED: Final = ".gz"
COMPRESSION_LEVEL: Final = 6

_GZIP: Final = 31
"""For zlib: with gzip's header. It bears neither name nor time: the same events give the same file."""

_BLOCK: Final = 1 << 20


class Output(Protocol):
    """Takes content, and remembers how far the last complete part goes."""

    path: Path | None
    state: State

    def write(self, content: bytes) -> None:
        """Write some content."""
        ...

    def checkpoint(self) -> None:
        """Make what was written so far what a resumed export goes on from, and note it in ``state``."""
        ...

    def restore(self) -> None:
        """Go back to the last checkpoint."""
        ...


class _Digest:
    """Size and SHA-256 of what passes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        self.bytes += len(data)
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class StandardOutput:
    """Standard output: there is no going back."""

    path: Path | None = None

    def __init__(self, state: State) -> None:
        self.state = state
        self._content = _Digest()

    def write(self, content: bytes) -> None:
        """Write some content."""
        # With PYTHONUNBUFFERED nobody else goes on when the system takes a part of it.
        rest = memoryview(content)
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        self._content.update(content)

    def checkpoint(self) -> None:
        """Note how far it came."""
        sys.stdout.buffer.flush()
        self.state.bytes = self.state.content_bytes = self._content.bytes
        self.state.content_sha256 = self._content.sha256

    def restore(self) -> None:
        """Return when nothing was written since the last checkpoint.

        Raises:
            IncompleteResultError: Something was.
        """
        if self._content.bytes != self.state.content_bytes:
            raise IncompleteResultError(
                "OpenSearch gave up its view of the trail, and what went to standard output cannot be taken back:"
                " export again, to a file (--out FILE) or in order (without --unordered)."
            )


class PartFile:
    """``FILE.part``, which grows by whole parts, with ``FILE.state`` beside it.

    Compressed, each part is a gzip member of its own, since a compressor cannot be gone on with. A thread of its own
    compresses, hashes and writes, which all leave the interpreter to the cutting of the next page.

    Args:
        target: The file that is to appear.
        state: What to go on from.
    """

    def __init__(self, target: Path, state: State) -> None:
        self.path: Path | None = target
        self.state = state
        self.part = beside(target, "part")
        self._state_path = beside(target, "state")
        self._compressed = target.suffix == COMPRESSED
        self._file = self._open()
        self._content = self._stored = _Digest()
        self._compressor = self._new_compressor()
        self._member = 0
        self._writer = ThreadPoolExecutor(1, "audit-logging-export-writer")
        self._written: Future[None] | None = None

    def _open(self) -> IO[bytes]:
        descriptor = open_private(self.part, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise QueryError(
                f"Another export is writing {self.part}: wait for it, or choose another file with --out."
            ) from None
        return os.fdopen(descriptor, "r+b")

    def close(self) -> None:
        """Close the file, which stays."""
        self._writer.shutdown()
        self._file.close()

    def discard(self) -> None:
        """Remove what there is, of an export that came to nothing."""
        for path in (self.part, self._state_path):
            path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write some content, compressing it where the file's name says so, while the caller goes on.

        Raises:
            OSError: The content before could not be written.
        """
        self._settle()
        if content:  # or a compressor would begin a member, and nobody end it
            self._written = self._writer.submit(self._write, content)

    def _settle(self) -> None:
        """Wait until all is written that was given."""
        if self._written is not None:
            written, self._written = self._written, None
            written.result()

    def _write(self, content: bytes) -> None:
        self._content.update(content)
        if self._compressed:
            self._member += len(content)
            self._store(self._compressor.compress(content))
        else:
            self._file.write(content)

    def checkpoint(self) -> None:
        """Make the file durable, and then the state that tells of it."""
        self._settle()
        empty = self.state.read and not self._stored.bytes  # nothing at all is a gzip file too
        if self._compressed and (self._member or empty):
            self._store(self._compressor.flush())
            self._compressor, self._member = self._new_compressor(), 0
        self._file.flush()
        os.fsync(self._file.fileno())
        self.state.bytes = self._stored.bytes
        self.state.content_bytes, self.state.content_sha256 = self._content.bytes, self._content.sha256
        self.state.save(self._state_path)

    def restore(self) -> None:
        """Cut the file to what the state tells of, and read that again: a hash cannot be gone on with.

        Raises:
            QueryError: The file is not what the state tells of.
        """
        self._settle()
        self._content, self._member = _Digest(), 0
        self._stored = _Digest() if self._compressed else self._content
        self._compressor = self._new_compressor()
        self._file.seek(0)
        for content in self._read(self.state.bytes):
            self._content.update(content)
        found = (self._stored.bytes, self._content.bytes, self._content.sha256)
        if self.state.bytes and found != (self.state.bytes, self.state.content_bytes, self.state.content_sha256):
            raise QueryError(
                f"{self.part} is not what {self._state_path.name} tells of (something changed it): begin anew with"
                " --fresh."
            )
        self._file.truncate(self.state.bytes)
        self._file.seek(self.state.bytes)

    def _read(self, size: int) -> Iterator[bytes]:
        """Yield the content of the first *size* bytes."""
        members = Members()
        while size > 0 and (data := self._file.read(min(_BLOCK, size))):
            size -= len(data)
            if self._compressed:
                self._stored.update(data)
                with contextlib.suppress(zlib.error):  # the sums below tell
                    yield from members.content(data)
            else:
                yield data

    def finish(self) -> None:
        """Let the file appear, and forget the state."""
        assert self.path is not None
        appear(self._file.fileno(), self.part, self.path)
        self._file.close()
        sync_directory(self.path.parent)
        self._state_path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file so far, in hexadecimal."""
        return self._stored.sha256

    def _store(self, data: bytes) -> None:
        self._file.write(data)
        self._stored.update(data)

    def _new_compressor(self) -> zlib._Compress:
        return zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, _GZIP)


class Members:
    """Decompresses gzip members that stand one behind the other, piece by piece."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    def content(self, data: bytes) -> Iterator[bytes]:
        """Yield the content of *data*, which follows what was given before.

        Raises:
            zlib.error: It is not gzip, or damaged.
        """
        while data:
            yield self._member.decompress(data)
            data = self._member.unused_data
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)


def beside(target: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to *target*."""
    return target.with_name(f"{target.name}.{suffix}")


def target_of(path: str | os.PathLike[str]) -> Path | None:
    """Return the file that *path* leads to; None for standard output.

    Raises:
        QueryError: It is something other than a file, such as a device, which would be replaced; or a symbolic link of
            another user.
    """
    if os.fspath(path) == STANDARD_OUTPUT:
        return None
    if (owner := _owner_of_link(path)) not in {None, 0, os.geteuid()}:
        raise QueryError(f"{path} is a symbolic link of another user (uid {owner}): choose another file with --out.")
    target = Path(os.path.realpath(path))
    with explaining_disk(target):
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise QueryError(f"{target} is not a file: give a file's name, or - for standard output.")
    return target


def _owner_of_link(path: str | os.PathLike[str]) -> int | None:
    """Return the owner of the symbolic link *path*; None when it is no link."""
    with contextlib.suppress(OSError, ValueError):
        found = os.lstat(path)
        return found.st_uid if stat.S_ISLNK(found.st_mode) else None
    return None


@contextlib.contextmanager
def explaining_disk(target: Path | None, *, what: str = "export", option: str = "--out") -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except BrokenPipeError:
        raise
    except NotPrivateError as error:
        raise QueryError(f"The {what} cannot use {error.filename}: {error.strerror} ({option}).") from error
    except OSError as error:
        why = error.strerror or error
        raise QueryError(
            f"The {what} cannot be written to {target or 'standard output'} ({why}): make room, or choose another place"
            f" with {option}."
        ) from error
