"""The filter and the DSL it becomes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import FilterError
from audit_logging.query.dsl import query_of
from audit_logging.query.filter import Conditions, Filter

NOW = dt.datetime(2026, 3, 15, tzinfo=dt.timezone.utc)


def dsl(**conditions):
    return query_of(Filter.of(**conditions).at(NOW))


def test_no_condition_finds_everything():
    assert dsl() == {"match_all": {}}
    assert dsl(user_id=None) == {"match_all": {}}


def test_every_condition_has_a_negative():
    names = list(Conditions.model_fields)
    assert sorted(Filter.conditions()) == sorted([*names, *(f"not_{name}" for name in names)])


def test_one_value_and_several():
    assert dsl(user_id="a") == {"bool": {"filter": [{"term": {"user.id": "a"}}]}}
    assert dsl(user_id=["b", "a", "b"]) == {"bool": {"filter": [{"terms": {"user.id": ["a", "b"]}}]}}
    assert dsl(not_user_id={"a"}) == {"bool": {"must_not": [{"term": {"user.id": "a"}}]}}
    assert dsl(user_id=7) == dsl(user_id="7")
    assert dsl(request_id=UUID(int=1)) == dsl(request_id="00000000-0000-0000-0000-000000000001")


def test_only_a_star_is_a_wildcard_and_only_in_event_types():
    [either] = dsl(event_type=["user.*", "a?\\b*", "data.accessed", "x?"])["bool"]["filter"]
    assert either["bool"]["should"] == [
        {"terms": {"event.action": ["data.accessed", "x?"]}},
        {"wildcard": {"event.action": {"value": "a\\?\\\\b*"}}},
        {"wildcard": {"event.action": {"value": "user.*"}}},
    ]
    assert "wildcard" not in json.dumps(dsl(user_id="*", resource="*", metadata={"a": "*"}, service="*"))


def test_severity_means_at_least():
    assert dsl(min_severity="warning")["bool"]["filter"] == [{"terms": {"log.level": ["warning", "critical"]}}]
    assert dsl(min_severity="critical")["bool"]["filter"] == [{"term": {"log.level": "critical"}}]
    assert dsl(not_min_severity="critical") == {"bool": {"must_not": [{"term": {"log.level": "critical"}}]}}


def test_times_are_from_inclusive_to_exclusive():
    [period] = dsl(since="-1d", until="2026-03-14T12:00:00.000001Z")["bool"]["filter"]
    assert period["range"]["@timestamp"]["gte"] == "2026-03-14T00:00:00.000000Z"
    assert period["range"]["@timestamp"]["lt"] == "2026-03-14T12:00:00.000001Z"


def test_not_since_a_time_is_until_then():
    assert dsl(not_since="-1d", not_until="-2d") == dsl(since="-2d", until="-1d")
    assert dsl(since="-9d", not_until="-2d", until="now", not_since="-1d") == dsl(since="-2d", until="-1d")
    with pytest.raises(FilterError, match=r"since .* lies after until"):
        Filter.of(not_since="-2d", not_until="-1d").at(NOW)  # never both


def test_a_relative_time_must_be_resolved_before_it_is_asked_for():
    with pytest.raises(FilterError, match="make the filter absolute"):
        query_of(Filter.of(since="-1d"))


def test_since_after_until_is_an_error():
    with pytest.raises(FilterError, match=r"since .* lies after until"):
        Filter.of(since="2026-03-02", until="2026-03-01").at(NOW)
    Filter.of(since="2026-03-02", until="2026-03-02").at(NOW)


def test_metadata_values_are_compared_as_they_are_stored():
    asked = {"i": 5, "f": 1.5, "t": True, "s": "x", "d": Decimal("2.50"), "many": [1, "1", 2.0]}
    assert dsl(metadata=asked)["bool"]["filter"] == [
        {"term": {"audit.metadata.d": "2.50"}},
        {"term": {"audit.metadata.f": "1.5"}},
        {"term": {"audit.metadata.i": "5"}},
        {"terms": {"audit.metadata.many": ["1", "2.0"]}},
        {"term": {"audit.metadata.s": "x"}},
        {"term": {"audit.metadata.t": "true"}},
    ]
    assert len(dsl(not_metadata={"a": 1, "b": 2})["bool"]["must_not"]) == 2


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "*", "a.*", "a?", "a=b", "a\n", "\ud800", 5, "..integrity.hash"]
)
def test_no_metadata_path_leaves_the_metadata(path):
    with pytest.raises(FilterError, match="Filter 'metadata' is wrong"):
        Filter.of(metadata={path: "x"})


@given(st.text())
def test_whatever_the_path_the_field_lies_within_the_metadata(path):
    try:
        query = dsl(metadata={path: "x"})
    except FilterError:
        return
    [[field]] = [clause["term"].keys() for clause in query["bool"]["filter"]]
    assert field == f"audit.metadata.{path}"
    assert "*" not in field


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (ipaddress.ip_address("203.0.113.7"), "203.0.113.7"),
        (ipaddress.ip_network("203.0.113.0/24"), "203.0.113.0/24"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1/64", "2001:db8::/64"),
    ],
)
def test_addresses_have_one_form(given, means):
    assert dsl(source_ip=given)["bool"]["filter"] == [{"term": {"source.ip": means}}]


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({"user_name": "u"}, "There is no filter 'user_name'; did you mean 'user_id'?"),
        ({"since_": "u"}, "did you mean 'since'"),
        ({"zzz": "u"}, "There is no filter 'zzz'; there are user, user_id, effective_user_id, target_user_id,"),
        ({"not_limit": 1}, "There is no filter 'not_limit'"),
        ({"outcome": "failed"}, "Filter 'outcome' is wrong: 'failed' is none of success, failure, unknown."),
        ({"min_severity": "error"}, "Filter 'min_severity' is wrong: Input should be 'info', 'warning' or 'critical'."),
        ({"source_ip": "10.0.0.300"}, "Filter 'source_ip' is wrong: '10.0.0.300' is no address or network"),
        ({"source_ip": "fe80::1%eth0"}, "is no address or network"),
        ({"user_id": []}, "Filter 'user_id' is wrong: the list is empty"),
        ({"user_id": True}, "Filter 'user_id' is wrong: give text, not bool."),
        ({"user_id": {"a": 1}}, "Filter 'user_id' is wrong: give text, not dict."),
        ({"user_id": ["x"] * 1001}, "at most 1000 values at once, not 1001"),
        ({"user_id": "\ud800"}, "half a character"),
        ({"event_type": "*a" * 200}, "a pattern has at most 256 characters"),
        ({"text": ""}, "Filter 'text' is wrong"),
        ({"text": "x" * 1001}, "Filter 'text' is wrong"),
        ({"metadata": "a=b"}, "give a mapping of path to value"),
        ({"metadata": {}}, "give a mapping of path to value"),
        ({"metadata": {"a": None}}, "metadata is compared with text, numbers and booleans, not NoneType."),
        ({"metadata": {"a": {"b": 1}}}, "metadata is compared with text, numbers and booleans, not dict."),
        ({"since": "soon"}, "'soon' is not a time"),
    ],
)
def test_what_is_malformed_is_one_clear_sentence(conditions, sentence):
    with pytest.raises(FilterError) as raised:
        Filter.of(**conditions)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_digest_tells_questions_apart():
    one = Filter.of(user_id=["a", "b"], since="-24h")
    assert one.digest() == Filter.of(since="-24h", user_id=["b", "a"]).digest()
    others = [
        Filter.of(user_id=["a", "b"], since="-25h"),
        Filter.of(user_id="a", since="-24h"),
        Filter.of(not_user_id=["a", "b"], since="-24h"),
        Filter.of(target_user_id=["a", "b"], since="-24h"),
    ]
    assert len({one.digest(), one.digest("s"), *(other.digest() for other in others)}) == 6


@given(st.text(max_size=20), st.sampled_from(["user_id", "event_type", "text", "service", "changed_field"]))
def test_a_value_only_ever_stands_where_a_value_belongs(value, name):
    """The DSL's own keys are the same whatever the value is."""

    def shape(node):
        if isinstance(node, dict):
            return {key: shape(child) for key, child in node.items()}
        return [shape(child) for child in node] if isinstance(node, list) else None

    starred = "*" if name == "event_type" and "*" in value else ""
    try:
        query = dsl(**{name: value})
    except FilterError:
        return
    assert shape(query) == shape(dsl(**{name: "plain" + starred}))
