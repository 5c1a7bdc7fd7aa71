"""Reading the trail is in the trail, when the setting says so."""

from __future__ import annotations

import asyncio
import os
import pwd

import pytest

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail as CaptureTrail
from audit_logging.errors import FilterError, SettingsError
from audit_logging.query import AuditReader

from .trail import event

pytestmark = pytest.mark.server

QUESTIONS = {
    "search": lambda reader: reader.search(user_id="u-1", since="-24h"),
    "count": lambda reader: reader.count(user_id="u-1", since="-24h"),
    "statistics": lambda reader: reader.statistics(user_id="u-1", since="-24h"),
    "scan": lambda reader: list(reader.scan(user_id="u-1", since="-24h")),
}


@pytest.fixture
def audited(settings):
    user = settings.opensearch_username or "auditor"
    return settings.model_copy(update={"audit_searches": True, "opensearch_username": user})


@pytest.mark.parametrize("query", QUESTIONS)
def test_a_question_is_recorded_with_filter_and_reader(trail, audited, query):
    with audit.record_events() as events, AuditReader(settings=audited) as reader:
        QUESTIONS[query](reader)
    recorded = events.one("audit.searched")
    assert recorded["audit"]["metadata"] == {
        "resource": audited.stream,
        "query": query,
        "filter": {"user_id": ["u-1"], "since": "-24h"},
        "opensearch_user": audited.opensearch_username,
    }
    assert recorded["user"] == {"name": pwd.getpwuid(os.getuid()).pw_name}
    assert recorded["event"]["category"] == ["database"]


def test_an_application_that_reads_for_somebody_names_them(trail, audited):
    trail.add(event("e-1"))
    with (
        audit.record_events() as events,
        AuditReader(settings=audited) as reader,
        audit.context(user_id="u-7", source_ip="203.0.113.7"),
    ):
        reader.get("e-1")
    recorded = events.one("audit.searched")
    assert (recorded["user"], recorded["source"]) == ({"id": "u-7"}, {"ip": "203.0.113.7"})
    assert recorded["audit"]["metadata"]["filter"] == {"event_id": "e-1"}


def test_so_is_reading_under_asyncio(trail, audited):
    async def ask():
        async with audit.AsyncAuditReader(settings=audited) as reader:
            await reader.count()
            assert [each async for each in reader.scan()] == []

    with audit.record_events() as events:
        asyncio.run(ask())
    assert [each["audit"]["metadata"]["query"] for each in events] == ["count", "scan"]


def test_nothing_is_recorded_otherwise_nor_of_a_question_that_is_none(trail, settings, audited):
    with audit.record_events() as events:
        with AuditReader(settings=settings) as reader:
            reader.count()
        with AuditReader(settings=audited) as reader, pytest.raises(FilterError):
            reader.count(nonsense=1)
    assert list(events) == []


def test_what_cannot_be_recorded_is_not_answered(trail, audited, tmp_path):
    (tmp_path / "file").touch()
    before = swap_trail(CaptureTrail(audited.model_copy(update={"spool_dir": tmp_path / "file", "opensearch_url": ()})))
    try:
        with AuditReader(settings=audited) as reader, pytest.raises(SettingsError, match="spool"):
            reader.count()
    finally:
        swap_trail(before)
