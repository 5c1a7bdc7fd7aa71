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


def pass_days(trail, days):
    """Let days pass with a daily apply, and a second one once what was rolled over has settled."""
    for day in range(days):
        trail.emit(f"u-{day}")
        trail.later(hours=24).apply()
        trail.later(minutes=11).apply()


def test_a_writer_that_outlives_the_seals_of_its_first_indices_loses_nothing(trail, client):
    """The administrator's own chain runs through all of them."""
    pass_days(trail, 6)
    assert int(trail.indices()[0]) > 4, "indices have left, and those that held their seals"
    report = verified(trail, client)
    assert report.findings == ()
    assert {note.kind: note.count for note in report.notes}["retention"] > 6


def test_a_seal_tells_of_its_writers_what_the_earlier_ones_told(trail, client):
    pass_days(trail, 3)
    body = {"query": {"term": {"event.action": "audit.index_sealed"}}, "size": 100}
    client.request("POST", f"/{trail.stream}/_refresh")
    seals = client.request("POST", f"/{trail.stream}/_search", body=body)["hits"]["hits"]
    told = [
        each["before"] for hit in seals for each in hit["_source"]["audit"]["metadata"]["writers"] if "before" in each
    ]
    assert told
    for each in told:
        assert each.keys() == {"first", "last", "hash", "events", "newest"}
        assert each["first"] == 1
        assert each["events"] == each["last"]


@pytest.mark.parametrize("setting", [1, 90, 365])
def test_the_period_that_was_applied_counts_and_no_setting(trail, client, setting):
    pass_days(trail, 2)
    trail.admin.close()
    client.request("POST", f"/{trail.stream}/_refresh")
    with AuditReader(settings=trail.admin.settings.model_copy(update={"retention_days": setting})) as reader:
        assert reader.verify().findings == ()
        assert reader.verify(from_last=True).findings == ()


def test_what_was_deleted_by_hand_within_the_applied_period_is_found(trail, client):
    """Whatever period the one who verifies has set."""
    trail.days = 12
    trail.emit("u-1")
    trail.roll_over()
    trail.later(minutes=11).apply()
    client.request("DELETE", f"/{trail.name(1)}")
    trail.later(days=5)
    report = verified(trail, client)
    assert any("the retention period of" in finding.sentence for finding in report.findings)
