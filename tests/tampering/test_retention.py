"""What retention removed is told from what somebody removed."""

import pytest

from audit_logging.query import AuditReader
from audit_logging.query.verification import run as verify
from tests.opensearch.travel import travelling

pytestmark = pytest.mark.server


@pytest.fixture
def trail(signing, settings, monkeypatch):
    """A stream whose days pass at will."""
    monkeypatch.setenv("AUDIT_SIGNING", "true")
    with travelling(settings.model_copy(update={"signing": True, "retention_days": 1})) as traveller:
        monkeypatch.setattr(verify, "now", traveller.clock)
        yield traveller


def verified(trail, client):
    trail.admin.close()  # whose own chain ends so, however much time has passed
    client.request("POST", f"/{trail.stream}/_refresh")
    with AuditReader(settings=trail.admin.settings) as reader:
        return reader.verify()


def test_what_was_sealed_and_left_in_its_time_is_a_note(trail, client):
    trail.emit("u-1", "u-2")
    trail.emit("u-3")
    trail.later(hours=24).apply()
    trail.later(minutes=11).apply()
    trail.emit("u-4")
    assert trail.later(hours=24).apply().deleted == [trail.name(1)]
    report = verified(trail, client)
    assert report.findings == ()
    assert {note.kind: note.count for note in report.notes}["retention"] >= 7


def test_what_was_sealed_and_left_before_its_time_is_not(trail, client):
    trail.emit("u-1")
    trail.later(hours=24).apply()
    assert trail.later(minutes=11).apply().sealed == [trail.name(1)]
    trail.client.request("DELETE", f"/{trail.name(1)}")
    report = verified(trail, client)
    assert report.findings
    assert "the retention period of" in report.findings[0].sentence


@pytest.mark.parametrize("event_type", ["hold_placed", "hold_released", "index_sealed", "retention_applied"])
def test_what_decides_over_deletion_is_signed(trail, event_type):
    hold = trail.admin.place_hold(reason="a case", person="ann", user_id="u-1")
    trail.admin.release_hold(hold.hold.id, reason="closed", person="ann")
    trail.emit("u-1")
    trail.later(hours=25).apply()
    trail.later(minutes=11).apply()
    body = {"query": {"term": {"event.action": f"audit.{event_type}"}}}
    trail.client.request("POST", f"/{trail.stream}/_refresh")
    hits = trail.client.request("POST", f"/{trail.stream}/_search", body=body)["hits"]["hits"]
    assert hits
    assert all("signature" in hit["_source"]["audit"]["integrity"] for hit in hits)
