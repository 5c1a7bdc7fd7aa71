"""The spool against a plain model: writers are born, append, fail, crash, and are shipped, in any order."""

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from audit_logging.capture.writer import Writer
from audit_logging.errors import SpoolFullError, SpoolWriteError
from audit_logging.events.document import Document
from audit_logging.settings import Settings
from audit_logging.spool.damage import OPENING, DamagedBytes
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import encode_record, segments_of

LIMIT = 1 << 16


class Interrupted(Exception):
    """Raised in the middle of an append."""


class Life:
    """What the model knows of one writer."""

    def __init__(self):
        self.events = []
        self.read = self.acknowledged = 0
        self.claimed = self.reader = None

    @property
    def waiting(self):
        return len(self.events) - self.acknowledged


def document(number, size):
    canonical = b'{"@timestamp":"2026","audit":{"schema":"1"},"message":"%d %b"}' % (number, b"x" * size)
    return Document(f"{number}", canonical, canonical.index(b'"schema"'))


@contextmanager
def disk(write):
    """Let *write* take the place of the system call for what looks like a record."""
    real = os.write
    with mock.patch.object(os, "write", lambda fd, data: (write if OPENING in data else real)(fd, data)):
        yield


class SpoolMachine(RuleBasedStateMachine):
    """One living writer at a time, which does not ship, and one sidecar, which comes and goes."""

    def __init__(self):
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.path = Path(self.folder.name) / "spool"
        self.directory = SpoolDirectory(self.path)
        self.damaged = DamagedBytes(self.directory.dead_letters)
        self.lives = {}
        self.writer = None
        self.count = 0

    def living(self):
        if self.writer is None:
            given = {"segment_max_bytes": 4096, "spool_max_bytes": LIMIT, "spool_block_seconds": 0}
            self.writer = Writer(Settings.load(spool_dir=self.path, ship=False, **given))
        return self.writer

    def append_one(self, size, *, expected=None, written=True):
        """Append to the living writer; *expected* is raised unless the spool is full."""
        writer = self.living()
        self.count += 1
        event = document(self.count, size)
        life = self.lives.get(writer.id)
        kept = writer.reader.bytes_kept() if writer.reader else 0
        try:
            if expected:
                with pytest.raises(expected):
                    writer.append(event)
            else:
                writer.append(event)
        except SpoolFullError:
            assert life.waiting
            assert kept + len(event.canonical) > LIMIT
            return
        finally:
            if writer.reader:
                self.lives.setdefault(writer.id, Life())
        if written:
            self.lives[writer.id].events.append(b"%d x" % self.count if size else b"%d " % self.count)

    @rule(size=st.integers(0, 6000), times=st.integers(1, 5))
    def append(self, size, times):
        for _ in range(times):
            self.append_one(size)

    @precondition(lambda self: not self.is_nearly_full())
    @rule(size=st.integers(0, 2000), part=st.integers(0, 250))
    def append_on_a_disk_that_fills_up(self, size, part):
        calls = []
        real = os.write

        def write(descriptor, data):
            calls.append(data)
            if len(calls) > 1 or not part:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, data[:part])

        with mock.patch.object(os, "write", write):
            self.append_one(size, expected=SpoolWriteError, written=False)

    @precondition(lambda self: not self.is_nearly_full())
    @rule(size=st.integers(0, 2000), part=st.integers(0, 100), whole=st.booleans())
    def append_that_is_interrupted(self, size, part, whole):
        real = os.write

        def write(descriptor, data):
            real(descriptor, data if whole else data[:part])
            raise Interrupted

        with disk(write):
            self.append_one(size, expected=Interrupted, written=whole)

    def is_nearly_full(self):
        reader = self.writer and self.writer.reader
        return reader and reader.bytes_kept() > LIMIT // 2

    @precondition(lambda self: self.writer and self.writer._spool)
    @rule()
    def roll(self):
        self.writer._settle(self.writer._spool)
        self.writer._spool.roll()

    @precondition(lambda self: self.writer and self.writer._spool)
    @rule(torn=st.integers(0, 70))
    def crash(self, torn):
        writer, self.writer = self.writer, None
        writer._settle(writer._spool)
        writer._home.release()
        writer._spool.close()
        for segment in segments_of(writer._home.path)[-1:]:
            with segment.open("ab") as file:
                file.write(encode_record(document(0, 10).canonical)[:torn])

    @precondition(lambda self: self.writer)
    @rule()
    def end(self):
        writer, self.writer = self.writer, None
        life = self.lives.get(writer.id)
        assert writer.close() == (life.waiting if life else 0)
        if life and not life.waiting and not life.claimed:
            del self.lives[writer.id]

    @rule()
    def sidecar_comes(self):
        for claimed in self.directory.claim():
            life = self.lives[claimed.writer]
            life.claimed, life.reader = claimed, SpoolReader(claimed.path, self.damaged)
            life.read = life.acknowledged

    @rule()
    def sidecar_dies(self):
        for life in self.lives.values():
            if life.claimed:
                life.claimed.release()
                life.claimed = life.reader = None

    @rule(max_bytes=st.integers(1, 20_000))
    def read(self, max_bytes):
        for writer, life in list(self.lives.items()):
            if not life.claimed:
                continue
            final = life.claimed.take_over()
            assert final == (self.writer is None or self.writer.id != writer)
            records = life.reader.read(max_bytes, final=final)
            expected = life.events[life.read : life.read + len(records)]
            assert all(b'"message":"' + name in record.payload for name, record in zip(expected, records, strict=True))
            numbers = range(life.read + 1, life.read + len(records) + 1)
            assert [record.sequence for record in records] == list(numbers)
            assert bool(records) == (life.read < len(life.events))
            life.read += len(records)
            if final and not records and not life.waiting:
                life.claimed.remove()
                del self.lives[writer]

    @rule(data=st.data())
    def acknowledge(self, data):
        for life in self.lives.values():
            if life.claimed and life.read > life.acknowledged:
                life.acknowledged = data.draw(st.integers(life.acknowledged + 1, life.read))
                life.reader.acknowledge(life.acknowledged)

    @invariant()
    def what_is_not_acknowledged_is_there(self):
        assert {path.name for path in self.directory.writers()} == self.lives.keys()
        for writer, life in self.lives.items():
            waiting = SpoolReader(self.path / writer)
            assert waiting.acknowledged == life.acknowledged
            assert waiting.count_waiting() == life.waiting
        assert list(self.damaged) == []

    def teardown(self):
        self.sidecar_dies()
        if self.writer:
            self.writer.close()
        self.folder.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
