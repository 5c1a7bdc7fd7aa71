"""`audit-logging ship`: once, and as a sidecar of applications that only write."""

import json
import os
import signal
import subprocess
import sys

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query.reader import AuditReader
from audit_logging.shipping import backoff
from audit_logging.shipping.accounts import Balance, take_accounts
from audit_logging.spool import segment
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.proxy import FaultProxy
from tests.faults.reckoning import reckon
from tests.waiting import until

pytestmark = pytest.mark.server


@pytest.fixture
def prepared(settings, monkeypatch, tmp_path):
    """Settings of a stream that is set up, which the command finds in the environment."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    settings = settings.model_copy(update={"spool_dir": tmp_path / "spool", "batch_seconds": 0.02})
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(settings.spool_dir))
    monkeypatch.setenv("AUDIT_BATCH_SECONDS", "0.02")
    AuditAdmin(settings=settings).setup()
    return settings


def leave_behind(settings, count):
    """Emit as a process would that died before it shipped."""
    trail = Trail(settings.model_copy(update={"opensearch_url": ()}))
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]
    trail.shutdown(0)
    return ids


def writers(settings):
    return SpoolDirectory(settings.spool_path, settings.stream).writers()


def accounts_of(settings):
    return take_accounts(settings.spool_path).total


class TestOnce:
    def test_what_the_dead_left_is_shipped_and_removed(self, prepared, audit_logging):
        """And it ends with 0."""
        ids = leave_behind(prepared, 20) + leave_behind(prepared, 5)
        ended = audit_logging("ship", "--once", "--spool-dir", str(prepared.spool_path))
        assert (ended.code, ended.out) == (0, f"25 events shipped to {prepared.stream}.\n")
        reckon(prepared, ids)
        assert writers(prepared) == []

    def test_the_living_that_do_not_ship_are_shipped_and_stay(self, prepared, audit_logging):
        """Their application goes on writing, and hears that its events are acknowledged."""
        trail = Trail(prepared.model_copy(update={"ship": False}))
        ids = [trail.emit("user.login", {"user_id": "u-1"})]
        assert not trail.flush(0.05)
        assert audit_logging("ship", "--once").code == 0
        assert trail.flush(5)
        ids.append(trail.emit("user.login", {"user_id": "u-2"}))
        assert len(writers(prepared)) == 1
        assert trail.shutdown(0) == 1
        ended = audit_logging("ship", "--once", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"shipped": 1, "remaining": 0, "problem": None})
        reckon(prepared, ids)
        assert writers(prepared) == []

    def test_nothing_to_do_is_nothing_wrong(self, prepared, audit_logging):
        """A scheduled job finds the spool empty most of the time."""
        ended = audit_logging("ship", "--once")
        assert (ended.code, ended.out, ended.err) == (0, f"0 events shipped to {prepared.stream}.\n", "")

    def test_where_nobody_listens_it_says_how_many_remain_and_why(self, prepared, audit_logging):
        """At once, with 3."""
        leave_behind(prepared, 3)
        ended = audit_logging("ship", "--once", "--url", "http://127.0.0.1:1")
        assert ended.code == 3
        assert ended.err.startswith(f"3 events remain in the spool {prepared.spool_path}: No OpenSearch answers")
        assert len(writers(prepared)) == 1

    def test_where_nothing_moves_it_gives_up(self, prepared, audit_logging):
        """After its patience, with the last reason."""
        leave_behind(prepared, 3)
        with FaultProxy(prepared.opensearch_url[0]) as proxy:
            proxy.chance = lambda: proxy.status(503)
            ended = audit_logging("ship", "--once", "--url", proxy.url, "--patience", "0.5")
        assert ended.code == 3
        assert "3 events remain" in ended.err
        assert "503" in ended.err

    def test_a_spool_that_cannot_be_read_keeps_no_other(self, prepared, audit_logging, monkeypatch):
        """It is named, and the end is 4."""
        with monkeypatch.context() as later:
            later.setattr(segment, "VERSION", 2)
            leave_behind(prepared, 3)
        (unreadable,) = writers(prepared)
        ids = leave_behind(prepared, 2)
        ended = audit_logging("ship", "--once")
        assert ended.code == 4
        assert str(next(unreadable.glob("*.seg"))) in ended.err
        assert ended.out == f"2 events shipped to {prepared.stream}.\n"
        reckon(prepared, ids, damaged=[unreadable.name])

    def test_what_is_damaged_is_told_of_and_everything_else_ships(self, prepared, audit_logging, client):
        """Once: the bytes are kept, the spool goes, and the next time there is nothing to tell."""
        ids = leave_behind(prepared, 5)
        path = next(writers(prepared)[0].glob("*.seg"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        (writer,) = writers(prepared)
        assert accounts_of(prepared) == Balance(emitted=5, in_spool=4, lost=1)
        ended = audit_logging("ship", "--once")
        assert ended.code == 4
        assert "event 3 is missing" in ended.err
        assert ended.out == f"4 events shipped to {prepared.stream}.\n"
        assert writers(prepared) == []
        client.request("POST", f"/{prepared.stream}/_refresh")
        with AuditReader(settings=prepared) as reader:
            assert {event.id for event in reader.scan()} == set(ids) - {ids[2]}
        (listed,) = json.loads(audit_logging("spool", "dead", "list", "--json").out)
        assert (listed["first_missing"], listed["last_missing"]) == (3, 3)
        assert listed["writer"] == writer.name
        assert accounts_of(prepared) == Balance(emitted=5, indexed=4, lost=1)
        assert audit_logging("ship", "--once").code == 0

    def test_the_spool_of_another_stream_is_left_alone(self, prepared, audit_logging):
        """It is another application's."""
        leave_behind(prepared.model_copy(update={"stream": f"{prepared.stream}-other"}), 3)
        assert audit_logging("ship", "--once").code == 0
        assert len(writers(prepared)) == 1

    def test_a_dead_letter_is_told_of_in_the_trail(self, prepared, audit_logging, client, caplog):
        """By the sidecar, as a writer of its own, which it then ships itself."""
        leave_behind(prepared, 1)
        with FaultProxy(prepared.opensearch_url[0]) as proxy:
            proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=1)] * 2)
            ended = audit_logging("ship", "--once", "--url", proxy.url)
        assert ended.code == 0
        assert "spool dead list" in caplog.text
        client.request("POST", f"/{prepared.stream}/_refresh")
        hits = client.request("GET", f"/{prepared.stream}/_search")["hits"]["hits"]
        assert [hit["_source"]["event"]["action"] for hit in hits] == ["audit.dead_lettered"]
        assert writers(prepared) == []


class TestSidecar:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_ships_the_living_until_it_is_told_to_end(self, number, prepared):
        """And ends cleanly; what is written afterwards waits for the next."""
        sidecar = subprocess.Popen(
            [sys.executable, "-m", "audit_logging", "ship"], stderr=subprocess.PIPE, text=True, env=os.environ
        )
        try:
            assert "Shipping from" in sidecar.stderr.readline()
            trail = Trail(prepared.model_copy(update={"ship": False}))
            ids = [trail.emit("user.login", {"user_id": "u-1"})]
            assert trail.flush(30)
            ids.append(trail.emit("user.login", {"user_id": "u-2"}, "indexed"))
            sidecar.send_signal(number)
            assert sidecar.wait(20) == 0
            assert "2 events shipped" in sidecar.stderr.read()
        finally:
            sidecar.kill()
            sidecar.stderr.close()
            sidecar.wait()
        assert trail.shutdown(0) == 0
        reckon(prepared, ids)

    def test_wrong_settings_end_it_at_once(self, prepared, audit_logging, monkeypatch):
        """A sidecar that only says so in the background would be taken for a working one."""
        monkeypatch.setenv("AUDIT_OPENSEARCH_TOKEN_FILE", str(prepared.home / "none"))
        ended = audit_logging("ship")
        assert ended.code == 2
        assert "opensearch_token_file" in ended.err


def test_a_sidecar_takes_over_when_an_application_dies(prepared):
    """`kill -9` of the application: its spool is shipped to the end, and removed."""
    program = (
        "import os, audit_logging as audit\n"
        "log = audit.get_logger()\n"
        "print(*[log.user_login(user_id=str(n)) for n in range(50)], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    application = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "AUDIT_SHIP": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    ids = application.stdout.split()
    assert len(ids) == 50
    sidecar = subprocess.Popen([sys.executable, "-m", "audit_logging", "ship"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: not writers(prepared), sidecar)
        sidecar.terminate()
        assert sidecar.wait(20) == 0
    finally:
        sidecar.kill()
        sidecar.wait()
    reckon(prepared, ids)
