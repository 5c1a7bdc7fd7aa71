"""One sealed event as it is read back from anywhere: its place in its writer's chain, and whether its seal fits.

Stored bytes are canonical already, unless somebody re-serialised them. So the hash is first taken over the bytes as
they are, with the seal cut out; only when that does not fit, the document is parsed and brought into canonical form.

Everything in a stored document is either under the hash, or a member of the seal, or recomputed and compared: the seal
has no members but those named in ``docs/integrity.md``, no key stands twice, and a stand-in is what the shipper makes.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.integrity.stand_in import refused_document

_SEAL_OFFSET = len('{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{')
# Anchored at the begin of the document, where no value of an application's can stand.
_CANONICAL = re.compile(
    rb'\{"@timestamp":"([0-9TZ:.-]{27})","audit":\{"integrity":\{"hash":"([0-9a-f]{64})",'
    rb'"previous":"([0-9a-f]{64})","sequence":([1-9][0-9]{0,18}),"writer":"([0-9a-f]{20})"\},'
)
_OWN = b'"action":"audit.'
_WRITER = re.compile(r"[0-9a-f]{20}")
_HASH = re.compile(r"[0-9a-f]{64}")
_MOST_EVENTS = 10**18
_SEAL = frozenset({"hash", "previous", "sequence", "writer"})
_SIGNED_SEAL = _SEAL | {"key", "signature"}


class SealedEvent(NamedTuple):
    """What verification needs of an event.

    Attributes:
        writer: Id of its writer.
        sequence: Its number.
        previous: The hash of the event before, as the seal says.
        hash: Its hash, as the seal says.
        genuine: Whether its content is the one that was sealed: the hash, computed anew, is the seal's.
        time: Its ``@timestamp``.
        document: The stored JSON.
        own: The event type, where it is one of the library's own (``audit.started``); else empty.
        key: Id of the key that signed it; empty when it is not signed.
        signature: The signature, in hexadecimal.
        quarantined: Whether it is stored as a stand-in.
    """

    writer: str
    sequence: int
    previous: str
    hash: str
    genuine: bool
    time: str
    document: bytes
    own: str = ""
    key: str = ""
    signature: str = ""
    quarantined: bool = False

    @property
    def place(self) -> str:
        """``writer-sequence``, which is its ``_id`` in the index."""
        return f"{self.writer}-{self.sequence}"

    @property
    def event_id(self) -> str:
        """Its ``event.id``, or an empty text."""
        return str(_object(_object(orjson.loads(self.document)).get("event")).get("id", ""))

    @property
    def sealed_document(self) -> dict[str, Any]:
        """What was sealed: of a stand-in in quarantine, the document within."""
        stored: dict[str, Any] = orjson.loads(self.document)
        return (refused_document(stored) or stored) if self.quarantined else stored

    @property
    def metadata(self) -> dict[str, Any]:
        """What it tells, for one of the library's own: from under the seal, never from around it."""
        return _object(_object(self.sealed_document["audit"]).get("metadata"))


def read_sealed_event(document: bytes) -> SealedEvent | None:
    """Read one stored document; None when it holds no seal, or is no JSON object at all.

    Args:
        document: JSON, canonical or not, of an event or of its stand-in in quarantine.
    """
    match = _CANONICAL.match(document)
    if match is not None and _OWN not in document:
        time, digest, previous, sequence, writer = match.groups()
        computed = sha256(
            b"".join((previous, writer, b"-", sequence, document[:_SEAL_OFFSET], document[match.end() :]))
        ).hexdigest()
        found = digest.decode()
        if computed == found:
            return SealedEvent(writer.decode(), int(sequence), previous.decode(), found, True, time.decode(), document)
    return _read_parsed(document)


def _read_parsed(document: bytes) -> SealedEvent | None:
    try:
        stored = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    audit = _object(_object(stored).get("audit"))
    seal = _object(audit.get("integrity"))
    writer, sequence = seal.get("writer"), seal.get("sequence")
    if not isinstance(writer, str) or _WRITER.fullmatch(writer) is None:
        return None
    if type(sequence) is not int or not 1 <= sequence < _MOST_EVENTS:
        return None
    quarantined = "quarantine" in audit
    sealed = refused_document(stored) if quarantined else stored
    previous, digest = str(seal.get("previous", "")), str(seal.get("hash", ""))
    # What a stand-in says beside the sealed document is not believed.
    action = str(_object(_object(sealed if sealed is not None else stored).get("event")).get("action", ""))
    own = action if action.startswith("audit.") else ""
    genuine = (
        sealed is not None
        and seal.keys() in ((_SEAL, _SIGNED_SEAL) if own else (_SEAL,))
        and _HASH.fullmatch(previous) is not None
        and digest_of(previous, writer, sequence, canonical_form(sealed)) == digest
        and not _has_duplicate_keys(document)
    )
    return SealedEvent(
        writer,
        sequence,
        previous,
        digest,
        genuine,
        str(stored.get("@timestamp", "")),
        document,
        own,
        str(seal.get("key", "")),
        str(seal.get("signature", "")),
        quarantined,
    )


def _has_duplicate_keys(document: bytes) -> bool:
    """Whether a key stands twice in an object: parsers differ in which of the two they show."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        json.loads(document, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return True
    return False


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
