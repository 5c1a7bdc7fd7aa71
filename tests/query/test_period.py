"""Periods by name, and the last ones of a unit."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.cli.schedule import UNITS, past_periods
from audit_logging.errors import FilterError
from audit_logging.query.period import Period

NOW = dt.datetime(2026, 11, 24, 21, 0, tzinfo=dt.timezone.utc)
NAMED = {
    "2026": ("2026-01-01", "2027-01-01"),
    "2026-Q1": ("2026-01-01", "2026-04-01"),
    "2026-Q4": ("2026-10-01", "2027-01-01"),
    "2026-02": ("2026-02-01", "2026-03-01"),
    "2026-12": ("2026-12-01", "2027-01-01"),
    "2026-W01": ("2025-12-29", "2026-01-05"),
    "2026-W53": ("2026-12-28", "2027-01-04"),
    "2024-02-29": ("2024-02-29", "2024-03-01"),
    "last-day": ("2026-11-23", "2026-11-24"),
    "last-week": ("2026-11-16", "2026-11-23"),
    "last-month": ("2026-10-01", "2026-11-01"),
    "last-quarter": ("2026-07-01", "2026-10-01"),
    "last-year": ("2025-01-01", "2026-01-01"),
    "this-quarter": ("2026-10-01", "2027-01-01"),
    "2026-01-15..2026-02-15": ("2026-01-15", "2026-02-15"),
}


@pytest.mark.parametrize(("text", "days"), NAMED.items(), ids=NAMED)
def test_a_period_has_the_days_that_its_name_says(text, days):
    period = Period.of(text, now=NOW)
    assert (period.since.date().isoformat(), period.until.date().isoformat()) == days
    assert period.since.time() == dt.time(0)


def test_days_begin_where_the_zone_says():
    period = Period.of("2026-09", zone="Europe/Prague")
    assert period.since.isoformat() == "2026-08-31T22:00:00+00:00"
    assert period.until.isoformat() == "2026-09-30T22:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    ["", "2026-Q5", "2026-13", "2026-02-30", "2026-W54", "quarter", "..", "2026-02-01..2026-01-01", "9999", "0000"],
)
def test_what_is_no_period_is_refused_with_examples(text):
    with pytest.raises(FilterError):
        Period.of(text, now=NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_period_or_a_filter_error(text):
    try:
        period = Period.of(text, now=NOW)
    except FilterError:
        return
    assert period.since < period.until


@given(
    st.sampled_from(UNITS),
    st.integers(1, 12),
    st.sampled_from(["UTC", "Europe/Prague", "America/St_Johns"]),
    st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.timezone.utc)),
)
def test_past_periods_follow_each_other_and_are_over(unit, count, zone, now):
    periods = past_periods(unit, count, zone=zone, now=now)
    assert len(periods) == count
    assert periods[-1].until <= now
    assert all(earlier.until == later.since for earlier, later in zip(periods, periods[1:], strict=False))
    assert all(Period.of(period.name, zone=zone) == period for period in periods)
