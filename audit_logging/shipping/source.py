"""One writer's spool on its way: what goes next, what is under way, and how far everything is done."""

from __future__ import annotations

import threading
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

from audit_logging.spool.refusals import Refusals
from audit_logging.spool.segment import Records
from audit_logging.spool.sent import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.spool.reader import SpoolReader
    from audit_logging.spool.segment import Record


class Batch:
    """Consecutive events that are under way together.

    Attributes:
        records: Those that are to be sent; what was set aside already is not among them.
        last: The sequence with which the batch ends.
        is_sent: Whether some of them may have been sent, by this process or an earlier one.
        since: The stream's write index when they first were; None when it is not known.
        is_done: Whether every one of them is where it belongs.
    """

    def __init__(self, records: Records, last: int, *, is_sent: bool, since: str | None) -> None:
        self.records = records
        self.last = last
        self.is_sent = is_sent
        self.since = since
        self.is_done = False


class Source:
    """One writer's spool. Thread-safe.

    Batches are taken in the order of their sequences and may be done in any; only what is done from the beginning on
    is acknowledged.

    Args:
        reader: Reads the spool; nobody else does.
        is_final: Tells whether nothing more will be written to it.
    """

    def __init__(self, reader: SpoolReader, is_final: Callable[[], bool]) -> None:
        self._reader = reader
        self._is_final = is_final
        self._lock = threading.Lock()
        self._under_way: deque[Batch] = deque()
        self._closed = False
        self._sent = Sent(reader.directory)
        self.uncertain_to = self._sent.sequence
        """Events up to this sequence may have been sent by an earlier process."""
        self._uncertain_since = self._sent.since
        self.refusals = Refusals(reader.directory)
        journal = self.refusals.read()
        self._set_aside = {sequence for sequence, refusal in journal.items() if refusal.fate != "refused"}
        self.refused = {sequence: refusal.reason for sequence, refusal in journal.items() if refusal.fate == "refused"}
        """What an earlier process was about to quarantine, with the reasons."""
        self.last: Record | None = None
        """The last event that was read here."""
        self.is_ended = False
        """Whether nothing more is written, as it was when it was last looked."""
        self.is_exhausted = False
        """Whether there was nothing left, and nothing more to come, when it was last looked."""

    @property
    def writer(self) -> str:
        """The writer's id."""
        return self._reader.directory.name

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def take(self, max_bytes: int) -> tuple[Batch, bool] | None:
        """Return the next batch, and whether it is full; None when there is nothing now.

        Raises:
            SegmentError: A segment is of an unknown version.
            OSError: The disk refused, or what is damaged could not be kept.
        """
        with self._lock:
            is_final = self.is_ended = self._is_final()  # asked first: what is written until then is read now
            records = None if self._closed else self._reader.read(max_bytes, final=is_final)
            self.is_exhausted = is_final and not records
            if not records:
                return None
            try:
                return self._batch_of(records), records.size >= max_bytes
            except BaseException:  # such as a MemoryError: records that are in no batch must be read again
                self._reader.rewind(records[0].sequence - 1)
                raise

    def _batch_of(self, records: Records) -> Batch:
        last = records[-1]
        is_sent = records[0].sequence <= self.uncertain_to
        if self._set_aside:
            records = Records.of(record for record in records if record.sequence not in self._set_aside)
        batch = Batch(records, last.sequence, is_sent=is_sent, since=self._uncertain_since if is_sent else None)
        self._under_way.append(batch)
        self.last = last
        return batch

    def is_certain(self, batch: Batch) -> bool:
        """Whether nothing in *batch* was sent or set aside before."""
        return bool(batch.records) and not batch.is_sent and not self.refused

    def about_to_send(self, batch: Batch, write_index: str | None) -> None:
        """Note on disk that *batch* may be sent from now on."""
        with self._lock:
            if self._closed:
                return
            if not batch.is_sent:
                batch.is_sent, batch.since = True, write_index
            indices = [each.since for each in self._under_way if each.is_sent]
            known = [index for index in indices if index is not None]
            # Names of backing indices end in a number with leading zeros, so the least is the oldest.
            self._sent.note(max(batch.last, self._sent.sequence), min(known) if known == indices else None)

    def settle(self, batch: Batch) -> int:
        """Note that everything in *batch* is where it belongs.

        Returns:
            How many bytes became free on the disk.
        """
        with self._lock:
            batch.is_done = True
            done = list(takewhile(lambda each: each.is_done, self._under_way))
            freed = self._reader.acknowledge(done[-1].last) if done and not self._closed else 0
            for _ in done:  # last, so that another call repeats what failed
                self._under_way.popleft()
            return freed

    def close(self) -> None:
        """Leave the spool alone from now on, whatever is still under way."""
        with self._lock:
            self._closed = True
