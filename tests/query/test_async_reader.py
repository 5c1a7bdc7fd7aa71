"""Reading under asyncio: the same answers, and an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time

import pytest

from audit_logging import AsyncAuditReader
from audit_logging.errors import FilterError, NotFoundError
from audit_logging.query import AuditReader, scan

from .trail import event, ids

pytestmark = pytest.mark.server


@pytest.fixture
def filled(trail):
    trail.add(*(event(f"e{n}", f"2026-03-01T12:{n:02}:00.000000Z", user__id=f"u-{n % 3}") for n in range(40)))
    return trail


@pytest.fixture
def hung():
    """A server that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_the_twins_answer_alike(filled, reader, settings, monkeypatch, tmp_path):
    monkeypatch.setattr(scan, "PAGE_SIZE", 16)

    async def ask():
        async with AsyncAuditReader(settings=settings) as twin:
            first, number, one, around, statistics = await asyncio.gather(
                twin.search(user_id="u-1", limit=5),
                twin.count(not_user_id="u-1"),
                twin.get("e7"),
                twin.context("e7", within="10m"),
                twin.statistics(by="user", interval="1h"),
            )
            second = await twin.search(user_id="u-1", limit=5, cursor=first.cursor)
            every = [each async for each in twin.scan(user_id=["u-1", "u-2"], sort="newest")]
            report = await twin.export(tmp_path / "twin.ndjson", user_id="u-2")
            return first, second, number, one, around, statistics, every, report

    first, second, number, one, around, statistics, every, report = asyncio.run(ask())
    assert (first.events, first.total) == (reader.search(user_id="u-1", limit=5).events, 13)
    assert ids(first.events + second.events) == ids(reader.search(user_id="u-1", limit=10).events)
    assert number == reader.count(not_user_id="u-1") == 27
    assert one == reader.get("e7")
    assert around == reader.context("e7", within="10m")
    assert statistics == reader.statistics(by="user", interval="1h")
    assert every == list(reader.scan(user_id=["u-1", "u-2"], sort="newest"))
    assert report.sha256 == reader.export(tmp_path / "plain.ndjson", user_id="u-2").sha256


def test_the_twins_take_the_same_arguments():
    """Every method of one is a method of the other."""
    for name, method in inspect.getmembers(AuditReader, inspect.isfunction):
        if name.startswith("_") or name in {"close", "export"}:
            continue
        twin = inspect.signature(getattr(AsyncAuditReader, name)).parameters
        assert twin == inspect.signature(method).parameters, name


def test_errors_come_at_the_call_or_with_the_answer(settings, stream):
    async def ask():
        async with AsyncAuditReader(settings=settings) as twin:
            with pytest.raises(FilterError):
                twin.scan(nonsense=1)
            with pytest.raises(NotFoundError, match="audit-logging setup"):
                await twin.count()

    asyncio.run(ask())


def test_the_event_loop_goes_on_and_a_cancelled_query_ends_at_once(hung):
    async def ask():
        async with AsyncAuditReader(opensearch_url=hung, opensearch_timeout_seconds=2) as twin:
            asking = asyncio.create_task(twin.count())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not asking.done()
            asking.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return time.monotonic() - began

    assert asyncio.run(ask()) < 1


def test_a_cancelled_export_leaves_no_file_of_that_name(filled, settings, monkeypatch, tmp_path):
    monkeypatch.setattr("audit_logging.query.export.view.LARGEST_PAGE", 10)
    at_a_page, go_on = threading.Event(), threading.Event()

    def progress(done, total):
        at_a_page.set()
        go_on.wait(20)

    async def ask():
        async with AsyncAuditReader(settings=settings) as twin:
            exporting = asyncio.create_task(twin.export(tmp_path / "out.ndjson", progress=progress))
            await asyncio.to_thread(at_a_page.wait, 20)
            exporting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await exporting
            go_on.set()
            threads = twin._threads
        await asyncio.to_thread(threads.shutdown, wait=True)

    asyncio.run(ask())
    assert not (tmp_path / "out.ndjson").exists()
