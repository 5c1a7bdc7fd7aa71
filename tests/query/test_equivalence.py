"""Every filter finds what a plain Python predicate finds among the same events."""

from __future__ import annotations

import datetime as dt
import fnmatch
import ipaddress
import itertools
import os
import random
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit_logging.opensearch.client import Client
from audit_logging.query import AuditReader
from audit_logging.query.event import Event
from audit_logging.query.filter import Conditions
from audit_logging.settings import Settings

from .trail import Trail, event, ids

pytestmark = pytest.mark.server

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc)
STEP = dt.timedelta(microseconds=250)
MANY = 300

USERS = ["u-1", "u-2", "U-1", "*", "u-?", "ünal 😀", ""]
TYPES = ["user.login", "user.logout", "admin.user_create", "a?b.c", "a\\b.c", "axb.c", "user.login.extra"]
PATTERNS = ["*", "user.*", "*.log*", "a?b.*", "a\\*", "*.user_*", "user.login", "nothing.*", "**"]
ADDRESSES = ["203.0.113.7", "203.0.113.77", "10.1.2.3", "2001:db8::1", "2001:db8:1::1", "::1", "0.0.0.0"]
NETWORKS = ["203.0.113.0/24", "203.0.113.7", "10.0.0.0/8", "2001:db8::/32", "2001:db8::/48", "::/0", "0.0.0.0/0", "::ffff:0:0/96", "::/1"]  # fmt: skip
WORDS = ["red", "Blue", "naïve", "login", "10", "a.b"]
RESOURCES = ["reports", "reports/*", "[x]"]
METADATA = {
    "plan": ["gold", "silver", 3, True, "1.5"],
    "a.b": ["x", "y", -1],
    "a.list": [["p", "q"], ["q"], "p"],
    "after list": ["yes", "no=maybe"],
}
FIELDS = ["role", "email"]
SIMPLE = {
    "user_id": ("user.id", USERS),
    "effective_user_id": ("user.effective.id", USERS),
    "target_user_id": ("user.target.id", USERS),
    "category": ("event.category", ["authentication", "iam", "configuration"]),
    "outcome": ("event.outcome", ["success", "failure", "unknown"]),
    "organization_id": ("organization.id", ["t-1", "t-2"]),
    "service": ("service.name", ["shop", "billing"]),
    "request_id": ("http.request.id", ["r-1", "r-2"]),
    "session_id": ("session.id", ["s-1", "s-2"]),
    "trace_id": ("trace.id", ["x-1", "x-2"]),
    "resource": ("audit.metadata.resource", RESOURCES),
}
SEVERITIES = ["info", "warning", "critical"]


def build(number, chance):
    """Return one event of a seeded trail; about a third of its fields are missing."""

    def some(values):
        return chance.choice(values) if chance.random() < 0.7 else None

    metadata = {path: value for path, values in METADATA.items() if (value := some(values)) is not None}
    nested = {"a": {path[2:]: metadata.pop(path) for path in list(metadata) if path.startswith("a.")}}
    resource = some(RESOURCES)
    changes = [{"field": field, "before": 1, "after": {"x": 2}} for field in FIELDS if chance.random() < 0.4]
    return event(
        f"e-{number}",
        (START + number // 2 * STEP).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        event_type=chance.choice(TYPES),
        outcome=chance.choice(SIMPLE["outcome"][1]),
        level=chance.choice(SEVERITIES),
        category=chance.sample(SIMPLE["category"][1], chance.randint(1, 2)),
        message=some([" ".join(chance.sample(WORDS, chance.randint(1, 4)))]) or "nothing",
        event__reason=some([", ".join(chance.sample(WORDS, chance.randint(1, 3)))]),
        source__ip=some(ADDRESSES),
        user__id=some(USERS),
        user__name=some(USERS),
        user__target__id=some(USERS),
        user__effective__id=some(USERS),
        organization__id=some(SIMPLE["organization_id"][1]),
        service__name=some(SIMPLE["service"][1]),
        http__request__id=some(SIMPLE["request_id"][1]),
        session__id=some(SIMPLE["session_id"][1]),
        trace__id=some(SIMPLE["trace_id"][1]),
        audit__metadata={**metadata, **nested, **({"resource": resource} if resource else {})},
        audit__changes=changes or None,
    )


@dataclass(repr=False)
class Seeded:
    """What there is, and who reads it."""

    reader: AuditReader
    events: list[Event]


@pytest.fixture(scope="module")
def seeded(opensearch_server):
    """A reader of some hundred events in three backing indices, some of them stored twice; and those events."""
    settings = Settings.load(**opensearch_server.settings(), stream=f"audit-equivalence-{os.getpid()}")
    client = Client(settings)
    trail = Trail(settings, client)
    chance = random.Random(20260301)
    documents = [build(number, chance) for number in range(MANY)]
    third = MANY // 3
    for begin in range(0, MANY, third):
        stored = [trail.seal(document, f"w{chance.randint(1, 3)}") for document in documents[begin : begin + third]]
        trail.store(*stored)
        trail.rollover()
        trail.store(*chance.sample(stored, 10))
    try:
        with AuditReader(settings=settings) as reader:
            yield Seeded(reader, [Event(document) for document in documents])
    finally:
        for path in ("_data_stream", "_index_template", "_component_template"):
            client.request("DELETE", f"/{path}/{settings.stream}*")
        client.close()


def listed(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def has_words(text, wanted):
    """Words as the standard analyzer cuts them, for the words of this test."""
    wanted, there = (set(re.findall(r"\w+(?:\.\w+)*", each.lower())) for each in (wanted, text or ""))
    return bool(wanted) and wanted <= there


def in_network(address, network):
    network = ipaddress.ip_network(network)
    if network == ipaddress.ip_network("::ffff:0:0/96"):
        network = ipaddress.ip_network("0.0.0.0/0")
    return address is not None and ipaddress.ip_address(address) in network


def like(event_type, pattern):
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), event_type) is not None


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def metadata_values(each, path):
    value = each.metadata.get(path)
    if value is None:
        value = each.get(f"audit.metadata.{path}")
    return {as_text(member) for member in listed(value)}


HOLDS = {
    "user": lambda each, value: bool({each.user_id, each.user_name} & set(value)),
    "event_type": lambda each, value: any(like(each.event_type, pattern) for pattern in value),
    "source_ip": lambda each, value: any(in_network(each.source_ip, network) for network in value),
    "text": lambda each, value: has_words(each.message, value) or has_words(each.reason, value),
    "changed_field": lambda each, value: bool({change["field"] for change in each.changes} & set(value)),
    "metadata": lambda each, value: all(
        metadata_values(each, path) & {as_text(one) for one in listed(wanted)} for path, wanted in value.items()
    ),
    "min_severity": lambda each, value: SEVERITIES.index(each.severity) >= SEVERITIES.index(value),
    "since": lambda each, value: each.timestamp >= value,
    "until": lambda each, value: each.timestamp < value,
}


def holds(each, name, value):
    if name == "not_metadata":  # none of the pairs
        return not any(HOLDS["metadata"](each, {path: wanted}) for path, wanted in value.items())
    if name.startswith("not_"):
        return not holds(each, name.removeprefix("not_"), value)
    if name in SIMPLE:
        return bool(set(listed(each.get(SIMPLE[name][0]))) & set(value))
    return HOLDS[name](each, value)


ONE_BY_ONE = {
    **{name: [[value] for value in values] for name, (_, values) in SIMPLE.items()},
    "user": [[value] for value in USERS],
    "event_type": [[value] for value in PATTERNS + TYPES],
    "source_ip": [[value] for value in NETWORKS],
    "text": [*WORDS, "RED blue", "naïve 10", "login login", "a.b red", "absent", "*", "red OR blue", '"red', "!"],
    "metadata": [
        {path: value}
        for path in ("plan", "a.b", "a.list", "after list", "nowhere")
        for value in ("gold", 3, "3", True, 1.5, "x", -1, "p", "q", "yes", "no=maybe", "*", ["gold", True, "q"])
    ],
    "changed_field": [[value] for value in [*FIELDS, "nothing"]],
    "min_severity": SEVERITIES,
}
"""Every condition but time, with every value of this test."""


def some(samples):
    """Return a strategy for one condition: a sample, or several of them joined."""
    if isinstance(samples[0], list):
        return st.lists(st.sampled_from(samples), min_size=1, max_size=3).map(
            lambda lists: list(itertools.chain(*lists))
        )
    if isinstance(samples[0], dict):
        return st.tuples(st.sampled_from(samples), st.sampled_from(samples)).map(lambda pair: {**pair[0], **pair[1]})
    return st.sampled_from(samples)


CONDITION = st.one_of(
    *(st.tuples(st.sampled_from([name, f"not_{name}"]), some(samples)) for name, samples in ONE_BY_ONE.items())
)
TIMES = st.integers(-1, MANY // 2 + 1).map(lambda steps: START + steps * STEP)
LOWER, UPPER = ("since", "not_until"), ("until", "not_since")


def check(seeded, asked):
    expected = {each.id for each in seeded.events if all(holds(each, name, value) for name, value in asked.items())}
    page = seeded.reader.search(limit=MANY + 50, **asked)
    assert set(ids(page.events)) == expected
    assert len(page.events) == len(expected) == page.total
    return expected


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_value_of_a_condition_finds_what_a_plain_predicate_finds(seeded, name):
    for value in ONE_BY_ONE[name]:
        found = check(seeded, {name: value})
        assert len(found) + seeded.reader.count(**{f"not_{name}": value}) == MANY


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    st.lists(CONDITION, min_size=0, max_size=4).map(dict),
    st.lists(TIMES, min_size=4, max_size=4).map(sorted),
    st.sets(st.sampled_from([*LOWER, *UPPER])),
)
def test_conditions_together_find_what_a_plain_predicate_finds(seeded, conditions, times, bounds):
    asked = {**conditions, **{name: time for name, time in zip((*LOWER, *UPPER), times, strict=True) if name in bounds}}
    assert len(check(seeded, asked)) == seeded.reader.count(**asked)


def test_the_events_and_filters_of_this_test_tell_something(seeded):
    """Each single condition is met by some events and missed by others."""
    reader = seeded.reader
    assert reader.count() == MANY
    telling = {
        **{name: values[:1] for name, (_, values) in SIMPLE.items()},
        "user": USERS[:1],
        "event_type": ["user.*"],
        "source_ip": ["203.0.113.0/24"],
        "text": "red",
        "metadata": {"a.list": "q"},
        "changed_field": ["role"],
        "min_severity": "warning",
    }
    assert telling.keys() == ONE_BY_ONE.keys() == Conditions.model_fields.keys() - {"since", "until"}
    for name, value in telling.items():
        number = reader.count(**{name: value})
        assert 0 < number < MANY
        assert number + reader.count(**{f"not_{name}": value}) == MANY


def test_the_parts_of_the_predicate_are_right():
    """What the comparison stands on."""
    assert like("user.login", "user.*")
    assert not like("userxlogin", "user.*")
    assert like("a?b.c", "a?b.*")
    assert not like("axb.c", "a?b.*")
    assert fnmatch.fnmatchcase("axb.c", "a?b.*")  # and so is no help here
    assert has_words("Red, blue", "BLUE red")
    assert not has_words("reddish", "red")
