"""Points in time."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import FilterError
from audit_logging.query.times import EARLIEST, LATEST, normalise_time, resolve_time

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
