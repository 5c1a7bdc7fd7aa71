"""A spool on a disk that is really full: emit calls raise, shipping goes on, and room that comes back is used."""

import threading
import time

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import SpoolWriteError
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from tests.faults.reckoning import reckon
from tests.spool.conftest import fill, small_disk
from tests.waiting import until

pytestmark = pytest.mark.server

__all__ = ["small_disk"]  # a fixture


@pytest.fixture
def on_small_disk(through_proxy, small_disk):
    """Settings with a spool on that disk."""
    return through_proxy.model_copy(update={"spool_dir": small_disk / "spool", "segment_max_bytes": 1 << 14})


def emit_until_full(trail, most=10_000):
    """Return the ids of the events whose calls returned, and the error that ended it."""
    ids = []
    for number in range(most):
        try:
            ids.append(trail.emit("user.login", {"user_id": f"u-{number}", "reason": "x" * (number * 37 % 900)}))
        except SpoolWriteError as error:
            return ids, error
    raise AssertionError("the disk never filled up")


def emit_again(trail):
    """Emit until it succeeds, and return the event's id."""
    return until(lambda: trail.emit("user.logout", {}), despite=SpoolWriteError)


def test_calls_raise_and_recover_by_themselves_when_shipping_makes_room(proxy, prepared, on_small_disk):
    """The server is away until the disk is full to the last byte; marks and refusals are noted nevertheless."""
    away = threading.Event()
    proxy.chance = lambda: None if away.is_set() else proxy.drop
    trail = Trail(on_small_disk)
    ids, error = emit_until_full(trail)
    assert error.state == "refused"
    assert error.event_id not in ids
    assert "make room" in str(error)
    fill(on_small_disk.spool_path.parent)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(SpoolWriteError):
            trail.emit("user.login", {})
    assert time.monotonic() - began < 5, "a full disk is said at once"
    proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=7)])
    away.set()
    ids += [emit_again(trail) for _ in range(20)]
    assert trail.flush(30)
    assert trail.shutdown(10) == 0
    sent_first = {event.id for event in reckon(prepared, ids, poison=ids) if event.event_type == "audit.quarantined"}
    assert 0 < len(sent_first) < len(ids) / 2, "some were refused, and noted on the full disk"


def test_room_that_somebody_else_makes_is_used(proxy, prepared, on_small_disk):
    """Nothing was shipped yet; half a record was taken back, and nobody ever sees one."""
    proxy.chance = lambda: proxy.drop
    trail = Trail(on_small_disk)
    trail.emit("user.login", {})
    filler = fill(on_small_disk.spool_path.parent)
    ids, _ = emit_until_full(trail)
    for seconds in range(10):
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 700 - 100 * seconds)
        more, _ = emit_until_full(trail)
        ids += more
    filler.unlink()
    ids.append(emit_again(trail))
    (directory,) = SpoolDirectory(on_small_disk.spool_path, prepared.stream).writers()
    assert SpoolReader(directory).count_waiting() == len(ids) + 1
    proxy.chance = None
    assert trail.flush(30)
    assert trail.shutdown(10) == 0
    reckon(prepared, ids)


def test_a_process_that_is_killed_on_a_full_disk_is_adopted(proxy, prepared, on_small_disk):
    """Its cursor, and how far it had sent, were overwritten in place; the next has no more room than it had."""
    proxy.chance = lambda: proxy.drop
    trail = Trail(on_small_disk)
    ids, _ = emit_until_full(trail)
    assert trail.shutdown(0) == len(ids)
    fill(on_small_disk.spool_path.parent)
    proxy.faults.extend([proxy.store_then()] * 2)
    proxy.chance = None
    next_trail = Trail(on_small_disk)
    with pytest.raises(SpoolWriteError, match="make room"):
        next_trail.emit("user.login", {})
    sidecar = Shipper(on_small_disk, SpoolDirectory(on_small_disk.spool_path, prepared.stream), None)
    sidecar.start()
    assert sidecar.finish(30)
    ids.append(emit_again(next_trail))
    assert next_trail.flush(30)
    next_trail.shutdown(10)
    reckon(prepared, ids)
