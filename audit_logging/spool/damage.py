"""What in a segment is no whole record of its writer: found, told of, and kept.

A crash leaves a torn tail: the beginning of a record at the end of the last segment. It was never promised, and is
passed over. Anything else that is no whole record is damage. Reading goes on at the next whole record: one whose frame
agrees with a payload that opens as every sealed document does and names this writer. No event can forge one inside its
own payload: the four bytes of its length would be text there, which means more than half a billion.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from audit_logging.errors import AuditError
from audit_logging.files import names_in, write_durably
from audit_logging.private import private_directory
from audit_logging.spool.segment import FRAME_BYTES, checksum_agrees, decode_records, length_of_next

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPENING: Final = b'{"@timestamp":"'
LONGEST_RECORD_BYTES: Final = 1 << 24
"""No document comes near this length; a frame that claims more is damaged."""

SUFFIX: Final = ".damage"

_log = logging.getLogger("audit_logging")


class DamageError(AuditError):
    """Damaged bytes are asked for that are not kept, or whose file cannot be read."""


class Damage(NamedTuple):
    """A place in a segment where there is no whole record.

    Attributes:
        writer: The writer's id.
        segment: The segment's file name.
        offset: Where in it the damage begins, in bytes.
        size: How many bytes it takes; 0 where records are simply not there.
        first_missing: The first sequence that cannot be read.
        last_missing: The last one; less than the first when none is missing, None when it is not known.
        reason: What is wrong with the bytes.
        found: When it was found; UTC, ISO 8601.
    """

    writer: str
    segment: str
    offset: int
    size: int
    first_missing: int
    last_missing: int | None
    reason: str
    found: str

    @property
    def id(self) -> str:
        """What names the file in which the bytes are kept."""
        return f"{self.writer}-{int(self.segment.partition('.')[0])}-{self.offset}"

    @property
    def missing(self) -> str:
        """Which events are missing, in words."""
        if self.last_missing is None:
            return f"events from {self.first_missing} on are missing"
        if self.last_missing < self.first_missing:
            return "no event is missing"
        if self.last_missing == self.first_missing:
            return f"event {self.first_missing} is missing"
        return f"events {self.first_missing} to {self.last_missing} are missing"


def sealed_sequence(payload: bytes, writer: str) -> int | None:
    """Return the sequence in the seal of *payload*: 0 when another writer sealed it, None when nobody did.

    Example:
        >>> sealed_sequence(b'{"audit":{"integrity":{"sequence":7,"writer":"w"}}}', "w")
        7
    """
    try:
        seal = orjson.loads(payload)["audit"]["integrity"]
        return int(seal["sequence"]) if seal["writer"] == writer else 0
    except (ValueError, KeyError, TypeError):
        return None


def find_record(data: bytes, writer: str, least: int) -> tuple[int, int] | None:
    """Return offset and sequence of the first whole record of *writer* in *data*; None when there is none.

    Args:
        data: The rest of a segment.
        writer: The writer's id.
        least: Records of a lower sequence do not count: they were read before.
    """
    opening = data.find(OPENING, FRAME_BYTES)
    while opening >= 0:
        offset = opening - FRAME_BYTES
        length = length_of_next(data[offset:opening])
        if length <= LONGEST_RECORD_BYTES:
            records, _ = decode_records(data[offset : offset + length], 0)
            sequence = sealed_sequence(records[0].payload, writer) if records else None
            if sequence is not None and sequence >= least:
                return offset, sequence
        opening = data.find(OPENING, opening + 1)
    return None


def is_torn(tail: bytes) -> bool:
    """Return whether *tail* may be the beginning of a record, cut short while it was written."""
    if len(tail) < FRAME_BYTES:
        return True
    begun = tail[FRAME_BYTES : FRAME_BYTES + len(OPENING)]
    if not len(tail) < length_of_next(tail) <= LONGEST_RECORD_BYTES or not OPENING.startswith(begun):
        return False
    return not checksum_agrees(tail)  # otherwise the record is whole and its length is not


class DamagedBytes:
    """The damaged bytes of one spool directory, kept as they were: one file each.

        <writer>-<first sequence of the segment>-<offset>.damage
            one line of JSON (the fields of :class:`Damage`), a newline, and then the bytes

    Args:
        path: Their directory, which they share with the dead letters; made, private, with the first of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, damage: Damage, data: bytes) -> None:
        """Write *data* down and say so in the log. Keeping the same again changes nothing but the time.

        Raises:
            OSError: The disk refused, so that the segment must stay.
        """
        private_directory(self.path, within=self.path.parent)
        path = self.file_of(damage.id)
        write_durably(path, orjson.dumps(damage._asdict()) + b"\n" + data)
        _log.critical(
            "The spool of writer %s is damaged in %s at byte %d (%d bytes: %s): %s. What was there is kept in %s"
            " (see `audit-logging spool dead list`); everything else is shipped.",
            *(damage.writer, damage.segment, damage.offset, damage.size, damage.reason, damage.missing, path),
        )

    def file_of(self, damage_id: str) -> Path:
        """Return where the bytes are, or would be."""
        return self.path / f"{damage_id}{SUFFIX}"

    def ids(self) -> set[str]:
        """Return the ids of what is kept, without reading it."""
        return {name.removesuffix(SUFFIX) for name in names_in(self.path) if name.endswith(SUFFIX)}

    def __iter__(self) -> Iterator[Damage]:
        """Yield what is kept, by writer, segment and offset.

        Raises:
            DamageError: One cannot be read.
        """
        found = [self._read(self.file_of(damage_id))[0] for damage_id in self.ids()]
        yield from sorted(found, key=lambda damage: (damage.writer, damage.segment, damage.offset))

    def get(self, damage_id: str) -> tuple[Damage, bytes] | None:
        """Return one with its bytes; None when it is not there.

        Raises:
            DamageError: It cannot be read.
        """
        path = self.file_of(damage_id)
        return self._read(path) if path.parent == self.path and path.exists() else None

    def _read(self, path: Path) -> tuple[Damage, bytes]:
        try:
            line, _, data = path.read_bytes().partition(b"\n")
            fields: dict[str, Any] = orjson.loads(line)
            return Damage(**fields), data
        except (OSError, orjson.JSONDecodeError, TypeError) as error:
            raise DamageError(f"The damaged bytes {path} cannot be read ({error}).") from error


def now() -> str:
    """Return the time at which damage is found."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
