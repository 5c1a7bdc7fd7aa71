"""What a verification found, and what was asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_logging.integrity.verification import Verdict

if TYPE_CHECKING:
    import datetime as dt


@dataclass(frozen=True)
class VerifyReport(Verdict):
    """What verification found: the verdict, and what it is about.

    Attributes:
        keys: Ids of the public keys that were believed.
        scope: ``"chain"``, or ``"content"`` where a filter leaves only single events to check.
        since: Begin of the time range that was asked for (inclusive), or None.
        until: Its end (exclusive), or None.
        at: When it was made.
    """

    keys: tuple[str, ...]
    scope: str
    since: dt.datetime | None
    until: dt.datetime | None
    at: dt.datetime

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": [note.to_dict() for note in self.notes],
            "events": self.events,
            "copies": self.copies,
            "writers": self.writers,
            "signed": self.signed,
            "keys": list(self.keys),
            "scope": self.scope,
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "at": self.at.isoformat(),
        }
