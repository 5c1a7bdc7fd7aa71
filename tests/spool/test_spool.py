"""Writer, reader and directory of a spool: order, crash, acknowledgement, locks, permissions, space."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.errors import SpoolWriteError
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import segments_of
from audit_logging.spool.writer import SpoolWriter

WRITER = "0123456789abcdef0123"


@pytest.fixture
def home(tmp_path):
    with_lock = SpoolDirectory(tmp_path / "spool").create(WRITER)
    yield with_lock
    with_lock.release()


def sequences(records):
    return [record.sequence for record in records]


class TestReading:
    def test_records_come_in_order_across_segments(self, home):
        """Small segments, many of them, read in pieces of any size."""
        writer = SpoolWriter(home.path, WRITER, segment_max_bytes=4096)
        payloads = [b"%d" % number * 100 for number in range(200)]
        for payload in payloads:
            writer.append(payload)
        reader = SpoolReader(home.path)
        assert len(segments_of(home.path)) > 5
        read = []
        while records := reader.read(max_bytes=1000):
            read += records
        assert [record.payload for record in read] == payloads
        assert sequences(read) == list(range(1, 201))
        writer.close()

    def test_a_reader_follows_a_living_writer(self, home):
        """What is appended later is read later; a record larger than a batch comes alone."""
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        reader = SpoolReader(home.path)
        assert not reader.read(100)
        writer.append(b"a")
        assert sequences(reader.read(100)) == [1]
        assert not reader.read(100)
        writer.append(b"x" * 3_000_000)
        writer.append(b"b")
        assert sequences(reader.read(100)) == [2]
        assert sequences(reader.read(100)) == [3]
        writer.close()

    def test_acknowledged_records_are_not_read_again_and_their_segments_go(self, home):
        """After a restart the reader goes on behind the cursor."""
        writer = SpoolWriter(home.path, WRITER, segment_max_bytes=4096)
        for number in range(100):
            writer.append(b"%d" % number * 100)
        before = len(segments_of(home.path))
        freed = SpoolReader(home.path).acknowledge(60)
        assert freed > 0
        again = SpoolReader(home.path)
        assert len(segments_of(home.path)) < before
        assert sequences(again.read(1 << 20))[0] == 61
        assert again.count_waiting() == 40
        writer.close()

    def test_a_segment_may_go_under_a_reader_that_has_read_it(self, home):
        """It stands at the end of the last segment, which is acknowledged and removed when the next begins."""
        writer = SpoolWriter(home.path, WRITER, segment_max_bytes=4096)
        writer.append(b"a" * 5000)
        reader = SpoolReader(home.path)
        assert sequences(reader.read(1 << 20)) == [1]
        writer.append(b"b")
        assert reader.bytes_kept() > 5000
        assert reader.acknowledge(1) > 5000
        assert reader.bytes_kept() < 100
        assert sequences(reader.read(1 << 20)) == [2]
        writer.close()

    def test_a_damaged_cursor_costs_repetition_and_never_an_event(self, home):
        """Whatever is sent again is recognised by its id."""
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        writer.append(b"a")
        SpoolReader(home.path).acknowledge(1)
        (home.path / "cursor").write_bytes(b"")
        assert sequences(SpoolReader(home.path).read(10)) == [1]
        writer.close()

    def test_a_cursor_that_could_not_be_written_is_written_with_the_next_read(self, home):
        """Somebody may be waiting to see it move, though nothing more is shipped."""
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        writer.append(b"a")
        reader = SpoolReader(home.path)
        cursor = home.path / "cursor"
        cursor.unlink()
        cursor.mkdir()
        reader.acknowledge(1)
        cursor.rmdir()
        assert (reader.acknowledged, SpoolReader(home.path).acknowledged) == (1, 0)
        assert not reader.read(10)
        assert SpoolReader(home.path).acknowledged == 1
        writer.close()

    @settings(max_examples=30)
    @given(st.integers(0, 400))
    def test_a_spool_cut_at_any_byte_gives_its_whole_records(self, tmp_path_factory, cut):
        """A torn tail, the header's included, is no error."""
        home = SpoolDirectory(tmp_path_factory.mktemp("cut")).create(WRITER)
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        for number in range(10):
            writer.append(b"%d" % number * 20)
        writer.close()
        segment = segments_of(home.path)[0]
        os.truncate(segment, min(cut, segment.stat().st_size))
        found = SpoolReader(home.path).read(1 << 20)
        assert sequences(found) == list(range(1, len(found) + 1))
        assert len(found) == min(max((cut - 42) // 28, 0), 10)
        home.release()


class TestDisk:
    def test_a_full_disk_raises_and_heals_without_a_trace(self, home, monkeypatch):
        """A record that was written in part is taken back; the next one that fits is whole."""
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        writer.append(b"first")
        limit = segments_of(home.path)[0].stat().st_size + 20
        with file_size_limit(limit), pytest.raises(SpoolWriteError, match="make room"):
            writer.append(b"x" * 100)
        writer.append(b"second")
        assert [record.payload for record in SpoolReader(home.path).read(100)] == [b"first", b"second"]
        writer.close()

    def test_a_full_disk_at_a_new_segment_leaves_no_half_header(self, home):
        """The segment that could not begin is not there; appending goes on when there is room."""
        writer = SpoolWriter(home.path, WRITER, 4096)
        with file_size_limit(10), pytest.raises(SpoolWriteError):
            writer.append(b"lost")
        assert segments_of(home.path) == []
        writer.append(b"kept")
        assert sequences(SpoolReader(home.path).read(100)) == [1]
        writer.close()

    def test_everything_is_private(self, home):
        """Directory 0700, files 0600, whatever the umask."""
        before = os.umask(0)
        try:
            writer = SpoolWriter(home.path, WRITER, 4096)
            writer.append(b"a")
            SpoolReader(home.path).acknowledge(1)
            other = SpoolDirectory(home.path.parent / "deeper" / "spool").create("f" * 20)
        finally:
            os.umask(before)
        assert home.path.stat().st_mode & 0o777 == 0o700
        assert other.path.parent.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in home.path.iterdir()} == {0o600}
        writer.close()
        other.release()

    def test_threads_share_one_sync(self, home):
        """Whoever finds its record on the disk already does not sync again."""
        writer = SpoolWriter(home.path, WRITER, 1 << 20)
        for _ in range(100):
            writer.append(b"a")
        threads = [threading.Thread(target=writer.sync, args=(sequence,)) for sequence in range(1, 101)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer._synced == 100
        writer.close()

    def test_a_new_segment_waits_for_no_disk(self, home, monkeypatch):
        """Where nobody asked for the disk itself, an append never syncs; the first who asks syncs all there is."""
        synced = []
        for sync in ("fsync", "fdatasync"):
            monkeypatch.setattr(
                os, sync, lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            )
        writer = SpoolWriter(home.path, WRITER, segment_max_bytes=4096)
        for _ in range(4):
            writer.append(b"x" * 3000)
        segments = segments_of(home.path)
        assert (len(segments), synced) == (2, [])
        writer.sync(1)
        assert {*segments, home.path, home.path.parent, home.path / "stream"} < set(synced)
        synced.clear()
        writer.sync(4)
        assert synced == []
        writer.append(b"x" * 3000)
        writer.sync(5)
        assert synced == [segments_of(home.path)[-1], home.path]
        writer.close()


class file_size_limit:
    """Make the kernel refuse to let a file of this process grow past *size* bytes, as a full disk would."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        import resource
        import signal

        self.signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_):
        import resource
        import signal

        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.signal)
