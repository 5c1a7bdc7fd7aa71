"""A small file that is overwritten in place, so that a full disk does not stop it.

    two slots of equal size, written in turn, each
        20   a number that grows, decimal ASCII with leading zeros
         n   content, padded with spaces
         1   space
         8   CRC-32 of everything before the space, hexadecimal ASCII
         1   newline

A write that is torn spoils the older slot alone. Of the slots whose checksum agrees the greater number counts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from zlib import crc32

from audit_logging.interrupts import is_interrupt, suppress

if TYPE_CHECKING:
    from pathlib import Path

_DIGITS: Final = 20
_CHECKSUM_BYTES: Final = 10
_SLOTS: Final = 2


class Slots:
    """The file.

    Args:
        path: Where it is. It may be missing or damaged.
        content_bytes: The size of the content.

    Attributes:
        number: The number that was last read or written; 0 where there is none.
        content: What stood beside it.
        is_whole: Whether the file was there and undamaged when it was last read.
    """

    def __init__(self, path: Path, content_bytes: int = 0) -> None:
        self._path = path
        self._content_bytes = content_bytes
        self._slot = 0
        self.number = 0
        self.content = b""
        self.is_whole = False
        self.look()

    @classmethod
    def create(cls, path: Path, content_bytes: int = 0) -> None:
        """Make the file with its full size.

        Raises:
            OSError: The disk refused.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode(0, b"".ljust(content_bytes)) * _SLOTS)

    def look(self) -> None:
        """Read the file; the number never goes back."""
        try:
            data = self._path.read_bytes()
        except OSError as error:
            if is_interrupt(error):
                raise
            return
        size = self._slot_bytes
        found = [_decode(data[start : start + size]) for start in range(0, size * _SLOTS, size)]
        self._slot = found.index(min(found))
        self.is_whole = min(found) > _DAMAGED
        if max(found) > (self.number, b""):
            self.number, self.content = max(found)

    def write(self, number: int, content: bytes = b"") -> None:
        """Overwrite the older slot.

        Args:
            number: Not less than the last.
            content: Cut where it is too long.

        Raises:
            OSError: The disk refused.
        """
        self.number, self.content = number, content[: self._content_bytes].ljust(self._content_bytes)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(descriptor, _encode(number, self.content), self._slot * self._slot_bytes)
        finally:
            os.close(descriptor)
        self._slot = (self._slot + 1) % _SLOTS

    def sync(self) -> None:
        """Bring the file to the disk itself. A disk that refuses is no error: it may read as older than it is."""
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    @property
    def _slot_bytes(self) -> int:
        return _DIGITS + self._content_bytes + _CHECKSUM_BYTES


_DAMAGED: Final = (-1, b"")


def _encode(number: int, content: bytes) -> bytes:
    text = b"%020d%b" % (number, content)
    return b"%b %08x\n" % (text, crc32(text))


def _decode(slot: bytes) -> tuple[int, bytes]:
    digits, content = slot[:_DIGITS], slot[_DIGITS:-_CHECKSUM_BYTES]
    return (int(digits), content) if digits.isdigit() and slot == _encode(int(digits), content) else _DAMAGED
