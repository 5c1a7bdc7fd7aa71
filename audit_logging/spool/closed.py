"""What is known of the writers whose directories are gone, so that nothing falls out of the accounts with them.

    spool directory/closed      one JSON object a line, the fields of :class:`ClosedWriter`

A line is written before the directory goes, so that a process which is killed in between leaves both: where a
directory is, the line does not count. When there are many lines the older are summed up by stream.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from audit_logging.interrupts import is_interrupt
from audit_logging.spool.lock import FileLock
from audit_logging.spool.stock import STREAM, take_stock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOSED: Final = "closed"
DEAD_LETTERS: Final = "dead-letters"
MOST_BYTES: Final = 1 << 18
"""Size from which on the older lines are summed up."""

_KEPT_LINES: Final = 200
_LOCK_ATTEMPTS: Final = 100
_LOCK_SECONDS: Final = 0.01


class ClosedWriter(NamedTuple):
    """One writer whose directory is gone, or many summed up.

    Attributes:
        writer: Its id; empty for many.
        stream: The data stream of its events.
        last: Its last sequence, which is how many events it emitted; of many, the sum.
        quarantined: How many of them are in quarantine.
        dead: The sequences of those that became dead letters.
        at: When it was closed, in seconds since 1970; 0 for many.
        writers: How many these are.
    """

    writer: str
    stream: str
    last: int
    quarantined: int
    dead: tuple[int, ...] = ()
    at: float = 0
    writers: int = 1


class ClosedWriters:
    """The closed writers of one spool directory.

    Args:
        spool: The spool directory.
    """

    def __init__(self, spool: Path) -> None:
        self._path = spool / CLOSED

    def note(self, directory: Path) -> None:
        """Write down what is known of a writer whose *directory* is about to go.

        A disk that refuses is no error, since a directory that goes makes room on it: the accounts are short of this
        writer then.
        """
        lock = FileLock()
        try:
            stock = take_stock(directory, quick=True)
            fates = list(stock.set_aside.items())
            closed = ClosedWriter(
                directory.name,
                (directory / STREAM).read_text(),
                stock.last,
                sum(fate == "quarantined" for _, fate in fates),
                tuple(sorted(sequence for sequence, fate in fates if fate == "dead")),
                round(time.time(), 3),
            )
            if self._take(lock):
                self._append(closed)
        except OSError as error:
            if is_interrupt(error):
                raise
            return
        finally:
            lock.release()

    def _take(self, lock: FileLock) -> bool:
        path = self._path.with_suffix(".lock")
        path.touch(mode=0o600)
        for _ in range(_LOCK_ATTEMPTS):  # whoever holds it writes a line; and nobody waits for one that was stopped
            if lock.take(path):
                return True
            time.sleep(_LOCK_SECONDS)
        return False

    def _append(self, closed: ClosedWriter) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            file.write((b"\n" if torn else b"") + _encode(closed))
        if size > MOST_BYTES:
            self._sum_up()

    def _sum_up(self) -> None:
        """Replace the older lines by sums; those with dead letters stay, since these may yet be replayed."""
        spool = self._path.parent
        everything = list(self)
        older, newer = everything[:-_KEPT_LINES], everything[-_KEPT_LINES:]
        sums: dict[str, ClosedWriter] = {}
        kept = []
        letters = {path.name.partition("-")[0] for path in (spool / DEAD_LETTERS).glob("*-*")}
        for each in older:
            # One whose directory is still there will be written down once more when it goes.
            if each.dead or each.writer in letters or (each.writer and (spool / each.writer).exists()):
                kept.append(each)
                continue
            before = sums.get(each.stream, ClosedWriter("", each.stream, 0, 0, writers=0))
            sums[each.stream] = before._replace(
                last=before.last + each.last,
                quarantined=before.quarantined + each.quarantined,
                writers=before.writers + each.writers,
            )
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(map(_encode, [*sums.values(), *kept, *newer])))
        fresh.replace(self._path)

    def __iter__(self) -> Iterator[ClosedWriter]:
        """Yield the closed writers, each once; a line that is torn is passed over."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        found: dict[object, ClosedWriter] = {}
        for number, line in enumerate(lines):
            if (closed := _decode(line)) is not None:
                found[closed.writer or number] = closed
        yield from found.values()


def _encode(closed: ClosedWriter) -> bytes:
    return orjson.dumps(closed._asdict()) + b"\n"


def _decode(line: bytes) -> ClosedWriter | None:
    try:
        fields: dict[str, Any] = orjson.loads(line)
        return ClosedWriter(**fields | {"dead": tuple(fields["dead"])})
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
