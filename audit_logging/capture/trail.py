"""The trail of one process: facts go in, are enriched, become a document, are sealed, and are safe in the spool."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from audit_logging.background import describe
from audit_logging.capture.checkpoints import Checkpoints
from audit_logging.capture.console import print_event
from audit_logging.capture.context import whole_facts
from audit_logging.capture.durability import Durabilities
from audit_logging.capture.health import HealthProbe
from audit_logging.capture.processors import merge_context
from audit_logging.capture.upkeep import Upkeep
from audit_logging.capture.writer import Writer, WriterClosedError
from audit_logging.errors import AuditError, DurabilityError, NotIndexedError, SettingsError
from audit_logging.events.catalogue import API_CALL, CATALOGUE
from audit_logging.events.document import DocumentBuilder
from audit_logging.events.values import PlainValues
from audit_logging.forks import begin_anew, in_children, same_process
from audit_logging.integrity.claims import CHECKPOINT, DEAD_LETTERED, STARTED, STOPPED, WRITER_CLOSED
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.signature import CHAIN, SIGNED_TYPES
from audit_logging.integrity.signer import Signer, signing_key
from audit_logging.interrupts import is_interrupt
from audit_logging.privacy.policy import privacy_policy
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText
from audit_logging.spool.directory import check_home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from audit_logging.capture.health import Health
    from audit_logging.events.document import Document, Origin
    from audit_logging.integrity.sealed_event import SealedEvent
    from audit_logging.settings import Settings
    from audit_logging.shipping.dead_letters import DeadLetter
    from audit_logging.shipping.shipper import Shipper

    Processor = Callable[[Any, str, Any], Any]

_OF_THE_CHAIN = frozenset({STARTED, CHECKPOINT, STOPPED, WRITER_CLOSED, DEAD_LETTERED})

MOST_HEADS_AT_START = 16
"""Heads of other writers in the first event: about 2.5 KB, and about 1 ms of the first emit."""

MOST_HEADS = 50
"""Heads of other writers in one checkpoint: about 8 KB."""

MOST_HEADS_AT_ONCE = 1000
"""Heads that one checkpoint takes, in several events."""

_log = logging.getLogger("audit_logging")
_trails: weakref.WeakSet[Trail] = weakref.WeakSet()


class Trail:
    """Takes events and keeps the promises made about them.

    Args:
        settings: Every knob.
        processors: Further structlog processors of the application, run after the context is merged.
    """

    def __init__(self, settings: Settings, processors: Sequence[Processor] = ()) -> None:
        self.settings = settings
        self._processors: tuple[Processor, ...] = (merge_context, *processors)
        self._durabilities = Durabilities(settings)
        self._console = settings.console if settings.console is not None else _is_at_a_developers_terminal(settings)
        check_home(settings)
        self._key, self._why_unsigned = signing_key(settings)
        if settings.opensearch_url:
            _prepare_to_connect(settings)
        self._beginning = threading.RLock()
        self._ending: Writer | None = None
        self._start_afresh()
        # Whatever drawing a document imports is imported now: see _prepare_to_connect.
        self._builder.build(DEAD_LETTERED, {})
        _trails.add(self)

    def _start_afresh(self) -> None:
        secret_keys = SecretKeys(self.settings.redact_keys)
        mask = SecretText(secret_keys, self.settings.redact_patterns).mask if self.settings.detect_secrets else None
        plain = PlainValues(secret_keys, mask)
        self._builder = DocumentBuilder(self.settings, CATALOGUE, plain, privacy_policy(self.settings))
        self._probe = HealthProbe(self.settings)
        self._shipper: Shipper | None = None
        self._shipping_problem = ""
        self._upkeep = Upkeep(self._look_after)
        self._begun = False
        self._more_heads = False
        self._checkpoints = Checkpoints(
            self.settings.checkpoint_seconds, self._checkpoint, self.settings.checkpoint_command
        )
        self._signer = Signer(self._key, self.settings, self._checkpoints.tell) if self._key is not None else None
        self._writer = Writer(self.settings)  # last: whoever emits meanwhile begins its chain only after all of this

    def begin_anew(self) -> None:
        """Become a writer of its own: threads are gone, locks may be held, files and sockets are the parent's."""
        for writer in (self._writer, self._ending):
            if writer is not None:
                writer.abandon()
        self._ending = None
        # A key store that was opened before a fork must not even be closed after it (SQLite, "How to corrupt").
        self._inherited = self._builder
        self._beginning = threading.RLock()
        self._start_afresh()

    @property
    def writer_id(self) -> str:
        """The id of this process as a writer; it changes with a fork and with :meth:`shutdown`."""
        if not same_process[0]:
            begin_anew()
        return self._writer.id

    def emit(
        self,
        event_type: str,
        facts: Mapping[str, Any],
        durability: str | None = None,
        *,
        origin: Origin | None = None,
    ) -> str:
        """Take one event and return its id, once the durability asked for is reached.

        Args:
            event_type: Dotted name.
            facts: Keywords of the typed call, of any Python type.
            durability: ``process``, ``disk`` or ``indexed``; None: what the settings say of the event's type.
            origin: For an event that another system recorded first: what it determined (see
                :meth:`~audit_logging.events.document.DocumentBuilder.build`).

        Raises:
            DurabilityError: The promise could not be kept (see its subclasses).
            InvalidEventError: A value did not validate and ``on_invalid`` is ``raise``.
        """
        if not same_process[0]:
            begin_anew()
        durability = self._durabilities.of(event_type, durability)
        if durability == "indexed" and self.settings.ship and not self.settings.opensearch_url:
            raise SettingsError("durability 'indexed' needs an opensearch_url to be acknowledged by.")
        writer = self._writer
        if not self._begun or monotonic() >= self._upkeep.due:
            self._prepare(writer)  # before the document is made, so that the begin bears the earlier time
        own = event_type in SIGNED_TYPES and origin is None
        signer = self._signer if own else None
        if signer is not None:
            facts = {**facts, CHAIN: writer.id}
        document = self._document(event_type, facts, origin)
        try:
            sequence = self._append(writer, document, durability, own=own, signer=signer)
        except WriterClosedError:  # another thread shuts down at this moment; this one begins again
            return self.emit(event_type, facts, durability, origin=origin)
        if not self._begun:
            self._begin(writer)
        if self._shipper is not None:
            self._shipper.wake()
        if durability != "process":
            self._wait_for(durability, writer, sequence, document.event_id)
        if self._console:
            print_event(document.fields)
        return document.event_id

    async def aemit(self, event_type: str, facts: Mapping[str, Any], durability: str | None = None) -> str:
        """Do the same without holding up the event loop where the durability means waiting."""
        if not same_process[0]:
            begin_anew()
        if self._durabilities.of(event_type, durability) == "process" and self._writer.has_room:
            return self.emit(event_type, facts, durability)
        import asyncio  # loaded already where a coroutine runs; 20 ms for every import of the library otherwise

        return await asyncio.to_thread(self.emit, event_type, facts, durability)

    def _document(self, event_type: str, facts: Mapping[str, Any], origin: Origin | None = None) -> Document:
        enriched: Any = dict(facts)
        if event_type == API_CALL:
            for name, value in whole_facts().items():
                if enriched.get(name) is None:
                    enriched[name] = value
        for processor in self._processors:
            try:
                enriched = processor(None, "info", enriched)
            except Exception as error:  # an enricher that fails must not cost the event
                if is_interrupt(error):
                    raise
                name = getattr(processor, "__name__", type(processor).__name__)
                _log.error("The audit processor %s failed; the event goes on without it", name, exc_info=True)
                enriched["processor_error"] = f"{name}: {type(error).__name__}"
        return self._builder.build(event_type, enriched, origin)

    def _append(self, writer: Writer, document: Document, durability: str, *, own: bool, signer: Signer | None) -> int:
        if durability == "disk" and self._begun and not own:  # the first must not hold up the beginning
            return writer.commit(document)
        return writer.append(document, awaited=durability == "indexed", own=own, signer=signer)

    def _prepare(self, writer: Writer) -> None:
        """Begin the chain, or look after the spool where a second has passed since that was done last."""
        if self._begun:
            self._look_after()
        else:
            self._start_chain(writer)

    def _start_chain(self, writer: Writer) -> None:
        """Begin the chain with a signed event that also vouches for other writers of the spool directory.

        It takes as many as one event holds, so that the first emit takes the same time next to any number of dead
        writers; checkpoints take the others.
        """
        if self._signer is None:
            return
        with self._beginning:
            if writer.sequence:
                return
            about = {"checkpoint_seconds": self.settings.checkpoint_seconds, "stream": self.settings.stream}
            heads = self._signer.heads.unvouched(MOST_HEADS_AT_START)
            self._more_heads = len(heads) == MOST_HEADS_AT_START
            with contextlib.suppress(WriterClosedError):  # whoever appends to it next meets that too
                self._vouch(writer, STARTED, about, heads)

    def _checkpoint(self) -> None:
        """Sign how far this writer came, and vouch for those that ended beside it since."""
        writer, signer = self._writer, self._signer
        if signer is None or not writer.sequence:
            return
        try:
            found = signer.heads.unvouched(MOST_HEADS_AT_ONCE)
            # Living writers vouch for themselves at each interval; what the first event had no room for may be dead.
            heads = [head for head in found if head.writer != writer.id and (self._more_heads or head.own == STOPPED)]
            self._vouch(writer, CHECKPOINT, {}, heads)
            self._more_heads = self._more_heads and len(found) == MOST_HEADS_AT_ONCE
        except WriterClosedError:  # by a shutdown, which signs its end
            return
        if self._shipper is not None:
            self._shipper.wake()

    def _vouch(self, writer: Writer, event_type: str, about: dict[str, Any], heads: list[SealedEvent]) -> None:
        """Write one signed event, and as many more as the heads of other writers take."""
        signer = self._signer
        assert signer is not None
        for start in range(0, max(len(heads), 1), MOST_HEADS):
            part = heads[start : start + MOST_HEADS]
            known = [
                {
                    "writer": each.writer,
                    "sequence": each.sequence,
                    "hash": each.hash,
                    "ended": each.own == STOPPED,
                    "shipped": not (writer.directory.path / each.writer).exists(),
                }
                for each in part
            ]
            metadata = {CHAIN: writer.id, **about, "heads": known} if known else {CHAIN: writer.id, **about}
            facts = {"metadata": metadata}
            document = self._builder.build(CHECKPOINT if start else event_type, facts)
            writer.append(document, own=True, signer=signer)
            signer.heads.vouch(each for each in part if each.own != STOPPED)
            for each in part:
                if each.own == STOPPED:
                    signer.heads.forget(each.writer)

    def _begin(self, writer: Writer) -> None:
        """Start the threads with the first event, so that a process that emits nothing costs nothing."""
        with self._beginning:
            if self._begun or writer is not self._writer:  # which is another when somebody shuts down meanwhile
                return
            self._begun = True
            if self.settings.ship and not self.settings.opensearch_url:
                _log.warning(
                    "No opensearch_url is set (or AUDIT_OPENSEARCH_URL): audit events stay in the spool %s until a"
                    " process with one ships them, such as `audit-logging ship`.",
                    self.settings.spool_path,
                )
        self._look_after()

    def _look_after(self) -> None:
        """Start every thread that should run and does not, and check that the spool is where it should be."""
        writer = self._writer
        with self._beginning:
            if not self._begun or writer is not self._writer:
                return
            self._upkeep.start()
            if self._signer is not None:
                self._checkpoints.start()
            if writer.ships:
                self._ship(writer)
        writer.look_after()

    def _ship(self, writer: Writer) -> None:
        """Start shipping, or try again to: descriptors or threads may have run out for a moment."""
        try:
            if self._shipper is None:
                self._shipper = self._make_shipper(writer)
            self._shipper.ensure_running()
            self._shipping_problem = ""
        except (OSError, MemoryError) as error:
            if is_interrupt(error):
                raise
            if not self._shipping_problem:
                _log.error("Audit events are not shipped (%s); retrying.", describe(error))
            self._shipping_problem = describe(error)

    def _make_shipper(self, writer: Writer) -> Shipper:
        from audit_logging.shipping.shipper import Shipper

        return Shipper(
            self.settings,
            writer.directory,
            writer.reader,
            writer.on_acknowledged,
            on_dead_letter=self.tell_of_dead_letter,
            on_closed=self.tell_of_closed_writer,
            on_through=functools.partial(self._end_chain, writer, self._signer),
        )

    def tell_of_dead_letter(self, letter: DeadLetter) -> None:
        """Say in the trail which event is missing in it, for its writer's chain has a gap there."""
        # The chain's own events beget nothing: where all are refused, one letter would bring forth the next.
        if letter.event_type in _OF_THE_CHAIN:
            return
        missing = {"writer": letter.writer, "sequence": letter.sequence, "hash": letter.hash}
        facts = {"outcome": "failure", "reason": letter.reason, "dead_letter": missing}
        try:
            self.emit(DEAD_LETTERED, facts, "process")
        except AuditError as error:
            _log.error("Could not record dead letter %s in the trail: %s", letter.id, error)

    def tell_of_closed_writer(self, last: bytes) -> None:
        """Say in the trail how far a dead writer came, all of whose events are shipped.

        Args:
            last: The last event in its spool.
        """
        head = read_sealed_event(last)
        if self._signer is None or head is None or head.own == STOPPED:
            return
        about = {"writer": head.writer, "sequence": head.sequence, "hash": head.hash}
        try:
            self.emit(WRITER_CLOSED, {"metadata": about}, "process")
        except AuditError as error:
            _log.error("Could not record the end of writer %s in the trail: %s", head.writer, error)
            return
        self._signer.heads.forget(head.writer)

    def _wait_for(self, durability: str, writer: Writer, sequence: int, event_id: str) -> None:
        if durability == "disk":
            writer.sync(sequence, event_id)
            return
        if self._shipper is not None:
            self._shipper.hurry()
        refusal = writer.wait_for(sequence, self.settings.indexed_timeout_seconds)
        if refusal is None:
            raise NotIndexedError(
                f"OpenSearch did not acknowledge event {event_id} within {self.settings.indexed_timeout_seconds:g} s."
                " It is in the spool and will still be shipped; do not emit it again.",
                event_id=event_id,
                state="spooled",
            )
        if refusal:
            raise NotIndexedError(
                f"OpenSearch refused event {event_id}; it is kept in quarantine: {refusal}",
                event_id=event_id,
                state="quarantined",
            )

    def flush(self, timeout: float) -> bool:
        """Wait until everything emitted so far is acknowledged by OpenSearch; true when it is."""
        if not same_process[0]:
            begin_anew()
        writer = self._writer
        self._look_after()
        if self._shipper is not None:
            self._shipper.hurry()
        arrived = writer.waiting == 0 or writer.wait_until_acknowledged(writer.sequence, timeout)
        return arrived and not writer.custody.lost

    def health(self) -> Health:
        """Return how this end of the trail is."""
        if not same_process[0]:
            begin_anew()
        self._look_after()
        return self._probe.examine(
            self._writer,
            self._shipper,
            shipping_problem=self._shipping_problem,
            signing_problem=self._checkpoints.problem or (self._signer.problem if self._signer is not None else ""),
            why_unsigned=self._why_unsigned,
        )

    def shutdown(self, timeout: float) -> int:
        """Ship what can be shipped within *timeout* seconds, stop, and return how many events remain in the spool."""
        if not same_process[0]:
            begin_anew()
        writer, shipper, signer, checkpoints = self._writer, self._shipper, self._signer, self._checkpoints
        upkeep = self._upkeep
        writer.look_after()
        if shipper is not None:
            shipper.finish(timeout)
        self._end_chain(writer, signer)  # unless the shipper had it done, and shipped that as well
        checkpoints.stop(timeout)
        upkeep.stop()
        remaining = writer.close()
        self._ending = None
        return remaining

    def _end_chain(self, writer: Writer, signer: Signer | None) -> None:
        """Write the signed end of the chain; whoever emits from now on begins another."""
        with self._beginning:
            if writer is not self._writer:
                return
            self._ending = writer
            self._start_afresh()
        if signer is None or not writer.sequence:
            return
        try:
            document = self._builder.build(STOPPED, {"metadata": {CHAIN: writer.id}})
            writer.append(document, own=True, signer=signer, last=True)
        except (DurabilityError, WriterClosedError) as error:
            _log.error("The end of writer %s could not be signed: %s", writer.id, error)


@in_children
def _begin_anew() -> None:
    for trail in list(_trails):
        trail.begin_anew()


def _prepare_to_connect(settings: Settings) -> None:
    """Fail at start, and not in the background, where TLS files are missing; nothing is connected yet.

    What shipping needs is imported here and not by the first event, nor by the shipper's threads: a child that is
    forked while another thread imports a module waits for that module for ever.
    """
    import encodings.idna  # noqa: F401 - which the first connection to a host by its name would load

    import audit_logging.shipping.shipper  # noqa: F401 - not by the first event
    from audit_logging.opensearch.client import Client

    Client(settings).close()


def _is_at_a_developers_terminal(settings: Settings) -> bool:
    return settings.environment == "development" and os.isatty(2)
