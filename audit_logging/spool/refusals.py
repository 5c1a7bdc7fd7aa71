"""The journal of what OpenSearch refused, in the writer's directory.

One JSON object a line, on the disk itself before anything builds on it. ``refused`` is written before the stand-in is
sent, since from then on the event's ``_id`` may be the stand-in's: after a crash that is the only way to tell. What
became of it follows as ``quarantined`` or ``dead``. A line that is torn was never built on, and is passed over.

The file is made with room for the first lines, filled with newlines: where the spool has filled the disk, an event that
is refused could not be noted otherwise, and nothing behind it would ever be acknowledged and make room.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REFUSALS: Final = "refusals"

RESERVED_BYTES: Final = 1 << 14
"""Enough for some hundred refusals."""

Fate = Literal["refused", "quarantined", "dead"]


class Refusal(NamedTuple):
    """What became of a refused event so far, and why it was refused."""

    fate: Fate
    reason: str


class Refusals:
    """The refusals of one writer, as its shipper notes them and others look at them. Thread-safe.

    Args:
        directory: The writer's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / REFUSALS
        self._lock = threading.Lock()
        self._end = -1  # not known yet

    @staticmethod
    def create(directory: Path) -> None:
        """Make the file in the directory of a new writer.

        Raises:
            OSError: The disk refused.
        """
        descriptor = os.open(directory / REFUSALS, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"\n" * RESERVED_BYTES)

    def note(self, fate: Fate, reasons: Mapping[int, str]) -> None:
        """Write down what became of events; when this returns it survives a loss of power.

        Args:
            fate: What became of them.
            reasons: Why each was refused, by its sequence.

        Raises:
            OSError: The disk refused, so that nothing may build on it.
        """
        lines = b"".join(
            orjson.dumps({"sequence": sequence, "fate": fate, "reason": reason}) + b"\n"
            for sequence, reason in reasons.items()
        )
        with self._lock:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if self._end < 0:
                    self._end = len(self._path.read_bytes().rstrip(b"\n"))
                # The newline first: what is there may end with a torn line.
                if os.pwrite(descriptor, b"\n" + lines, self._end) <= len(lines):
                    raise OSError(f"{self._path} was not written whole")
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            self._end += len(lines)

    def read(self) -> dict[int, Refusal]:
        """Return the last that was noted of each refused event, by its sequence."""
        try:
            lines = self._path.read_bytes().rstrip(b"\n").split(b"\n")
        except FileNotFoundError:
            return {}
        found: dict[int, Refusal] = {}
        for line in lines:
            try:
                entry = orjson.loads(line)
                found[entry["sequence"]] = Refusal(entry["fate"], entry["reason"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue
        return found
