"""The shipping end of a writer's spool: reads on from what is acknowledged, and removes what is done with."""

from __future__ import annotations

import contextlib
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from audit_logging.spool.cursor import Cursor
from audit_logging.spool.segment import (
    HEADER_BYTES,
    SUFFIX,
    Record,
    decode_header,
    decode_records,
    length_of_next,
    segment_name,
)

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK_BYTES = 1 << 20


class SpoolReader:
    """Reads the records of one writer in order, while they are written or after its death.

    One reader at a time, one thread at a time.

    Args:
        directory: The writer's directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._cursor = Cursor(directory)
        self._segment: Path | None = None
        self._offset = 0
        self._next_sequence = 0

    @property
    def acknowledged(self) -> int:
        """The last acknowledged sequence."""
        return self._cursor.acknowledged

    def look(self) -> int:
        """Return the acknowledged sequence as another process, which ships, has noted it by now."""
        return self._cursor.look()

    def read(self, max_bytes: int) -> list[Record]:
        """Return the next records, up to *max_bytes* of payload but at least one where there is one.

        A list that is empty means that there is nothing more for now; what is torn or still being written waits.

        Raises:
            SegmentError: A segment is damaged or of an unknown version.
        """
        self._cursor.catch_up()
        records: list[Record] = []
        room = max_bytes
        while room > 0 and (found := self._read_some(room)):
            for record in found:
                if record.sequence <= self.acknowledged:
                    continue
                records.append(record)
                room -= len(record.payload)
        return records

    def _read_some(self, room: int) -> list[Record]:
        """Return some whole records from where the last call ended, moving to the next segment at the end of one."""
        while True:
            if self._segment is None and not self._open_first():
                return []
            assert self._segment is not None
            data = _read_at(self._segment, self._offset, min(room, _CHUNK_BYTES) + 8)
            if (needed := length_of_next(data)) > len(data):
                data = _read_at(self._segment, self._offset, needed)
            records, size = decode_records(data, self._next_sequence)
            if records:
                self._offset += size
                self._next_sequence += len(records)
                return records
            following = self.directory / segment_name(self._next_sequence)
            if following == self._segment or not following.exists():
                return []
            self._open(following)

    def _open_first(self) -> bool:
        segments = self.segments()
        before = [path for path in segments if int(path.stem) <= self.acknowledged + 1]
        first = before[-1] if before else segments[0] if segments else None
        return first is not None and self._open(first)

    def _open(self, segment: Path) -> bool:
        header = decode_header(_read_at(segment, 0, HEADER_BYTES), segment)
        if header is None:
            return False
        self._segment, self._offset, self._next_sequence = segment, HEADER_BYTES, header[1]
        return True

    def segments(self) -> list[Path]:
        """Return the segments there are, in order."""
        return sorted(self.directory.glob(f"*{SUFFIX}"))

    def acknowledge(self, sequence: int) -> int:
        """Note that OpenSearch has everything up to *sequence*; remove the segments that are done with.

        A disk that refuses either is no error: the next call does what this one could not.

        Returns:
            How many bytes became free.
        """
        self._cursor.advance(sequence)
        freed = 0
        for segment, following in pairwise(self.segments()):
            if int(following.stem) > sequence + 1:
                break
            with contextlib.suppress(OSError):
                size = segment.stat().st_size
                segment.unlink()
                freed += size
        return freed

    def bytes_kept(self) -> int:
        """Return how many bytes the segments take."""
        kept = 0
        for segment in self.segments():
            with contextlib.suppress(FileNotFoundError):  # whoever ships removes them
                kept += segment.stat().st_size
        return kept

    def count_waiting(self) -> int:
        """Return how many whole records are not acknowledged yet, by reading them."""
        fresh = SpoolReader(self.directory)
        count = 0
        while records := fresh.read(_CHUNK_BYTES):
            count += len(records)
        return count


def _read_at(path: Path, offset: int, size: int) -> bytes:
    """Return up to *size* bytes; none when the segment was removed, which happens when all of it is acknowledged."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)
    except FileNotFoundError:
        return b""
