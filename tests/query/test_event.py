"""An event as it is read back."""

from __future__ import annotations

import datetime as dt

from audit_logging.query import Event

DOCUMENT = {
    "@timestamp": "2026-03-01T12:00:00.123456Z",
    "audit": {"metadata": {"a": {"b": 1}}, "changes": [{"field": "role", "before": 1, "after": 2}]},
    "event": {
        "action": "user.login",
        "category": ["authentication"],
        "id": "e",
        "outcome": "failure",
        "reason": "late",
    },
    "http": {"request": {"id": "r"}},
    "log": {"level": "warning"},
    "message": "m",
    "organization": {"id": "t"},
    "service": {"name": "shop"},
    "source": {"ip": "203.0.113.7"},
    "user": {"id": "u", "name": "n", "target": {"id": "v"}},
}


def test_every_property_reads_its_field():
    event = Event(DOCUMENT)
    assert event.to_dict() is event.document is DOCUMENT
    assert event.timestamp == dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.timezone.utc)
    assert (event.id, event.event_type, event.severity, event.outcome) == ("e", "user.login", "warning", "failure")
    assert (event.user_id, event.user_name, event.target_user_id, event.source_ip) == ("u", "n", "v", "203.0.113.7")
    assert (event.organization_id, event.service, event.request_id) == ("t", "shop", "r")
    assert (event.message, event.reason, event.categories) == ("m", "late", ("authentication",))
    assert (event.metadata, event.changes) == ({"a": {"b": 1}}, DOCUMENT["audit"]["changes"])
    assert (event.get("audit.metadata.a.b"), event.get("audit.metadata.a.b.c"), event.get("no", 5)) == (1, None, 5)


def test_what_is_missing_is_none_or_empty():
    event = Event({"@timestamp": "2026-03-01T12:00:00Z"})
    assert (event.id, event.event_type, event.severity, event.message) == ("", "", "", "")
    assert (event.outcome, event.user_id, event.source_ip, event.reason) == (None, None, None, None)
    assert (event.metadata, event.changes, event.categories) == ({}, [], ())


def test_fields_of_another_shape_than_ours_do_not_raise():
    event = Event({"event": {"category": "iam", "id": 7}, "user": "u", "audit": {"metadata": 1, "changes": {}}})
    assert (event.categories, event.id, event.user_id, event.metadata, event.changes) == (("iam",), "7", None, {}, [])
