"""A segment that is cut, flipped, zeroed or written into at every one of its bytes: what is whole ships, once."""

import logging
import os
import random
import tempfile
from pathlib import Path

import orjson
import pytest

from audit_logging.integrity.seal import Chain
from audit_logging.spool.damage import DamagedBytes, DamageError
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import HEADER_BYTES, SegmentError, encode_record, segments_of
from audit_logging.spool.writer import SpoolWriter

WRITER = "0123456789abcdef0123"
PAGE = 64
LOOKS_TORN_FROM = HEADER_BYTES + len(encode_record(b"x" * 278)) + 23
"""Where the last record of the last segment is long enough to look as if it had been cut short by a crash."""


def sealed_documents(count, writer=WRITER):
    chain = Chain(writer)
    for number in range(count):
        document = b'{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{"schema":"%d"}}' % number
        sealed = chain.seal(document, document.index(b'"schema"'))
        chain.advance(sealed)
        yield sealed.payload


@pytest.fixture
def spool(monkeypatch):
    """In memory where that can be, and without syncing: some thousand files are written."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Spool(Path(folder) / "spool")


class Spool:
    """A dead writer's spool of two segments, which can be damaged and read."""

    def __init__(self, path):
        self.directory = SpoolDirectory(path)
        home = self.directory.create(WRITER)
        self.home = home.path
        writer = SpoolWriter(self.home, WRITER, 1 << 20)
        self.payloads = list(sealed_documents(5))
        for number, payload in enumerate(self.payloads):
            if number == 3:
                writer.roll()
            writer.append(payload)
        writer.close()
        home.release()
        self.segments = segments_of(self.home)
        self.whole = {segment: segment.read_bytes() for segment in self.segments}
        self.damaged = DamagedBytes(self.directory.dead_letters)

    def reset(self):
        for segment, data in self.whole.items():
            segment.write_bytes(data)
        for path in self.damaged.path.glob("*"):
            path.unlink()

    def read(self, *, final=True, reader=None):
        reader = reader or SpoolReader(self.home, self.damaged)
        found = []
        while records := reader.read(700, final=final):
            found += records
        return found

    def check(self, damaged, caplog):
        """Read, and compare with what is still whole in the *damaged* segment."""
        caplog.clear()
        found = self.read()
        data = {segment: segment.read_bytes() for segment in self.segments}
        expected = [
            (number, payload)
            for number, payload in enumerate(self.payloads, 1)
            if any(encode_record(payload) in each for each in data.values())
        ]
        assert [tuple(record) for record in found] == expected
        kept = list(self.damaged)
        assert len(kept) == len(caplog.records), "one line each"
        missing = {*range(1, 6)} - {number for number, _ in expected}
        told = {
            n
            for each in kept
            for n in range(each.first_missing, 6 if each.last_missing is None else each.last_missing + 1)
        }
        for damage in kept:
            held, raw = self.damaged.get(damage.id)
            assert (held, len(raw)) == (damage, damage.size)
            assert data[self.home / damage.segment][damage.offset :].startswith(raw)
        left = data[damaged]
        for _, payload in expected:
            if encode_record(payload) in self.whole[damaged]:
                left = left.replace(encode_record(payload), b"", 1)
        if left.startswith(self.whole[damaged][:HEADER_BYTES]):
            left = left[HEADER_BYTES:]
        return kept, missing, told, left


def flip(data, offset, chance):
    return data[:offset] + bytes([data[offset] ^ 1 << chance.randrange(8)]) + data[offset + 1 :]


def zero_page(data, offset, _):
    return data[:offset] + bytes(len(data[offset : offset + PAGE])) + data[offset + PAGE :]


def insert_garbage(data, offset, chance):
    return data[:offset] + chance.randbytes(chance.randrange(1, 40)) + data[offset:]


def insert_an_old_record(data, offset, _):
    return data[:offset] + encode_record(next(sealed_documents(1))) + data[offset:]


def insert_another_writers_record(data, offset, _):
    return data[:offset] + encode_record(next(sealed_documents(1, "f" * 20))) + data[offset:]


def cut_out(data, offset, _):
    return data[:offset] + data[offset + PAGE :]


@pytest.mark.parametrize("segment", [0, 1], ids=["complete", "last"])
@pytest.mark.parametrize(
    "damage", [flip, zero_page, insert_garbage, insert_an_old_record, insert_another_writers_record, cut_out]
)
def test_at_every_byte_everything_whole_is_read_and_the_rest_is_kept(spool, caplog, damage, segment):
    """Each undamaged record once, under its own number; each damaged byte in a file; each gap told, in one line."""
    chance = random.Random(7)
    segment = spool.segments[segment]
    whole = spool.whole[segment]
    for offset in range(len(whole)):
        spool.reset()
        segment.write_bytes(damage(whole, offset, chance))
        if segment.read_bytes() == whole:
            continue
        kept, missing, told, left = spool.check(segment, caplog)
        if damage is cut_out and segment == spool.segments[1] and offset >= LOOKS_TORN_FROM:
            continue
        assert kept, f"nothing is told of damage at {offset}"
        assert told == missing
        if damage is not insert_an_old_record or offset >= HEADER_BYTES:
            assert sum(each.size for each in kept) == len(left), f"damaged bytes at {offset} are not kept"


@pytest.mark.parametrize("segment", [0, 1], ids=["complete", "last"])
def test_a_cut_at_every_byte_is_a_torn_tail_at_the_end_and_a_gap_before_it(spool, caplog, segment):
    """A crash tears the last record of the last segment, which was never promised; nothing else tears."""
    is_last = bool(segment)
    segment = spool.segments[segment]
    for size in range(len(spool.whole[segment])):
        spool.reset()
        segment.write_bytes(spool.whole[segment][:size])
        kept, missing, told, left = spool.check(segment, caplog)
        if is_last:
            assert (kept, caplog.text) == ([], "")
        else:
            assert told == missing
            assert sum(damage.size for damage in kept) == len(left)


class TestWhileItIsWritten:
    def test_damage_in_the_middle_is_passed_and_the_end_waits(self, spool):
        """What is being written looks like a torn tail until it is whole."""
        segment = spool.segments[1]
        data = bytearray(spool.whole[segment])
        data[HEADER_BYTES + 20] ^= 1
        reader = SpoolReader(spool.home, spool.damaged)
        segment.write_bytes(data[:-3])
        assert [record.sequence for record in spool.read(final=False, reader=reader)] == [1, 2, 3]
        assert list(spool.damaged) == []
        segment.write_bytes(data)
        assert [record.sequence for record in spool.read(final=False, reader=reader)] == [5]
        (damage,) = spool.damaged
        assert (damage.first_missing, damage.last_missing) == (4, 4)

    def test_a_damaged_end_is_told_of_when_the_next_segment_begins_or_the_writer_is_dead(self, spool):
        """Not before: nobody can tell it from what is still to come."""
        for how in ("rolled", "dead"):
            spool.reset()
            segment = spool.segments[1]
            segment.write_bytes(spool.whole[segment][:-1] + b"x")
            reader = SpoolReader(spool.home, spool.damaged)
            assert len(spool.read(final=False, reader=reader)) == 4
            assert list(spool.damaged) == []
            if how == "rolled":
                (spool.home / f"{6:020d}.seg").write_bytes(b"")
            assert spool.read(final=how == "dead", reader=reader) == []
            (damage,) = spool.damaged
            assert damage.missing == ("event 5 is missing" if how == "rolled" else "events from 5 on are missing")
            (spool.home / f"{6:020d}.seg").unlink(missing_ok=True)

    def test_a_header_that_is_not_all_there_yet_is_waited_for(self, spool):
        """The reader looks between the making of a segment and the writing of its header."""
        segment = spool.segments[1]
        reader = SpoolReader(spool.home, spool.damaged)
        for size in (0, 10, HEADER_BYTES, len(spool.whole[segment])):
            segment.write_bytes(spool.whole[segment][:size])
            found = spool.read(final=False, reader=reader)
        assert [record.sequence for record in found] == [4, 5]
        assert list(spool.damaged) == []


class TestWhatIsGone:
    def test_a_segment_that_is_gone_is_a_gap(self, spool):
        """Nothing is left to keep but the news; what was acknowledged before is none."""
        spool.segments[0].unlink()
        assert len(spool.read()) == 2
        (damage,) = spool.damaged
        assert (damage.missing, damage.size) == ("events 1 to 3 are missing", 0)
        spool.reset()
        spool.segments[0].unlink()
        SpoolReader(spool.home).acknowledge(3)
        assert len(spool.read()) == 2
        assert list(spool.damaged) == []

    def test_without_a_whole_cursor_nobody_knows_what_was_shipped(self, spool):
        """Segments go when they are acknowledged, so that is no gap."""
        reader = SpoolReader(spool.home)
        reader.acknowledge(3)
        assert not spool.segments[0].exists()
        (spool.home / "cursor").write_bytes(b"garbage")
        assert len(spool.read()) == 2
        assert list(spool.damaged) == []

    def test_damage_in_what_was_shipped_harms_nobody(self, spool):
        """The segment is still there for the sake of its other records."""
        SpoolReader(spool.home).acknowledge(2)
        data = bytearray(spool.whole[spool.segments[0]])
        data[HEADER_BYTES + 20] ^= 1
        spool.segments[0].write_bytes(data)
        assert [record.sequence for record in spool.read()] == [3, 4, 5]
        assert list(spool.damaged) == []


class TestKeeping:
    def damage(self, spool):
        data = bytearray(spool.whole[spool.segments[0]])
        data[HEADER_BYTES + 400] ^= 1
        spool.segments[0].write_bytes(data)

    def test_what_cannot_be_kept_is_not_passed_and_costs_no_other(self, spool):
        """Records that were read before it are given; the error comes with the next call, until there is room."""
        self.damage(spool)
        spool.damaged.path.write_text("in the way")
        reader = SpoolReader(spool.home, spool.damaged)
        assert [record.sequence for record in reader.read(1 << 20)] == [1]
        for _ in range(2):
            with pytest.raises(OSError):
                reader.read(1 << 20)
        spool.damaged.path.unlink()
        assert [record.sequence for record in reader.read(1 << 20)] == [3, 4, 5]
        assert len(list(spool.damaged)) == 1

    def test_it_is_private_and_found_by_its_id(self, spool, caplog):
        """Found again it is the same file."""
        self.damage(spool)
        with caplog.at_level(logging.CRITICAL, "audit_logging"):
            spool.read()
            spool.read()
        assert "event 2 is missing" in caplog.text
        (damage,) = spool.damaged
        path = spool.damaged.file_of(damage.id)
        assert str(path) in caplog.text
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert orjson.loads(path.read_bytes().splitlines()[0])["segment"] == spool.segments[0].name
        assert spool.damaged.get("../" + damage.id) is None
        assert spool.damaged.get("other") is None
        path.write_text("garbage")
        with pytest.raises(DamageError, match="cannot be read"):
            list(spool.damaged)

    def test_who_only_looks_keeps_nothing(self, spool):
        """Counting what waits is no reason to write."""
        self.damage(spool)
        assert SpoolReader(spool.home).count_waiting() == 4
        assert not Path(spool.damaged.path).exists()

    def test_a_later_format_is_left_alone(self, spool):
        """It is no damage: the version that wrote it can ship it. What is before it is given."""
        from audit_logging.spool import segment

        later = segment._HEADER.pack(segment.MAGIC, 2, WRITER.encode(), 4)
        spool.segments[1].write_bytes(later + segment._CHECKSUM.pack(segment.crc32(later)))
        reader = SpoolReader(spool.home, spool.damaged)
        assert len(reader.read(1 << 20)) == 3
        with pytest.raises(SegmentError, match="format 2"):
            reader.read(1 << 20)
        assert list(spool.damaged) == []
