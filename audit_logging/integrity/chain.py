"""One writer's chain as it is found: whole, or in runs with gaps between them.

Events may come in any order and are not kept: what they leave behind is where each run of consecutive numbers begins
and ends. In the order of a stream or an export that is one run a writer, whatever its length.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.integrity.sealed_event import SealedEvent

Range = tuple[int, int]
"""First and last sequence, both within."""

MOST_KEPT = 100_000
"""How many exceptions of a kind are remembered for one writer. A trail with more is beyond telling them apart."""


class Run:
    """Events with consecutive numbers.

    Attributes:
        first: The first number.
        previous: What the first event says is the hash of the one before.
        last: The last number.
        hash: The hash of the last event.
    """

    __slots__ = ("first", "hash", "last", "previous")

    def __init__(self, first: int, previous: str, last: int, digest: str) -> None:
        self.first, self.previous, self.last, self.hash = first, previous, last, digest


class Break(NamedTuple):
    """Two neighbours of which the second was not chained to the first.

    Attributes:
        sequence: Number of the first one; 0 when the second is the first event of the chain.
        hash: The hash of the first one.
        previous: What the second one was chained to.
    """

    sequence: int
    hash: str
    previous: str


class WriterChain:
    """What is known of one writer.

    Attributes:
        runs: In order, none touching another.
        breaks: Where neighbours do not fit.
        doubles: Numbers that came a second time, and not recognisably as an identical copy.
        edited: Numbers of events that are not what was sealed.
        copies: Identical second copies.
        time: ``@timestamp`` of the event with the highest number.
    """

    __slots__ = ("breaks", "copies", "doubles", "edited", "runs", "time", "writer")

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.runs: list[Run] = []
        self.breaks: list[Break] = []
        self.doubles: set[int] = set()
        self.edited: set[int] = set()
        self.copies = 0
        self.time = ""

    @property
    def origin(self) -> str:
        """What the first event of the chain says is the hash of the one before."""
        return sha256(self.writer.encode()).hexdigest()

    @property
    def first(self) -> int:
        """The lowest number there is; 0 when there is no event."""
        return self.runs[0].first if self.runs else 0

    @property
    def last(self) -> int:
        """The highest number there is; 0 when there is no event."""
        return self.runs[-1].last if self.runs else 0

    def add(self, event: SealedEvent) -> bool:
        """Take one event; whether its number is new."""
        if not event.genuine and len(self.edited) < MOST_KEPT:
            self.edited.add(event.sequence)
        if self.runs:
            run = self.runs[-1]
            if event.sequence == run.last + 1:  # nearly always
                if event.previous != run.hash:
                    self._break(run.last, run.hash, event.previous)
                run.last, run.hash = event.sequence, event.hash
                self.time = event.time
                return True
        return self._place(event)

    def _place(self, event: SealedEvent) -> bool:
        sequence = event.sequence
        index = bisect_right(self.runs, sequence, key=lambda run: run.first)
        before = self.runs[index - 1] if index else None
        after = self.runs[index] if index < len(self.runs) else None
        if before is not None and sequence <= before.last:
            self._meet_again(event, before)
            return False
        if sequence == 1 and event.previous != self.origin:
            self._break(0, self.origin, event.previous)
        if after is None:
            self.time = event.time
        if before is not None and sequence == before.last + 1:
            self._join(before.last, before.hash, event.previous)
            before.last, before.hash = sequence, event.hash
            if after is not None and after.first == sequence + 1:
                self._join(sequence, event.hash, after.previous)
                before.last, before.hash = after.last, after.hash
                del self.runs[index]
        elif after is not None and after.first == sequence + 1:
            self._join(sequence, event.hash, after.previous)
            after.first, after.previous = sequence, event.previous
        else:
            self.runs.insert(index, Run(sequence, event.previous, sequence, event.hash))
        return True

    def _meet_again(self, event: SealedEvent, run: Run) -> None:
        identical = event.genuine and event.hash == run.hash and event.sequence == run.last
        if identical and event.sequence not in self.edited:
            self.copies += 1
        elif len(self.doubles) < MOST_KEPT:
            self.doubles.add(event.sequence)

    def _join(self, sequence: int, digest: str, previous: str) -> None:
        if digest != previous:
            self._break(sequence, digest, previous)

    def _break(self, sequence: int, digest: str, previous: str) -> None:
        if len(self.breaks) < MOST_KEPT:
            self.breaks.append(Break(sequence, digest, previous))

    def covers(self, sequence: int) -> bool:
        """Return whether an event with this number was met."""
        index = bisect_right(self.runs, sequence, key=lambda run: run.first)
        return index > 0 and sequence <= self.runs[index - 1].last

    def prefer(self, sequence: int, event: SealedEvent | None) -> None:
        """Take *event* as the one that belongs under *sequence*, after several were met there."""
        self.doubles.discard(sequence)
        if event is None:
            return
        for each in [each for each in self.breaks if each.sequence in {sequence - 1, sequence}]:
            joined = event.previous == each.hash if each.sequence == sequence - 1 else event.hash == each.previous
            if joined:
                self.breaks.remove(each)
        for run in self.runs:
            if run.first == sequence:
                run.previous = event.previous
            if run.last == sequence:
                run.hash = event.hash

    def gaps(self) -> Iterator[Range]:
        """Yield the missing numbers between the runs."""
        for index in range(len(self.runs) - 1):
            yield self.runs[index].last + 1, self.runs[index + 1].first - 1
