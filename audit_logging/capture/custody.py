"""What a writer knows about the fate of its spool on the disk: whether it is in place, and what was lost with it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from audit_logging.errors import AuditError, SpoolWriteError
from audit_logging.interrupts import is_interrupt
from audit_logging.spool.restoration import find_missing, restore

if TYPE_CHECKING:
    from audit_logging.spool.directory import SpoolDirectory, WriterDirectory
    from audit_logging.spool.reader import SpoolReader
    from audit_logging.spool.writer import SpoolWriter

REMEMBERED_SECONDS: Final = 60.0
"""How long a spool that was restored counts as failing: what removed it will probably do it again."""

_LOG_SECONDS: Final = 60.0
_MOST_NAMES: Final = 8

_log = logging.getLogger("audit_logging")


class Custody:
    """Restores the spool of one writer, and remembers what happened to it. Used under the writer's lock.

    Args:
        directory: The spool directory.

    Attributes:
        is_broken: Whether the spool is not in its place and could not be restored.
    """

    def __init__(self, directory: SpoolDirectory) -> None:
        self._directory = directory
        self._lost: list[range] = []
        self._what = ""
        self._happened_at = self._logged_at = float("-inf")
        self._is_hidden = False
        self.is_broken = False

    @property
    def problem(self) -> str:
        """What is wrong with the spool, or happened to it within the last minute; else empty."""
        is_recent = time.monotonic() - self._happened_at < REMEMBERED_SECONDS
        return self._what if self.is_broken or self._is_hidden or is_recent else ""

    @property
    def lost(self) -> int:
        """How many events of this writer are lost."""
        return sum(map(len, self._lost))

    def lost_after(self, acknowledged: int) -> int:
        """Return how many events after the last acknowledged sequence are lost."""
        return sum(max(each.stop - max(each.start, acknowledged + 1), 0) for each in self._lost)

    def restore(self, home: WriterDirectory, spool: SpoolWriter, reader: SpoolReader) -> bool:
        """Restore what is missing of the spool; true when something was.

        Raises:
            SpoolWriteError: Something is missing and cannot be restored now.
        """
        try:
            missing = find_missing(home, spool, reader.acknowledged)
            if missing.segments:  # a sidecar may have acknowledged and removed them
                missing = find_missing(home, spool, reader.look())
        except OSError as error:  # whatever it is, what is open can still be written
            if is_interrupt(error):
                raise
            self._is_hidden = True
            self._note(f"The spool {home.path} cannot be examined ({error.strerror}).")
            return False
        self._is_hidden = False
        if not missing.names:
            self.is_broken = False
            return False
        acknowledged = reader.acknowledged
        about = f"Files of the spool {home.path} were removed, moved or replaced ({_some(missing.names)})"
        try:
            lost = restore(missing, self._directory, home, spool, acknowledged)
        except (OSError, AuditError) as error:
            if is_interrupt(error):
                raise
            self.is_broken = True
            why = getattr(error, "strerror", None) or str(error)
            self._note(f"{about}, and cannot be restored now: {why.rstrip('.')}.")
            raise SpoolWriteError(
                f"{self._what} The event was not accepted.", event_id=None, state="refused"
            ) from error
        self.is_broken = False
        self._lost += lost
        self._happened_at = time.monotonic()
        pending = spool.sequence - acknowledged - self.lost_after(acknowledged)
        self._note(
            f"{about}. Of the pending events {pending:,} were restored, {sum(map(len, lost)):,} are lost."
            " Keep cleaners and deploy scripts away from spool_dir."
        )
        return True

    def _note(self, what: str) -> None:
        """Remember what happened, and log it: each new finding once, the same one every minute."""
        now = time.monotonic()
        if what != self._what or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.error("%s", what)
        self._what = what

    def refuse_lost(self, sequence: int) -> None:
        """Raise for an event that is lost.

        Raises:
            SpoolWriteError: It is.
        """
        if any(sequence in each for each in self._lost):
            raise SpoolWriteError(
                f"The event is lost: its file in the spool {self._directory.path} was removed. Emit it again.",
                event_id=None,
                state="refused",
            )

    def give_up(self, writer: str, acknowledged: int, last: int) -> int:
        """Report, at the end, the events of a spool that could not be restored, and return how many remain: none."""
        pending = last - acknowledged - self.lost_after(acknowledged)
        if pending:
            self._lost.append(range(acknowledged + 1, last + 1))
            _log.critical("%d audit events of writer %s are lost. %s", pending, writer, self._what)
        return 0


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"
