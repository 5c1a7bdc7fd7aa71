"""`audit.health()`: what a readiness probe hears."""

import os
import time

import pytest

import audit_logging as audit
from audit_logging.capture import health
from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.shipping import backoff
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import Damage, DamagedBytes
from audit_logging.spool.segment import Record
from tests.faults.proxy import FaultProxy
from tests.spool.conftest import fill, small_disk  # noqa: F401 - a fixture
from tests.test_forks import in_child, raw_fork
from tests.waiting import until


@pytest.fixture
def settings_here(tmp_path):
    return Settings.load(spool_dir=tmp_path / "spool", ship=False, spool_max_bytes=1 << 16, spool_block_seconds=0)


@pytest.fixture
def trail(settings_here):
    trail = Trail(settings_here)
    yield trail
    trail.shutdown(0)


def emit(trail, count=1):
    for _ in range(count):
        trail.emit("user.login", {"user_id": "u-1"})


def kinds(trail):
    return [reason.kind for reason in trail.health().reasons]


class Clocks:
    """Time passes on both clocks, and the one on the wall may be set; files bear the kernel's time until touched."""

    def __init__(self, monkeypatch):
        self.passed = self.ahead = 0.0
        monotonic, wall = time.monotonic, time.time
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + self.passed)
        monkeypatch.setattr(time, "time", lambda: wall() + self.passed + self.ahead)
        monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))


@pytest.fixture
def clocks(monkeypatch):
    return Clocks(monkeypatch)


def emit_late(trail):
    """Emit an event, and let its file bear the time that the clock on the wall says."""
    emit(trail)
    (directory,) = trail._writer.directory.writers()
    for segment in directory.glob("*.seg"):
        os.utime(segment, (time.time(), time.time()))


def test_before_anything_was_emitted_it_is_well(trail):
    """Also before there is a trail at all."""
    assert (trail.health().status, trail.health().waiting) == ("ok", 0)
    before = swap_trail(None)
    try:
        assert audit.health() == audit.Health("ok")
        swap_trail(trail)
        assert audit.health().is_ready
    finally:
        swap_trail(before)


def test_events_that_wait_for_a_moment_are_no_ailment(trail):
    """They are counted."""
    emit(trail, 3)
    assert trail.health() == audit.Health("ok", (), 3)


def test_events_that_wait_long_are(trail, clocks):
    """Degraded and ready: they are safe on the disk."""
    emit(trail, 3)
    clocks.passed += 100
    found = trail.health()
    assert (found.status, found.is_ready) == ("degraded", True)
    (reason,) = found.reasons
    assert reason.kind == "stuck"
    assert "3 events not acknowledged, the oldest for 100 s" in reason.sentence
    assert "no opensearch_url" in reason.sentence
    assert found.to_dict()["reasons"][0]["kind"] == "stuck"


def test_what_waits_is_read_once_while_nothing_moves(trail, clocks, monkeypatch):
    """A probe a second must not read the spool each time."""
    emit(trail, 3)
    clocks.passed += 100
    assert kinds(trail) == ["stuck"]
    monkeypatch.setattr("audit_logging.spool.stock.take_stock", None)
    assert kinds(trail) == ["stuck"]


def test_an_event_after_a_long_silence_is_not_stuck(trail, clocks):
    """Nothing was acknowledged for long, and the event is new."""
    emit(trail)
    trail._writer.reader.acknowledge(1)
    assert kinds(trail) == []
    clocks.passed += 100
    emit_late(trail)
    assert kinds(trail) == []
    clocks.passed += 100
    assert kinds(trail) == ["stuck"]


HOURS = [5 * 3600, -5 * 3600]


@pytest.mark.parametrize("hours", HOURS)
@pytest.mark.parametrize("probes", [True, False])
def test_a_clock_that_jumps_makes_nothing_stuck(trail, clocks, hours, probes):
    """Neither what was written before nor what is written after; whether or not somebody looked meanwhile."""
    emit(trail)
    trail._writer.reader.acknowledge(1)
    assert kinds(trail) == []
    clocks.passed += 200
    emit_late(trail)
    if probes:
        assert kinds(trail) == []
    clocks.ahead += hours
    assert kinds(trail) == []
    emit_late(trail)
    clocks.passed += 50
    assert kinds(trail) == []


@pytest.mark.parametrize("hours", HOURS)
def test_a_clock_that_jumps_hides_nothing(trail, clocks, hours):
    """Whether it jumps before anybody looked, or between two looks."""
    emit(trail, 3)
    clocks.ahead += hours
    clocks.passed += 70
    (reason,) = trail.health().reasons
    assert "3 events not acknowledged, the oldest for 70 s" in reason.sentence
    clocks.ahead -= 2 * hours
    clocks.passed += 10
    (reason,) = trail.health().reasons
    assert "the oldest for 80 s" in reason.sentence


@pytest.mark.parametrize("hours", HOURS)
def test_a_clock_that_jumps_there_and_back(trail, clocks, hours):
    """An event from between is timed from when it was first seen to wait."""
    emit(trail)
    trail._writer.reader.acknowledge(1)
    assert kinds(trail) == []
    clocks.passed += 100
    clocks.ahead += hours
    emit_late(trail)
    clocks.ahead -= hours
    assert kinds(trail) == []
    clocks.passed += 59
    assert kinds(trail) == []
    clocks.passed += 2
    assert "the oldest for 61 s" in trail.health().reasons[0].sentence


def test_a_clock_that_was_wrong_before_the_process_began(trail, clocks):
    """What the files say of times before it lived is not believed."""
    emit(trail)
    (directory,) = trail._writer.directory.writers()
    for file in directory.iterdir():
        os.utime(file, (0, 0))
    assert kinds(trail) == []
    clocks.passed += 59
    assert kinds(trail) == []
    clocks.passed += 2
    assert kinds(trail) == ["stuck"]


def test_a_spool_that_fills_up(trail):
    """First somebody should look; then this process should get no more work."""
    while trail.health().status == "ok":
        emit(trail)
    assert kinds(trail) == ["nearly full"]
    with pytest.raises(audit.AuditError):
        emit(trail, 100)
    found = trail.health()
    assert (found.status, found.is_ready) == ("failing", False)
    assert [reason.kind for reason in found.reasons] == ["full"]


def test_a_full_disk(small_disk):  # noqa: F811
    """A real one."""
    trail = Trail(Settings.load(spool_dir=small_disk / "spool", ship=False))
    emit(trail)
    fill(small_disk)
    assert kinds(trail) == ["disk"]
    assert not trail.health().is_ready
    trail.shutdown(0)


def test_a_directory_that_may_not_be_written(trail, monkeypatch):
    monkeypatch.setattr(health.os, "access", lambda *_: False)
    assert "cannot be written" in trail.health().reasons[0].sentence


def test_dead_letters(trail):
    """Somebody should look."""
    DeadLetters(trail._writer.directory.dead_letters, "audit-events").keep(Record(1, b"{}"), "0" * 20, "why")
    assert (trail.health().status, kinds(trail)) == ("degraded", ["dead letters"])


def test_damage(trail):
    """Somebody should look: what was there is gone, or was never an event."""
    damage = Damage("0" * 20, "1.seg", 42, 3, 1, 0, "no whole record in its place", "2026-01-01T00:00:00+00:00")
    DamagedBytes(trail._writer.directory.dead_letters).keep(damage, b"???")
    assert (trail.health().status, kinds(trail)) == ("degraded", ["damage"])
    assert "damaged in 1 place" in trail.health().reasons[0].sentence


def test_a_forked_child_speaks_for_itself(trail):
    """And not of what its parent has waiting."""
    emit(trail, 3)
    assert in_child(raw_fork, lambda: trail.health().waiting) == 0
    assert trail.health().waiting == 3


@pytest.mark.server
class TestShipper:
    @pytest.fixture
    def proxy(self, settings, monkeypatch):
        monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
        monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.1)
        AuditAdmin(settings=settings).setup()
        with FaultProxy(settings.opensearch_url[0]) as proxy:
            yield proxy

    @pytest.fixture
    def trail(self, settings, proxy):
        trail = Trail(settings.model_copy(update={"opensearch_url": (proxy.url,), "batch_seconds": 0.02}))
        yield trail
        trail.shutdown(5)

    def test_credentials_that_are_refused_until_they_are_not(self, trail, proxy, clocks):
        """Degraded meanwhile, with the server's word."""
        proxy.authorization = "Bearer another"
        emit(trail)
        until(lambda: kinds(trail) == ["credentials"])
        assert "401" in trail.health().reasons[0].sentence
        clocks.passed += 100
        assert kinds(trail) == ["stuck", "credentials"]
        proxy.authorization = None
        assert trail.flush(20)
        assert trail.health() == audit.Health("ok")

    def test_a_shipper_that_stopped(self, trail):
        """Whatever stopped it."""
        emit(trail)
        assert trail.flush(20)
        shipper = trail._shipper
        shipper._stopping.ring()
        shipper.hurry()
        assert shipper.wait(10)
        assert kinds(trail) == ["shipper stopped"]
