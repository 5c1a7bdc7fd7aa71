"""A sync that fails: what the kernel may then call clean is never taken for safe.

No device here can be made to fail, so the fault is put between Python and the kernel: the first sync of a file after
its fault fails, and the ones that follow succeed without anything having reached the disk, as on Linux.
"""

import errno
import os
import random
import shutil
import threading
from pathlib import Path

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.capture.writer import Writer
from audit_logging.errors import SpoolWriteError
from audit_logging.events.document import Document
from audit_logging.settings import Settings
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import FRAME_BYTES, HEADER_BYTES, segments_of
from audit_logging.spool.writer import SpoolWriter

WRITER = "0123456789abcdef0123"


class FailingDisk:
    """Knows what has really reached the disk.

    Attributes:
        on_disk: How much of each file is there, by its number.
    """

    def __init__(self, monkeypatch):
        self.on_disk = {}
        self.spoilt = set()
        self.faults = []
        self.synced = []
        self.lock = threading.Lock()
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self.sync)

    def sync(self, descriptor):
        with self.lock:
            file = os.fstat(descriptor)
            self.synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            if self.faults and self.faults.pop(0):
                self.spoilt.add(file.st_ino)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if file.st_ino not in self.spoilt:
                self.on_disk[file.st_ino] = file.st_size

    def sequences(self, directory):
        """Return the sequences whose records are on the disk."""
        found = set()
        for segment in segments_of(directory):
            size = self.on_disk.get(segment.stat().st_ino, 0)
            sequence, offset = int(segment.stem), HEADER_BYTES
            data = segment.read_bytes()
            while (offset := offset + FRAME_BYTES + int.from_bytes(data[offset : offset + 4], "big")) <= size:
                found.add(sequence)
                sequence += 1
        return found


@pytest.fixture
def disk(monkeypatch):
    return FailingDisk(monkeypatch)


@pytest.fixture
def home(tmp_path):
    home = SpoolDirectory(tmp_path / "spool").create(WRITER)
    yield home
    home.release()


@pytest.fixture
def writer(home):
    writer = SpoolWriter(home.path, WRITER, 1 << 20)
    yield writer
    writer.close()


def append(writer, times=1):
    for _ in range(times):
        writer.append(b"x" * 100)


def test_what_failed_once_never_succeeds_later(home, writer, disk):
    """The record is in doubt for ever; the next is in a new segment, and safe there."""
    append(writer, 2)
    writer.sync(1)
    append(writer)
    disk.faults = [True]
    for _ in range(3):
        with pytest.raises(SpoolWriteError, match=r"Input/output error|an earlier attempt") as caught:
            writer.sync(3)
        assert caught.value.state == "spooled"
    append(writer)
    writer.sync(4)
    with pytest.raises(SpoolWriteError):
        writer.sync(3)
    writer.sync(2)
    assert [int(segment.stem) for segment in segments_of(home.path)] == [1, 4]
    assert disk.sequences(home.path) >= {1, 2, 4}
    assert len(SpoolReader(home.path).read(1 << 20)) == 4


@pytest.mark.parametrize("call", range(5))
def test_a_fault_in_any_of_the_syncs_of_a_birth_is_a_fault(home, writer, disk, call):
    """The segment, its directory, those above, and the files beside it: each is needed to find the event again."""
    append(writer)
    disk.faults = [False] * call + [True]
    with pytest.raises(SpoolWriteError):
        writer.sync(1)
    append(writer)
    writer.sync(2)
    assert disk.faults == []
    assert 2 in disk.sequences(home.path)


def test_a_segment_closed_before_its_sync_is_synced_too(home, disk):
    """Whichever thread begins the next, and however the sync of the old one ends."""
    writer = SpoolWriter(home.path, WRITER, 4096)
    for _ in range(3):
        append(writer, 50)
    assert len(segments_of(home.path)) > 3
    disk.faults = [True]
    with pytest.raises(SpoolWriteError):
        writer.sync(1)
    append(writer)
    writer.sync(151)
    with pytest.raises(SpoolWriteError):
        writer.sync(150)
    writer.close()


@pytest.mark.parametrize("seed", range(5))
def test_many_threads_hear_of_it_and_nobody_else_is_told_a_lie(home, disk, seed):
    """Whatever was said to be on the disk is there; what was not is in the spool."""
    chance = random.Random(seed)
    disk.faults = [chance.random() < 0.1 for _ in range(60)]
    writer = SpoolWriter(home.path, WRITER, 4096)
    lock = threading.Lock()
    safe, doubtful = [], []

    def emit():
        for _ in range(30):
            with lock:
                append(writer)
                sequence = writer.sequence
            try:
                writer.sync(sequence)
            except SpoolWriteError:
                doubtful.append(sequence)
            else:
                safe.append(sequence)

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert doubtful
    assert safe
    assert set(safe) <= disk.sequences(home.path)
    assert sorted(safe + doubtful) == [record.sequence for record in SpoolReader(home.path).read(1 << 30)]
    writer.close()


@pytest.mark.parametrize("seed", range(3))
def test_threads_that_share_a_sync_hear_of_it(tmp_path, disk, seed):
    """Each is told of its own event, whichever thread synced for it."""
    chance = random.Random(seed)
    trail = Trail(Settings.load(spool_dir=tmp_path, durability="disk", ship=False, segment_max_bytes=8192))
    trail.emit("user.login", {})
    disk.faults = [chance.random() < 0.1 for _ in range(40)]
    safe, doubtful, states = [], [], set()

    def emit():
        for _ in range(30):
            try:
                safe.append(trail.emit("user.login", {}))
            except SpoolWriteError as error:
                states.add(error.state)
                doubtful.append(error.event_id)

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = SpoolDirectory(tmp_path).writers()
    on_disk = disk.sequences(path)
    events = {orjson.loads(payload)["event"]["id"]: sequence for sequence, payload in SpoolReader(path).read(1 << 30)}
    assert states == {"spooled"}
    assert len(safe) + len(doubtful) == len({*safe, *doubtful}) == 8 * 30
    assert {events[event_id] for event_id in safe} <= on_disk
    assert set(doubtful) < events.keys()
    trail.shutdown(0)


def test_what_was_appended_before_a_shutdown_is_synced_after_it(tmp_path, disk):
    """Another thread shuts the trail down between an append and its sync; the promise is kept all the same."""
    writer = Writer(Settings.load(spool_dir=tmp_path, ship=False))
    canonical = b'{"@timestamp":"2026","audit":{"schema":"1"}}'
    sequence = writer.append(Document("id", canonical, canonical.index(b'"schema"')))
    (path,) = SpoolDirectory(tmp_path).writers()
    writer.close()
    assert disk.sequences(path) == set()
    writer.sync(sequence, "id")
    assert disk.sequences(path) == {1}
    shutil.rmtree(path)
    writer.sync(sequence, "id")


def test_the_emit_call_raises_with_the_events_id(tmp_path, disk):
    """It says that the event is in the spool; the next call is served."""
    trail = Trail(Settings.load(spool_dir=tmp_path, durability="disk", ship=False))
    trail.emit("user.login", {})
    disk.faults = [True]
    with pytest.raises(SpoolWriteError, match="do not emit it again") as caught:
        trail.emit("user.login", {})
    assert caught.value.state == "spooled"
    trail.emit("user.login", {})
    (path,) = SpoolDirectory(tmp_path).writers()
    records = SpoolReader(path).read(1 << 20)
    assert caught.value.event_id.encode() in records[1].payload
    assert len(records) == 3
    trail.shutdown(0)
