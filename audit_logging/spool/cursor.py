"""Up to which sequence OpenSearch has acknowledged a writer's events.

The file holds the sequence, in :class:`~audit_logging.spool.slots.Slots` without content. Where it is missing or
damaged the sequence is 0, or an older one: what is sent again is recognised by its id.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from audit_logging.interrupts import is_interrupt
from audit_logging.spool.slots import Slots

if TYPE_CHECKING:
    from pathlib import Path

CURSOR: Final = "cursor"

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
        self._slots = Slots(self._path)
        self._behind = False
        self.acknowledged = self._slots.number

    @staticmethod
    def create(directory: Path) -> None:
        """Make the file in the directory of a new writer.

        Raises:
            OSError: The disk refused.
        """
        Slots.create(directory / CURSOR)

    @property
    def is_whole(self) -> bool:
        """Whether the file was there and undamaged when it was last read."""
        return self._slots.is_whole

    def look(self) -> int:
        """Read the file and return the acknowledged sequence, which never goes back."""
        self._slots.look()
        self.acknowledged = max(self.acknowledged, self._slots.number)
        return self.acknowledged

    def advance(self, sequence: int) -> None:
        """Note that everything up to *sequence* is acknowledged.

        A disk that refuses is no error: the file stays behind, which costs a repetition if the process dies now, and
        :meth:`catch_up` tries again.
        """
        self.acknowledged = sequence
        try:
            self._slots.write(sequence)
        except OSError as error:
            if is_interrupt(error):
                raise
            if not self._behind:
                _log.warning("The cursor %s cannot be written (%s); events may be sent twice.", self._path, error)
            self._behind = True
        else:
            self._behind = False

    def sync(self) -> None:
        """Bring the file to the disk itself; a disk that refuses is no error here either."""
        self._slots.sync()

    def catch_up(self) -> None:
        """Write what the disk refused before, if anything."""
        if self._behind:
            self.advance(self.acknowledged)
