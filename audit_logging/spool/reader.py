"""The shipping end of a writer's spool: reads on from what is acknowledged, and removes what is done with."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

from audit_logging.interrupts import is_interrupt, suppress
from audit_logging.spool.cursor import Cursor
from audit_logging.spool.damage import LONGEST_RECORD_BYTES, Damage, find_record, is_torn, now, sealed_sequence
from audit_logging.spool.segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    Records,
    SegmentError,
    decode_header,
    decode_records,
    encode_header,
    length_of_next,
    segments_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.spool.damage import DamagedBytes
    from audit_logging.spool.segment import Record

_CHUNK_BYTES = 1 << 20

GRACE_SECONDS = 3.0
"""For how long a segment of a living writer may be missing: its process restores it within a second or two."""


class SpoolReader:
    """Reads the records of one writer in order, while they are written or after its death.

    One reader at a time, one thread at a time.

    Args:
        directory: The writer's directory.
        damaged: Where bytes are kept that are no whole record; None for whoever only looks.
    """

    def __init__(self, directory: Path, damaged: DamagedBytes | None = None) -> None:
        self.directory = directory
        self._damaged = damaged
        self._cursor = Cursor(directory)
        self._last = 0  # nothing up to here is returned again
        self._segment: Path | None = None
        self._offset = 0
        self._next_sequence = 0
        self._gap = (0, 0.0)
        self._removable_at = 0  # until this is acknowledged, there is nothing to remove

    @property
    def acknowledged(self) -> int:
        """The last acknowledged sequence."""
        return self._cursor.acknowledged

    def look(self) -> int:
        """Return the acknowledged sequence as another process, which ships, has noted it by now."""
        return self._cursor.look()

    def read(self, max_bytes: int, *, final: bool = False) -> Records:
        """Return the next records, up to *max_bytes* of payload but at least one where there is one.

        None at all means that there is nothing more for now; what is being written waits. Damage is kept and
        passed over.

        Args:
            max_bytes: How much is wanted.
            final: Nothing more will be written, so that what is no torn record at the end is damage too.

        Raises:
            SegmentError: A segment is of an unknown version.
            OSError: The disk refused, or what is damaged could not be kept.
        """
        self._cursor.catch_up()
        last = self._last
        try:
            return self._read(max_bytes, final=final)
        except (SegmentError, OSError):  # nothing was read
            raise
        except BaseException:  # such as a MemoryError: what was read and is not returned must be read again
            self.rewind(last)
            raise

    def rewind(self, last: int) -> None:
        """Continue reading behind sequence *last*, or behind what is acknowledged."""
        self._segment, self._last = None, last

    def _read(self, max_bytes: int, *, final: bool) -> Records:
        records = Records()
        room = max_bytes
        while room > 0:
            try:
                found = self._read_some(room, final=final)
            except (SegmentError, OSError):
                if records:  # which were read, and would not be again; the next call meets the error once more
                    break
                raise
            if not found:
                break
            done = bisect_right(found.sequences, max(self._last, self.acknowledged))
            if fresh := found[done:]:
                records.extend(fresh)
                self._last = fresh.sequences[-1]
                room -= fresh.size
        return records

    def _read_some(self, room: int, *, final: bool) -> Records:
        """Return some whole records from where the last call ended, moving to the next segment at the end of one."""
        while self._segment is not None or self._open_first(final=final):
            assert self._segment is not None
            if not self._offset:  # its header was not all there when it was opened
                self._open(self._segment)
            data = _read_at(self._segment, self._offset, min(room, _CHUNK_BYTES) + FRAME_BYTES)
            if len(data) < (needed := length_of_next(data)) <= LONGEST_RECORD_BYTES:
                data = _read_at(self._segment, self._offset, needed)
            records, _ = decode_records(data, self._next_sequence)
            if records := self._in_place(records):
                self._offset += FRAME_BYTES * len(records) + records.size
                self._next_sequence += len(records)
                return records
            if not self._go_on(final=final):
                break
        return Records()

    def _in_place(self, records: Records) -> Records:
        """Return those at the beginning whose seals say the sequence that they were counted as."""
        writer = self.directory.name

        def is_in_place(record: Record) -> bool:
            return sealed_sequence(record.payload, writer) in (record.sequence, None)

        if not records or is_in_place(records[-1]):
            return records
        return records[: next(place for place, record in enumerate(records) if not is_in_place(record))]

    def _go_on(self, *, final: bool) -> bool:
        """Go to the next whole record, in this segment or the following; false when there is none now."""
        assert self._segment is not None
        following = self._following()  # asked first: a segment that has a successor is complete
        rest = _read_at(self._segment, self._offset, self._segment_bytes())
        if found := find_record(rest, self.directory.name, self._next_sequence):
            size, sequence = found
            self._pass_over(rest[:size], sequence)
            return True
        if following is not None:
            if not rest and not final and self._may_come_back(int(following.stem)):
                return False
            self._pass_over(rest, int(following.stem))
            self._open(following)
            return True
        if final and rest and not self._is_torn(rest):
            self._pass_over(rest, None)
        return False

    def _is_torn(self, tail: bytes) -> bool:
        if self._offset:
            return is_torn(tail)
        return encode_header(self.directory.name, self._next_sequence).startswith(tail)

    def _pass_over(self, data: bytes, sequence: int | None) -> None:
        """Stand behind *data*, where the record of *sequence* comes next; keep what is not as it should be."""
        assert self._segment is not None
        last_missing = sequence - 1 if sequence is not None else None
        is_missing = last_missing is None or last_missing >= self._next_sequence
        was_shipped = last_missing is not None and max(last_missing, self._next_sequence) <= self.acknowledged
        if self._damaged is not None and (data or is_missing) and not was_shipped:
            reason = "no whole record in its place" if data else "records are not there"
            damage = Damage(
                writer=self.directory.name,
                segment=self._segment.name,
                offset=self._offset,
                size=len(data),
                first_missing=self._next_sequence,
                last_missing=last_missing,
                reason=reason if self._offset else "the header is damaged",
                found=now(),
            )
            self._damaged.keep(damage, data)
        self._offset += len(data)
        if sequence is not None:
            self._next_sequence = sequence

    def _may_come_back(self, following: int) -> bool:
        """Whether records that are missing before the segment that begins with *following* may yet be restored."""
        if self._damaged is None or following <= max(self._next_sequence, self.acknowledged + 1):
            return False
        if self._gap[0] != following:
            self._gap = (following, time.monotonic())
        return time.monotonic() - self._gap[1] < GRACE_SECONDS

    def _open_first(self, *, final: bool) -> bool:
        segments = segments_of(self.directory)
        if not segments:
            return False
        before = [path for path in segments if int(path.stem) <= self.acknowledged + 1]
        if not before and not final and self._may_come_back(int(segments[0].stem)):
            return False
        self._open(before[-1] if before else segments[0])
        if not before and self._cursor.is_whole:  # otherwise nobody knows what was shipped before it was damaged
            first, self._next_sequence = self._next_sequence, self.acknowledged + 1
            self._pass_over(b"", first)
        return True

    def _open(self, segment: Path) -> None:
        first = int(segment.stem)
        header = decode_header(_read_at(segment, 0, HEADER_BYTES), segment)
        self._offset = HEADER_BYTES if header == (self.directory.name, first) else 0
        self._segment, self._next_sequence = segment, first

    def _following(self) -> Path | None:
        """Return the segment after this one, if it was begun."""
        assert self._segment is not None
        return next((path for path in segments_of(self.directory) if path.name > self._segment.name), None)

    def _segment_bytes(self) -> int:
        assert self._segment is not None
        try:
            return self._segment.stat().st_size
        except FileNotFoundError:
            return 0

    def acknowledge(self, sequence: int) -> int:
        """Note that OpenSearch has everything up to *sequence*; remove the segments that are done with.

        A disk that refuses either is no error: the next call does what this one could not.

        Returns:
            How many bytes became free.
        """
        self._cursor.advance(sequence)
        return self.remove_acknowledged() if sequence >= self._removable_at else 0

    def remove_acknowledged(self) -> int:
        """Remove the segments that are done with, and return how many bytes became free. Any thread may call this."""
        try:
            segments = segments_of(self.directory)
        except OSError as error:
            if is_interrupt(error):
                raise
            self._removable_at = 0
            return 0
        done = [one for one, following in pairwise(segments) if int(following.stem) <= self.acknowledged + 1]
        if done:  # what the cursor says must not be older than what is gone, after a loss of power either
            self._cursor.sync()
        freed = 0
        for segment in done:
            with suppress(OSError):
                size = segment.stat().st_size
                segment.unlink()
                freed += size
                segments.remove(segment)
        self._removable_at = int(segments[1].stem) - 1 if len(segments) > 1 else 0
        return freed

    def bytes_kept(self) -> int:
        """Return how many bytes the segments take."""
        kept = 0
        for segment in segments_of(self.directory):
            with suppress(FileNotFoundError):  # whoever ships removes them
                kept += segment.stat().st_size
        return kept

    def count_waiting(self) -> int:
        """Return how many whole records are not acknowledged yet, by reading them."""
        fresh = SpoolReader(self.directory)
        count = 0
        while records := fresh.read(_CHUNK_BYTES):
            count += len(records)
        return count


def last_record(directory: Path) -> Record | None:
    """Return the last whole record in a dead writer's directory; None when there is none any more."""
    for segment in reversed(segments_of(directory)):
        with suppress(OSError, SegmentError):
            data = segment.read_bytes()
            header = decode_header(data, segment)
            if header is not None and (records := decode_records(data[HEADER_BYTES:], header[1])[0]):
                return records[-1]
    return None


def _read_at(path: Path, offset: int, size: int) -> bytes:
    """Return up to *size* bytes; none when the segment was removed, which happens when all of it is acknowledged."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)
    except FileNotFoundError:
        return b""
