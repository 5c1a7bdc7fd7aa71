"""Nothing counts as stored that was not seen to be: ids that are taken, wrong places, errors of one event alone."""

from __future__ import annotations

import json
import logging

import orjson
import pytest

from audit_logging.capture.sidecar import sidecar
from audit_logging.capture.trail import Trail
from audit_logging.errors import NotIndexedError
from audit_logging.query import AuditReader
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.shipping.delivery import MOST_SERVER_ERRORS

from .test_delivery import emit, stored

pytestmark = pytest.mark.server


def letters_of(settings):
    return list(DeadLetters(settings.spool_path / "dead-letters", settings.stream))


def occupy(client, settings, writer, *numbers):
    """Somebody who may create puts documents under ids that the application has not used yet."""
    for number in numbers:
        seal = {"hash": "f" * 64, "previous": "0" * 64, "sequence": number, "writer": writer}
        document = {
            "@timestamp": "2026-01-01T00:00:00.000000Z",
            "audit": {"integrity": seal, "schema": "1"},
            "event": {"id": "x"},
        }
        client.request("PUT", f"/{settings.stream}/_create/{writer}-{number}", body=document)


class TestTakenIds:
    def test_event_whose_id_is_taken_is_kept_and_told_of(self, trail, client, settings, caplog):
        occupy(client, settings, trail.writer_id, 3, 5)
        with caplog.at_level(logging.CRITICAL, "audit_logging"):
            emit(trail, 6)
            assert trail.flush(20)
        assert sorted(letter.sequence for letter in letters_of(settings)) == [3, 5]
        assert {orjson.loads(letter.document)["user"]["id"] for letter in letters_of(settings)} == {"u-2", "u-4"}
        assert "another document is stored under its id" in caplog.text
        assert {1, 2, 4, 6} <= stored(client, settings).keys()

    def test_event_whose_id_is_taken_is_not_indexed(self, trail, client, settings):
        occupy(client, settings, trail.writer_id, 1)
        with pytest.raises(NotIndexedError, match="another document"):
            trail.emit("user.login", {"user_id": "u-1"}, "indexed")

    def test_verification_names_what_took_the_id(self, trail, client, settings):
        occupy(client, settings, trail.writer_id, 2)
        emit(trail, 3)
        assert trail.flush(20)
        client.request("POST", f"/{settings.stream}/_refresh")
        with AuditReader(settings=settings) as reader:
            assert ("edited", 2) in {(each.kind, each.sequence) for each in reader.verify().findings}

    def test_role_that_may_not_look_takes_no_id_for_stored_that_it_never_sent(self, proxy, trail, client, settings):
        proxy.forbidden = ("/_data_stream/", "/_mget")
        occupy(client, settings, trail.writer_id, 2)
        emit(trail, 3)
        assert trail.flush(20)
        assert [letter.sequence for letter in letters_of(settings)] == [2]

    def test_role_that_may_not_look_stores_once_what_it_sent_before(self, proxy, trail, client, settings):
        proxy.forbidden = ("/_data_stream/", "/_mget")
        proxy.faults.append(proxy.store_then())
        emit(trail, 3)
        assert trail.flush(20)
        assert letters_of(settings) == []
        assert sorted(stored(client, settings)) == [1, 2, 3]


def changed_items(proxy, change):
    """Let the server store everything, and change what it says of each item."""

    def fault(handler, body):
        proxy.faults.append(fault)
        status, answer = proxy.forward(handler.command, handler.path, handler.headers, body)
        items = [{"create": change(item["create"])} for item in json.loads(answer)["items"]]
        handler.answer(status, json.dumps({"items": items}).encode())

    return fault


class TestWrongPlaces:
    def test_event_stored_under_another_id_is_kept(self, proxy, trail, settings):
        """As an ingest pipeline that sets ``_id`` does."""
        proxy.faults.append(changed_items(proxy, lambda item: item | {"_id": "elsewhere"}))
        emit(trail, 2)
        assert trail.flush(20)
        assert [letter.sequence for letter in letters_of(settings)] == [1, 2]

    def test_event_stored_in_an_ordinary_index_is_sent_again(self, proxy, trail, client, settings):
        """As OpenSearch does where the stream and its template were deleted."""

        def ordinary(handler, body):
            proxy.faults.append(ordinary)
            ids = [json.loads(line)["create"]["_id"] for line in body.split(b"\n")[:-1:2]]
            items = [{"create": {"_index": settings.stream, "_id": each, "status": 201}} for each in ids]
            handler.answer(200, json.dumps({"items": items}).encode())

        proxy.faults.append(ordinary)
        emit(trail, 2)
        assert not trail.flush(1)
        proxy.faults.clear()
        assert trail.flush(20)
        assert sorted(stored(client, settings)) == [1, 2]
        assert letters_of(settings) == []


def failing_for(proxy, mark, status, *, stand_ins=False):
    """Answer *status* for every event that holds *mark*, for ever; pass the others on."""

    def fault(handler, body):
        proxy.faults.append(fault)
        lines = body.split(b"\n")[:-1]
        pairs = [lines[at : at + 2] for at in range(0, len(lines), 2)]
        bad = [mark in pair[1] and (stand_ins or b'"quarantine"' not in pair[1]) for pair in pairs]
        passed = [pair for pair, is_bad in zip(pairs, bad, strict=True) if not is_bad]
        items = iter([])
        if passed:
            good = b"".join(b"\n".join(pair) + b"\n" for pair in passed)
            items = iter(json.loads(proxy.forward(handler.command, handler.path, handler.headers, good)[1])["items"])
        error = {"create": {"status": status, "error": {"type": "runtime_exception", "reason": "scripted"}}}
        handler.answer(200, json.dumps({"items": [error if is_bad else next(items) for is_bad in bad]}).encode())

    return fault


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr("audit_logging.shipping.backoff.LONGEST_SECONDS", 0.05)


class TestOneEvent:
    @pytest.mark.parametrize("stand_ins", [False, True], ids=["quarantine", "dead letter"])
    def test_event_that_alone_meets_server_errors_holds_up_no_other(
        self, proxy, trail, client, settings, quick_retries, stand_ins
    ):
        proxy.faults.append(failing_for(proxy, b"mallory", 500, stand_ins=stand_ins))
        emit(trail, 3)
        trail.emit("user.login", {"user_id": "mallory"})
        for _ in range(4 * MOST_SERVER_ERRORS):
            emit(trail, 2)
            trail.flush(0.2)
        assert trail.flush(20)
        documents = stored(client, settings)
        assert len(letters_of(settings)) == stand_ins
        assert ("quarantine" in documents.get(4, {}).get("audit", {})) is not stand_ins

    def test_server_that_fails_for_all_puts_nobody_into_quarantine(self, proxy, trail, client, settings, quick_retries):
        fault = failing_for(proxy, b"", 500, stand_ins=True)
        proxy.faults.append(fault)
        emit(trail, 3)
        assert not trail.flush(2)
        assert len(proxy.bulk_requests) > MOST_SERVER_ERRORS
        proxy.faults.clear()
        assert trail.flush(20)
        assert not [number for number, found in stored(client, settings).items() if "quarantine" in found["audit"]]
        assert letters_of(settings) == []

    def test_dead_letters_of_a_sidecar_beget_no_others(self, proxy, prepared_spool, settings):
        """Where every event is refused, the library's own included."""
        refused = failing_for(proxy, b"", 400, stand_ins=True)
        proxy.faults.append(refused)
        shipper = sidecar(prepared_spool)
        shipper.start()
        assert shipper.finish(30)
        letters = letters_of(prepared_spool)
        own = [letter for letter in letters if letter.event_type.startswith("audit.")]
        assert len(letters) - len(own) == 5
        # One writer tells of the five, and nobody tells of what it says.
        assert len({letter.writer for letter in own}) <= 1
        again = sidecar(prepared_spool)
        again.start()
        assert again.finish(30)
        assert len(letters_of(prepared_spool)) == len(letters)


@pytest.fixture
def prepared_spool(settings, proxy):
    """A spool of five events that a process left, to be shipped through the proxy."""
    behind = settings.model_copy(update={"opensearch_url": (proxy.url,)})
    trail = Trail(behind.model_copy(update={"ship": False}))
    emit(trail, 5)
    trail.shutdown(0)
    return behind


def test_event_that_alone_meets_server_errors_is_settled_in_an_idle_process(
    proxy, trail, client, settings, quick_retries
):
    """Nothing else is emitted, so that no other request shows whether the server works."""
    emit(trail, 3)
    assert trail.flush(20)
    proxy.faults.append(failing_for(proxy, b"mallory", 500))
    emit(trail, 3)
    trail.emit("user.login", {"user_id": "mallory"})
    emit(trail, 3)
    assert trail.flush(20)
