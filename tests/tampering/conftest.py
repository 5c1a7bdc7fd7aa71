"""A small trail of real writers in a stream that forbids nothing, and somebody with every right on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query import AuditReader
from audit_logging.query.export.view import MOST_INDICES
from audit_logging.query.verification import run as verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.opensearch.client import Client
    from audit_logging.query.verification.report import VerifyReport
    from audit_logging.settings import Settings

Document = dict[str, Any]


class History:
    """What three writers wrote: one for long, one in the middle of it and short, and one that saw both.

    Attributes:
        long, short, witness: Ids of the writers.
    """

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        with AuditAdmin(settings=settings) as admin:
            admin.setup(append_only=False)
        long, short, witness = (Trail(settings) for _ in range(3))
        self.long, self.short, self.witness = long.writer_id, short.writer_id, witness.writer_id
        self._emit(long, 60)
        long._checkpoint()
        self._emit(short, 3)
        assert short.shutdown(10) == 0
        self._emit(witness, 4)
        assert long.flush(10)
        assert witness.flush(10)
        self.rollover()
        self._emit(long, 60)
        assert long.shutdown(10) == 0
        assert witness.shutdown(10) == 0
        self.refresh()

    def _emit(self, trail: Trail, count: int) -> None:
        for number in range(count):
            trail.emit("user.login", {"user_id": f"u-{number}"})

    def rollover(self) -> None:
        self.client.request("POST", f"/{self.settings.stream}/_rollover")

    def refresh(self) -> None:
        self.client.request("POST", f"/{self.settings.stream}/_refresh")

    def documents(self, writer: str | None = None) -> dict[str, Document]:
        """Return what is stored, by id, in the order of writers and sequences."""
        body = {"size": MOST_INDICES, "sort": ["audit.integrity.writer", "audit.integrity.sequence"]}
        hits = self.client.request("POST", f"/{self.settings.stream}/_search", body=body)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits if writer is None or hit["_id"].startswith(writer)}

    def hits(self, *doc_ids: str) -> list[Document]:
        body = {"size": MOST_INDICES, "query": {"ids": {"values": list(doc_ids)}}, "seq_no_primary_term": True}
        hits: list[Document] = self.client.request("POST", f"/{self.settings.stream}/_search", body=body)["hits"][
            "hits"
        ]
        return hits

    def index_of(self, doc_id: str) -> str:
        return str(self.hits(doc_id)[0]["_index"])

    def indices(self) -> list[str]:
        stream = self.client.request("GET", f"/_data_stream/{self.settings.stream}")["data_streams"][0]
        return [index["index_name"] for index in stream["indices"]]

    def put(self, documents: dict[str, Document]) -> None:
        """Write documents over those with these ids."""
        lines = []
        for hit in self.hits(*documents):
            where = {"_index": hit["_index"], "_id": hit["_id"]}
            where |= {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
            lines += [{"index": where}, documents[hit["_id"]]]
        self.bulk(*lines)

    def create(self, doc_id: str, document: Document) -> None:
        self.bulk({"create": {"_id": doc_id}}, document)

    def bulk(self, *lines: Document) -> None:
        body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        answer = self.client.request("POST", f"/{self.settings.stream}/_bulk", params={"refresh": True}, body=body)
        assert not answer["errors"], answer

    def delete(self, *doc_ids: str) -> None:
        body = {"query": {"ids": {"values": list(doc_ids)}}}
        params = {"refresh": True, "conflicts": "proceed"}
        answer = self.client.request(
            "POST", f"/{self.settings.stream}/_delete_by_query", params=params, body=body, timeout=30
        )
        assert answer["deleted"] == len(doc_ids)

    def verify(self, **settings: Any) -> VerifyReport:
        with AuditReader(settings=self.settings.model_copy(update=settings)) as reader:
            return reader.verify()

    def found(self, **settings: Any) -> list[tuple[str, str, int]]:
        """Return kind, writer and number of what verification finds."""
        return [(each.kind, each.writer, each.sequence) for each in self.verify(**settings).findings]


@pytest.fixture
def signing(monkeypatch) -> None:
    """Sign, and do not wait for what a test took away to arrive after all."""
    monkeypatch.setenv("AUDIT_SIGNING", "true")
    monkeypatch.setattr(verify, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def history(signing, settings, client) -> Iterator[History]:
    history = History(settings, client)
    assert history.verify().findings == ()
    return history
