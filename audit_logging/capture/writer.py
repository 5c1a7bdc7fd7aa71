"""This process as a writer: its chain, its spool, and the lock under which an event gets its place."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from audit_logging.capture.amid import Amid
from audit_logging.capture.commit import GroupCommit
from audit_logging.capture.custody import Custody
from audit_logging.capture.pace import Pace
from audit_logging.errors import DurabilityError, NotIndexedError, SpoolFullError, SpoolWriteError
from audit_logging.events.bounds import MAX_DOCUMENT_BYTES
from audit_logging.integrity.seal import Chain, SealedDocument, digest_of, new_writer_id
from audit_logging.interrupts import is_interrupt, suppress
from audit_logging.spool.damage import DamagedBytes
from audit_logging.spool.directory import SpoolDirectory, WriterDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.writer import SpoolMissingError, SpoolWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from audit_logging.capture.commit import Turn
    from audit_logging.events.document import Document
    from audit_logging.integrity.signer import Signer
    from audit_logging.settings import Settings

_POLL_SECONDS: Final = 0.05
"""How often a call that waits looks whether another process, which ships, has moved on."""


class WriterClosedError(Exception):
    """Another thread has closed the writer meanwhile, or the handler of a signal that interrupts it would end it.

    It never leaves the trail, which has another writer by then.
    """


class Writer:
    """One process's emitting end. Its directory is made with the first event.

    Thread-safe. A forked child must make a writer of its own and :meth:`abandon` this one.

    Attributes:
        ships: Whether this process ships what it writes. Otherwise a sidecar may, or whoever adopts it later.
        pace: For how long its events have waited.
    """

    def __init__(self, settings: Settings) -> None:
        self.directory = SpoolDirectory(settings.spool_path, settings.stream)
        self.ships = settings.ship and bool(settings.opensearch_url)
        self._settings = settings
        # Reentrant, because Python may run the handler of a signal, or a finalizer, in the middle of an append, and
        # that may emit; and because waiting on another kind can lose the lock to a handler that raises.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._is_busy = False  # with what must not be begun again in the middle
        self._commit = GroupCommit(self._write_for, self._sync_for_others)
        # With what is interrupted there, a handler must not take the writer's lock: whoever has it may begin a segment,
        # and wait for this thread.
        self._at_disk = Amid()
        self._chain = Chain(new_writer_id())
        self._unsettled: SealedDocument | None = None  # what was to be written when a signal's handler raised
        self._home: WriterDirectory | None = None
        self._spool: SpoolWriter | None = None
        self._closed_spool: SpoolWriter | None = None  # whose last events may still be waited for
        self._closed = False
        self._bytes_allowed = settings.spool_max_bytes  # of all that was ever appended: what became free is added
        self._awaited: dict[int, str] = {}
        self.reader: SpoolReader | None = None
        self.pace = Pace()
        self.custody = Custody(self.directory)

    @property
    def id(self) -> str:
        """The writer's id, which names its directory in the spool."""
        return self._chain.writer

    @property
    def sequence(self) -> int:
        """The number of the last event."""
        return self._chain.sequence

    @property
    def acknowledged(self) -> int:
        """The last event that OpenSearch has acknowledged, and all before it."""
        if self.reader is None:
            return 0
        return self.reader.acknowledged if self.ships else self.reader.look()

    @property
    def waiting(self) -> int:
        """How many events are not acknowledged yet and not lost."""
        acknowledged = self.acknowledged
        return self._chain.sequence - acknowledged - self.custody.lost_after(acknowledged)

    def append(
        self,
        document: Document,
        *,
        awaited: bool = False,
        own: bool = False,
        signer: Signer | None = None,
        last: bool = False,
    ) -> int:
        """Seal *document*, write it and return its sequence.

        Args:
            document: What is to be written.
            awaited: Its fate will be asked for with :meth:`wait_for`.
            own: It is one of the library's own, which are small and seldom: it finds room always, since whoever makes
                room may be the one that emits it.
            signer: What signs it, if anything does.
            last: It is the last one of this chain.

        Raises:
            SpoolFullError: There was no room for as long as the call may block.
            SpoolWriteError: The disk refused.
            WriterClosedError: It was closed; or the last one comes in the middle of another call.
        """
        if self._at_disk and self._at_disk.is_here():
            return self._append_aside(document, awaited=awaited, last=last)
        try:
            with self._lock:
                if self._is_busy:
                    return self._append_aside(document, awaited=awaited, last=last)
                spool = self._spool
                if spool is None or self.custody.is_broken or spool.at[2] >= spool.roll_at:
                    spool = self._prepare()
                if not own and spool.at[2] + len(document.canonical) > self._bytes_allowed:
                    self._wait_for_room(spool, document)
                try:
                    self._is_busy = True
                    if self._closed:  # if only since a moment ago
                        raise WriterClosedError("it was closed meanwhile")
                    if self._unsettled is not None:
                        self._settle(spool)
                    sealed = self._seal(document, signer)
                    self._unsettled = sealed
                    spool.append(sealed.payload)
                    self._chain.advance(sealed)
                    self._unsettled = None
                    if signer is not None:
                        self._keep_signed(sealed, signer, last=last)
                finally:
                    self._is_busy = False
                if awaited:
                    self._awaited[sealed.sequence] = ""
                return sealed.sequence
        except SpoolWriteError as error:
            error.event_id = document.event_id
            raise

    def _seal(self, document: Document, signer: Signer | None) -> SealedDocument:
        sealed = self._chain.seal(document.canonical, document.splice)
        return sealed if signer is None else signer.sign(sealed)

    def _keep_signed(self, sealed: SealedDocument, signer: Signer, *, last: bool) -> None:
        signer.keep(self._chain.writer, sealed.payload)
        if last:  # and never unset, since another thread may be closing it
            self._closed = True

    def commit(self, document: Document) -> int:
        """Do the same as :meth:`append` together with what other threads commit meanwhile, and sync once for all.

        What became of the sync is for :meth:`sync` to say. The main thread does its own: the handlers of signals run
        in it, which may raise, and nobody else's event should be in doubt then.
        """
        joins = threading.get_ident() != threading.main_thread().ident and not self._is_amid_another_call()
        return (self._commit.join(document) if joins else 0) or self.append(document)

    def _is_amid_another_call(self) -> bool:
        """Whether what runs now is a finalizer that interrupted this thread where others may have to wait for it."""
        is_owner = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        return is_owner or self._commit.members.is_here() or self._at_disk.is_here()

    def _write_for(self, turn: Turn) -> None:
        """Write what another thread waits for, unless it must wait for room, which is for that thread to do.

        Raises:
            BaseException: What befell this thread alone, such as too deep a recursion. The other has its event written
                or not, and need not know.
        """
        document = turn.document
        with self._lock:
            if not self._fits(len(document.canonical)):
                return
            previous = self._chain.head
            try:
                turn.sequence = self.append(document)
            except (DurabilityError, WriterClosedError) as error:
                turn.error = error
            except BaseException:
                if self._unsettled is not None and self._spool is not None:
                    self._settle(self._spool)
                if self._chain.head == digest_of(previous, self.id, self.sequence, document.canonical):
                    turn.sequence = self.sequence
                raise

    def _sync_for_others(self, sequence: int) -> None:
        with contextlib.suppress(SpoolWriteError):  # each is told when it asks for its own
            self.sync(sequence, "")

    def _append_aside(self, document: Document, *, awaited: bool, last: bool) -> int:
        """Write *document* as another writer, since the handler that emits it interrupted this one in the middle.

        That writer ends with it, so it is adopted like any that died. It is on the disk itself at once.
        """
        if last:
            raise WriterClosedError("a signal's handler ends it in the middle of another call")
        aside = Writer(self._settings.model_copy(update={"ship": False}))
        aside.sync(aside.append(document), document.event_id)
        aside.close()
        if awaited:
            raise NotIndexedError(
                f"Event {document.event_id} was emitted in the middle of another emit call (by a signal's handler or a"
                " finalizer), which cannot wait. It is in the spool and will still be shipped; do not emit it again.",
                event_id=document.event_id,
                state="spooled",
            )
        return 0

    def _prepare(self) -> SpoolWriter:
        """Return the spool to append to, when it is in its place."""
        spool = self._spool
        if spool is None:
            return self._begin()
        self._keep_in_place(spool)
        return spool

    def look_after(self) -> None:
        """Check that the spool is still in its place on the disk, and restore what is missing there.

        Not in a signal handler that interrupted the writer, which must not wait for it; the next call comes soon.
        """
        if self._at_disk.is_here():
            return
        with self._lock:
            if not self.ships and self.reader is not None:
                self.reader.look()
            if self._spool is not None and not self._is_busy:
                with contextlib.suppress(SpoolWriteError):  # which custody remembers
                    self._keep_in_place(self._spool)

    def _keep_in_place(self, spool: SpoolWriter) -> None:
        """Restore what was removed of the spool.

        Raises:
            SpoolWriteError: It cannot be restored now.
        """
        home, reader = self._home, self.reader
        if home is None or reader is None:  # a signal handler has closed it just now
            return
        try:
            self._is_busy = True
            if self._unsettled is not None:
                self._settle(spool)
            if self.custody.restore(home, spool, reader):
                self._count_freed()
        finally:
            self._is_busy = False

    def _wait_for_room(self, spool: SpoolWriter, document: Document) -> None:
        size = len(document.canonical)
        if not self._wait_until(
            lambda: self._closed or self._make_room(spool, size), self._settings.spool_block_seconds
        ):
            raise SpoolFullError(
                f"The spool {self.directory.path} is full ({self._settings.spool_max_bytes} bytes,"
                f" {self.waiting} events waiting). Is OpenSearch away? Raise spool_max_bytes or make it reachable."
                " The event was not accepted.",
                event_id=document.event_id,
                state="refused",
            )

    def _settle(self, spool: SpoolWriter) -> None:
        """Go by what is in the spool where an append was broken off: by the disk, or by the handler of a signal."""
        try:
            spool.settle()
        except OSError as error:  # appending tries again, and raises what is to be raised
            if is_interrupt(error):
                raise
            return
        if self._unsettled is not None and spool.sequence == self._unsettled.sequence:
            self._chain.advance(self._unsettled)
        self._unsettled = None

    def _make_room(self, spool: SpoolWriter, size: int) -> bool:
        """Whether there is room for so many bytes more, or nothing else in the spool.

        What is acknowledged of the segment that is written takes room too, and goes when the next is begun.
        """
        if self._fits(size):
            return True
        if self.reader is None or self.waiting:
            return False
        try:
            self._is_busy = True
            with suppress(OSError):  # it raises with what is appended next
                spool.roll()
        finally:
            self._is_busy = False
        self._bytes_allowed += self.reader.remove_acknowledged()
        if not self.ships:
            self._count_freed()
        return True

    @property
    def has_room(self) -> bool:
        """Whether the next event will not have to wait for room, however large it is."""
        return self._fits(MAX_DOCUMENT_BYTES)

    def _fits(self, size: int) -> bool:
        return self._spool is None or self._spool.bytes_appended + size <= self._bytes_allowed

    def _begin(self) -> SpoolWriter:
        if self._closed:  # a second life under the same id would number its events anew
            raise WriterClosedError("it was closed meanwhile")
        try:
            self._is_busy = True
            if self._spool is not None:  # a handler that emits came just before
                return self._spool
            self._home = self.directory.create(self._chain.writer, ships=self.ships)
            self.reader = SpoolReader(self._home.path, DamagedBytes(self.directory.dead_letters))
            # What is acknowledged of a segment takes room as long as it is written: an eighth of all there is at most.
            segment_max_bytes = min(self._settings.segment_max_bytes, self._settings.spool_max_bytes // 8)
            self._spool = SpoolWriter(self._home.path, self._chain.writer, segment_max_bytes)
        except BaseException:  # what there is of this writer is in the way of another attempt under its name
            if self._home is not None:
                self._home.release()
            self._chain = Chain(new_writer_id())
            raise
        finally:
            self._is_busy = False
        return self._spool

    def sync(self, sequence: int, event_id: str) -> None:
        """Return when the event is on the disk itself.

        Raises:
            SpoolWriteError: The disk refused. The event is in the spool.
        """
        if not sequence:  # it was written aside, and synced there
            return
        spool = self._spool or self._closed_spool
        assert spool is not None
        try:
            try:
                with self._at_disk.here():
                    spool.sync(sequence)
            except SpoolMissingError:
                with self._lock:
                    self._keep_in_place(spool)
                with self._at_disk.here():
                    spool.sync(sequence)
            self.custody.refuse_lost(sequence)
        except SpoolWriteError as error:
            error.event_id = event_id
            raise

    def on_acknowledged(self, bytes_freed: int, set_aside: Mapping[int, str]) -> None:
        """Note that shipping moved on: what became free, and which events were refused."""
        with self._lock:
            if bytes_freed and self._spool is not None:  # what is open takes room on the disk until it is closed
                self._spool.let_go(self.acknowledged)
            self._bytes_allowed += bytes_freed
            self.pace.note(self.acknowledged, self.sequence)
            for sequence in self._awaited.keys() & set_aside.keys():
                self._awaited[sequence] = set_aside[sequence]
            self._changed.notify_all()

    def wait_until_acknowledged(self, sequence: int, timeout: float) -> bool:
        """Wait until OpenSearch has everything up to *sequence*; true when it came in time.

        Not in the handler of a signal that interrupted a sync, which says how it is.
        """
        if self._at_disk.is_here():
            return self.acknowledged >= sequence
        with self._lock:
            return self._wait_until(lambda: self.acknowledged >= sequence, timeout)

    def _wait_until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait under the lock, which others get meanwhile; true when it held in time."""
        if self.ships:
            return self._changed.wait_for(holds, timeout)
        deadline = time.monotonic() + timeout
        while True:
            self._count_freed()
            if holds():
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self._changed.wait(min(left, _POLL_SECONDS))

    def _count_freed(self) -> None:
        """Find out what became free, where another process ships and so removes segments."""
        if self._spool is None or self.reader is None:
            return
        with suppress(OSError):
            freed = self._spool.bytes_appended - self.reader.bytes_kept()
            self._bytes_allowed = self._settings.spool_max_bytes + freed

    def wait_for(self, sequence: int, timeout: float) -> str | None:
        """Return what became of an awaited event: empty when indexed, else why not; None when time ran out."""
        try:
            return self._fate_of(sequence) if self.wait_until_acknowledged(sequence, timeout) else None
        finally:
            with self._lock:
                del self._awaited[sequence]

    def _fate_of(self, sequence: int) -> str:
        if self.ships or self.reader is None:
            return self._awaited[sequence]
        refusal = Refusals(self.reader.directory).read().get(sequence)  # written before the cursor moved
        return refusal.reason if refusal else ""

    def close(self) -> int:
        """Give the spool up, remove it when all is acknowledged, and return how many events remain.

        In the handler of a signal that interrupted it, it is closed for more events alone, and given up when the
        process ends.
        """
        self._closed = True
        if self._at_disk.is_here():
            return self.waiting
        with self._lock:
            self._changed.notify_all()
            if self._is_busy:
                return self.waiting
            try:
                self._is_busy = True
                return self._give_up()
            finally:
                self._is_busy = False

    def _give_up(self) -> int:
        if self._unsettled is not None and self._spool is not None:
            self._settle(self._spool)
        if self._spool is not None and self._home is not None and self.reader is not None:
            with contextlib.suppress(SpoolWriteError):
                self.custody.restore(self._home, self._spool, self.reader)
        remaining = self.waiting
        if self.custody.is_broken:
            remaining = self.custody.give_up(self._chain.writer, self.acknowledged, self.sequence)
        if self._spool is not None and self._home is not None:
            self._spool.close()
            if not remaining and self._home.take_shipping():
                self._home.remove()
            else:  # whoever ships what remains, or is shipping now, removes it
                self._home.release()
        self._closed_spool, self._spool, self._home = self._spool or self._closed_spool, None, None
        return remaining

    def abandon(self) -> None:
        """Close what a forked child inherited, without touching what the parent goes on using."""
        if self._spool is not None and self._home is not None:
            self._home.release()
            self._spool.close_at_once()
