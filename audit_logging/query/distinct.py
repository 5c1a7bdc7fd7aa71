"""Every event once: an identical second copy is left out.

A bulk request that is repeated after a rollover may leave the same event in two backing indices. Such copies agree in
time, writer, sequence and hash; sorted by the first three they stand together, so that the last few events are
all that has to be remembered. A copy with *another* hash is no copy: it was altered, and is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SORT_FIELDS = ("@timestamp", "audit.integrity.writer", "audit.integrity.sequence")
SortKey = tuple[int, str | None, int]
"""Nanoseconds since 1970, writer, sequence."""


def sort_of(*, newest: bool) -> list[dict[str, str]]:
    """Return the total order of the trail."""
    return [{name: "desc" if newest else "asc"} for name in SORT_FIELDS]


@dataclass(frozen=True)
class Hit:
    """One stored copy of an event."""

    index: str
    doc_id: str
    key: SortKey
    identity: str
    """What identical copies have in common beside their key: the seal's hash, or the place where there is none."""

    document: dict[str, Any]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Hit:
        """Read one element of ``hits.hits``."""
        document = raw.get("_source", {})
        seal = document.get("audit", {}).get("integrity", {})
        digest = seal.get("hash") if {"writer", "sequence", "hash"} <= seal.keys() else None
        identity = digest or f"{raw['_index']}/{raw['_id']}"
        return cls(raw["_index"], raw["_id"], tuple(raw["sort"]), identity, document)


@dataclass
class Distinct:
    """Lets the first copy of each event pass; the hits must come sorted.

    Attributes:
        copies: The second copies met so far, as (backing index, document id).
    """

    key: SortKey | None = None
    identities: set[str] = field(default_factory=set)
    """Identities that passed under ``key``."""

    copies: list[tuple[str, str]] = field(default_factory=list)
    hits: int = 0
    """Stored copies met so far, the second ones included."""

    _places: set[tuple[str, str]] = field(default_factory=set)

    def fresh(self, raw_hits: Iterable[dict[str, Any]]) -> list[Hit]:
        """Return those of *raw_hits* that have not been seen. The same hit may come again; it is not a copy."""
        return [hit for raw in raw_hits if self._is_fresh(hit := Hit.of(raw))]

    def _is_fresh(self, hit: Hit) -> bool:
        if hit.key != self.key:
            self.key = hit.key
            self.identities.clear()
            self._places.clear()
        place = (hit.index, hit.doc_id)
        if place in self._places:
            return False
        self._places.add(place)
        self.hits += 1
        if hit.identity in self.identities:
            self.copies.append(place)
            return False
        self.identities.add(hit.identity)
        return True
