"""Shipping through faults: nothing lost, nothing twice, one bad event harms no other."""

import logging
from pathlib import Path

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.shipping.delivery import Delivery, StoppedError
from audit_logging.spool.segment import Record
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.server


@pytest.fixture
def proxy(settings):
    AuditAdmin(settings=settings).setup()
    with FaultProxy(settings.opensearch_url[0]) as proxy:
        yield proxy


@pytest.fixture
def trail(settings, proxy):
    trail = Trail(settings.model_copy(update={"opensearch_url": (proxy.url,), "batch_seconds": 0.02}))
    yield trail
    assert trail.shutdown(5) == 0


def stored(client, settings):
    """Return the stored events' documents by sequence, each of which must be there once."""
    client.request("POST", f"/{settings.stream}/_refresh")
    answer = client.request("POST", f"/{settings.stream}/_search", body={"size": 10_000, "seq_no_primary_term": True})
    found = [hit["_source"] for hit in answer["hits"]["hits"]]
    by_sequence = {source["audit"]["integrity"]["sequence"]: source for source in found}
    assert len(by_sequence) == len(found)
    return by_sequence


def emit(trail, count):
    for number in range(count):
        trail.emit("user.login", {"user_id": f"u-{number}"})


FAULTS = {
    "503 for the request": lambda proxy: proxy.status(503),
    "429 for the request": lambda proxy: proxy.status(429),
    "502 as HTML": lambda proxy: proxy.status(502, b"<html>bad gateway</html>", "text/html"),
    "200 as HTML": lambda proxy: proxy.status(200, b"<html>welcome</html>", "text/html"),
    "200 for another request": lambda proxy: proxy.status(200, b'{"items":[]}'),
    "401": lambda proxy: proxy.status(401),
    "403": lambda proxy: proxy.status(403),
    "429 for half of the items": lambda proxy: proxy.items(429, "rejected_execution_exception"),
    "503 for all of the items": lambda proxy: proxy.items(503, "unavailable_shards_exception", every=1),
    "shard limit for half of the items": lambda proxy: proxy.items(400, "validation_exception"),
    "stored, then the connection broken": lambda proxy: proxy.store_then_drop,
    "the connection broken": lambda proxy: proxy.drop,
}


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_every_event_arrives_once_in_spite_of(self, fault, proxy, trail, client, settings):
        """Three times the same fault, then peace: all are there, once, without a gap."""
        proxy.faults.extend([fault(proxy)] * 3)
        emit(trail, 20)
        assert trail.flush(20)
        assert sorted(stored(client, settings)) == list(range(1, 21))

    def test_a_batch_that_is_too_large_is_split(self, proxy, trail, client, settings):
        """413 halves the batch until it passes."""
        proxy.faults.append(proxy.too_large(4000))
        emit(trail, 30)
        assert trail.flush(20)
        assert sorted(stored(client, settings)) == list(range(1, 31))
        assert len(proxy.bulk_requests) > 3

    def test_one_refused_event_harms_no_other_and_is_quarantined_under_its_own_number(
        self, proxy, trail, client, settings, caplog
    ):
        """The stand-in keeps the seal, so the sequence has no gap."""
        proxy.faults.append(proxy.items(400, "mapper_parsing_exception", every=2))
        emit(trail, 3)
        with caplog.at_level(logging.ERROR, "audit_logging"):
            assert trail.flush(20)
        documents = stored(client, settings)
        assert sorted(documents) == [1, 2, 3]
        quarantined = [number for number, document in documents.items() if "quarantine" in document["audit"]]
        assert quarantined
        for number in quarantined:
            refused = orjson.loads(documents[number]["audit"]["quarantine"]["document"])
            assert refused["user"]["id"] == f"u-{number - 1}"
            assert refused["audit"]["integrity"] == documents[number]["audit"]["integrity"]
        assert "is in quarantine" in caplog.text

    def test_what_even_quarantine_refuses_is_kept_as_a_dead_letter(self, proxy, trail, client, settings):
        """On disk, with the reason and the whole document; the others go on."""
        proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=1)] * 2)
        trail.emit("user.login", {"user_id": "poison"})
        assert trail.flush(20)
        trail.emit("user.login", {"user_id": "fine"})
        assert trail.flush(20)
        assert [document["user"]["id"] for document in stored(client, settings).values()] == ["fine"]
        (letter,) = DeadLetters(settings.spool_path / "dead-letters")
        assert (letter["sequence"], orjson.loads(letter["document"])["user"]["id"]) == (1, "poison")
        assert "mapper_parsing_exception" in letter["reason"]
        files = list(Path(settings.spool_path / "dead-letters").iterdir())
        assert [path.stat().st_mode & 0o777 for path in files] == [0o600]

    def test_a_stream_that_is_not_set_up_is_waited_for(self, proxy, client, settings, caplog):
        """OpenSearch would make an ordinary, editable index of that name: nothing is sent until it is a stream."""
        other = settings.model_copy(update={"stream": f"{settings.stream}-later", "batch_seconds": 0.0})
        trail = Trail(other)
        with caplog.at_level(logging.WARNING, "audit_logging"):
            emit(trail, 1)
            assert not trail.flush(0.5)
        assert "audit-logging setup" in caplog.text
        AuditAdmin(settings=other).setup()
        assert trail.flush(20)
        assert trail.shutdown(5) == 0
        assert sorted(stored(client, other)) == [1]


class TestDelivery:
    def test_a_stop_ends_waiting_at_once(self, proxy, settings, tmp_path):
        """Shutdown is bounded whatever the server does."""
        proxy.faults.extend([proxy.status(503)] * 100)
        client = Client(settings.model_copy(update={"opensearch_url": (proxy.url,)}))
        stopping = iter([False, False, True])
        delivery = Delivery(client, settings.stream, DeadLetters(tmp_path), lambda _: next(stopping))
        with pytest.raises(StoppedError):
            delivery.deliver([Record(1, b"{}")], "w")
        client.close()

    def test_what_is_no_event_at_all_becomes_a_dead_letter(self, proxy, settings, tmp_path):
        """A damaged payload cannot be put in quarantine, and must not stop the others."""
        client = Client(settings.model_copy(update={"opensearch_url": (proxy.url,)}))
        delivery = Delivery(client, settings.stream, DeadLetters(tmp_path / "dead"), lambda _: False)
        assert set(delivery.deliver([Record(1, b'{"no":"event"}')], "w")) == {1}
        assert [letter["document"] for letter in DeadLetters(tmp_path / "dead")] == ['{"no":"event"}']
        client.close()

    def test_quarantine_is_tried_again_like_anything_else(self, proxy, trail, client, settings, monkeypatch):
        """A refused event whose quarantine meets a 503 and a 429 still gets there."""
        refused = proxy.items(400, "mapper_parsing_exception", every=1)
        proxy.faults.extend([refused, proxy.status(503), proxy.items(429, "busy", every=1)])
        emit(trail, 1)
        assert trail.flush(20)
        assert "quarantine" in stored(client, settings)[1]["audit"]

    def test_an_event_too_large_for_the_server_is_refused_alone(self, proxy, settings, tmp_path):
        """413 for one event is a verdict on it."""
        proxy.faults.append(proxy.too_large(10))
        client = Client(settings.model_copy(update={"opensearch_url": (proxy.url,)}))
        delivery = Delivery(client, settings.stream, DeadLetters(tmp_path / "dead"), lambda _: False)
        assert set(delivery.deliver([Record(1, b"{}"), Record(2, b"{}")], "w")) == {1, 2}
        client.close()
