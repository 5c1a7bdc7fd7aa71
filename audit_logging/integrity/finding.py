"""What verification tells: findings, which break a promise, and notes, which do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "edited",
    "deleted",
    "truncated",
    "vanished",
    "inserted",
    "reordered",
    "restarted",
    "checkpoint_forged",
    "checkpoint_missing",
    "unknown_key",
    "unfinished",
    "mapping_changed",
]
"""What was done to the trail.

``edited``
    An event is not what was sealed.
``deleted``
    Events are missing within a chain, or at its begin, and nothing says that they left lawfully.
``truncated``
    Events are missing at the end of a chain.
``vanished``
    A writer of which a signed head is known has no event at all.
``inserted``
    An event has no place in any chain: a second one under a number, one after the end, one without a valid seal, or a
    chain that no key vouches for.
``reordered``
    Events stand in each other's place.
``restarted``
    A chain begins a second time.
``checkpoint_forged``
    A signature is not one of the key that it names.
``checkpoint_missing``
    An event that must be signed is not.
``unknown_key``
    Events are signed by a key that is not trusted.
``unfinished``
    A writer neither ended nor signed anything for longer than it may be silent.
``mapping_changed``
    Backing indices have a mapping or a setting by which searches show other events than are stored.
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: What it is (see :data:`Kind`).
        event_id: ``event.id`` of the event, or an empty text where there is no event.
        writer: Id of the writer; empty where there is none.
        sequence: Number of the event, or of the first of several; 0 where there is none.
        last: Number of the last of several; the same as *sequence* for one.
        sentence: The same for people.
    """

    kind: Kind
    writer: str
    sequence: int
    last: int
    sentence: str
    event_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "kind": self.kind,
            "event_id": self.event_id,
            "writer": self.writer,
            "sequence": self.sequence,
            "last": self.last,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Note:
    """Something worth knowing that breaks no promise.

    Attributes:
        kind: ``copies``, ``retention``, ``quarantined``, ``dead_letters``, ``unsigned``, ``under_way``, ``no_keys``,
            ``content_only``, ``not_compared`` or ``from_begin``.
        count: Of how many events, or writers, it speaks.
        sentence: The same for people.
    """

    kind: str
    count: int
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"kind": self.kind, "count": self.count, "sentence": self.sentence}
