"""`audit-logging spool status`."""

import json
import os
import time

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import Damage, DamagedBytes
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.segment import Record


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def trail(spool):
    """A process that only writes, with three events."""
    trail = Trail(Settings.load(service="shop", spool_dir=spool, ship=False))
    for number in range(3):
        trail.emit("user.login", {"user_id": f"u-{number}"})
    yield trail
    trail.shutdown(0)


def test_without_a_spool_nothing_waits(spool, audit_logging):
    """And nothing is made."""
    ended = audit_logging("spool", "status", "--spool-dir", str(spool))
    assert ended.code == 0
    assert "0 emitted = 0 indexed + 0 in the spool + 0 quarantined + 0 dead" in ended.out
    assert not spool.exists()


def test_each_writer_has_a_line(spool, trail, audit_logging):
    """With what an operator asks first, in a pipe one line each."""
    ended = audit_logging("spool", "status", "--spool-dir", str(spool))
    assert ended.code == 0
    heads, line, *_ = ended.out.splitlines()
    assert line.split()[:5] == [trail.writer_id, "alive", "shop", f"{os.uname().nodename}:{os.getpid()}", "3"]
    assert heads.split()[-2:] == ["lost", "full"]
    assert "3 emitted = 0 indexed + 3 in the spool" in ended.out
    assert "Nothing needs a hand." in ended.out


def test_json_says_the_same(spool, trail, audit_logging, monkeypatch):
    """Also when the directory comes from the environment."""
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(spool))
    told = json.loads(audit_logging("spool", "status", "--json").out)
    assert told["total"] == {"emitted": 3, "indexed": 0, "in_spool": 3, "quarantined": 0, "dead": 0, "lost": 0}
    assert (told["balanced"], told["concerns"], told["limit_bytes"]) == (True, [], 1 << 30)
    (writer,) = told["writers"]
    assert (writer["state"], writer["service"], writer["pid"]) == ("alive", "shop", os.getpid())
    assert writer["waiting_since"].startswith("20")


def test_what_needs_a_hand_is_a_finding_with_a_remedy(spool, trail, audit_logging):
    """1 for the monitor, and for people what to type next."""
    trail.shutdown(0)
    (path,) = SpoolDirectory(spool).writers()
    long_ago = time.time() - 7200
    for file in path.iterdir():
        os.utime(file, (long_ago, long_ago))
    DeadLetters(spool / "dead-letters", "audit-events").keep(Record(9, b"{}"), "0" * 20, "why\x1b[31m")
    ended = audit_logging("spool", "status", "--spool-dir", str(spool))
    assert ended.code == 1
    assert "ABANDONED: 3 events" in ended.out
    assert "nobody ships them" in ended.out
    assert f"audit-logging ship --once --spool-dir {spool}" in ended.out
    assert "spool dead list" in ended.out
    assert "2 h" in ended.out
    told = audit_logging("spool", "status", "--spool-dir", str(spool), "--json")
    assert told.code == 1
    assert [concern["kind"] for concern in json.loads(told.out)["concerns"]] == ["abandoned", "dead letters"]


def test_damage_is_a_finding_although_no_event_is_missing(spool, trail, audit_logging):
    """A disk that damages what lies between events will not stop at them."""
    DamagedBytes(spool / "dead-letters").keep(
        Damage(trail.writer_id, "1.seg", 42, 3, 1, 0, "no whole record in its place", "2026-01-01T00:00:00+00:00"), b"?"
    )
    ended = audit_logging("spool", "status", "--spool-dir", str(spool))
    assert ended.code == 1
    assert (
        f"DAMAGE: The spool was damaged in 1 place, the last found 2026-01-01 in 1.seg of writer {trail.writer_id}"
        in (ended.out)
    )
    assert "no event is missing" in ended.out
    told = json.loads(audit_logging("spool", "status", "--spool-dir", str(spool), "--json").out)
    assert [concern["kind"] for concern in told["concerns"]] == ["damage"]
    assert told["damaged"][0]["offset"] == 42


def test_a_spool_from_the_future_is_a_finding(spool, trail, audit_logging):
    """The clock was set back, so that nobody could tell that events wait long."""
    (path,) = SpoolDirectory(spool).writers()
    for file in path.iterdir():
        os.utime(file, (time.time() + 7200, time.time() + 7200))
    ended = audit_logging("spool", "status", "--spool-dir", str(spool))
    assert ended.code == 1
    assert "CLOCK: The spool of writer" in ended.out
    assert "the clock was set back" in ended.out
