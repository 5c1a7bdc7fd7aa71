"""The seal: who wrote an event, its number, and the hash that chains it to the one before.

    hash = SHA-256(previous ‖ writer-sequence ‖ canonical document without audit.integrity)

in lower-case hexadecimal, where ``previous`` and ``writer-sequence`` are ASCII text and ``‖`` is concatenation. The
first event's ``previous`` is the SHA-256 of the writer's id. ``docs/integrity.md`` has test vectors.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import NamedTuple

import orjson


class SealedDocument(NamedTuple):
    """A document that has its place in a chain.

    Attributes:
        sequence: Its number, from 1.
        hash: 64 hexadecimal digits.
        payload: The whole canonical document, the seal included.
    """

    sequence: int
    hash: str
    payload: bytes


class Chain:
    """One writer's chain. Not thread-safe: it is used under the writer's lock.

    A document is sealed first and the chain advanced when it is safely written, so that a failed write leaves no gap.

    Example:
        >>> chain = Chain("w")
        >>> sealed = chain.seal(b'{"audit":{"schema":"1"}}', splice=10)
        >>> chain.advance(sealed)
        >>> chain.sequence, sealed.payload[:40]
        (1, b'{"audit":{"integrity":{"hash":"0ff02f99e')
    """

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.sequence = 0
        self.head = sha256(writer.encode()).hexdigest()

    def seal(self, canonical: bytes, splice: int) -> SealedDocument:
        """Return the document that follows the head.

        Args:
            canonical: The canonical JSON without ``audit.integrity``.
            splice: The offset at which ``"integrity":{…},`` keeps its keys sorted.
        """
        sequence = self.sequence + 1
        digest = digest_of(self.head, self.writer, sequence, canonical)
        seal = f'"hash":"{digest}","previous":"{self.head}","sequence":{sequence},"writer":"{self.writer}"'
        payload = b'%b"integrity":{%b},%b' % (canonical[:splice], seal.encode(), canonical[splice:])
        return SealedDocument(sequence, digest, payload)

    def advance(self, sealed: SealedDocument) -> None:
        """Make *sealed*, which is now safely written, the head."""
        self.sequence, self.head = sealed.sequence, sealed.hash


def new_writer_id() -> str:
    """Return a random id for a writer: 20 hexadecimal digits."""
    return secrets.token_hex(10)


def digest_of(previous: str, writer: str, sequence: int, canonical: bytes) -> str:
    """Return the hash of one event, in hexadecimal."""
    return sha256(f"{previous}{writer}-{sequence}".encode() + canonical).hexdigest()


def canonical_form(document: dict[str, object]) -> bytes:
    """Return the bytes that *document*, as read back from anywhere, was hashed as.

    Args:
        document: A parsed event; it is not changed.
    """
    audit = document.get("audit")
    if isinstance(audit, dict):
        document = document | {"audit": {key: value for key, value in audit.items() if key != "integrity"}}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
