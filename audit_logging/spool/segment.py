"""The format of a spool segment: a header, then framed records in the order of their sequence.

    header   8 bytes  b"AUDSPOOL"
             2        version of the format, unsigned, big-endian
            20        the writer's id, ASCII
             8        sequence of the first record, unsigned, big-endian
             4        CRC-32 of the 38 bytes above
    record   4        length of the payload, unsigned, big-endian
             4        CRC-32 of the payload
             n        the payload: one sealed document

A record counts when it is whole and its checksum agrees. What follows the last such record is a torn tail, or damage
(see :mod:`~audit_logging.spool.damage`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, overload
from zlib import crc32

from audit_logging.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"AUDSPOOL"
VERSION = 1
SUFFIX = ".seg"
_HEADER = struct.Struct(">8sH20sQ")
_CHECKSUM = struct.Struct(">I")
_FRAME = struct.Struct(">II")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
FRAME_BYTES = _FRAME.size


class Record(NamedTuple):
    """One sealed document in the spool."""

    sequence: int
    payload: bytes


class Records(Sequence[Record]):
    """Records of one writer in the order of their sequences, each made when it is asked for.

    Thousands of them live as long as a request is under way. As objects of their own they would keep the garbage
    collector of the application busy, which looks neither at numbers nor at bytes.

    Args:
        sequences: Their sequences.
        payloads: What is in them, as many.

    Example:
        >>> records = Records([7, 8, 9], [b"a", b"b", b"c"])
        >>> records[-1], list(records[:1])
        (Record(sequence=9, payload=b'c'), [Record(sequence=7, payload=b'a')])
    """

    __slots__ = ("payloads", "sequences")

    def __init__(self, sequences: Iterable[int] = (), payloads: Iterable[bytes] = ()) -> None:
        self.sequences = list(sequences)
        self.payloads = list(payloads)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Return *records* together."""
        return cls(*zip(*records, strict=True))

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Records: ...

    def __getitem__(self, place: int | slice) -> Record | Records:
        """Return one by its place, or some."""
        if isinstance(place, slice):
            return Records(self.sequences[place], self.payloads[place])
        return Record(self.sequences[place], self.payloads[place])

    def __iter__(self) -> Iterator[Record]:
        return map(Record, self.sequences, self.payloads)

    def extend(self, others: Records) -> None:
        """Add others, which come later."""
        self.sequences += others.sequences
        self.payloads += others.payloads

    @property
    def size(self) -> int:
        """How many bytes are in them."""
        return sum(map(len, self.payloads))


class SegmentError(AuditError):
    """A file in the spool is not a segment of a known version."""

    exit_code = 4


def segment_name(first_sequence: int) -> str:
    """Return the file name of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}{SUFFIX}"


def encode_header(writer: str, first_sequence: int) -> bytes:
    """Return the header of a segment; *writer* is 20 ASCII characters."""
    header = _HEADER.pack(MAGIC, VERSION, writer.encode("ascii"), first_sequence)
    return header + _CHECKSUM.pack(crc32(header))


def decode_header(data: bytes, path: Path) -> tuple[str, int] | None:
    """Return writer and first sequence, or None when the header is torn or damaged.

    Raises:
        SegmentError: It is whole, but of a version that is not known here.
    """
    if len(data) < HEADER_BYTES:
        return None
    magic, version, writer, first_sequence = _HEADER.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if magic != MAGIC or checksum != crc32(data[: _HEADER.size]):
        return None
    if version != VERSION:
        raise SegmentError(
            f"{path} has format {version} and this library knows {VERSION}: ship it with the version that wrote it."
        )
    return writer.decode("ascii", "replace"), first_sequence


def encode_record(payload: bytes) -> bytes:
    """Return *payload* framed."""
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def decode_records(data: bytes, first_sequence: int) -> tuple[Records, int]:
    """Return the whole records at the start of *data*, and how many bytes they take.

    Example:
        >>> records, size = decode_records(encode_record(b"{}") + b"torn", first_sequence=7)
        >>> list(records), size
        ([Record(sequence=7, payload=b'{}')], 10)
    """
    payloads: list[bytes] = []
    offset, end = 0, len(data)
    while (start := offset + FRAME_BYTES) <= end:
        length, checksum = _FRAME.unpack_from(data, offset)
        stop = start + length
        payload = data[start:stop]
        # The frame of nothing is all zeros, which is what a lost page reads as.
        if stop > end or crc32(payload) != checksum or not length:
            break
        payloads.append(payload)
        offset = stop
    return Records(range(first_sequence, first_sequence + len(payloads)), payloads), offset


def length_of_next(data: bytes) -> int:
    """Return the size of the frame at the start of *data*, complete or not; 0 when even its length is not there."""
    return _FRAME.unpack_from(data)[0] + FRAME_BYTES if len(data) >= FRAME_BYTES else 0


def checksum_agrees(data: bytes, offset: int = 0) -> bool:
    """Return whether everything behind the frame at *offset* has the frame's checksum, whatever its length says."""
    return bool(crc32(data[offset + FRAME_BYTES :]) == _FRAME.unpack_from(data, offset)[1])


def segments_of(directory: Path) -> list[Path]:
    """Return the segments in a writer's directory, in order; none when it is gone."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
