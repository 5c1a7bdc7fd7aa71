"""Shipping through faults: nothing lost, nothing twice, one bad event harms no other."""

import logging

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.shipping.delivery import Delivery, StoppedError
from audit_logging.shipping.notices import Notices
from audit_logging.shipping.source import Source
from audit_logging.shipping.stream import Stream
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from tests.shipping.spools import write_spool

pytestmark = pytest.mark.server


def stored(client, settings):
    """Return the stored events' documents by writer and sequence, each of which must be there once."""
    client.request("POST", f"/{settings.stream}/_refresh")
    answer = client.request("POST", f"/{settings.stream}/_search", body={"size": 10_000, "seq_no_primary_term": True})
    found = [hit["_source"] for hit in answer["hits"]["hits"]]
    by_sequence = {source["audit"]["integrity"]["sequence"]: source for source in found}
    assert len(by_sequence) == len(found)
    return by_sequence


def emit(trail, count):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]


FAULTS = {
    "503 for the request": lambda proxy: proxy.status(503),
    "429 for the request": lambda proxy: proxy.status(429),
    "429 with a wish": lambda proxy: proxy.status(429, headers=[("Retry-After", "0")]),
    "502 as HTML": lambda proxy: proxy.status(502, b"<html>bad gateway</html>", "text/html"),
    "200 as HTML": lambda proxy: proxy.status(200, b"<html>welcome</html>", "text/html"),
    "200 for another request": lambda proxy: proxy.status(200, b'{"items":[]}'),
    "404 for the request": lambda proxy: proxy.status(404, b'{"error":{"type":"index_not_found_exception"}}'),
    "400 as HTML": lambda proxy: proxy.status(400, b"<html>bad request</html>", "text/html"),
    "400 without an error": lambda proxy: proxy.status(400, b"{}"),
    "400 of the cluster": lambda proxy: proxy.status(400, b'{"error":{"type":"validation_exception"}}'),
    "401": lambda proxy: proxy.status(401),
    "403": lambda proxy: proxy.status(403),
    "429 for half of the items": lambda proxy: proxy.items(429, "rejected_execution_exception"),
    "503 for all of the items": lambda proxy: proxy.items(503, "unavailable_shards_exception", every=1),
    "shard limit for half of the items": lambda proxy: proxy.items(400, "validation_exception"),
    "stored, then the connection broken": lambda proxy: proxy.store_then(),
    "stored, then half of the answer": lambda proxy: proxy.store_then_cut,
    "stored, then 504": lambda proxy: proxy.store_then_status(504),
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

    def test_a_batch_that_is_too_large_is_split_and_the_next_are_smaller(self, proxy, trail, client, settings):
        """413 halves the batch until it passes."""
        proxy.faults.append(proxy.too_large(4000))
        emit(trail, 30)
        assert trail.flush(20)
        assert sorted(stored(client, settings)) == list(range(1, 31))
        assert len(proxy.bulk_requests) > 3

    def test_a_request_refused_as_a_whole_is_split_until_the_culprit_is_alone(self, proxy, trail, client, settings):
        """A 400 without items speaks of one of them, and nobody knows of which."""

        def refuse_poison(handler, body):
            proxy.faults.append(refuse_poison)
            if b"poison" in body and b"quarantine" not in body:
                return handler.answer(400, b'{"error":{"type":"parse_exception","reason":"scripted"}}')
            return False

        proxy.faults.append(refuse_poison)
        emit(trail, 5)
        trail.emit("user.login", {"user_id": "poison"})
        emit(trail, 5)
        assert trail.flush(20)
        documents = stored(client, settings)
        assert sorted(documents) == list(range(1, 12))
        assert [number for number, found in documents.items() if "quarantine" in found["audit"]] == [6]

    def test_only_what_was_not_taken_is_sent_again(self, proxy, trail):
        """Items that are throttled go alone the second time."""
        proxy.faults.append(proxy.items(429, "rejected_execution_exception", every=5))
        emit(trail, 10)
        assert trail.flush(20)
        sent = [body.count(b"\n") // 2 for body in proxy.bulk_requests]
        assert sum(sent) == 10 + -(-sent[0] // 5)

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
        (writer,) = [path for path in settings.spool_path.iterdir() if len(path.name) == 20]
        assert {number: refusal.fate for number, refusal in Refusals(writer).read().items()} == dict.fromkeys(
            quarantined, "quarantined"
        )

    def test_quarantine_is_tried_again_like_anything_else(self, proxy, trail, client, settings):
        """A refused event whose quarantine meets a 503, a 429 and a lost answer still gets there."""
        refused = proxy.items(400, "mapper_parsing_exception", every=1)
        proxy.faults.extend([refused, proxy.status(503), proxy.items(429, "busy", every=1), proxy.store_then()])
        emit(trail, 1)
        assert trail.flush(20)
        assert "quarantine" in stored(client, settings)[1]["audit"]

    def test_what_even_quarantine_refuses_is_a_dead_letter_and_the_trail_says_so(self, proxy, trail, client, settings):
        """On disk, with the reason and the whole document; an event names it; the others go on."""
        proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=1)] * 2)
        trail.emit("user.login", {"user_id": "poison"})
        assert trail.flush(20)
        trail.emit("user.login", {"user_id": "fine"})
        assert trail.flush(20)
        letters = DeadLetters(settings.spool_path / "dead-letters", settings.stream)
        (letter,) = letters
        assert (letter.sequence, orjson.loads(letter.document)["user"]["id"]) == (1, "poison")
        assert "mapper_parsing_exception" in letter.reason
        assert letters.file_of(letter.id).stat().st_mode & 0o777 == 0o600
        told, fine = sorted(stored(client, settings).values(), key=lambda found: found["event"]["action"])
        assert fine["user"]["id"] == "fine"
        assert told["event"]["action"] == "audit.dead_lettered"
        assert told["event"]["reason"] == letter.reason
        assert told["audit"]["metadata"]["dead_letter"] == {
            "writer": letter.writer,
            "sequence": 1,
            "hash": orjson.loads(letter.document)["audit"]["integrity"]["hash"],
        }

    def test_a_dead_letter_that_speaks_of_a_dead_letter_speaks_of_no_other(self, proxy, trail, settings):
        """Where everything is refused the trail must not fill itself."""
        proxy.chance = lambda: proxy.items(400, "mapper_parsing_exception", every=1)
        emit(trail, 1)
        assert trail.flush(20)
        assert trail.flush(20)
        proxy.chance = None
        letters = DeadLetters(settings.spool_path / "dead-letters", settings.stream)
        assert [letter.event_type for letter in letters] == ["user.login", "audit.dead_lettered"]

    def test_a_stream_that_is_not_set_up_is_waited_for(self, prepared, client, caplog):
        """OpenSearch would make an ordinary, editable index of that name: nothing is sent until it is a stream."""
        other = prepared.model_copy(update={"stream": f"{prepared.stream}-later", "batch_seconds": 0.0})
        trail = Trail(other)
        with caplog.at_level(logging.WARNING, "audit_logging"):
            emit(trail, 1)
            assert not trail.flush(0.5)
        assert "audit-logging setup" in caplog.text
        AuditAdmin(settings=other).setup()
        assert trail.flush(20)
        assert trail.shutdown(5) == 0
        assert sorted(stored(client, other)) == [1]

    def test_an_ordinary_index_of_that_name_is_no_stream(self, prepared, client, caplog):
        """It would take events that anybody may change."""
        name = f"{prepared.stream}-ordinary"
        client.request("PUT", f"/{name}")
        trail = Trail(prepared.model_copy(update={"stream": name, "batch_seconds": 0.0}))
        with caplog.at_level(logging.WARNING, "audit_logging"):
            emit(trail, 1)
            assert not trail.flush(0.5)
        assert "is not set up as a stream" in caplog.text
        assert trail.shutdown(0) == 1


class Course:
    """A delivery of a spool's first batch, without threads."""

    def __init__(self, settings, directory, *, wait=lambda _: False):
        self.client = Client(settings)
        self.notices = Notices()
        self.dead_letters = DeadLetters(directory.parent / "dead-letters", settings.stream)
        self.source = Source(SpoolReader(directory), is_final=lambda: True)
        stream = Stream(self.client, settings.stream, self.notices)
        self.delivery = Delivery(self.client, stream, self.dead_letters, self.notices, wait=wait)

    def run(self):
        batch, _ = self.source.take(5_000_000)
        try:
            refused = self.delivery.deliver(self.source, batch)
        finally:
            self.client.close()
        self.source.settle(batch)
        return refused


class TestDelivery:
    def test_a_stop_ends_waiting_at_once(self, proxy, through_proxy, tmp_path):
        """Shutdown is bounded whatever the server does."""
        proxy.faults.extend([proxy.status(503)] * 100)
        stopping = iter([False, False, True])
        course = Course(through_proxy, write_spool(tmp_path, [b"{}"]), wait=lambda _: next(stopping))
        with pytest.raises(StoppedError):
            course.run()

    def test_what_is_no_event_at_all_becomes_a_dead_letter(self, through_proxy, tmp_path):
        """A damaged payload cannot be put in quarantine, and must not stop the others."""
        course = Course(through_proxy, write_spool(tmp_path, [b'{"no":"event"}']))
        assert set(course.run()) == {1}
        assert [letter.document for letter in course.dead_letters] == ['{"no":"event"}']

    def test_an_event_too_large_for_the_server_is_refused_alone(self, proxy, through_proxy, tmp_path):
        """413 for one event is a verdict on it."""
        proxy.faults.append(proxy.too_large(10))
        course = Course(through_proxy, write_spool(tmp_path, [b"{}", b"{}"]))
        assert set(course.run()) == {1, 2}

    def test_a_full_disk_keeps_the_refused_event_waiting(self, proxy, through_proxy, tmp_path, monkeypatch):
        """Nothing is sent under its id, and no letter is believed kept, before the disk has said so."""
        directory = write_spool(tmp_path, [b'{"no":"event"}'])
        failing = [OSError("no room"), OSError("no room")]
        keep = DeadLetters.keep

        def refuse_twice(*arguments):
            if failing:
                raise failing.pop()
            return keep(*arguments)

        monkeypatch.setattr(DeadLetters, "keep", refuse_twice)
        course = Course(through_proxy, directory)
        assert set(course.run()) == {1}
        assert len(list(course.dead_letters)) == 1
