"""The background threads that move events from the spool to OpenSearch."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from audit_logging.background import BackgroundThread, describe
from audit_logging.errors import AuditError
from audit_logging.opensearch.client import Client
from audit_logging.shipping.backoff import Backoff
from audit_logging.shipping.bell import Bell
from audit_logging.shipping.dead_letters import DeadLetter, DeadLetters
from audit_logging.shipping.delivery import Delivery, StoppedError
from audit_logging.shipping.lane import Job, Lane
from audit_logging.shipping.notices import Notices
from audit_logging.shipping.source import Batch, Source
from audit_logging.shipping.stream import Stream
from audit_logging.spool.damage import DamagedBytes
from audit_logging.spool.reader import SpoolReader, last_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from audit_logging.settings import Settings
    from audit_logging.spool.directory import SpoolDirectory, WriterDirectory

ADOPTION_SECONDS = 5.0
"""How often to look for the spools of processes that died."""

SIDECAR_SECONDS = 0.2
"""How often a sidecar looks what others have written and whether there are new ones: nobody wakes it."""

MOST_ADOPTED = 400
"""How many other writers are shipped at a time; each holds two locks, and a process may have 1,024 files open."""

MOST_TOGETHER = 100
"""Batches of other writers in one request. Each is noted on the disk before it is sent."""

SMALLEST_BATCH_BYTES = 1 << 16
"""However often a server finds requests too large, batches are not made smaller than this beforehand."""

_START_AGAIN_SECONDS = 0.2
"""How often a call that waits for the end tries to start a thread that could not be started."""

_READ_AGAIN_SECONDS = 1.0
"""How soon the own spool is read again after it could not be read."""

_LAST_SECONDS = 1.0
"""How long a thread that was told to stop may take to notice; it is never inside a request for good."""


class Shipper:
    """Ships one writer's spool, and adopts those of dead processes beside it; or, as a sidecar, ships for others.

    An event is safe once it is on disk; this only moves it on, so it may be stopped at any moment. Each thread is a
    lane with one request under way. They take turns: the one whose turn it is waits for a batch, takes it and passes
    the turn on before it delivers, so what is taken is in order, whatever becomes of it.

    Args:
        settings: Where to ship, how large and how long a batch may become, and how many may be under way.
        directory: The spool directory.
        own: The spool of this process; None for a sidecar, which ships every writer that does not ship itself.
        on_acknowledged: Called from a lane whenever *own* has moved on, with the bytes that became free and the
            sequences that were refused with their reasons.
        on_dead_letter: Called from a lane with an event that was refused even in quarantine.
        on_closed: Called from a lane with the last event of a dead writer, all of which is shipped, before its spool
            is removed.
        on_through: Called once, from a lane, when this is to end and all is shipped: the own writer may write its last
            event then, which is shipped too.
    """

    def __init__(
        self,
        settings: Settings,
        directory: SpoolDirectory,
        own: SpoolReader | None,
        on_acknowledged: Callable[[int, Mapping[int, str]], None] = lambda *_: None,
        *,
        on_dead_letter: Callable[[DeadLetter], None] = lambda _: None,
        on_closed: Callable[[bytes], None] = lambda _: None,
        on_through: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._own = Source(own, is_final=lambda: False) if own is not None else None
        self._on_acknowledged = on_acknowledged
        self._on_dead_letter = on_dead_letter
        self._on_closed = on_closed
        self._on_through = on_through
        self._delivering = 0
        self._is_through = False
        self.notices = Notices()
        self.shipped = 0
        """How many events are where they belong by this shipper's doing."""
        self._look_seconds = ADOPTION_SECONDS if own is not None else SIDECAR_SECONDS
        self._batch_max_bytes = settings.batch_max_bytes
        self._sources: deque[Source] = deque([self._own] if self._own is not None else [])
        self._adopted: dict[Source, WriterDirectory] = {}
        self._adopting: Iterator[WriterDirectory] | None = None
        self._next_adoption = float("-inf")
        self._turn = threading.Lock()
        self._ledger = threading.RLock()  # the handler of a signal may end what is being ended
        self._had_all = False
        self._own_problem = ""
        self._looked_at = float("-inf")
        self._finishing = False
        self._stopping = Bell()
        self._work = Bell()
        self._hurry = Bell()
        self._client: Client | None = None
        self._stream: Stream | None = None
        self._lanes = [
            Lane(
                number,
                connect=self._connect,
                take=self._next,
                settle=self._settle,
                on_settled=self._note_settled,
                pause=self._stopping.wait,
            )
            for number in range(1, settings.batches_in_flight + 1)
        ]

    def start(self) -> None:
        """Start shipping in the background. Where no thread can be started now, :meth:`ensure_running` tries again."""
        self.ensure_running()

    def ensure_running(self) -> None:
        """Start every lane that does not run and should. Cheap enough to be called every second."""
        if self._stopping.is_rung:
            return
        first, *others = self._lanes
        first.thread.ensure_running()
        if self._client is not None:  # the first lane connects
            for lane in others:
                lane.thread.ensure_running()

    @property
    def problem(self) -> str:
        """What keeps everything from being shipped, other than OpenSearch; empty while a lane works."""
        threads = [lane.thread for lane in self._lanes]
        if not self._is_running:
            found = next((thread.problem for thread in threads if thread.problem), "")
            return found or ("it was stopped" if threads[0].is_done else "its threads have ended")
        if self._own_problem:
            return self._own_problem
        failing = [lane for lane in self._lanes if lane.thread.problem and lane.thread.is_alive]
        if all(lane in failing or not lane.thread.is_alive for lane in self._lanes):
            return failing[0].thread.problem
        latest = max((lane.thread for lane in failing if not lane.is_holding), key=_failed_at, default=None)
        return latest.problem if latest is not None and latest.failed_at > self._looked_at else ""

    @property
    def batch_problem(self) -> str:
        """What keeps some batch from being delivered, while other lanes work; empty when nothing does."""
        return next((lane.thread.problem for lane in self._lanes if lane.thread.problem and lane.is_holding), "")

    def wake(self) -> None:
        """Say that there is something to ship."""
        self._work.ring()

    def hurry(self) -> None:
        """Say that somebody waits: ship without waiting for a batch to fill."""
        self._hurry.ring()
        self._work.ring()

    def end_when_done(self) -> None:
        """Say that this is to end as soon as everything there is has been shipped."""
        self._finishing = True
        self.hurry()

    def wait(self, timeout: float) -> bool:
        """Wait up to *timeout* seconds for the end; true when it has come."""
        deadline = time.monotonic() + timeout
        first = self._lanes[0].thread
        self.ensure_running()
        if not first.is_alive and not first.is_done:  # no thread can be started at the moment
            self._stopping.wait(min(timeout, _START_AGAIN_SECONDS))
        for lane in self._lanes:
            lane.thread.join(max(deadline - time.monotonic(), 0))
        return first.is_done and not self._is_running

    @property
    def _is_running(self) -> bool:
        return any(lane.thread.is_alive for lane in self._lanes)

    def finish(self, timeout: float) -> bool:
        """Ship what there is, the spools of the dead included, and end within about *timeout* seconds.

        Returns:
            Whether it was through in time. If not, what remains is left to the next process.
        """
        self.end_when_done()
        in_time = self.wait(timeout)
        self._stopping.ring()
        self.hurry()
        deadline = time.monotonic() + _LAST_SECONDS
        for lane in self._lanes:
            lane.thread.join(max(deadline - time.monotonic(), 0))
        if self._client is not None and not self._is_running:
            self._client.close()
        self._leave()
        return in_time

    def _leave(self) -> None:
        """Give up every spool: a lane that is still inside a request touches none of them any more."""
        if self._own is not None:
            self._own.close()
        with self._ledger:
            for source, directory in self._adopted.items():
                source.close()
                directory.release()
            self._adopted.clear()

    def _connect(self) -> Delivery:
        """Return what a lane delivers with, as soon as the client's files can be read.

        Raises:
            StoppedError: The shipper is to stop.
        """
        backoff = Backoff()
        while self._client is None:
            try:
                client = Client(self._settings)
                self._stream = Stream(client, self._settings.stream, self.notices)
                self._client = client
                self.ensure_running()  # the other lanes
            except AuditError as error:
                self.notices.last_problem = str(error)
                self.notices.tell(logging.ERROR, "connect", f"Audit events wait in the spool: {error}")
                if self._stopping.wait(backoff.next()):
                    raise StoppedError("the shipper was stopped") from error
        assert self._stream is not None
        return Delivery(
            self._client,
            self._stream,
            DeadLetters(self._directory.dead_letters, self._settings.stream),
            self.notices,
            wait=self._stopping.wait,
            on_too_large=self._narrow,
            on_dead_letter=self._on_dead_letter,
        )

    def _settle(self, delivery: Delivery, job: Job) -> None:
        """Deliver a job's batches and acknowledge them. Called again after an error, it continues where it failed."""
        if job.companions and not job.is_sent:
            jobs = [each for each in (job, *job.companions) if each.source.is_certain(each.batch)]
            job.is_sent = True
            stored = delivery.deliver_together([(each.source, each.batch) for each in jobs])
            for each in (each for each, is_stored in zip(jobs, stored, strict=True) if is_stored):
                each.refused = {}
        for each in (job, *job.companions):
            self._settle_one(delivery, each)

    def _settle_one(self, delivery: Delivery, job: Job) -> None:
        source, batch = job.source, job.batch
        if job.refused is None:
            job.refused = delivery.deliver(source, batch)
        if job.freed is None:
            if source is self._own and job.refused:  # a caller that waits for one of these must not take it for indexed
                self._on_acknowledged(0, job.refused)
            job.freed = source.settle(batch)
            with self._ledger:
                self.shipped += len(batch.records)
            if source is self._own:
                self._on_acknowledged(job.freed, {})
        if source is not self._own:
            self._retire_if_done(source)

    def _note_settled(self) -> None:
        with self._ledger:
            self._delivering -= 1
        if self._adopting is not None:  # there may be room for more of them now, and nobody else says so
            self._work.ring()

    def _narrow(self, too_large_bytes: int) -> None:
        self._batch_max_bytes = max(min(self._batch_max_bytes, too_large_bytes // 2), SMALLEST_BATCH_BYTES)

    def _next(self) -> Job | None:
        """Return the next batch and its source; None when there is none at the moment.

        Raises:
            StoppedError: It is time to end.
        """
        with self._turn:
            if self._stopping.is_rung:
                raise StoppedError("the shipper was stopped")
            if self._had_all:
                self._pause_until_work()
            self._had_all = False  # as long as what there is cannot be read, that is not known
            finishing = self._finishing
            taken = self._take(everything=finishing)
            self._looked_at = time.monotonic()
            if taken is not None:
                source, (batch, is_full) = taken
                # Nobody wakes this for the dead: the others of them are taken at once.
                self._had_all = not (is_full or source.is_ended or self._adopting is not None)
                companions = () if is_full or not source.is_ended else tuple(self._gather(batch, everything=finishing))
                with self._ledger:
                    self._delivering += 1
                return Job(source, batch, companions=companions)
            if finishing:
                if self._delivering or self._is_through:  # another lane comes back here
                    raise StoppedError("everything is shipped")
                self._is_through = True
                self._on_through()
            else:
                self._had_all = True
        return None

    def _gather(self, batch: Batch, *, everything: bool) -> Iterator[Job]:
        """Yield batches of other writers that fit into one request with *batch*: the dead often left very little."""
        room = self._batch_max_bytes - batch.records.size
        for _ in range(MOST_TOGETHER):
            if room < self._batch_max_bytes // 4 or (taken := self._take(everything=everything)) is None:
                return
            source, (another, _) = taken
            room -= another.records.size
            yield Job(source, another)

    def _pause_until_work(self) -> None:
        if self._finishing:
            return
        if self._work.wait(min(self._look_seconds, _READ_AGAIN_SECONDS) if self._own_problem else self._look_seconds):
            self._hurry.wait(self._settings.batch_seconds)
        self._work.clear()
        self._hurry.clear()

    def _take(self, *, everything: bool) -> tuple[Source, tuple[Batch, bool]] | None:
        """Return what to ship next: each spool in its turn, and those of the dead one after the other."""
        self._adopt_one()  # when it is time, even while others keep every lane busy
        while True:
            for _ in range(len(self._sources)):
                source = self._sources.popleft()
                if source is not self._own and (source not in self._adopted or source.is_exhausted):
                    continue
                self._sources.append(source)
                if (taken := self._take_from(source)) is not None:
                    return source, taken
            if not self._adopt_one(everything=everything):
                return None

    def _take_from(self, source: Source) -> tuple[Batch, bool] | None:
        try:
            taken = source.take(self._batch_max_bytes)
        except (AuditError, OSError) as error:  # one that cannot be read must not keep the others
            self.notices.tell(
                logging.ERROR, f"unreadable {source.writer}", f"The spool {source.writer} cannot be shipped: {error}"
            )
            if source is self._own:
                self._own_problem = f"its spool cannot be read ({describe(error)})"
            self._give_up(source)
            return None
        if source is self._own:
            self._own_problem = ""
        if taken is None:
            self._retire_if_done(source)
        return taken

    def _adopt_one(self, *, everything: bool = False) -> bool:
        """Take over the shipping of one more writer, when it is time to look for them; true when there was one."""
        if self._adopting is None:
            if not everything and time.monotonic() < self._next_adoption:
                return False
            self._adopting = self._directory.claim() if self._own is None else self._directory.adopt()
        if len(self._adopted) >= MOST_ADOPTED:  # the rest as soon as some of these are done
            return False
        directory = next(self._adopting, None)
        if directory is None:
            self._adopting = None
            self._next_adoption = time.monotonic() + self._look_seconds
            return False
        reader = SpoolReader(directory.path, DamagedBytes(self._directory.dead_letters))
        source = Source(reader, is_final=directory.take_over)
        with self._ledger:
            self._adopted[source] = directory
        self._sources.append(source)
        return True

    def _retire_if_done(self, source: Source) -> None:
        """Remove the spool of a dead writer of which everything is acknowledged."""
        with self._ledger:
            directory = self._adopted.pop(source, None) if source.is_exhausted and source.is_idle else None
        if directory is not None:
            source.close()
            if (last := source.last or last_record(directory.path)) is not None:
                self._on_closed(last.payload)
            directory.remove()

    def _give_up(self, source: Source) -> None:
        with self._ledger:
            directory = self._adopted.pop(source, None)
        if directory is not None:
            source.close()
            directory.release()


def _failed_at(thread: BackgroundThread) -> float:
    return thread.failed_at
