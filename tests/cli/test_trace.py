"""`audit-logging trace`: every answer it can give, from a real spool and a real server."""

import json

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query import trace as tracing
from audit_logging.shipping import backoff
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.server

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def prepared(settings, monkeypatch, tmp_path):
    """Settings of a stream that is set up, which the command finds in the environment."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(tracing, "SEARCHABLE_SECONDS", 1.5)
    settings = settings.model_copy(update={"spool_dir": tmp_path / "spool", "batch_seconds": 0.02})
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(settings.spool_dir))
    AuditAdmin(settings=settings).setup()
    return settings


@pytest.fixture
def proxy(prepared):
    with FaultProxy(prepared.opensearch_url[0]) as proxy:
        yield proxy


@pytest.fixture
def ask(audit_logging):
    """Trace an event; return exit code and what was told."""

    def ask(event_id, *options):
        ended = audit_logging("trace", event_id, "--json", *options)
        return ended.code, json.loads(ended.out)

    return ask


def through(settings, proxy):
    return settings.model_copy(update={"opensearch_url": (proxy.url,)})


def writing_only(settings):
    return Trail(settings.model_copy(update={"ship": False}))


def test_what_waits(prepared, ask, audit_logging):
    """By either id, alive or dead, and whether or not the server answers."""
    trail = writing_only(prepared)
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(3)]
    place = f"{trail.writer_id}-3"
    for event_id in (ids[2], place):
        code, told = ask(event_id)
        assert (code, told["state"], told["event_id"], told["sequence"]) == (0, "waiting", ids[2], 3)
        assert "2 before it" in told["sentence"]
    trail.shutdown(0)
    code, told = ask(place, "--url", AWAY)
    assert (code, told["state"]) == (0, "waiting")
    assert AWAY in told["unasked"]
    ended = audit_logging("trace", place, "--url", AWAY)
    assert "changes nothing" in ended.err
    assert ended.out.startswith("waiting\n")


def test_what_was_sent_and_is_not_acknowledged(prepared, proxy, ask):
    """Nobody knows yet whether it was stored."""
    proxy.chance = lambda: proxy.status(503)
    trail = Trail(through(prepared, proxy))
    event_id = trail.emit("user.login", {"user_id": "u-1"})
    trail.flush(0.5)
    assert trail.shutdown(0) == 1
    assert len(proxy.bulk_requests) > 0
    code, told = ask(event_id)
    assert (code, told["state"], told["event_type"]) == (0, "sent", "user.login")


def test_what_is_indexed(prepared, ask):
    """In which backing index; at once, though the stream is refreshed later."""
    trail = Trail(prepared)
    event_id = trail.emit("user.login", {"user_id": "u-1"}, "indexed")
    place = f"{trail.writer_id}-1"
    for asked in (event_id, place):
        code, told = ask(asked)
        assert (code, told["state"], told["event_id"]) == (0, "indexed", event_id)
        assert told["index"].startswith(f".ds-{prepared.stream}-")
    code, told = ask(event_id, "--url", AWAY)  # the segment still tells that it was acknowledged
    assert (code, told["state"]) == (3, "acknowledged")
    assert trail.shutdown(5) == 0
    code, told = ask(event_id)
    assert (code, told["state"], told["writer"]) == (0, "indexed", place[:20])
    code, told = ask(place, "--url", AWAY)  # and the list of closed writers after it
    assert (code, told["state"]) == (3, "acknowledged")


def test_what_is_in_quarantine(prepared, proxy, ask):
    """With the reason; the spool knows of it too while the writer lives."""
    proxy.faults.append(proxy.items(400, "mapper_parsing_exception", every=1))
    trail = Trail(through(prepared, proxy))
    event_id = trail.emit("user.login", {"user_id": "u-1"})
    assert trail.flush(10)
    code, told = ask(event_id, "--url", AWAY)
    assert (code, told["state"]) == (0, "quarantined")
    assert "mapper_parsing_exception" in told["reason"]
    trail.shutdown(5)
    code, told = ask(event_id)
    assert (code, told["state"], told["event_type"]) == (0, "quarantined", "audit.quarantined")
    assert "mapper_parsing_exception" in told["reason"]


def test_what_is_a_dead_letter_and_then_replayed(prepared, proxy, ask, audit_logging):
    """While the writer has a directory, and afterwards."""
    proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=1)] * 2)
    trail = Trail(through(prepared, proxy))
    event_id = trail.emit("user.login", {"user_id": "u-1"})
    place = f"{trail.writer_id}-1"
    assert trail.flush(10)
    for _ in range(2):
        for asked in (event_id, place):
            code, told = ask(asked, "--url", AWAY)
            assert (code, told["state"], told["writer"]) == (0, "dead", place[:20])
            assert f"spool dead replay {place}" in told["sentence"]
        trail.shutdown(5)
    (tmp := prepared.spool_path / "dead-letters" / "x-1.json").write_text("{")
    assert ask(event_id)[1]["state"] == "dead"
    tmp.unlink()
    assert audit_logging("spool", "dead", "replay", place).code == 0
    assert ask(place, "--url", AWAY)[0] == 3
    code, told = ask(event_id)
    assert (code, told["state"]) == (0, "indexed")


def test_what_left_the_stream(prepared, ask, client):
    """It was acknowledged, and is not there: retention, rights, or worse."""
    trail = Trail(prepared)
    trail.emit("user.login", {"user_id": "u-1"})
    place = f"{trail.writer_id}-1"
    assert trail.shutdown(10) == 0
    client.request("DELETE", f"/_data_stream/{prepared.stream}")
    AuditAdmin(settings=prepared).setup()
    code, told = ask(place)
    assert (code, told["state"]) == (1, "acknowledged")
    assert "retention" in told["sentence"]


def test_what_is_not_known_here(prepared, ask, audit_logging, monkeypatch):
    """What that means; and with the server away that the stream may know."""
    monkeypatch.setattr("audit_logging.query.trace.SEARCHABLE_SECONDS", 0.1)
    writing_only(prepared).emit("user.login", {})
    for asked in ("0197f3c2-5b7e-7cc1-9d0a-3f2a6f1e8b11", f"{'0' * 20}-1", "../../etc/passwd"):
        code, told = ask(asked)
        assert (code, told["state"]) == (1, "unknown")
        assert "another host" in told["sentence"]
    writer = SpoolDirectory(prepared.spool_path).writers()[0].name
    assert ask(f"{writer}-7")[0] == 1
    ended = audit_logging("trace", "nowhere", "--url", AWAY)
    assert ended.code == 3
    assert "may know more" in ended.err
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL")
    monkeypatch.setenv("AUDIT_HOME", str(prepared.home))
    assert audit_logging("trace", "nowhere").code == 3
    assert audit_logging("trace", "no\x1b[31mid").code == 2
