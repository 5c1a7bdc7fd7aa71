"""Counts by a field and over time, on a real server."""

from __future__ import annotations

import datetime as dt

import pytest

from audit_logging.errors import FilterError
from audit_logging.query import AuditReader, statistics

from .trail import event

pytestmark = pytest.mark.server


def counts(found):
    return {bucket.key: bucket.count for bucket in found.buckets}


@pytest.fixture
def filled(trail):
    trail.add(
        event("1", "2026-03-02T00:10:00.000000Z", user__id="a", source__ip="2001:db8::1", service__name="shop"),
        event("2", "2026-03-02T00:59:59.999999Z", user__id="a", source__ip="203.0.113.7", outcome="failure"),
        event("3", "2026-03-02T03:00:00.000000Z", user__id="b", level="warning", category=["iam", "configuration"]),
        event("4", "2026-03-11T12:00:00.000000Z", level="critical", event_type="data.accessed"),
    )
    return trail


@pytest.mark.parametrize(
    ("by", "expected", "missing"),
    [
        ("event_type", {"user.login": 3, "data.accessed": 1}, 0),
        ("category", {"authentication": 3, "iam": 1, "configuration": 1}, 0),
        ("severity", {"info": 2, "warning": 1, "critical": 1}, 0),
        ("outcome", {"success": 3, "failure": 1}, 0),
        ("user", {"a": 2, "b": 1}, 1),
        ("ip", {"2001:db8::1": 1, "203.0.113.7": 1}, 2),
        ("service", {"shop": 1}, 3),
    ],
)
def test_by_each_field(filled, reader, by, expected, missing):
    found = reader.statistics(by=by)
    assert (found.by, counts(found), found.missing) == (by, expected, missing)
    assert (found.total, found.other, found.error_bound, found.histogram) == (4, 0, 0, ())
    assert [bucket.count for bucket in found.buckets] == sorted(expected.values(), reverse=True)


def test_the_top_and_the_rest(filled, reader):
    found = reader.statistics(by="user", top=1)
    assert (counts(found), found.other, found.missing) == ({"a": 2}, 1, 1)


def test_a_filter_applies(filled, reader):
    assert counts(reader.statistics(by="user", not_user_id="a")) == {"b": 1}
    assert reader.statistics(user_id="nobody", interval="1h").model_dump(
        exclude={"by", "interval", "error_bound", "since", "until", "before", "timezone"}
    ) == {
        "total": 0,
        "buckets": (),
        "other": 0,
        "missing": 0,
        "distinct": 0,
        "distinct_exact": True,
        "histogram": (),
    }


@pytest.mark.parametrize(
    ("interval", "first", "expected"),
    [
        ("1h", "2026-03-02T00:00", [2, 0, 0, 1]),
        ("30m", "2026-03-02T00:00", [1, 1, 0, 0, 0, 0, 1]),
        ("1d", "2026-03-02T00:00", [3]),
        ("1w", "2026-03-02T00:00", [3]),
    ],
)
def test_over_time_without_gaps(filled, reader, interval, first, expected):
    found = reader.statistics(interval=interval, until="2026-03-03")
    assert [step.count for step in found.histogram] == expected
    assert found.histogram[0].start == dt.datetime.fromisoformat(first).replace(tzinfo=dt.timezone.utc)
    assert found.interval == interval


def test_weeks_begin_on_monday_and_two_weeks_are_fourteen_days(filled, reader):
    weeks = reader.statistics(interval="1w").histogram
    assert [(week.start.weekday(), week.count) for week in weeks] == [(0, 3), (0, 1)]
    assert sum(step.count for step in reader.statistics(interval="2w").histogram) == 4


def test_months_quarters_and_years_are_the_calendars(filled, reader):
    for interval, starts in (("1M", ["2026-03-01"]), ("1q", ["2026-01-01"]), ("1y", ["2026-01-01"])):
        found = reader.statistics(interval=interval)
        assert [step.start.date().isoformat() for step in found.histogram] == starts
        assert [step.count for step in found.histogram] == [4]
    with pytest.raises(FilterError, match="An interval of 2M has no fixed length"):
        reader.statistics(interval="2M")


def test_a_day_begins_where_the_time_zone_has_it_also_when_the_clocks_change(trail, reader):
    trail.add(
        event("1", "2026-03-28T22:59:00.000000Z"),  # 23:59 in Prague
        event("2", "2026-03-28T23:00:00.000000Z"),
        event("3", "2026-03-29T21:59:00.000000Z"),
        event("4", "2026-03-29T22:00:00.000000Z"),  # a day of 23 hours
    )
    found = reader.statistics(interval="1d", timezone="Europe/Prague")
    assert found.timezone == "Europe/Prague"
    assert [(step.start.isoformat(), step.count) for step in found.histogram] == [
        ("2026-03-27T23:00:00+00:00", 1),
        ("2026-03-28T23:00:00+00:00", 2),
        ("2026-03-29T22:00:00+00:00", 1),
    ]
    with pytest.raises(FilterError, match="no time zone known here"):
        reader.statistics(timezone="Mars/Olympus")


def test_the_period_before_is_as_long_and_counts_the_same_values(filled, reader):
    filled.add(event("5", "2026-02-28T12:00:00.000000Z", user__id="a"), event("6", "2026-03-01T23:59:59.999999Z"))
    found = reader.statistics(by="user", since="2026-03-02", until="2026-03-04", compare=True)
    assert [(bucket.key, bucket.count, bucket.before) for bucket in found.buckets] == [("a", 2, 1), ("b", 1, 0)]
    assert found.before.total == 2
    assert (found.before.since.isoformat(), found.before.until) == ("2026-02-28T00:00:00+00:00", found.since)
    addresses = reader.statistics(by="ip", since="2026-03-02", until="2026-03-04", compare=True)
    assert {bucket.before for bucket in addresses.buckets} == {0}
    assert reader.statistics(user_id="nobody", since="-1d", compare=True).before.total == 0
    with pytest.raises(FilterError, match="say with since"):
        reader.statistics(compare=True)


def test_the_period_before_leaves_second_copies_out(trail, reader):
    stored = trail.add(event("1", "2026-03-01T12:00:00.000000Z", user__id="a"))
    trail.add(event("2", "2026-03-02T12:00:00.000000Z", user__id="a"))
    trail.rollover()
    trail.store(*stored)
    found = reader.statistics(by="user", since="2026-03-02", until="2026-03-03", compare=True)
    assert (found.buckets[0].count, found.buckets[0].before, found.before.total) == (1, 1, 1)


def test_distinct_values_are_counted(filled, reader):
    exact = reader.statistics(by="user")
    assert (exact.distinct, exact.distinct_exact) == (2, True)
    more = reader.statistics(by="user", top=1)
    assert (more.distinct, more.distinct_exact) == (2, False)


@pytest.mark.parametrize("interval", ["", "h", "0h", "1x", "-1h", "1.5h", "1h1m", "9999999d", 5, "1h\n"])
def test_a_malformed_interval_is_one_sentence(settings, interval):
    with (
        AuditReader(settings=settings) as reader,
        pytest.raises(FilterError, match="is no interval: give one like 15m"),
    ):
        reader.statistics(interval=interval)


@pytest.mark.parametrize("top", [0, -1, 10_001, True, "5"])
def test_a_malformed_top_is_one_sentence(settings, top):
    with AuditReader(settings=settings) as reader, pytest.raises(FilterError, match="top is a number from 1 to 10000"):
        reader.statistics(top=top)


def test_an_unknown_field_is_one_sentence(settings):
    with AuditReader(settings=settings) as reader, pytest.raises(FilterError, match="there are event_type, category"):
        reader.statistics(by="message")


def test_an_interval_far_too_small_says_so(filled, reader, monkeypatch):
    """At once: asking again would not make it longer."""
    monkeypatch.setattr("audit_logging.opensearch.settling.time.sleep", None)
    with pytest.raises(FilterError, match="interval is too small for that time range"):
        reader.statistics(interval="1s")
    with pytest.raises(FilterError, match="too small"):
        reader.statistics(interval="1s", since="2026-03-02", by="user")


def test_counts_that_a_shard_left_out_are_asked_for_again(filled, reader, monkeypatch):
    """Three backing indices, each of which reports its own favourite only, would miss the user they all know."""
    trail = filled
    for number in range(3):
        trail.rollover()
        trail.add(*[event("x", user__id=f"only-{number}")] * 3, *[event("y", user__id="everywhere")] * 2)
    monkeypatch.setattr(statistics, "SHARD_SIZES", (1, 1))
    vague = reader.statistics(by="user", top=1)
    assert counts(vague) != {"everywhere": 6}
    assert vague.error_bound > 0
    monkeypatch.setattr(statistics, "SHARD_SIZES", (1, 1000))
    exact = reader.statistics(by="user", top=1)
    assert (counts(exact), exact.error_bound) == ({"everywhere": 6}, 0)
