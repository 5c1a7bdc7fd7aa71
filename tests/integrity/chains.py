"""Chains as writers leave them, made without a trail: started, events, checkpoints, stopped, signed where they must be."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_logging.integrity.finding import Finding
from audit_logging.integrity.judgement import View
from audit_logging.integrity.keys import SigningKey, TrustedKeys
from audit_logging.integrity.seal import Chain, canonical_form, digest_of
from audit_logging.integrity.signature import CHAIN, SIGNED_TYPES, sign, signed_text
from audit_logging.integrity.verification import Verdict, Verification

EPOCH = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc)


class Keys:
    """A key pair."""

    def __init__(self, seed: int = 1) -> None:
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.signing = SigningKey(private)
        self.trusted = TrustedKeys({self.signing.id: private.public_key()})


KEYS = Keys()
OTHER = Keys(2)


class Author:
    """One writer: what it writes comes back as the bytes that are stored."""

    def __init__(self, writer: str, key: SigningKey | None = KEYS.signing, at: dt.datetime = EPOCH) -> None:
        self.chain = Chain(writer)
        self.writer = writer
        self.key = key
        self.at = at
        self.written: list[bytes] = []

    @property
    def head(self) -> dict[str, Any]:
        return {"writer": self.writer, "sequence": self.chain.sequence, "hash": self.chain.head}

    def write(self, event_type: str = "user.login", metadata: dict[str, Any] | None = None, **fields: Any) -> bytes:
        """Write one event and return it."""
        self.at += dt.timedelta(milliseconds=7)
        audit: dict[str, Any] = {"schema": "1"}
        signs = self.key is not None and event_type in SIGNED_TYPES
        if signs:
            metadata = {CHAIN: self.writer, **(metadata or {})}
        if metadata is not None:
            audit["metadata"] = metadata
        event = {"action": event_type, "id": f"e-{self.writer[:4]}-{self.chain.sequence + 1}"}
        stamp = self.at.isoformat(timespec="microseconds")[:26] + "Z"
        document = {"@timestamp": stamp, "audit": audit, "event": event, **fields}
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        sealed = self.chain.seal(canonical, len('{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{'))
        if signs:
            sealed = sign(sealed, self.key)
        self.chain.advance(sealed)
        self.written.append(sealed.payload)
        return sealed.payload

    def life(self, events: int = 6, *heads: dict[str, Any], stop: bool = True) -> Author:
        """Start, write some events with a checkpoint among them, and stop."""
        self.write("audit.started", {"checkpoint_seconds": 300, "heads": list(heads)})
        for number in range(events):
            self.write(user={"id": f"u-{number}"})
            if number == events // 2:
                self.write("audit.checkpoint", {"checkpoint_seconds": 300})
        if stop:
            self.write("audit.stopped", {})
        return self


def writer_id(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:20]


def author(number: int = 1, **options: Any) -> Author:
    return Author(writer_id(number), **options)


def verify(
    documents: Any,
    keys: TrustedKeys = KEYS.trusted,
    *,
    content_only: bool = False,
    believed: Any = (),
    retention_days: int = 90,
    streams: Any = (),
    **view: Any,
) -> Verdict:
    """Verify documents, bytes or (id, bytes), in the order in which they come; doubles are looked up among them."""
    documents = [each if isinstance(each, tuple) else (None, each) for each in documents]
    verification = Verification(keys, content_only=content_only, streams=streams)
    for doc_id, document in documents:
        verification.add(document, doc_id)
    for document in believed:
        verification.believe(document)
    verification.settle(document for _, document in documents)
    view.setdefault("now", EPOCH + dt.timedelta(minutes=10, seconds=30))  # what others saw has had its time to arrive
    view["periods"] = sorted(verification.claims.periods)
    return verification.verdict(View(retention=dt.timedelta(days=retention_days), keys=bool(keys), **view))


def found(verdict: Verdict) -> list[tuple[str, int]]:
    """Return kind and number of each finding."""
    return [(finding.kind, finding.sequence) for finding in verdict.findings]


def kinds(findings: Any) -> set[str]:
    return {finding.kind for finding in findings}


def edited(document: bytes, **changes: Any) -> bytes:
    """Return *document* with other content under the same seal; keys are dotted paths with ``__`` for the dot."""
    stored = orjson.loads(document)
    for path, value in changes.items():
        node = stored
        *steps, last = path.split("__")
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = value
    return orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)


def resealed(
    document: bytes, *, key: SigningKey | None = None, seal: dict[str, Any] | None = None, **changes: Any
) -> bytes:
    """Return *document* changed and sealed anew, as somebody does who knows how seals are made."""
    stored = orjson.loads(edited(document, **changes))
    old = {**stored["audit"]["integrity"], **(seal or {})}
    digest = digest_of(old["previous"], old["writer"], old["sequence"], canonical_form(stored))
    stored["audit"]["integrity"] = {**old, "hash": digest}
    if key is not None:
        stored["audit"]["integrity"] |= {"key": key.id, "signature": key.sign(signed_text(digest))}
    return orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)


def rechained(documents: list[bytes], start: int, **changes: Any) -> list[bytes]:
    """Return a chain of which event *start* was changed and everything behind it sealed anew."""
    chain = copy.copy(documents)
    chain[start] = resealed(chain[start], **changes)
    for index in range(start + 1, len(chain)):
        previous = orjson.loads(chain[index - 1])["audit"]["integrity"]["hash"]
        chain[index] = resealed(chain[index], seal={"previous": previous})
    return chain


def sentences(findings: tuple[Finding, ...]) -> str:
    return "\n".join(finding.sentence for finding in findings)
