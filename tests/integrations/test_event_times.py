"""The times of imported records are read exactly, or the record is broken."""

from __future__ import annotations

import datetime as dt
import json
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import EventFileError
from audit_logging.integrations.event_times import EventTimes
from audit_logging.integrations.exported import from_own_format

BERLIN = ZoneInfo("Europe/Berlin")
TEN = "2026-03-01T10:00:00"
# Numbers before 2001-09-09 have fewer digits than those of today; see the tests below.
MOMENTS = st.datetimes(dt.datetime(2001, 9, 10), dt.datetime(2262, 4, 10), timezones=st.just(dt.timezone.utc))
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


def stored(moment):
    return moment.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@given(MOMENTS, OFFSETS, st.sampled_from("Tt "), st.integers(0, 999), st.sampled_from(".,"))
def test_iso_8601_with_any_zone_and_fraction(moment, zone, separator, more_digits, mark):
    local = moment.astimezone(zone)
    text = f"{local:%Y-%m-%d}{separator}{local:%H:%M:%S}{mark}{local:%f}{more_digits:03}{local:%z}"
    assert EventTimes().moment(text, "time") == stored(moment)
    basic = f"{local:%Y%m%dT%H%M%S}{local:%z}"
    assert EventTimes().moment(basic, "time") == stored(moment.replace(microsecond=0))


@given(MOMENTS, st.sampled_from([1, 10**3, 10**6, 10**9]), st.booleans(), st.booleans())
def test_numbers_since_1970_of_any_unit_as_numbers_and_as_text(moment, unit, is_text, has_fraction):
    microseconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(microseconds=1)
    whole, rest = divmod(microseconds * unit, 10**6)
    # A number with a fraction arrives as text: the reader keeps its digits.
    value = f"{whole}.{rest:06}" if has_fraction else str(whole) if is_text else whole
    kept = microseconds if has_fraction else whole * 10**6 // unit
    expected = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=kept)
    assert EventTimes().moment(value, "time") == stored(expected)


@given(MOMENTS, OFFSETS)
def test_rfc_2822(moment, zone):
    text = format_datetime(moment.astimezone(zone))
    assert EventTimes().moment(text, "date") == stored(moment.replace(microsecond=0))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01T10:00:00Z", f"{TEN}.000000Z"),
        ("2026-03-01T10:00Z", f"{TEN}.000000Z"),
        ("2026-03-01 10:00:00.5 UTC", f"{TEN}.500000Z"),
        ("2026-03-01 10:00:00.123456789 +0000 UTC", f"{TEN}.123456Z"),
        ("2026-W09-7T10:00:00Z", f"{TEN}.000000Z"),
        ("2026/03/01 12:00:00 +02:00", f"{TEN}.000000Z"),
        ("Sun, 01 Mar 2026 10:00:00 GMT", f"{TEN}.000000Z"),
        ("Sun, 1 Mar 2026 10:00:00 -0000", f"{TEN}.000000Z"),
        ("1 Mar 2026 05:00 EST", f"{TEN}.000000Z"),
        ("01/Mar/2026:11:00:00 +0100", f"{TEN}.000000Z"),
        ("1.7723592e9", f"{TEN}.000000Z"),
        (5, "1970-01-01T00:00:05.000000Z"),
    ],
)
def test_other_forms(value, expected):
    assert EventTimes().moment(value, "time") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEN, "2026-03-01T09:00:00.000000Z"),
        ("2026-07-01 10:00:00,123", "2026-07-01T08:00:00.123000Z"),
        ("2026/03/01 10:00:00", "2026-03-01T09:00:00.000000Z"),
        ("20260301100000", "2026-03-01T09:00:00.000000Z"),
        ("Sun, 1 Mar 2026 10:00:00", "2026-03-01T09:00:00.000000Z"),
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00.000000Z"),
    ],
)
def test_a_time_without_a_zone_needs_one_to_be_named(text, expected):
    assert EventTimes(zone=BERLIN).moment(text, "time") == expected
    with pytest.raises(EventFileError, match=r"its time is .*not a time with a zone.*--timezone"):
        EventTimes().moment(text, "time")


def test_a_named_zone_does_not_change_times_that_have_one():
    assert EventTimes(zone=BERLIN).moment("2026-03-01T10:00:00Z", "time") == f"{TEN}.000000Z"
    assert EventTimes(zone=BERLIN).moment(1772359200, "time") == f"{TEN}.000000Z"


@pytest.mark.parametrize(
    "value",
    [
        "yesterday", "", " ", "2026-03-01", "20260301", "2026", "03/01/2026 10:00", "10:00:00", "2026-02-30T10:00:00Z",
        "2026-03-01T25:00:00Z", "2026-03-01T10:00:00+99:99", "2026-03-01 10:00:00 CET", "Sun, 1 Mar 2026 10:00:00 CET",
        "1969-12-31T23:59:59Z", "2262-04-12T00:00:00Z", "9999-12-31T23:59:59Z", "99999999999", "9" * 19, "9" * 400,
        "1e400", "-5", -5, 10**10, 10**30, True, 1.5, {}, [], "Mar  1 10:00:00", "2026-03-29 02:30:00", "NaN",
        "２０２６-03-01T10:00:00Z",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named(value):
    with pytest.raises(EventFileError, match=r"^its when is "):
        EventTimes(zone=BERLIN).moment(value, "when")


def test_a_missing_time_is_named():
    with pytest.raises(EventFileError, match="its when is missing"):
        EventTimes().moment(None, "when")


class TestWithoutYear:
    def moment(self, text, **options):
        return EventTimes(zone=ZoneInfo("UTC"), **options).moment(text, "time", may_lack_year=True)

    def test_the_latest_year_before_the_file_was_changed_counts(self):
        changed = dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone.utc)
        assert self.moment("Jan  2 03:04:05", reference=changed) == "2026-01-02T03:04:05.000000Z"
        assert self.moment("Dec 31 23:59:59", reference=changed) == "2025-12-31T23:59:59.000000Z"
        assert self.moment("Feb 29 00:00:00", reference=changed) == "2024-02-29T00:00:00.000000Z"

    def test_a_given_year_goes_on_with_the_next_after_december(self):
        times = EventTimes(zone=ZoneInfo("UTC"), year=2024)
        texts = ["Nov 30 00:00:00", "Dec 31 23:59:59", "Jan  1 00:00:01", "Feb  1 00:00:00"]
        assert [times.moment(text, "time", may_lack_year=True)[:4] for text in texts] == [
            "2024",
            "2024",
            "2025",
            "2025",
        ]


class TestKeywords:
    @pytest.mark.parametrize(
        "name", ["timestamp", "@timestamp", "time", "ts", "datetime", "date", "event_time", "eventTime", "created_at"]
    )
    @pytest.mark.parametrize(
        "value", [1772359200, "1772359200123", "Sun, 01 Mar 2026 10:00:00 GMT", "2026-03-01T10:00:00Z"]
    )
    def test_the_time_of_a_line_counts_whatever_it_is_called(self, name, value):
        event = from_own_format(json.loads(json.dumps({"event_type": "user.login", name: value})))
        assert event.facts["timestamp"].startswith(TEN)

    @pytest.mark.parametrize("name", ["timestamp", "@timestamp", "time", "created_at"])
    @pytest.mark.parametrize("value", ["2026-03-01T10:00:00", "whenever", "", 10**30, [1]])
    def test_a_line_whose_time_is_not_understood_is_broken(self, name, value):
        with pytest.raises(EventFileError, match=f"its {name} is "):
            from_own_format({"event_type": "user.login", name: value})

    def test_a_small_number_under_another_name_is_not_taken_for_1970(self):
        with pytest.raises(EventFileError, match="its time is"):
            from_own_format({"event_type": "job.ran", "time": 12})

    def test_the_id_does_not_depend_on_how_the_time_is_read(self):
        line = {"event_type": "user.login", "timestamp": "2026-03-01T10:00:00"}
        event = from_own_format(line, (3,), EventTimes(zone=BERLIN))
        assert event.event_id == from_own_format(line, (3,), EventTimes(zone=ZoneInfo("UTC"))).event_id
