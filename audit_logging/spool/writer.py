"""The appending end of a writer's spool.

What was written is known from one value that changes in one step, so that an exception which strikes between any two
of Python's instructions (a signal's handler may raise one) leaves at most the question whether the last record is in
the file. The file's size answers it before anything else is written.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from audit_logging.errors import SpoolWriteError
from audit_logging.interrupts import is_interrupt, suppress
from audit_logging.spool.segment import (
    HEADER_BYTES,
    decode_records,
    encode_header,
    encode_record,
    segment_name,
    segments_of,
)
from audit_logging.spool.stock import STREAM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OPEN: Final = sys.maxsize
_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


MOST_HELD: Final = 64
"""How many earlier segments are held open, so that they can be restored: as many as the default limits allow."""


class SpoolMissingError(SpoolWriteError):
    """The segment that is written is not in its directory any more. The event is in the open file alone."""


class _Segment(NamedTuple):
    """The segment that is written: its descriptor, its first sequence, and what was appended before it in all."""

    descriptor: int
    first: int
    start: int


class Held(NamedTuple):
    """A segment whose events may not be acknowledged yet, held open.

    Attributes:
        descriptor: -1 when it is not open: too many are, or it was given up.
        first: Its first sequence.
        last: Its last sequence.
        size: Its size in bytes.
    """

    descriptor: int
    first: int
    last: int
    size: int

    @property
    def name(self) -> str:
        """The segment's file name."""
        return segment_name(self.first)


class SpoolWriter:
    """Appends records to the segments of one writer.

    Appending is not thread-safe (it happens under the writer's lock); :meth:`sync` is.

    Args:
        directory: The writer's directory, which is locked by this process.
        writer: The writer's id.
        segment_max_bytes: Size at which a segment is closed and the next begun.

    Attributes:
        at: The segment, the last sequence that was written, and how many bytes were ever appended, headers included.
        roll_at: From how many bytes ever appended on the next record begins a new segment.
    """

    def __init__(self, directory: Path, writer: str, segment_max_bytes: int) -> None:
        self._directory = directory
        self._writer = writer
        self._segment_max_bytes = segment_max_bytes
        self.at = (_Segment(-1, 1, 0), 0, 0)
        self.roll_at = 0
        self._in_doubt = 0  # the size of a record of which it is not known whether it was written
        self._earlier: list[Held] = []
        self._turn = threading.Lock()  # held by whoever syncs, or must not be disturbed by it
        self._synced = 0
        self._named = 0  # the first sequence of the segment whose name was synced last
        self._lost_from, self._lost_to = _OPEN, 0  # what no sync vouches for any more
        self._lost_why: str | None = None

    @property
    def sequence(self) -> int:
        """The last sequence that was written."""
        return self.at[1]

    @property
    def bytes_appended(self) -> int:
        """How many bytes were ever appended, headers included."""
        return self.at[2]

    def append(self, payload: bytes) -> None:
        """Write one record whole, or leave the segment as it was.

        Raises:
            SpoolWriteError: The disk refused.
        """
        record = encode_record(payload)
        size = len(record)
        try:
            if self._in_doubt:
                self.settle()
            if self.at[2] >= self.roll_at:
                self.roll()
            segment, sequence, appended = self.at
            self._in_doubt = size
            if (written := os.write(segment.descriptor, record)) < size:
                _write_all(segment.descriptor, record[written:])
        except OSError as error:
            if is_interrupt(error):  # the record stays in doubt
                raise
            with suppress(OSError):  # otherwise it is tried again before the next record
                self.settle()
            raise SpoolWriteError(
                f"The spool {self._directory} cannot be written ({error.strerror}): make room or give another"
                " spool_dir. The event was not accepted.",
                event_id=None,
                state="refused",
            ) from error
        self.at = segment, sequence + 1, appended + size
        self._in_doubt = 0

    def settle(self) -> None:
        """Find out whether the record in doubt was written, and take back what is there of half a one.

        Raises:
            OSError: The disk refused.
        """
        segment, sequence, appended = self.at
        if self._in_doubt:
            end = appended - segment.start
            size = os.fstat(segment.descriptor).st_size
            if size == end + self._in_doubt:
                self.at = segment, sequence + 1, appended + self._in_doubt
            elif size > end:
                os.ftruncate(segment.descriptor, end)
        self._in_doubt = 0

    def roll(self) -> None:
        """Begin the next segment.

        Raises:
            OSError: The disk refused.
        """
        self.settle()
        previous, sequence, appended = self.at
        path = self._directory / segment_name(sequence + 1)
        header = encode_header(self._writer, sequence + 1)
        path.unlink(missing_ok=True)  # without a record in it: what is left of an attempt, or a segment given up
        descriptor = os.open(path, _OPEN_FLAGS, 0o600)
        try:
            _write_all(descriptor, header)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        with self._turn:
            self.at = _Segment(descriptor, sequence + 1, appended), sequence, appended + len(header)
            self.roll_at = appended + self._segment_max_bytes
            if self._lost_to == _OPEN:
                self._lost_to = self._synced = sequence
            self._hold(Held(previous.descriptor, previous.first, sequence, appended - previous.start))

    def _hold(self, segment: Held) -> None:
        """Keep an earlier segment open, unless it is empty or too many are open."""
        is_empty = segment.first > segment.last
        if segment.descriptor >= 0 and (is_empty or sum(each.descriptor >= 0 for each in self._earlier) >= MOST_HELD):
            os.close(segment.descriptor)
            segment = segment._replace(descriptor=-1)
        if not is_empty:
            self._earlier.append(segment)

    def let_go(self, acknowledged: int) -> None:
        """Close the earlier segments up to the last acknowledged sequence, which takes their room from the disk."""
        while self._earlier and self._earlier[0].last <= acknowledged:
            descriptor = self._earlier.pop(0).descriptor
            if descriptor >= 0:
                os.close(descriptor)

    def missing(self, acknowledged: int) -> list[Held]:
        """Return the segments with events after *acknowledged* that are removed, replaced or truncated.

        Raises:
            OSError: That cannot be found out.
        """
        self.let_go(acknowledged)
        self.settle()
        return [each for each in (*self._earlier, *self._current()) if not self._is_in_place(each)]

    def _current(self) -> tuple[Held, ...]:
        segment, sequence, appended = self.at
        held = Held(segment.descriptor, segment.first, sequence, appended - segment.start)
        return (held,) if segment.descriptor >= 0 else ()

    def _is_in_place(self, segment: Held) -> bool:
        try:
            found = (self._directory / segment.name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if segment.descriptor < 0:
            return True
        own = os.fstat(segment.descriptor)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) and found.st_size >= segment.size

    def restore(self, segments: Sequence[Held], acknowledged: int) -> tuple[range, ...]:
        """Write *segments* anew, synced, from the open files, and continue with the copies.

        Returns:
            The sequences after *acknowledged* of which nothing is left.

        Raises:
            OSError: The disk refused. What was restored until then stays.
        """
        lost = []
        for segment in segments:
            copy, whole = self._copy(segment) if segment.descriptor >= 0 else (-1, 0)
            with self._turn:
                self._exchange(segment, copy, whole)
            if segment.descriptor >= 0:
                os.close(segment.descriptor)
            lost.append(range(max(segment.first + whole, acknowledged + 1), segment.last + 1))
        with self._turn:
            self._synced = max(self._synced, self.at[1] if self._lost_to != _OPEN else 0)
            self._named = 0
        return tuple(filter(len, lost))

    def _copy(self, segment: Held) -> tuple[int, int]:
        """Return the descriptor of a copy that has the segment's name, and how many whole records are in it."""
        data = os.pread(segment.descriptor, segment.size, 0)
        records, size = decode_records(data[HEADER_BYTES:], segment.first)
        fresh = self._directory / f".{segment.name}.restored"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, _OPEN_FLAGS, 0o600)
        try:
            _write_all(descriptor, encode_header(self._writer, segment.first) + data[HEADER_BYTES:][:size])
            os.fsync(descriptor)
            fresh.replace(self._directory / segment.name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, len(records)

    def _exchange(self, segment: Held, copy: int, whole: int) -> None:
        """Continue with *copy*, which has *whole* records of *segment*."""
        size = os.fstat(copy).st_size if copy >= 0 else 0
        kept = segment._replace(descriptor=copy, last=segment.first + whole - 1, size=size)
        current, sequence, appended = self.at
        if segment.first != current.first:
            self._earlier = [kept if each.first == segment.first else each for each in self._earlier]
            if not whole:
                self._earlier.remove(kept)
        elif kept.last == sequence:
            self.at = current._replace(descriptor=copy), sequence, appended
        else:  # it lacks records: what comes next begins a segment of its own
            self.at = _Segment(-1, sequence + 1, appended), sequence, appended
            self.roll_at = 0
            self._hold(kept)

    def sync(self, sequence: int) -> None:
        """Return when every record up to *sequence* is on the disk itself (fdatasync), and can be found there.

        Whoever finds its record already synced returns at once.

        Raises:
            SpoolWriteError: The disk refused. After that the kernel may call clean what never reached the disk, so
                no later call vouches for these records, and the segment is given up for a new one.
        """
        if not self._is_synced(sequence):
            with self._turn:  # nothing else is safe from a signal's handler that raises
                if not self._is_synced(sequence):
                    self._sync_all()

    def _is_synced(self, sequence: int) -> bool:
        is_synced = self._synced >= sequence  # asked first, since what is lost counts as synced afterwards
        if self._lost_from <= sequence <= self._lost_to:
            raise self._not_synced()
        return is_synced

    def _sync_all(self) -> None:
        segment, reached, _ = self.at
        try:
            if not all(self._is_in_place(each._replace(size=0)) for each in self._current()):
                raise self._is_missing()
            self._sync_earlier_segments(segment)
            if segment.descriptor >= 0:
                os.fdatasync(segment.descriptor)
                try:
                    self._sync_names(segment)
                except FileNotFoundError:
                    raise self._is_missing() from None
            else:  # it was closed meanwhile; where nothing is left, all of it was acknowledged
                _sync(self._directory / segment_name(segment.first))
                with suppress(FileNotFoundError):
                    self._sync_names(segment)
        except OSError as error:
            if is_interrupt(error):
                raise
            self._lost_why = error.strerror
            self._lost_from, self._lost_to = min(self._lost_from, self._synced + 1), _OPEN
            self.roll_at = 0
            raise self._not_synced() from error
        self._synced = reached

    def _is_missing(self) -> SpoolMissingError:
        return SpoolMissingError(
            f"The spool {self._directory} was removed, moved or replaced. The event may be lost when this process ends:"
            " keep the spool directory in place, and emit the event again.",
            event_id=None,
            state="spooled",
        )

    def _not_synced(self) -> SpoolWriteError:
        return SpoolWriteError(
            f"The spool {self._directory} could not be brought to the disk itself ({self._lost_why}): look after the"
            " disk. The event is in the spool and ships unless the machine fails first; do not emit it again.",
            event_id=None,
            state="spooled",
        )

    def _sync_earlier_segments(self, segment: _Segment) -> None:
        """Sync what was closed without it, since an event that waits for no sync must not wait for another's."""
        if self._synced >= segment.first - 1:
            return
        for path in segments_of(self._directory):
            if int(path.stem) < segment.first:
                # An error in writing what was closed is told to the first who opens it afterwards (Linux, errseq_t).
                _sync(path)

    def _sync_names(self, segment: _Segment) -> None:
        """Sync the directories, so that a new segment, or a new writer, is found after a loss of power."""
        if self._named == segment.first:
            return
        if not self._named:
            _rewrite(self._directory / STREAM)
            for path in self._directory.parents[:2]:
                if os.access(path, os.R_OK):
                    _sync(path)
        _sync(self._directory)
        self._named = segment.first

    def close(self) -> None:
        """Close the segment. Nothing can be appended afterwards; what was can still be synced."""
        with self._turn:
            self.close_at_once()

    def close_at_once(self) -> None:
        """Do the same in a forked child, whatever the parent's threads were doing with it.

        Once: a finalizer that emits in the middle of a child's beginning begins as well, before that one goes on.
        """
        segment, sequence, appended = self.at
        closed = segment._replace(descriptor=-1), sequence, appended
        descriptor, self.at = self.at[0].descriptor, closed
        if descriptor >= 0:
            os.close(descriptor)
        earlier, self._earlier = self._earlier, []
        for held in earlier:
            if held.descriptor >= 0:
                os.close(held.descriptor)


def _sync(path: Path) -> None:
    """Bring a file or a directory to the disk; one that is gone was acknowledged and removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rewrite(path: Path) -> None:
    """Bring a small file to the disk, and do not believe that it is clean: an earlier attempt may have failed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _write_all(descriptor, os.pread(descriptor, 1 << 16, 0))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*: a disk that fills up takes a part first and says why when asked for the rest."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])
