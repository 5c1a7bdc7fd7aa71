"""A spool that is removed, moved or replaced under a living process: restored from the open files, or reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audit_logging.capture import custody
from audit_logging.capture.trail import Trail
from audit_logging.errors import SpoolWriteError
from audit_logging.settings import Settings
from audit_logging.shipping.accounts import take_accounts
from audit_logging.spool import writer as spool_writer
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.interrupting import events_in
from tests.faults.reckoning import reckon
from tests.waiting import until

NOTICED_SECONDS = 2.0


@pytest.fixture
def settings_here(tmp_path):
    return Settings.load(spool_dir=tmp_path / "lib" / "spool", ship=False, home=tmp_path / "home")


@pytest.fixture
def trail(settings_here):
    trail = Trail(settings_here)
    yield trail
    trail.shutdown(0)


def emit(trail, count, durability=None):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}, durability) for number in range(count)]


def home_of(trail):
    return trail._writer.directory.path / trail._writer.id


def ids_in(spool):
    return [event["event"]["id"] for event in events_in(spool)]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def remove_everything(spool, home):
    shutil.rmtree(spool)


def remove_the_parent(spool, home):
    shutil.rmtree(spool.parent)


def remove_the_writer(spool, home):
    shutil.rmtree(home)


def remove_the_segments(spool, home):
    for segment in home.glob("*.seg"):
        segment.unlink()


def remove_all_files(spool, home):
    for file in home.iterdir():
        file.unlink()


def remove_all_but_the_segments(spool, home):
    for file in home.iterdir():
        if file.suffix != ".seg":
            file.unlink()


def move(spool, home):
    spool.rename(spool.with_name("moved"))


def move_the_parent(spool, home):
    spool.parent.rename(spool.parent.with_name("moved"))


def replace_by_an_empty_directory(spool, home):
    move(spool, home)
    spool.mkdir(0o700)


def replace_by_a_copy(spool, home):
    move(spool, home)
    shutil.copytree(spool.with_name("moved"), spool)
    spool.chmod(0o700)


def replace_the_segment_by_another_file(spool, home):
    for segment in home.glob("*.seg"):
        segment.unlink()
        segment.write_bytes(b"something else")


REMOVALS = [
    remove_everything,
    remove_the_parent,
    remove_the_writer,
    remove_the_segments,
    remove_all_files,
    remove_all_but_the_segments,
    move,
    move_the_parent,
    replace_by_an_empty_directory,
    replace_by_a_copy,
    replace_the_segment_by_another_file,
]


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("remove", REMOVALS)
def test_pending_events_are_restored(trail, settings_here, remove, durability):
    """Those before the removal, those of the second in which it is not noticed, and those afterwards."""
    spool = settings_here.spool_path
    ids = emit(trail, 5)
    remove(spool, home_of(trail))
    ids += emit(trail, 100, durability)
    began = time.monotonic()
    until(lambda: not trail.health().is_ready)
    assert time.monotonic() - began < NOTICED_SECONDS
    (reason,) = trail.health().reasons
    assert (reason.kind, "0 are lost" in reason.sentence) == ("spool removed", True)
    ids += emit(trail, 5, durability)
    assert ids_in(spool) == ids
    assert trail.shutdown(0) == len(ids)
    assert take_accounts(spool).total.in_spool == len(ids)
    (adopted,) = SpoolDirectory(spool, settings_here.stream).adopt()
    adopted.release()


@pytest.mark.parametrize("remove", [remove_everything, move, remove_the_segments])
def test_an_idle_process_restores_its_spool(trail, settings_here, remove):
    """Without an emit, a sync or a look at its health."""
    ids = emit(trail, 5)
    remove(settings_here.spool_path, home_of(trail))
    until(lambda: settings_here.spool_path.exists() and ids_in(settings_here.spool_path) == ids)


def test_every_segment_with_pending_events_is_restored(tmp_path):
    """Those that were closed for writing as well; and nothing that was acknowledged."""
    trail = Trail(Settings.load(spool_dir=tmp_path / "spool", ship=False, segment_max_bytes=4096, home=tmp_path))
    ids = emit(trail, 100)
    assert len(list(home_of(trail).glob("*.seg"))) > 5
    trail._writer.reader.acknowledge(40)
    shutil.rmtree(tmp_path / "spool")
    assert not trail.health().is_ready
    ids += emit(trail, 20)
    assert trail._writer.reader.look() == 40
    assert trail.shutdown(0) == 80
    found = [event["event"]["id"] for event in _events_after(tmp_path / "spool")]
    assert found[-80:] == ids[40:]
    assert take_accounts(tmp_path / "spool").balanced


def _events_after(spool):
    from audit_logging.spool.reader import SpoolReader

    (path,) = SpoolDirectory(spool).writers()
    return [json.loads(record.payload) for record in SpoolReader(path).read(1 << 24)]


def test_descriptors_of_acknowledged_segments_are_closed(tmp_path):
    """They would keep the room on the disk."""
    trail = Trail(Settings.load(spool_dir=tmp_path / "spool", ship=False, segment_max_bytes=4096, home=tmp_path))
    emit(trail, 100)
    before = open_files()
    trail._writer.reader.acknowledge(95)
    trail.health()
    assert open_files() < before - 5
    trail.shutdown(0)


def test_events_that_cannot_be_restored_are_counted(tmp_path, monkeypatch, caplog):
    """Where there are more segments than are held open; what remains is told apart from what is lost."""
    monkeypatch.setattr(spool_writer, "MOST_HELD", 2)
    trail = Trail(Settings.load(spool_dir=tmp_path / "spool", ship=False, segment_max_bytes=4096, home=tmp_path))
    emit(trail, 100)
    shutil.rmtree(tmp_path / "spool")
    found = trail.health()
    assert [reason.kind for reason in found.reasons] == ["spool removed", "lost"]
    lost = trail._writer.custody.lost
    assert 0 < lost < 100
    assert found.waiting == 100 - lost
    assert not trail.flush(0)
    emit(trail, 1)
    assert trail.shutdown(0) == 101 - lost
    assert f"{lost} are lost" in caplog.text
    total = take_accounts(tmp_path / "spool").total
    assert (total.in_spool, total.lost) == (101 - lost, lost)


def test_a_truncated_segment_costs_only_what_was_cut_off(trail, settings_here):
    """The records in front of the cut are kept, and later ones have a segment of their own."""
    emit(trail, 10)
    (segment,) = home_of(trail).glob("*.seg")
    os.truncate(segment, segment.stat().st_size // 2)
    found = trail.health()
    assert not found.is_ready
    lost = trail._writer.custody.lost
    assert 0 < lost < 10
    emit(trail, 10)
    assert trail.shutdown(0) == 20 - lost
    total = take_accounts(settings_here.spool_path).total
    assert (total.in_spool, total.lost) == (20 - lost, lost)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_where_it_cannot_be_restored_calls_raise_and_the_end_says_what_is_lost(
    trail, settings_here, caplog, durability
):
    """A file in the way of the directory; when it goes, everything is as before."""
    ids = emit(trail, 5)
    place = settings_here.spool_path.parent
    shutil.rmtree(place)
    place.touch()
    until(lambda: trail._writer.custody.is_broken)
    with pytest.raises(SpoolWriteError, match="cannot be restored") as raised:
        emit(trail, 1, durability)
    assert raised.value.state == "refused"
    assert not trail.health().is_ready
    place.unlink()
    ids += emit(trail, 5, durability)
    assert ids_in(settings_here.spool_path) == ids
    shutil.rmtree(place)
    place.touch()
    assert trail.shutdown(0) == 0
    assert "10 audit events" in caplog.text
    assert "are lost" in caplog.text


def test_a_link_in_place_of_the_spool_is_not_followed(trail, settings_here, tmp_path):
    """It might lead anywhere."""
    emit(trail, 5)
    shutil.rmtree(settings_here.spool_path)
    (tmp_path / "elsewhere").mkdir()
    settings_here.spool_path.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in trail.health().reasons[0].sentence
    with pytest.raises(SpoolWriteError):
        emit(trail, 1)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_health_is_failing_for_a_minute_after_the_restoration(trail, settings_here, monkeypatch):
    """So that a probe sees it, and not for ever."""
    emit(trail, 1)
    shutil.rmtree(settings_here.spool_path)
    assert not trail.health().is_ready
    monkeypatch.setattr(custody, "REMEMBERED_SECONDS", 0.0)
    assert trail.health().status == "ok"


def test_other_threads_emit_meanwhile(trail, settings_here):
    """Every event whose call returned is there once, in one chain, whatever was removed how often."""
    done = threading.Event()
    ids = []

    def work():
        while not done.is_set():
            ids.append(trail.emit("user.login", {"user_id": "u-1"}, "disk" if len(ids) % 7 == 0 else None))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        known = len(ids)
        until(lambda: len(ids) > known + 50)  # noqa: B023 - it is called at once
        shutil.rmtree(settings_here.spool_path, ignore_errors=True)
        assert not trail.health().is_ready
    done.set()
    for thread in threads:
        thread.join()
    trail.health()
    assert sorted(ids_in(settings_here.spool_path)) == sorted(ids)


PROGRAM = """
import os, sys, time
import audit_logging as audit

log = audit.get_logger()
for number in range(5):
    log.user_login(user_id=f"u-{number}")
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[1] == "emit":
    for number in range(100):
        log.user_login(user_id=f"u-{number}", durability=sys.argv[2])
"""


@pytest.mark.parametrize("what", ["emit", "end"])
@pytest.mark.parametrize("durability", ["process", "disk"])
def test_the_exit_message_is_true(tmp_path, what, durability):
    """What it says remains is there."""
    spool = tmp_path / "spool"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, durability],
        env=environment
        | {
            "AUDIT_HOME": str(tmp_path),
            "AUDIT_SPOOL_DIR": str(spool),
            "AUDIT_OPENSEARCH_URL": "http://127.0.0.1:1",
            "AUDIT_SIGNING": "false",
            "AUDIT_SHUTDOWN_TIMEOUT_SECONDS": "0.2",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    shutil.rmtree(spool)
    _, said = process.communicate("go on\n", timeout=60)
    expected = 105 if what == "emit" else 5
    assert f"{expected} audit events remain in the spool" in said
    assert take_accounts(spool).total.in_spool == expected


@pytest.mark.server
@pytest.mark.parametrize("remove", REMOVALS)
def test_everything_arrives_once_where_it_is_shipped(prepared, proxy, through_proxy, remove):
    """The server is away until the spool was removed and restored."""
    proxy.chance = lambda: proxy.status(503)
    trail = Trail(through_proxy.model_copy(update={"segment_max_bytes": 1 << 14}))
    ids = emit(trail, 50)
    remove(through_proxy.spool_path, home_of(trail))
    ids += emit(trail, 50)
    assert not trail.health().is_ready
    ids += emit(trail, 50, "disk")
    proxy.chance = None
    ids += emit(trail, 1, "indexed")
    assert trail.flush(20)
    assert trail.shutdown(10) == 0
    reckon(prepared, ids)


@pytest.mark.server
def test_a_sidecar_that_comes_before_the_restoration_skips_nothing(prepared):
    """An older segment is missing for a moment, and a later one is there."""
    trail = Trail(prepared.model_copy(update={"ship": False, "segment_max_bytes": 4096, "batch_seconds": 0.01}))
    ids = emit(trail, 60)
    first = min(home_of(trail).glob("*.seg"))
    with trail._writer._lock:  # nobody restores it yet
        first.unlink()
        from audit_logging.capture.sidecar import sidecar

        shipper = sidecar(prepared)
        shipper.start()
        until(lambda: shipper._sources)
    until(lambda: not trail.health().waiting)
    assert shipper.finish(10)
    assert trail.shutdown(0) == 0
    reckon(prepared, ids)
