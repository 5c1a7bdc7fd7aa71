"""Exports over HTTP, behind a real uvicorn: streamed, broken off visibly, stopped when nobody listens any more."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import threading
from contextlib import contextmanager

import pytest

import audit_logging as audit
from audit_logging.query import AuditReader
from audit_logging.query.export.formats import FORMATS, Csv
from bench.rest import lines_of_export, peak_mib, serving
from bench.trail_of import fill
from tests.faults.proxy import FaultProxy
from tests.integrations.rest import Browser, application
from tests.integrations.web_server import SECONDS, Ended, connect, serve
from tests.query.trail import Trail, event

pytestmark = pytest.mark.server

EVENTS = 200
PAGE = 20
SENT = 3 * PAGE - 2
"""What has left when the fourth page is asked for: each but the first repeats the last event of the one before."""


class SearchProxy(FaultProxy):
    """Counts the searches that it passes on, and holds one of them back or refuses it."""

    def __init__(self, url, *, hold=None, refuse=None):
        super().__init__(url)
        self.hold, self.refuse = hold, refuse
        self.searches = 0
        self.holding, self.go_on = threading.Event(), threading.Event()

    def forward(self, method, path, headers, body):
        if "_search" in path:
            self.searches += 1
            if self.searches == self.hold:
                self.holding.set()
                assert self.go_on.wait(SECONDS)
            if self.searches == self.refuse:
                return 503, b'{"error": {"type": "unavailable", "reason": "http://10.0.0.1 is gone"}, "status": 503}'
        return super().forward(method, path, headers, body)


@pytest.fixture
def filled(settings, client):
    trail = Trail(settings, client)
    trail.add(*(event(f"e-{number}", f"2026-03-01T12:00:00.{number:06}Z") for number in range(EVENTS)))


@contextmanager
def served(settings, monkeypatch, **faults):
    """Serve the trail through a proxy, in small pages, and yield address, proxy and the end of a request."""
    monkeypatch.setattr("audit_logging.query.scan.PAGE_SIZE", PAGE)
    with SearchProxy(settings.opensearch_url[0], **faults) as proxy:
        app = Ended(application(settings.model_copy(update={"opensearch_url": (proxy.url,)})))
        with serve(app) as address:
            yield address, proxy, app
        proxy.go_on.set()


def ask(address, path):
    return connect(address, f"GET /admin/{path} HTTP/1.1\r\nhost: x\r\nx-user: root\r\n\r\n".encode())


def test_an_export_is_what_a_scan_finds(filled, settings, monkeypatch, audit_events):
    with AuditReader(settings=settings) as reader:
        expected = [each.document for each in reader.scan()]
    monkeypatch.setattr("audit_logging.query.scan.PAGE_SIZE", PAGE)
    answer = Browser(application(settings)).get("audit-export")
    assert [json.loads(line) for line in answer.text.splitlines()] == expected
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert re.fullmatch(
        rf'attachment; filename="{settings.stream}-\d{{8}}T\d{{6}}Z\.ndjson"', answer.headers["content-disposition"]
    )
    assert audit_events.one("audit.exported")["audit"]["metadata"]["record_count"] == EVENTS


@pytest.mark.parametrize(("name", "media_type"), [("json", "application/json"), ("csv", "text/csv; charset=utf-8")])
def test_every_format_holds_the_same(filled, settings, monkeypatch, audit_events, name, media_type):
    monkeypatch.setattr("audit_logging.query.scan.PAGE_SIZE", PAGE)
    browser = Browser(application(settings))
    expected = [json.loads(line) for line in browser.get("audit-export").text.splitlines()]
    answer = browser.get(f"audit-export?format={name}")
    content = io.BufferedReader(io.BytesIO(answer.content))
    assert [json.loads(line) for line in FORMATS[name].documents(content)] == expected
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"].endswith(f'.{name}"')
    assert len(expected) == EVENTS


def test_a_table_is_one_for_people_and_runs_nothing(settings, client, audit_events):
    """With a header; formulas, control characters and marks of direction are text, the last column has all of it."""
    hostile = ["=cmd|'/C calc'!A0", " @SUM(1)", "\x1b[31mred", "a\u202eb", '","=1', "two\r\n=lines", "<script>"]
    trail = Trail(settings, client)
    trail.add(*(event(f"e-{number}", user__id=text, message=text) for number, text in enumerate(hostile)))
    content = Browser(application(settings)).get("audit-export?format=csv").content
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert header == [*Csv.columns, "document"]
    assert [row[header.index("user_id")] for row in rows] == [
        *("'=cmd|'/C calc'!A0", "' @SUM(1)", "\\x1b[31mred", "a\\u202eb", '","=1', "two\\r\\n=lines", "<script>"),
    ]
    assert [json.loads(row[-1])["message"] for row in rows] == hostile
    assert content.translate(None, b"\r\n").decode().isprintable()


@pytest.mark.parametrize(("name", "content"), [("ndjson", ""), ("json", "[\n\n]\n"), ("csv", Csv.begin.decode())])
def test_nothing_found_is_an_empty_export(filled, settings, audit_events, name, content):
    answer = Browser(application(settings)).get(f"audit-export?user_id=nobody&format={name}")
    assert (answer.status_code, answer.text) == (200, content)
    assert audit_events.one("audit.exported")["audit"]["metadata"]["record_count"] == 0


def test_an_export_that_fails_on_its_way_breaks_off(filled, settings, monkeypatch, audit_events):
    with served(settings, monkeypatch, refuse=4) as (address, _, ended):
        connection = http.client.HTTPConnection(*address, timeout=SECONDS)
        connection.request("GET", "/admin/audit-export", headers={"x-user": "root"})
        answer = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
        connection.close()
        ended.wait()
    lines = broken.value.partial.splitlines()
    assert len(lines) == SENT
    assert b"10.0.0.1" not in broken.value.partial
    exported = audit_events.one("audit.exported")
    assert exported["event"]["outcome"] == "failure"
    assert exported["event"]["reason"] == "ended early: RefusedError"
    assert exported["audit"]["metadata"]["record_count"] == SENT


def test_what_is_wrong_with_the_first_page_is_a_problem(filled, settings, monkeypatch, audit_events):
    with served(settings, monkeypatch, refuse=1) as (address, _, _):
        connection = http.client.HTTPConnection(*address, timeout=SECONDS)
        connection.request("GET", "/admin/audit-export", headers={"x-user": "root"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert b"10.0.0.1" not in answer.read()
        connection.close()
    assert audit_events.of("audit.exported") == []


def test_a_client_that_goes_away_stops_an_export(filled, settings, monkeypatch, audit_events):
    with served(settings, monkeypatch, hold=4) as (address, proxy, ended):
        connection = ask(address, "audit-export")
        assert proxy.holding.wait(SECONDS)
        connection.close()
        ended.wait()  # while the server still holds the answer back
        exported = audit_events.one("audit.exported")
        proxy.go_on.set()
    assert proxy.searches == 4
    assert exported["event"]["reason"] == "ended early: client disconnected"
    assert exported["audit"]["metadata"]["record_count"] == SENT
    assert exported["user"]["id"] == "u-root"


@pytest.mark.parametrize("path", ["audit-logs", "audit-stats?since=-900d&compare=true", "audit-logs/e-1"])
def test_and_any_other_question(filled, settings, monkeypatch, audit_events, path):
    with served(settings, monkeypatch, hold=1) as (address, proxy, ended):
        connection = ask(address, path)
        assert proxy.holding.wait(SECONDS)
        connection.close()
        ended.wait()
        proxy.go_on.set()
    assert proxy.searches == 1
    assert audit_events.of("audit.searched") == []
    assert audit_events.one("api.call")["http"]["response"]["status_code"] == 499


def test_an_export_that_cannot_be_recorded_does_not_look_complete(filled, settings, monkeypatch, audit_events):
    emitted = []

    async def aemit(event_type, facts, durability=None):
        emitted.append(event_type)
        if event_type == "audit.exported":
            raise audit.errors.SpoolFullError("full", event_id=None, state="refused")

    monkeypatch.setattr(audit_events_trail(), "aemit", aemit)
    with served(settings, monkeypatch) as (address, _, _):
        connection = http.client.HTTPConnection(*address, timeout=SECONDS)
        connection.request("GET", "/admin/audit-export", headers={"x-user": "root"})
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()
    assert emitted.count("audit.exported") == 1


def audit_events_trail():
    from audit_logging.capture.configuration import current_trail

    return current_trail()


def test_memory_stays_the_same_however_much_is_exported(settings):
    """A million takes what twenty thousand take; the measurement of that is `make bench NAME=rest`."""
    fill(settings, 20_000)
    with serving(settings) as (process, port):
        assert lines_of_export(port, "until=2026-03-07") == 4000
        before = peak_mib(process)
        assert lines_of_export(port, "until=2026-03-31") == 20_000
        after = peak_mib(process)
    assert after - before < 20
    assert after < 150


def test_and_however_large_the_events_are(settings, client):
    """Two hundred of 70 KB, with small ones between and behind them, so that no page can be guessed from the one before."""
    trail = Trail(settings, client)
    large = {"body": {str(number): "x" * 70 for number in range(900)}}
    trail.add(*(event(f"s-{number}", f"2026-03-01T11:00:00.{number:06}Z") for number in range(1200)))
    for block in range(4):
        trail.add(
            *(
                event(f"l-{block}-{number}", f"2026-03-01T12:00:00.{block}{number:05}Z", audit__metadata=large)
                for number in range(100)
            )
        )
    trail.add(*(event(f"t-{number}", f"2026-03-01T13:00:00.{number:06}Z") for number in range(1200)))
    with serving(settings) as (process, port):
        assert lines_of_export(port, "until=2026-03-01T12:00:00Z") == 1200
        before = peak_mib(process)
        assert lines_of_export(port, "until=2026-03-02") == 2800
        after = peak_mib(process)
    assert after - before < 50
    assert after < 150
