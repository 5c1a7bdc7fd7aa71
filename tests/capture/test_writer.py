"""A process as a writer when it does not ship itself: a sidecar does, and the cursor on disk tells how far."""

import threading

import pytest

from audit_logging.capture.writer import Writer, WriterClosedError
from audit_logging.errors import SpoolFullError
from audit_logging.events.document import Document
from audit_logging.settings import Settings
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from tests.waiting import until

CANONICAL = b'{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{"schema":"1"},"message":"%s"}' % (b"x" * 1000)
LIMIT = 1 << 16


@pytest.fixture
def writer(tmp_path):
    writer = Writer(
        Settings.load(
            spool_dir=tmp_path,
            ship=False,
            opensearch_url="http://127.0.0.1:1",
            spool_max_bytes=LIMIT,
            spool_block_seconds=0.1,
            segment_max_bytes=4096,
        )
    )
    yield writer
    writer.close()


def document():
    return Document("id", CANONICAL, CANONICAL.index(b'"schema"'))


def append(writer, times=1):
    for _ in range(times):
        last = writer.append(document())
    return last


class Sidecar:
    """Ships every writer there is, to nowhere."""

    def __init__(self, spool):
        self.claimed = list(SpoolDirectory(spool).claim())
        self.readers = [SpoolReader(directory.path) for directory in self.claimed]

    def ship(self, max_bytes=1 << 30):
        for reader in self.readers:
            if records := reader.read(max_bytes):
                reader.acknowledge(records[-1].sequence)


class TestWithSidecar:
    def test_waiting_for_acknowledgement_looks_at_the_cursor(self, writer, tmp_path):
        """True as soon as the sidecar has acknowledged; false when time runs out."""
        last = append(writer, 3)
        assert (writer.waiting, writer.wait_until_acknowledged(last, 0.01)) == (3, False)
        sidecar = Sidecar(tmp_path)
        shipping = threading.Timer(0.05, sidecar.ship)
        shipping.start()
        assert writer.wait_until_acknowledged(last, 20)
        assert writer.waiting == 0
        shipping.join()

    def test_what_became_of_an_awaited_event_is_read_from_the_disk(self, writer, tmp_path):
        """Indexed as the cursor tells, refused as the journal does, or not known in time."""
        sequences = [writer.append(document(), awaited=True) for _ in range(3)]
        sidecar = Sidecar(tmp_path)
        Refusals(sidecar.claimed[0].path).note("quarantined", {sequences[1]: "mapper_parsing_exception"})
        sidecar.ship()
        assert [writer.wait_for(sequence, 20) for sequence in sequences] == ["", "mapper_parsing_exception", ""]
        assert writer.wait_for(writer.append(document(), awaited=True), 0.01) is None
        assert writer._awaited == {}

    def test_room_comes_from_the_segments_that_the_sidecar_removes(self, writer, tmp_path):
        """Full it blocks and raises; what is shipped makes room, for calls that wait too."""
        with pytest.raises(SpoolFullError, match="spool_max_bytes"):
            append(writer, 1000)
        held = writer.sequence
        assert held < 1000
        assert not writer.has_room
        sidecar = Sidecar(tmp_path)
        sidecar.ship(max_bytes=10_000)
        append(writer, 3)
        with pytest.raises(SpoolFullError):
            append(writer, 1000)
        stopping = threading.Event()
        shipping = threading.Thread(target=lambda: [sidecar.ship() for _ in iter(stopping.is_set, True)])
        writer._settings = writer._settings.model_copy(update={"spool_block_seconds": 30})
        shipping.start()
        append(writer, 500)
        stopping.set()
        shipping.join()
        assert writer.sequence > held + 500

    def test_who_waits_for_room_hears_that_the_writer_was_closed(self, writer, tmp_path):
        """At once: the trail has another by then, with room of its own."""
        with pytest.raises(SpoolFullError):
            append(writer, 1000)
        writer._settings = writer._settings.model_copy(update={"spool_block_seconds": 60})
        heard = []

        def wait():
            try:
                append(writer)
            except WriterClosedError as error:
                heard.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not writer._changed._waiters:
            assert waiting.is_alive()
        last = writer.sequence
        assert writer.close() == last
        waiting.join(20)
        assert len(heard) == 1

    def test_a_full_spool_uses_the_room_that_its_limit_gives(self, writer):
        """Neither more than the limit, nor much less."""
        with pytest.raises(SpoolFullError):
            append(writer, 1000)
        kept = writer.reader.bytes_kept()
        assert LIMIT - 2 * len(CANONICAL) < kept <= LIMIT + len(CANONICAL)

    def test_a_limit_below_the_size_of_a_segment_recovers_by_itself(self, tmp_path):
        """What is acknowledged of the segment that is written goes when there is no room; and so every time."""
        given = {"spool_max_bytes": LIMIT, "segment_max_bytes": 1 << 24, "spool_block_seconds": 5}
        writer = Writer(Settings.load(spool_dir=tmp_path, ship=False, **given))
        append(writer)
        sidecar = Sidecar(tmp_path)
        for _ in range(5):
            append(writer, 40)
            sidecar.ship()
        assert writer.reader.bytes_kept() < LIMIT
        writer.close()

    def test_an_event_larger_than_the_limit_is_taken_when_nothing_waits(self, tmp_path):
        """The smallest limit is smaller than the largest event, which must not be refused for ever."""
        writer = Writer(Settings.load(spool_dir=tmp_path, ship=False, spool_max_bytes=LIMIT, spool_block_seconds=0.01))
        large = CANONICAL[:-2] + b"y" * 2 * LIMIT + CANONICAL[-2:]
        append(writer)
        sidecar = Sidecar(tmp_path)
        sidecar.ship()
        for _ in range(2):
            writer.append(Document("id", large, large.index(b'"schema"')))
            with pytest.raises(SpoolFullError):
                append(writer)
            sidecar.ship()
        append(writer)
        writer.close()

    def test_the_end_leaves_a_spool_to_the_sidecar_that_ships_it(self, writer, tmp_path):
        """It may be reading there; it removes what is done with."""
        append(writer)
        sidecar = Sidecar(tmp_path)
        sidecar.ship()
        assert writer.close() == 0
        (claimed,) = sidecar.claimed
        assert claimed.path.exists()
        assert claimed.take_over()
        claimed.remove()
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []

    def test_the_end_removes_a_spool_that_is_shipped_and_nobodys(self, writer, tmp_path):
        """The sidecar came and went."""
        append(writer)
        sidecar = Sidecar(tmp_path)
        sidecar.ship()
        sidecar.claimed[0].release()
        assert writer.close() == 0
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []

    def test_what_remains_at_the_end_is_shipped_by_whoever_comes(self, writer, tmp_path):
        """As after a death."""
        append(writer, 2)
        assert writer.close() == 2
        (adopted,) = SpoolDirectory(tmp_path).adopt()
        assert SpoolReader(adopted.path).count_waiting() == 2
        adopted.release()


class TestWhoShips:
    @pytest.mark.parametrize(
        ("given", "ships"),
        [
            ({"opensearch_url": "http://127.0.0.1:1"}, True),
            ({"opensearch_url": "http://127.0.0.1:1", "ship": False}, False),
            ({}, False),
        ],
    )
    def test_the_shipping_lock_is_the_processs_only_if_it_ships(self, tmp_path, given, ships):
        """Without a server, or told not to, it leaves the shipping to a sidecar."""
        writer = Writer(Settings.load(spool_dir=tmp_path, **given))
        append(writer)
        assert writer.ships is ships
        claimed = list(SpoolDirectory(tmp_path).claim())
        assert [directory.take_over() for directory in claimed] == ([] if ships else [False])
        for directory in claimed:
            directory.release()
        assert writer.close() == 1


def test_a_signed_event_does_not_open_what_is_being_closed(writer):
    """A second life under the same id would number its events anew."""

    class Signer:
        def sign(self, sealed):
            return sealed

        def keep(self, *_):
            closing.start()
            until(lambda: writer._closed)

    closing = threading.Thread(target=writer.close)
    writer.append(document(), signer=Signer())
    closing.join()
    with pytest.raises(WriterClosedError):
        append(writer)
