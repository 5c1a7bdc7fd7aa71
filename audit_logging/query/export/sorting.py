"""Any number of stored events into order, in constant memory: sorted runs on the disk, merged.

Events come nearly in order already, some from one segment of the index and some from another; Python's sort takes
advantage of it.
"""

from __future__ import annotations

import marshal
import tempfile
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import eq
from typing import TYPE_CHECKING, BinaryIO, Final

from audit_logging.query.export.page import UNSEALED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from audit_logging.query.export.page import Stored

RUN_BYTES: Final = 16 << 20
"""Size of the documents that are sorted at once, in memory."""

CHUNK_BYTES: Final = 128 << 10
"""How much of each run is in memory while they are merged."""

MOST_RUNS: Final = 96
"""Runs that are merged at once; more are first merged into longer ones."""


@dataclass
class _Run:
    """A sorted run: chunks in the file, and the one that is being read."""

    chunks: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size of each chunk, the first one last."""

    head: list[Stored] = field(default_factory=list)


class Sorter:
    """Takes events in any order and gives them back in order.

    Its file has no name and goes with the process; close it, or use it in a ``with`` statement.

    Args:
        folder: Where there is room; None: the directory for temporary files.

    Example:
        >>> with Sorter(None) as sorter:
        ...     sorter.add([(b"2", b"w", 2, b"{}"), (b"1", b"w", 1, b"{}")])
        ...     [[sequence for _, _, sequence, _ in batch] for batch in sorter.batches()]
        [[1, 2]]
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._runs: list[_Run] = []
        self._waiting: list[Stored] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, events: list[Stored]) -> None:
        """Take more events."""
        self._waiting += events
        self._bytes += sum(len(event[3]) for event in events)
        if self._bytes >= RUN_BYTES:
            self._waiting.sort()
            self._store([self._waiting])
            self._waiting, self._bytes = [], 0
            if len(self._runs) == MOST_RUNS:
                self._store(_merged(self._runs, self._read))
                self._runs = self._runs[-1:]

    def batches(self) -> Iterator[list[Stored]]:
        """Yield all events in order, some at a time."""
        self._waiting.sort()
        yield from _merged([*self._runs, _Run(head=self._waiting)], self._read)

    def _store(self, batches: Iterable[list[Stored]]) -> None:
        """Write sorted batches as one run."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix=".audit-export.", dir=self._folder)  # noqa: SIM115
        run = _Run()
        for batch in batches:
            per_chunk = max(1, len(batch) * CHUNK_BYTES // max(sum(len(event[3]) for event in batch), 1))
            for start in range(0, len(batch), per_chunk):
                data = marshal.dumps(batch[start : start + per_chunk])
                run.chunks.append((self._file.seek(0, 2), self._file.write(data)))
        run.chunks.reverse()
        self._runs.append(run)

    def _read(self, run: _Run) -> None:
        assert self._file is not None
        offset, size = run.chunks.pop()
        self._file.seek(offset)
        run.head = marshal.loads(self._file.read(size))  # noqa: S302 - our own bytes, in a file that has no name


def _merged(runs: list[_Run], read: Callable[[_Run], None]) -> Iterator[list[Stored]]:
    """Yield what *runs* hold, in order; each time up to where the first of the chunks in memory ends."""
    runs = list(runs)
    while True:
        for run in runs:
            if not run.head and run.chunks:
                read(run)
        runs = [run for run in runs if run.head]
        if not runs:
            return
        bound = min(run.head[-1] for run in runs)
        batch: list[Stored] = []
        for run in runs:
            end = bisect_right(run.head, bound)
            batch += run.head[:end]
            del run.head[:end]
        batch.sort()
        yield batch


class Copies:
    """Leaves identical second copies out of events that come in order.

    Identical to the last byte, that is: one that was altered is no copy, and stays. Of events without a seal nobody
    can tell whether they are one event or two; they stay.

    Attributes:
        left_out: How many copies were met.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._before: Stored | None = None

    def without(self, batch: list[Stored]) -> list[Stored]:
        """Return *batch* without second copies."""
        before = [self._before, *batch[:-1]]
        self._before = batch[-1] if batch else self._before
        if not any(map(eq, before, batch)):
            return batch
        kept = [event for event, last in zip(batch, before, strict=True) if event != last or event[1:3] == UNSEALED]
        self.left_out += len(batch) - len(kept)
        return kept
