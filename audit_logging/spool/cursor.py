"""Up to which sequence OpenSearch has acknowledged a writer's events.

    two slots of 30 bytes, written in turn, each
        20   sequence, decimal ASCII with leading zeros
         1   space
         8   CRC-32 of the 20 digits, hexadecimal ASCII
         1   newline

The file is made with its full size and from then on written in place, so that a full disk does not stop it. A write
that is torn spoils the older slot alone. Of the slots whose checksum agrees the greater sequence counts, and without
any it is 0: what is sent again is recognised by its id.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

CURSOR: Final = "cursor"
_DIGITS: Final = 20
_SLOT_BYTES: Final = _DIGITS + 10
_SLOTS: Final = 2

_log = logging.getLogger("audit_logging")


class Cursor:
    """The cursor of one writer, as its shipper moves it and others look at it.

    Args:
        directory: The writer's directory. Its file may be missing or damaged.

    Attributes:
        acknowledged: The sequence that was last read or noted.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / CURSOR
        self._slot = 0
        self._behind = False
        self.acknowledged = 0
        self.look()

    @staticmethod
    def create(directory: Path) -> None:
        """Make the file in the directory of a new writer.

        Raises:
            OSError: The disk refused.
        """
        descriptor = os.open(directory / CURSOR, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode(0) * _SLOTS)

    def look(self) -> int:
        """Read the file and return the acknowledged sequence, which never goes back."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return self.acknowledged
        found = [_decode(data[start : start + _SLOT_BYTES]) for start in range(0, _SLOT_BYTES * _SLOTS, _SLOT_BYTES)]
        self._slot = found.index(min(found))
        self.acknowledged = max(self.acknowledged, *found)
        return self.acknowledged

    def advance(self, sequence: int) -> None:
        """Note that everything up to *sequence* is acknowledged.

        A disk that refuses is no error: the file stays behind, which costs a repetition if the process dies now, and
        :meth:`catch_up` tries again.
        """
        self.acknowledged = sequence
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(descriptor, _encode(sequence), self._slot * _SLOT_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._behind:
                _log.warning("The cursor %s cannot be written (%s); events may be sent twice.", self._path, error)
            self._behind = True
        else:
            self._slot = (self._slot + 1) % _SLOTS
            self._behind = False

    def catch_up(self) -> None:
        """Write what the disk refused before, if anything."""
        if self._behind:
            self.advance(self.acknowledged)


def _encode(sequence: int) -> bytes:
    digits = b"%020d" % sequence
    return b"%b %08x\n" % (digits, crc32(digits))


def _decode(slot: bytes) -> int:
    """Return the sequence in *slot*; -1 when it is torn or garbage."""
    digits = slot[:_DIGITS]
    return int(digits) if digits.isdigit() and slot == _encode(int(digits)) else -1
