"""Points in time."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import FilterError
from audit_logging.query.times import EARLIEST, LATEST, duration_of, normalise_time, resolve_time

UTC = dt.timezone.utc
NOW = dt.datetime(2026, 3, 15, 10, 30, 0, 5, tzinfo=UTC)


def at(value, now=NOW):
    return resolve_time(normalise_time(value), now=now)


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01t12:00:00z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T12:00:00-0530", "2026-03-01T17:30:00+00:00"),
        ("2026-03-01 12:00", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T12:00:00.5Z", "2026-03-01T12:00:00.500000+00:00"),
        ("2026-03-01T12:00:00,123456Z", "2026-03-01T12:00:00.123456+00:00"),
        ("2026-03-01T12:00:00.123456000Z", "2026-03-01T12:00:00.123456+00:00"),
        ("2026-03-01", "2026-03-01T00:00:00+00:00"),
        (" now ", "2026-03-15T10:30:00.000005+00:00"),
        ("Today", "2026-03-15T00:00:00+00:00"),
        ("yesterday", "2026-03-14T00:00:00+00:00"),
        ("2026-03-01T12:00 Europe/Prague", "2026-03-01T11:00:00+00:00"),
        ("2026-07-01 Europe/Prague", "2026-06-30T22:00:00+00:00"),
        ("2026-03-01 12:00:00.5 UTC", "2026-03-01T12:00:00.500000+00:00"),
        ("2026-03-08T02:30 America/New_York", "2026-03-08T07:30:00+00:00"),  # no clock there showed it
        ("2026-11-01T01:30 America/New_York", "2026-11-01T05:30:00+00:00"),  # the first of the two
        ("Today America/New_York", "2026-03-15T04:00:00+00:00"),
        ("yesterday  America/New_York", "2026-03-14T04:00:00+00:00"),
        ("today Pacific/Kiritimati", "2026-03-15T10:00:00+00:00"),
        ("-15m", "2026-03-15T10:15:00.000005+00:00"),
        ("-24h", "2026-03-14T10:30:00.000005+00:00"),
        ("24h", "2026-03-14T10:30:00.000005+00:00"),
        ("-30d", "2026-02-13T10:30:00.000005+00:00"),
        ("-2w", "2026-03-01T10:30:00.000005+00:00"),
        ("-1d12h", "2026-03-13T22:30:00.000005+00:00"),
        ("-24H", "2026-03-14T10:30:00.000005+00:00"),
        ("-1m", "2026-03-15T10:29:00.000005+00:00"),
        ("-1M", "2026-02-15T10:30:00.000005+00:00"),
        ("1M", "2026-02-15T10:30:00.000005+00:00"),
        ("-1M1d", "2026-02-14T10:30:00.000005+00:00"),
        ("-1q", "2025-12-15T10:30:00.000005+00:00"),
        ("-1y", "2025-03-15T10:30:00.000005+00:00"),
        ("-3M", "2025-12-15T10:30:00.000005+00:00"),
        ("-999999999999M", "1970-01-01T00:00:00+00:00"),
        (dt.timedelta(hours=1), "2026-03-15T09:30:00.000005+00:00"),
        (dt.timedelta(hours=-1), "2026-03-15T09:30:00.000005+00:00"),
        (dt.date(2026, 3, 1), "2026-03-01T00:00:00+00:00"),
        (dt.datetime(2026, 3, 1, 12), "2026-03-01T12:00:00+00:00"),
        (dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2026-03-01T11:00:00+00:00"),
    ],
)
def test_a_time_means_one_instant_in_utc(given, means):
    assert at(given).isoformat() == means
    assert at(given).tzinfo is UTC


@pytest.mark.parametrize(
    "given",
    ["", "soon", "24", "-24", "-24x", "h", "-", "--24h", "2026-13-01", "2026-02-30", "2026-03-01T25:00Z", "-1.5h",
     "2026-03-01T12:00:00.1234567Z", "2026-03-01T12:00:00+25:00", "2026-3-1", "now-1d", "٢٠٢٦-٠٣-٠١", "-٢٤h", 5, None,
     "2026-03-01\n", "0000-01-01", "soon enough", "-24h UTC", "now UTC", "today ../../etc/passwd", "today today UTC",
     "2026-03-01T00:00Z UTC", "2026-03-01T00:00+01:00 Europe/Prague"],
)  # fmt: skip
def test_what_is_no_time_is_one_sentence_with_examples(given):
    if given == "2026-03-01\n":
        assert at(given) == at("2026-03-01")
        return
    with pytest.raises(FilterError, match=r"is not a time: give one like 2026-03-01T12:00:00Z, .*-24h"):
        at(given)


@pytest.mark.parametrize(("day", "before"), [("2026-03-31", "2026-02-28"), ("2028-03-30", "2028-02-29")])
def test_a_month_ago_is_at_most_the_last_day_of_that_month(day, before):
    now = dt.datetime.fromisoformat(f"{day}T12:00:00+00:00")
    assert resolve_time(normalise_time("-1M"), now=now).isoformat() == f"{before}T12:00:00+00:00"


@given(st.integers(0, 2000), st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2262, 1, 1), timezones=st.just(UTC)))
def test_months_ago_are_never_later_and_never_before_the_first_day(months, now):
    found = resolve_time(normalise_time(f"-{months}M"), now=now)
    assert dt.datetime(1970, 1, 1, tzinfo=UTC) <= found <= now
    assert found <= resolve_time(normalise_time(f"-{max(months - 1, 0)}M"), now=now)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("2026-03-01T12:00:00.123456789Z", "six decimal places"),
        ("2026-03-01T12:00:00,1234567", "six decimal places"),
        ("2026-03-01T12:00:00 02:00", "write %2B02:00"),
        ("2026-03-01T12:00 0530", "write %2B0530"),
    ],
)
def test_a_time_that_is_nearly_one_names_the_cause(given, cause):
    with pytest.raises(FilterError, match=cause):
        normalise_time(given)


@pytest.mark.parametrize("text", ["1M", "2q", "1y", "1h1M"])
def test_a_month_is_no_duration(text):
    with pytest.raises(FilterError, match="has no fixed length"):
        duration_of(text)


@pytest.mark.parametrize(
    "given", ["today Nowhere/Land", "2026-03-01 CEST", "2026-03-01T12:00 Europe", "today x" + "x" * 999]
)
def test_a_zone_that_there_is_not_is_one_sentence(given):
    with pytest.raises(FilterError, match=r"is no time zone known here: give one like Europe/Prague"):
        at(given)


def test_a_named_day_keeps_its_zone_until_it_is_resolved():
    """23:30 UTC is the next day in Prague."""
    late = dt.datetime(2026, 3, 15, 23, 30, tzinfo=UTC)
    assert at("today Europe/Prague", late).isoformat() == "2026-03-15T23:00:00+00:00"
    assert at("today", late).isoformat() == "2026-03-15T00:00:00+00:00"


def test_times_beyond_what_the_index_can_hold_are_moved_to_its_ends():
    assert at("1950-01-01") == at("-999999999999d") == at("-999999w") == EARLIEST
    assert at("2999-01-01") == LATEST
    assert at(dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=5)))) == EARLIEST
    assert at(dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))) == LATEST


@given(st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2262, 1, 1), timezones=st.timezones()))
def test_what_isoformat_writes_is_read_back_exactly(instant):
    # A zone of the 19th century may be off by seconds, which no notation here has.
    if instant.utcoffset() % dt.timedelta(minutes=1) == dt.timedelta():
        assert at(instant.isoformat()) == at(instant) == instant.astimezone(UTC)


@given(st.text(max_size=30))
def test_no_text_gives_another_error(text):
    try:
        at(text)
    except FilterError:
        pass
