"""What a report says, against events whose story is known."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import subprocess
from collections import Counter

import pytest

from audit_logging.integrations.admin import AuditAdmin
from audit_logging.query import AuditReader
from audit_logging.query.async_reader import AsyncAuditReader
from audit_logging.query.dsl import query_of
from audit_logging.query.exchange import run
from audit_logging.query.filter import Filter
from audit_logging.query.period import Period
from audit_logging.query.report.groups import groups_steps
from audit_logging.query.report.page import report_page, subject_page
from tests.faults.proxy import FaultProxy

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
        assert "It was not verified in this period." in page

    def test_a_trail_that_was_never_verified_says_so(self, trail, reader):
        trail.add(login(1))
        report = reader.report(Q3)
        assert report.last_verified is None
        assert "Never verified: the trail holds no event that tells of a verification." in report_page(report)

    @pytest.mark.parametrize(
        ("findings", "sentence"),
        [
            (0, "nothing was found."),
            (1, ">1 finding."),
            ({"edited": 2, "deleted": 0, HOSTILE: 1}, "3 findings ("),
            ({}, "nothing was found."),
            ("many", "the trail was verified"),
            (-1, "the trail was verified"),
            ({"edited": "two"}, "the trail was verified"),
            (None, "the trail was verified"),
        ],
    )
    def test_the_last_verification_is_told_whenever_it_was(self, trail, reader, findings, sentence):
        """Whatever stands in the event: anybody who may write to the trail may have written it."""
        metadata = {"record_count": 1420, "scope": HOSTILE} | ({} if findings is None else {"findings": findings})
        told = {"event_type": "audit.verified", "user__name": HOSTILE, "message": "the trail was verified"}
        trail.add(event("v-1", "2026-05-01T00:00:00.000000Z", **told, audit__metadata={"findings": 7}))
        trail.add(event("v-2", "2026-06-01T00:00:00.000000Z", **told, audit__metadata=metadata))
        page = report_page(reader.report(Q3))
        told_of = page[page.index("Last verified on 2026-06-01 00:00:00") :]
        told_of = told_of[: told_of.index("</p>")]
        assert sentence in told_of
        assert "(1,420 events, &lt;script" in told_of
        assert "<script" not in page
        assert "\x1b" not in page

    def test_how_retention_stands_is_told_with_the_holds_in_force(self, story, reader, settings):
        with AuditAdmin(settings=settings) as admin:
            admin.place_hold(reason="Case <b>12</b>", person="jane", user_id="u-bob")
        page = report_page(reader.report(Q3))
        told = page[page.index("<h2>Retention</h2>") :]
        assert "every event is kept at least 90 days and at most 7 days longer" in told
        assert f"<td>.ds-{settings.stream}-000001</td>" in told
        assert "stays once it is rolled over: on hold h-" in told
        assert "u-bob</td><td>Case &lt;b&gt;12&lt;/b&gt;</td>" in told

    def test_and_what_is_wrong_with_it(self, story, reader, client, settings):
        story.rollover()
        client.request("PUT", f"/.ds-{settings.stream}-000001/_block/read_only")
        try:
            page = report_page(reader.report(Q3))
        finally:
            client.request("PUT", f"/.ds-{settings.stream}-000001/_settings", body={"index.blocks.read_only": False})
        assert "<li>.ds-" in page
        assert "it is locked (index.blocks.read_only) and no hold says why: it will never leave" in page
        assert "Retention does what it should." not in page

    def test_who_may_not_look_at_retention_gets_the_rest(self, story, reader, settings):
        with FaultProxy(settings.opensearch_url[0]) as proxy:
            proxy.forbidden = ("/_data_stream",)
            with AuditReader(settings=settings.model_copy(update={"opensearch_url": (proxy.url,)})) as confined:
                report = confined.report(Q3)
        page = report_page(report)
        assert "Whoever made this report was not allowed to look at it." in page
        assert proxy.url not in page
        assert report.charts == reader.report(Q3).charts

    def test_its_asynchronous_twin_tells_the_same(self, story, reader, settings):
        async def ask():
            async with AsyncAuditReader(settings=settings) as twin:
                return await twin.report(Q3)

        one, other = reader.report(Q3), asyncio.run(ask())
        assert other.last_verified == one.last_verified
        assert [index.outlook.index for index in other.retention.found.indices] == [
            index.outlook.index for index in one.retention.found.indices
        ]


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
class TestInChromium:
    """What cannot be seen in the text of the page."""

    @pytest.fixture
    def chromium(self, trail, reader, tmp_path):
        """Show a report of hostile and of very long texts."""
        texts = [HOSTILE, "a" * 300, *(f"u-{number}" for number in range(50))]
        for number, text in enumerate(texts):
            told = {"event_type": "admin.role_change", "user__id": text, "user__target__id": text}
            trail.add(event(f"h-{number}", f"2026-08-01T10:00:00.{number:06}Z", **told))
            trail.add(login(number % 60, user=text))
        page = tmp_path / "report.html"
        page.write_text(report_page(reader.report(Q3)))

        def chromium(*options):
            command = [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
            ]
            shown = subprocess.run([*command, *options, page.as_uri()], capture_output=True, timeout=60, check=True)
            return shown.stdout.decode()

        return chromium

    def test_hostile_texts_make_no_element(self, chromium):
        dom = chromium("--dump-dom")
        assert "alert(1)" in dom
        assert not {tag.lower() for tag in re.findall(r"<([a-zA-Z]+)", dom)} & {
            "script",
            "img",
            "iframe",
            "object",
            "a",
        }

    def test_it_prints_on_few_pages(self, chromium, tmp_path):
        """A long text must not squeeze the columns beside it until each letter has a line of its own."""
        chromium(f"--print-to-pdf={tmp_path / 'report.pdf'}")
        assert 3 <= len(re.findall(rb"/Type ?/Page\b", (tmp_path / "report.pdf").read_bytes())) <= 9


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
