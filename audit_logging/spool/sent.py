"""Up to which sequence a writer's events may have been sent, so that the next to ship it knows what is uncertain.

The file holds the sequence and, after a space, the backing index that was the stream's write index when the oldest of
what is not acknowledged yet was first sent. It is written before the request. It need not survive a loss of power:
without it an event is sent again, which harms only where the stream was rolled over meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SENT = "sent"


class Sent:
    """The mark in one writer's directory.

    Args:
        directory: The writer's directory.

    Attributes:
        sequence: The last event that may have been sent; 0 when none was.
        since: The backing index; None when it was not known.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / SENT
        self.sequence, self.since = _read(self._path)

    def note(self, sequence: int, since: str | None) -> None:
        """Move the mark. A disk that refuses is no error: shipping is what makes room on it."""
        if (sequence, since) == (self.sequence, self.since):
            return
        self.sequence, self.since = sequence, since
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, f"{sequence} {since or ''}".encode())
            finally:
                os.close(descriptor)
            fresh.replace(self._path)


def _read(path: Path) -> tuple[int, str | None]:
    try:
        sequence, _, since = path.read_text().partition(" ")
        return int(sequence), since or None
    except (OSError, ValueError):
        return 0, None
