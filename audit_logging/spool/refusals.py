"""The journal of what OpenSearch refused, in the writer's directory.

One JSON object a line, on the disk itself before anything builds on it. ``refused`` is written before the stand-in is
sent, since from then on the event's ``_id`` may be the stand-in's: after a crash that is the only way to tell. What
became of it follows as ``quarantined`` or ``dead``. A line that is torn was never built on, and is passed over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REFUSALS = "refusals"

Fate = Literal["refused", "quarantined", "dead"]


class Refusal(NamedTuple):
    """What became of a refused event so far, and why it was refused."""

    fate: Fate
    reason: str


class Refusals:
    """The refusals of one writer, as its shipper notes them and others look at them.

    Args:
        directory: The writer's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / REFUSALS

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
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # after a torn one
            if os.write(descriptor, lines) < len(lines):
                raise OSError(f"{self._path} was not written whole")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> dict[int, Refusal]:
        """Return the last that was noted of each refused event, by its sequence."""
        try:
            lines = self._path.read_bytes().split(b"\n")
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
