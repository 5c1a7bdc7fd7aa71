"""A stream that a test fills with wire documents by hand, copies and altered copies included."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.opensearch.admin import AuditAdmin

if TYPE_CHECKING:
    from audit_logging.opensearch.client import Client
    from audit_logging.settings import Settings

Document = dict[str, Any]


def writer_id(name: str) -> str:
    """Return the id of the writer that tests call *name*: 20 hexadecimal digits, as every writer has."""
    return name if len(name) == 20 else name.encode().hex().rjust(20, "0")


class Trail:
    """Seals documents and creates them in the stream, as shipping does."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._sequences: Counter[str] = Counter()
        self._heads: dict[str, str] = {}
        with AuditAdmin(settings=settings) as admin:
            admin.setup()

    def add(self, *documents: Document, writer: str = "w1") -> list[Document]:
        """Seal the documents and store them; return them sealed."""
        sealed = [self.seal(document, writer) for document in documents]
        self.store(*sealed)
        return sealed

    def store(self, *sealed: Document) -> None:
        """Create sealed documents in the write index; after a rollover, the same ones a second time."""
        lines = []
        for document in sealed:
            seal = document["audit"]["integrity"]
            lines += [{"create": {"_id": f"{seal['writer']}-{seal['sequence']}"}}, document]
        self.bulk(lines)

    def bulk(self, lines: list[Document]) -> None:
        answer = self.client.request(
            "POST",
            f"/{self.settings.stream}/_bulk",
            params={"refresh": True},
            body=b"".join(orjson.dumps(line) + b"\n" for line in lines),
        )
        assert not answer["errors"], answer

    def rollover(self) -> None:
        """Begin a new backing index."""
        self.client.request("POST", f"/{self.settings.stream}/_rollover")

    def seal(self, document: Document, writer: str) -> Document:
        """Return the document as the writer's next."""
        writer = writer_id(writer)
        self._sequences[writer] += 1
        audit = dict(document.get("audit", {}))
        previous, sequence = self._heads.get(writer, "0" * 64), self._sequences[writer]
        digest = digest_of(previous, writer, sequence, canonical_form({**document, "audit": audit}))
        audit["integrity"] = {"hash": digest, "previous": previous, "sequence": sequence, "writer": writer}
        self._heads[writer] = digest
        return {**document, "audit": audit}


def altered(document: Document, **changes: Any) -> Document:
    """Return a sealed document as a forger would leave it: same place in the chain, another hash."""
    seal = {**document["audit"]["integrity"], "hash": hashlib.sha256(orjson.dumps(changes)).hexdigest()}
    return {**document, **changes, "audit": {**document["audit"], "integrity": seal}}


def event(
    event_id: str = "e",
    timestamp: str = "2026-03-01T12:00:00.000000Z",
    *,
    event_type: str = "user.login",
    outcome: str = "success",
    level: str = "info",
    category: list[str] | None = None,
    **fields: Any,
) -> Document:
    """Return an unsealed document; further *fields* are dotted paths with ``__`` for the dot."""
    document: Document = {
        "@timestamp": timestamp,
        "event": {"id": event_id, "action": event_type, "outcome": outcome, "category": category or ["authentication"]},
        "log": {"level": level},
        "message": f"{event_type} happened",
    }
    for path, value in fields.items():
        if value is None:
            continue
        node = document
        *steps, last = path.split("__")
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = value
    return document


def ids(events: Any) -> list[str]:
    return [each.id for each in events]
