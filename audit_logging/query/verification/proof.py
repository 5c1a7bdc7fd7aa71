"""The proof that one event is in the trail as it was written: checkable by anybody who holds the public key.

It is the event and every later one of its writer up to the next that is signed. Each holds the hash of the one before,
so one signature vouches for all. ``docs/check_proof.py`` checks it with the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import ProofError
from audit_logging.integrity.sealed_event import SealedEvent, read_sealed_event
from audit_logging.integrity.signature import is_signed
from audit_logging.query.copies import SEQUENCE, WRITER
from audit_logging.query.dsl import all_of
from audit_logging.query.exchange import search_request

if TYPE_CHECKING:
    from audit_logging.integrity.keys import TrustedKeys
    from audit_logging.query.exchange import Steps

FORMAT: Final = "audit-logging proof 1"
PAGE_SIZE: Final = 500

MOST_EVENTS: Final = 1_000_000
"""Checkpoints come at intervals; a chain without one for so long has none."""


@dataclass(frozen=True)
class Proof:
    """A proof that an event is in the trail.

    Attributes:
        events: The sealed documents: the event first, the signed one last.
        key: Id of the key that signed it.
    """

    events: tuple[dict[str, Any], ...]
    key: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is written to a file."""
        return {"format": FORMAT, "events": list(self.events)}


def proof_steps(stream: str, place: tuple[str, int], keys: TrustedKeys) -> Steps[Proof]:
    """Gather the proof of the event with this writer and sequence.

    Raises:
        ProofError: The chain does not hold from there to a signature, or there is none yet.
    """
    writer, sequence = place
    events: list[dict[str, Any]] = []
    last: SealedEvent | None = None
    after = sequence - 1
    while len(events) < MOST_EVENTS:
        query = all_of([{"term": {WRITER: writer}}, {"range": {SEQUENCE: {"gt": after}}}])
        body = {"query": query, "sort": [{SEQUENCE: "asc"}], "size": PAGE_SIZE, "track_total_hits": False}
        hits = (yield search_request(stream, body))["hits"]["hits"]
        for hit in hits:
            event = read_sealed_event(orjson.dumps(hit["_source"]))
            if event is None or (last is not None and event.hash == last.hash):
                continue  # an identical second copy
            _check_link(event, last, sequence)
            events.append(event.sealed_document)
            if is_signed(event, keys):
                return Proof(tuple(events), event.key)
            if event.key and event.key not in keys:
                raise ProofError(
                    f"Event {event.place} is signed by the key {event.key}, which is not trusted: give its .pub file"
                    " with --public-key."
                )
            last = event
        if len(hits) < PAGE_SIZE or last is None:
            break
        after = last.sequence
    raise ProofError(
        f"No signed event follows {writer}-{sequence} yet: its writer signs a checkpoint every few minutes and when it"
        " ends. Try again later; where the writer is gone for good, `audit-logging verify` tells more."
    )


def _check_link(event: SealedEvent, last: SealedEvent | None, first: int) -> None:
    follows = event.sequence == first if last is None else event.sequence == last.sequence + 1
    if not follows or not event.genuine or (last is not None and event.previous != last.hash):
        raise ProofError(
            f"The chain does not hold at {event.place}, so there is no proof: `audit-logging verify` tells what was"
            " done."
        )
