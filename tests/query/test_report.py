"""What a report says, against events whose story is known."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pytest

from audit_logging.query.dsl import query_of
from audit_logging.query.exchange import run
from audit_logging.query.filter import Filter
from audit_logging.query.groups import groups_steps
from audit_logging.query.period import Period
from audit_logging.query.report_page import report_page, subject_page

from .trail import event

pytestmark = pytest.mark.server

Q3 = Period.of("2026-Q3")
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m&quot;\"'{{7*7}}"


def login(number, user="u-bob", outcome="failure", day="2026-08-01", ip="203.0.113.7"):
    return event(f"e-{number}", f"{day}T10:00:{number:02}.000000Z", outcome=outcome, user__id=user, source__ip=ip)


@pytest.fixture
def story(trail):
    trail.add(login(1), login(2), login(3, user="u-ann"), login(4, outcome="success"), login(5, day="2026-06-30"))
    trail.add(
        event("a-1", "2026-09-30T23:59:59.999999Z", event_type="admin.role_change", user__id="u-root", user__target__id="u-bob"),
        event("a-2", "2026-10-01T00:00:00.000000Z", event_type="admin.role_change", user__id="u-root", user__target__id="u-bob"),
        event("x-1", "2026-07-01T00:00:00.000000Z", event_type="audit.exported", user__name="auditor", message=HOSTILE),
        event("v-1", "2026-07-02T00:00:00.000000Z", event_type="audit.verified", user__name="auditor"),
        event("d-1", "2026-07-03T00:00:00.000000Z", event_type="data.accessed", user__id=HOSTILE, user__target__id="u-bob"),
        writer="w2",
    )  # fmt: skip
    return trail


def values(groups):
    return [(group.values, group.count) for group in groups.shown]


class TestReport:
    def test_it_tells_of_its_period_and_of_nothing_else(self, story, reader):
        """Both ends exact: the first moment is within, the last is not."""
        report = reader.report(Q3)
        assert report.charts[0].total == 8
        assert {bucket.key: bucket.count for bucket in report.charts[0].buckets}["user.login"] == 4
        assert report.charts[0].before.total == 1
        assert values(report.failed_logins) == [(("u-bob", "203.0.113.7"), 2), (("u-ann", "203.0.113.7"), 1)]
        assert values(report.privileged) == [(("u-root", "admin.role_change", "u-bob", "success"), 1)]
        assert values(report.deeds) == [
            ((HOSTILE, "data.accessed", "u-bob"), 1),
            (("u-root", "admin.role_change", "u-bob"), 1),
        ]
        assert [event.id for event in report.readings.events] == ["x-1"]
        assert [event.id for event in report.verifications.events] == ["v-1"]
        assert (report.keeping.total, report.trouble.total) == (0, 0)
        bob = report.failed_logins.shown[0]
        assert (bob.first.second, bob.last.second) == (1, 2)

    def test_a_second_copy_counts_once(self, story, reader):
        """One that a repeated request left in the next backing index."""
        before = reader.report(Q3)
        story.rollover()
        copies = [found.document for found in reader.scan(since="2026-08-01", until="2026-08-02")]
        story.store(*copies)
        after = reader.report(Q3)
        assert after.failed_logins == before.failed_logins
        assert after.charts[0].total == before.charts[0].total

    def test_the_page_is_whole_and_hostile_events_stay_text(self, story, reader):
        """No script, no link, no control character, and nothing loaded from elsewhere."""
        page = report_page(reader.report(Q3))
        assert page.startswith("<!DOCTYPE html>")
        assert page.rstrip().endswith("</html>")
        assert "<script" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "{{7*7}}" in page
        for loading in ("src=", "href=", "@import", "url(", "http://www.w3.org/1999"):
            assert loading not in page
        assert "Audit report 2026-Q3" in page
        assert ">8</b>events" in page

    def test_an_empty_period_is_a_page_too(self, story, reader):
        page = report_page(reader.report(Period.of("2020-01")))
        assert ">0</b>events" in page
        assert "The trail was not verified in this period" in page


class TestSubject:
    def test_everything_about_one_person_and_of_nobody_else(self, story, reader):
        """As actor, and as the one it was done to."""
        found = list(reader.about("u-bob"))
        assert [each.id for each in found] == ["a-2", "a-1", "e-4", "e-2", "e-1", "d-1", "e-5"]
        assert [each.id for each in reader.about("u-bob", Q3)] == ["a-1", "e-4", "e-2", "e-1", "d-1"]
        assert list(reader.about("u-b*")) == []
        page = subject_page("u-bob", Q3, found, len(found), dt.datetime(2026, 10, 1, tzinfo=dt.timezone.utc))
        assert "7 events in which u-bob" in page
        assert "<script" not in page


class TestGroups:
    def test_they_are_those_of_a_plain_count(self, trail, reader):
        """More groups than one page of them, and those without a value."""
        events = [
            event(f"g-{n}", f"2026-08-01T10:00:00.{n:06}Z", user__id=f"u-{n % 2203}" if n % 7 else None, source__ip=f"203.0.113.{n % 5}")
            for n in range(5000)
        ]  # fmt: skip
        trail.add(*events)
        fields = ("user.id", "source.ip")
        groups = run(groups_steps(reader.settings.stream, query_of(Filter.of()), fields, top=10), reader._send)
        plain = Counter((each.get("user", {}).get("id"), each["source"]["ip"]) for each in events)
        assert groups.total == 5000
        assert len(groups.shown) + groups.hidden == len(plain)
        assert all(plain[group.values] == group.count for group in groups.shown)
        assert [group.count for group in groups.shown] == sorted(plain.values(), reverse=True)[:10]
