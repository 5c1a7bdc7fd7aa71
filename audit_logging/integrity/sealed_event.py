"""One sealed event as it is read back from anywhere: its place in its writer's chain, and whether its seal fits.

Stored bytes are canonical already, unless somebody re-serialised them. So the hash is first taken over the bytes as
they are, with the seal cut out; only when that does not fit, the document is parsed and brought into canonical form.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from audit_logging.integrity.seal import canonical_form, digest_of

_SEAL_OFFSET = len('{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{')
# Anchored at the begin of the document, where no value of an application's can stand.
_CANONICAL = re.compile(
    rb'\{"@timestamp":"([0-9TZ:.-]{27})","audit":\{"integrity":\{"hash":"([0-9a-f]{64})",'
    rb'"previous":"([0-9a-f]{64})","sequence":([1-9][0-9]{0,18}),"writer":"([0-9a-f]{20})"\},'
)
_OWN = b'"action":"audit.'


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
        quarantine = _object(stored["audit"].get("quarantine"))
        return dict(orjson.loads(quarantine["document"])) if quarantine else stored

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
    quarantine = audit.get("quarantine")
    writer, sequence = seal.get("writer"), seal.get("sequence")
    if not isinstance(writer, str) or type(sequence) is not int or sequence < 1:
        return None
    sealed = _quarantined(quarantine, seal) if quarantine is not None else stored
    previous, digest = str(seal.get("previous", "")), str(seal.get("hash", ""))
    genuine = sealed is not None and digest_of(previous, writer, sequence, canonical_form(sealed)) == digest
    # What a stand-in says beside the sealed document is not sealed, and not believed.
    action = str(_object(_object(sealed if sealed is not None else stored).get("event")).get("action", ""))
    return SealedEvent(
        writer,
        sequence,
        previous,
        digest,
        genuine,
        str(stored.get("@timestamp", "")),
        document,
        action if action.startswith("audit.") else "",
        str(seal.get("key", "")),
        str(seal.get("signature", "")),
    )


def _quarantined(quarantine: Any, seal: dict[str, Any]) -> dict[str, Any] | None:
    """Return the document that a stand-in holds as text; None when that is not one under the same seal."""
    text = _object(quarantine).get("document")
    try:
        document = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
    same = _object(_object(_object(document).get("audit"))).get("integrity") == seal
    return document if isinstance(document, dict) and same else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
