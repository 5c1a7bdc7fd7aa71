"""What stands in one writer's directory, as anybody may look at it: nothing is locked, changed or kept in memory.

A living writer appends and its shipper acknowledges and removes meanwhile. So the events are read first, then the
cursor, then the journal of refusals: what was removed before it could be read is acknowledged by then, and what is
acknowledged was journaled before.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from audit_logging.spool.cursor import CURSOR, Cursor
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    SegmentError,
    decode_header,
    decode_records,
    length_of_next,
    segments_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from audit_logging.spool.refusals import Fate
    from audit_logging.spool.segment import Records

STREAM: Final = "stream"
"""The file that names the data stream of a writer's events."""

_CHUNK_BYTES: Final = 1 << 20


class Stock(NamedTuple):
    """What one writer's directory holds.

    Attributes:
        acknowledged: The last sequence that OpenSearch has acknowledged.
        acknowledged_at: When the cursor was last moved, in seconds since 1970; None when it never was.
        last: The last sequence that was ever written.
        waiting: How many events are not acknowledged, can be read and are not set aside.
        missing: How many events are not acknowledged and cannot be read.
        waiting_bytes: The size of what waits; of a quick look, that of the segments that hold it.
        kept_bytes: The size of all segments, which counts against the limit.
        set_aside: What was refused and where it went, ``quarantined`` or ``dead``, by sequence.
        first_waiting: The oldest event that waits; empty when there is none.
        specimen: Any event of the writer, which tells its process, host and service; empty when there is none.
        born_at: When the directory was made; seconds since 1970.
        written_at: When the last event was written, or the directory made; seconds since 1970.
        trouble: Why not everything can be read; empty when it can.
    """

    acknowledged: int
    acknowledged_at: float | None
    last: int
    waiting: int
    missing: int
    waiting_bytes: int
    kept_bytes: int
    set_aside: Mapping[int, Fate]
    first_waiting: bytes
    specimen: bytes
    born_at: float
    written_at: float
    trouble: str


def take_stock(directory: Path, *, quick: bool = False) -> Stock:
    """Return what stands in a writer's directory.

    Args:
        directory: The writer's directory.
        quick: Read the last segment and the one that holds the oldest event that waits, and believe the names of the
            others: some milliseconds whatever waits, but damage in the middle goes unseen.

    Raises:
        FileNotFoundError: The directory is gone, as it goes when everything in it is acknowledged.
    """
    paths = segments_of(directory)
    look = (_look_quickly if quick else _look)(directory, paths)
    acknowledged = _acknowledged(directory)
    refused = Refusals(directory).read()
    set_aside = {sequence: refusal.fate for sequence, refusal in refused.items() if refusal.fate != "refused"}
    last = max(acknowledged, look.last)
    waiting, missing = _count(look.readable, acknowledged, last, set_aside)
    born_at = (directory / STREAM).stat().st_mtime  # written once, when the directory is made
    return Stock(
        acknowledged,
        (directory / CURSOR).stat().st_mtime if acknowledged else None,
        last,
        waiting,
        missing,
        look.waiting_bytes if waiting else 0,
        sum(map(_size, paths)),
        set_aside,
        look.first_waiting if waiting else b"",
        look.first_waiting or _specimen(paths),
        born_at,
        max([born_at, *(path.stat().st_mtime for path in paths[-1:])]),
        look.trouble,
    )


class _Look(NamedTuple):
    """Which sequences can be read, in unbroken parts, up to where there should be some, and what they are."""

    readable: Sequence[range]
    last: int
    waiting_bytes: int
    first_waiting: bytes = b""
    trouble: str = ""


def _look(directory: Path, paths: Sequence[Path]) -> _Look:
    last, trouble = _end(paths)  # first, so that what is appended meanwhile is not missed
    reader = SpoolReader(directory)
    readable: list[range] = []
    size, oldest = 0, b""
    try:
        while records := reader.read(_CHUNK_BYTES):
            oldest = oldest or records[0].payload
            size += FRAME_BYTES * len(records) + records.size
            for sequence in records.sequences:
                if readable and readable[-1].stop == sequence:
                    readable[-1] = range(readable[-1].start, sequence + 1)
                else:
                    readable.append(range(sequence, sequence + 1))
    except SegmentError as error:
        trouble = str(error)
    return _Look(readable, max([last, *(part[-1] for part in readable)]), size, oldest, trouble)


def _look_quickly(directory: Path, paths: Sequence[Path]) -> _Look:
    acknowledged = _acknowledged(directory)
    last, trouble = _end(paths)
    holding = paths[max(sum(_first(path) <= acknowledged + 1 for path in paths) - 1, 0) :]
    readable = [range(_first(holding[0]), last + 1)] if holding else []
    oldest = b""
    with contextlib.suppress(SegmentError):
        if last > acknowledged and (records := SpoolReader(directory).read(1)):
            oldest = records[0].payload
    return _Look(readable, last, sum(map(_size, holding)), oldest, trouble)


def _end(paths: Sequence[Path]) -> tuple[int, str]:
    """Return the last sequence in the last segment, and why it cannot be read to its end."""
    if not paths:
        return 0, ""
    last = _first(paths[-1]) - 1
    try:
        for records in records_in(paths[-1]):
            last += len(records)
    except SegmentError as error:
        return last, str(error)
    except FileNotFoundError:  # all of it was acknowledged, and the directory is going
        pass
    return last, ""


def _count(readable: Sequence[range], acknowledged: int, last: int, set_aside: Collection[int]) -> tuple[int, int]:
    """Return how many events wait, and how many should and cannot be read."""
    behind = [range(max(part.start, acknowledged + 1), part.stop) for part in readable]
    found = sum(map(len, behind))
    aside = [sequence for sequence in set_aside if acknowledged < sequence <= last]
    among_them = sum(any(sequence in part for part in behind) for sequence in aside)
    return found - among_them, last - acknowledged - found - (len(aside) - among_them)


def _acknowledged(directory: Path) -> int:
    """Return what the cursor says; where it is damaged, at least what was removed, as happens to nothing else."""
    cursor = Cursor(directory)
    removed = [_first(path) - 1 for path in segments_of(directory)[:1] if not cursor.is_whole]
    return max([cursor.acknowledged, *removed])


def _specimen(paths: Sequence[Path]) -> bytes:
    """Return the first event of the last segment."""
    try:
        return next(records_in(paths[-1]))[0].payload if paths else b""
    except (StopIteration, SegmentError, FileNotFoundError):
        return b""


def records_in(segment: Path) -> Iterator[Records]:
    """Yield the whole records of a segment from its beginning, some at a time."""
    with segment.open("rb", buffering=0) as file:
        if decode_header(file.read(HEADER_BYTES), segment) is None:
            return
        data, sequence = b"", _first(segment)
        while chunk := file.read(max(_CHUNK_BYTES, min(length_of_next(data), 1 << 24))):
            records, size = decode_records(data + chunk, sequence)
            data = (data + chunk)[size:]
            if records:
                yield records
                sequence += len(records)


def _first(segment: Path) -> int:
    """Return the sequence that a segment begins with, by its name."""
    return int(segment.stem)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # whoever ships removes them
        return 0
