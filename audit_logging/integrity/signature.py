"""Signed events: the seal of an event of the library's own carries a signature beside the hash.

    text       "audit-logging seal " ‖ hash
    signature  Ed25519 over that ASCII text, in hexadecimal

The hash covers writer, sequence, the hash of the event before, time and content, so the signature vouches for all of
them and, through the chain, for every event that the writer wrote before. Signature and key id stand in
``audit.integrity``, which the hash leaves out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit_logging.integrity.seal import SealedDocument

if TYPE_CHECKING:
    from audit_logging.integrity.keys import SigningKey, TrustedKeys
    from audit_logging.integrity.sealed_event import SealedEvent

SIGNED_TYPES = frozenset(
    {
        "audit.started",
        "audit.checkpoint",
        "audit.stopped",
        "audit.writer_closed",
        "audit.index_sealed",
        "audit.dead_lettered",
        "audit.hold_placed",
        "audit.hold_released",
        "audit.retention_applied",
        "audit.erased",
    }
)
"""The event types that say what is lawful: what they tell counts only when it is signed."""

CHAIN = "chain"
"""In the metadata of an event that is signed: its writer. So the hash covers that there must be a signature, and an
imported copy of the event, which another writer seals, is told from the event itself."""


def signed_text(digest: str) -> bytes:
    """Return what is signed of an event with this hash."""
    return b"audit-logging seal " + digest.encode()


def sign(sealed: SealedDocument, key: SigningKey) -> SealedDocument:
    """Return *sealed* with a signature in its seal."""
    signature = key.sign(signed_text(sealed.hash)).encode()
    hash_member = b'"hash":"%b",' % sealed.hash.encode()
    sequence_member = b'"sequence":%d,"writer":' % sealed.sequence
    # A seal's own members hold nothing of an application's, so the first of each from the hash on is the seal's.
    at = sealed.payload.index(b'"integrity":{' + hash_member) + len(b'"integrity":{' + hash_member)
    after = sealed.payload.index(sequence_member, at) + len(sequence_member) - len(b'"writer":')
    payload = b"".join(
        (
            sealed.payload[:at],
            b'"key":"%b",' % key.id.encode(),
            sealed.payload[at:after],
            b'"signature":"%b",' % signature,
            sealed.payload[after:],
        )
    )
    return SealedDocument(sealed.sequence, sealed.hash, payload)


def is_signed(event: SealedEvent, keys: TrustedKeys) -> bool:
    """Return whether *event* is genuine and signed by one of *keys*."""
    return event.genuine and bool(event.key) and keys.verifies(event.key, event.signature, signed_text(event.hash))
