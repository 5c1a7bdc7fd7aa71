"""Every field of the wire document is accepted and finds what it should."""

from __future__ import annotations

from typing import Any

import pytest

from audit_logging.opensearch.templates import blueprint

pytestmark = pytest.mark.server

EVENT: dict[str, Any] = {
    "@timestamp": "2026-03-01T10:00:00.000001Z",
    "message": "Anna signed in from Zürich",
    "tags": ["vip", "beta"],
    "labels": {"team": "red", "deep": {"er": "x"}},
    "log": {"level": "warning"},
    "event": {
        "id": "e-1", "action": "user.login", "category": ["authentication"], "type": ["start"], "kind": "event",
        "outcome": "failure", "severity": 50, "duration": 1_200_000_000, "reason": "bad password",
    },
    "user": {
        "id": "u-42", "name": "Anna", "email": "anna@example.com", "roles": ["admin", "staff"],
        "target": {"id": "u-43", "name": "Bob"}, "effective": {"id": "u-44"},
    },
    "organization": {"id": "t-1"},
    "source": {"ip": "203.0.113.7", "port": 40000},
    "client": {"ip": "2001:db8::1", "port": 443},
    "user_agent": {"original": "x" * 32_000},
    "url": {"path": "/login", "domain": "shop.example"},
    "http": {"request": {"id": "r-1", "method": "POST"}, "response": {"status_code": 401}, "route": "/login"},
    "trace": {"id": "4bf92f35"}, "span": {"id": "00f067aa"}, "session": {"id": "s-1"},
    "service": {"name": "shop", "version": "1.2", "environment": "production"},
    "host": {"name": "web-1"}, "process": {"pid": 4_194_304},
    "related": {"user": ["u-42", "u-43"], "ip": ["203.0.113.7", "2001:db8::1"]},
    "audit": {
        "schema": "1",
        "metadata": {"cart": {"total": "19.99", "items": "3"}, "list": ["a", "b"]},
        "changes": [
            {"field": "role", "before": "member", "after": {"role": ["admin", None, 1]}},
            {"field": "age", "before": 41, "after": None},
        ],
        "invalid": ["source_ip"],
        "integrity": {"writer": "w", "sequence": 9_007_199_254_740_993, "previous": "a" * 64, "hash": "b" * 64},
        "quarantine": {"type": "mapper_parsing_exception", "reason": "failed to parse field", "document": "y" * (1 << 20)},
    },
}  # fmt: skip

FINDS: list[dict[str, dict[str, Any]]] = [
    {"term": {"event.id": "e-1"}},
    {"term": {"event.action": "user.login"}},
    {"prefix": {"event.action": "user."}},
    {"term": {"event.category": "authentication"}},
    {"term": {"event.type": "start"}},
    {"term": {"event.kind": "event"}},
    {"term": {"event.outcome": "failure"}},
    {"range": {"event.severity": {"gte": 40}}},
    {"range": {"event.duration": {"gte": 1_000_000_000}}},
    {"match": {"event.reason": "PASSWORD"}},
    {"term": {"event.reason.keyword": "bad password"}},
    {"match_phrase": {"message": "signed in"}},
    {"term": {"tags": "beta"}},
    {"term": {"labels.team": "red"}},
    {"term": {"labels.deep.er": "x"}},
    {"term": {"log.level": "warning"}},
    {"term": {"user.id": "u-42"}},
    {"term": {"user.name": "Anna"}},
    {"term": {"user.email": "anna@example.com"}},
    {"term": {"user.roles": "staff"}},
    {"term": {"user.target.id": "u-43"}},
    {"term": {"user.target.name": "Bob"}},
    {"term": {"user.effective.id": "u-44"}},
    {"term": {"organization.id": "t-1"}},
    {"term": {"source.ip": "203.0.113.0/24"}},
    {"term": {"source.port": 40000}},
    {"term": {"client.ip": "2001:db8::/32"}},
    {"term": {"client.port": 443}},
    {"term": {"user_agent.original": "x" * 32_000}},
    {"term": {"url.path": "/login"}},
    {"term": {"http.route": "/login"}},
    {"term": {"url.domain": "shop.example"}},
    {"term": {"http.request.id": "r-1"}},
    {"term": {"http.request.method": "POST"}},
    {"range": {"http.response.status_code": {"gte": 400, "lt": 500}}},
    {"term": {"trace.id": "4bf92f35"}},
    {"term": {"span.id": "00f067aa"}},
    {"term": {"session.id": "s-1"}},
    {"term": {"service.name": "shop"}},
    {"term": {"service.version": "1.2"}},
    {"term": {"service.environment": "production"}},
    {"term": {"host.name": "web-1"}},
    {"term": {"process.pid": 4_194_304}},
    {"term": {"related.user": "u-43"}},
    {"term": {"related.ip": "2001:db8::1"}},
    {"term": {"audit.schema": "1"}},
    {"term": {"audit.metadata.cart.total": "19.99"}},
    {"term": {"audit.metadata.list": "b"}},
    {"term": {"audit.changes.field": "age"}},
    {"term": {"audit.invalid": "source_ip"}},
    {"term": {"audit.integrity.writer": "w"}},
    {"term": {"audit.integrity.sequence": 9_007_199_254_740_993}},
    {"term": {"audit.quarantine.type": "mapper_parsing_exception"}},
    {"match": {"audit.quarantine.reason": "parse"}},
]
MISSES: list[dict[str, dict[str, Any]]] = [
    {"term": {"user.name": "anna"}},
    {"term": {"user.id": "u"}},
    {"term": {"source.ip": "203.0.114.0/24"}},
    {"term": {"audit.integrity.sequence": 9_007_199_254_740_992}},
    {"term": {"audit.metadata.cart.total": "3"}},
]
NOT_SEARCHABLE = {
    "audit.changes.before", "audit.changes.after", "audit.quarantine.document",
    "audit.integrity.previous", "audit.integrity.hash",
}  # fmt: skip


def leaves(properties, prefix=""):
    """Yield the paths of the fields that are no plain objects."""
    for name, node in properties.items():
        if "properties" in node:
            yield from leaves(node["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name


def hits(client, stream, **body):
    client.request("POST", f"/{stream}/_refresh")
    return client.request("POST", f"/{stream}/_search", body=body)["hits"]["hits"]


@pytest.fixture
def stored(admin, client, stream):
    """A stream that holds the event above."""
    admin.setup()
    client.request("PUT", f"/{stream}/_create/w-1", body=EVENT)
    return stream


def test_every_field_accepts_its_value_and_finds_it_and_no_other(client, stored):
    for query in FINDS:
        assert [hit["_id"] for hit in hits(client, stored, query=query, _source=False)] == ["w-1"], query
    for query in MISSES:
        assert hits(client, stored, query=query, _source=False) == [], query


def test_no_field_is_left_out_of_the_test_above():
    asked = {next(iter(next(iter(query.values())))) for query in FINDS}
    mapped = set(leaves(blueprint().mappings["template"]["mappings"]["properties"]))
    searchable = mapped - NOT_SEARCHABLE - {"@timestamp", "labels", "audit.metadata"}
    assert searchable == {
        path for path in asked if not path.startswith(("labels.", "audit.metadata.", "event.reason."))
    }


def test_the_event_comes_back_as_it_went_in(client, stored):
    [hit] = hits(client, stored, query={"match_all": {}})
    assert hit["_source"] == EVENT


def test_microseconds_order_events(client, stored):
    for number, micros in enumerate((3, 0, 2)):
        event = {"@timestamp": f"2026-03-01T10:00:00.00000{micros}Z", "event": {"id": f"x-{number}"}}
        client.request("PUT", f"/{stored}/_create/x-{number}", body=event)
    found = hits(client, stored, sort=[{"@timestamp": "asc"}, {"event.id": "asc"}], _source=False)
    assert [hit["_id"] for hit in found] == ["x-1", "w-1", "x-2", "x-0"]


@pytest.mark.parametrize("field", ["event.id", "audit.integrity.sequence", "@timestamp", "user.id", "source.ip"])
def test_what_pages_and_statistics_need_can_be_sorted_by(client, stored, field):
    assert hits(client, stored, sort=[{field: "asc"}], _source=False)


def test_nothing_an_application_sends_grows_the_mapping(client, stored):
    before = client.request("GET", f"/{stored}/_mapping")
    event = {
        **EVENT,
        "unknown": {"a": 1},
        "user": {"id": "u", "shoe_size": 43},
        "audit": {"metadata": {f"k{number}": {"n": "1"} for number in range(2000)}},
    }
    client.request("PUT", f"/{stored}/_create/w-2", body=event)
    assert client.request("GET", f"/{stored}/_mapping") == before


def test_a_malformed_address_or_number_does_not_cost_the_event(client, stored):
    event = {
        "@timestamp": "2026-03-01T10:00:00Z",
        "source": {"ip": "not an address", "port": "many"},
        "http": {"response": {"status_code": "teapot"}},
        "event": {"id": "e-2"},
    }
    client.request("PUT", f"/{stored}/_create/w-2", body=event)
    [hit] = hits(client, stored, query={"exists": {"field": "_ignored"}})
    assert hit["_source"] == event
    assert sorted(hit["_ignored"]) == ["http.response.status_code", "source.ip", "source.port"]


@pytest.mark.parametrize("value", ["text", 1, True, None, [1, [2]], {"a": [{}]}, "z" * 100_000])
def test_a_change_and_a_refused_document_may_be_any_json(client, stored, value):
    audit = {"changes": [{"field": "f", "before": value, "after": value}], "quarantine": {"document": value}}
    client.request("PUT", f"/{stored}/_create/w-2", body={"@timestamp": "2026-03-01T10:00:00Z", "audit": audit})
    [hit] = hits(client, stored, query={"ids": {"values": ["w-2"]}})
    assert hit["_source"]["audit"] == audit
