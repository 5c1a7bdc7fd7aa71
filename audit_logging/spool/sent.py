"""Up to which sequence a writer's events may have been sent, so that the next to ship it knows what is uncertain.

The file holds, beside a number that counts the writes, the sequence and, after a space, the backing index that was the
stream's write index when the oldest of what is not acknowledged yet was first sent. It is written before the request,
and in place: on a full disk, where shipping is what makes room, it must not fall behind. It need not survive a loss of
power: without it an event is sent again, which harms only where the stream was rolled over meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from audit_logging.interrupts import suppress
from audit_logging.spool.slots import Slots

if TYPE_CHECKING:
    from pathlib import Path

SENT: Final = "sent"

_CONTENT_BYTES: Final = 20 + 1 + 255
"""A sequence, a space and the longest name that an index may have."""


class Sent:
    """The mark in one writer's directory.

    Args:
        directory: The writer's directory.

    Attributes:
        sequence: The last event that may have been sent; 0 when none was.
        since: The backing index; None when it was not known.
    """

    def __init__(self, directory: Path) -> None:
        self._slots = Slots(directory / SENT, _CONTENT_BYTES)
        sequence, _, since = self._slots.content.decode("utf-8", "replace").partition(" ")
        self.sequence = int(sequence) if sequence.isdecimal() else 0
        self.since = since.strip() or None

    @staticmethod
    def create(directory: Path) -> None:
        """Make the file in the directory of a new writer.

        Raises:
            OSError: The disk refused.
        """
        Slots.create(directory / SENT, _CONTENT_BYTES)

    def note(self, sequence: int, since: str | None) -> None:
        """Move the mark. A disk that refuses is no error: what is sent twice is recognised."""
        if (sequence, since) == (self.sequence, self.since):
            return
        self.sequence, self.since = sequence, since
        with suppress(OSError):
            self._slots.write(self._slots.number + 1, f"{sequence} {since or ''}".encode())
