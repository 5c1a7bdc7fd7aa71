"""Where one event is now: on this host's disk, in the stream, or nowhere that can be seen from here."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from audit_logging.errors import AuditError, FilterError, NotFoundError, OpenSearchError, SettingsError
from audit_logging.query.context import event_steps
from audit_logging.query.questions import Question
from audit_logging.query.reader import AuditReader
from audit_logging.shipping.dead_letters import DeadLetterError, DeadLetters
from audit_logging.spool.closed import ClosedWriters
from audit_logging.spool.cursor import Cursor
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.segment import SegmentError, segments_of
from audit_logging.spool.sent import Sent
from audit_logging.spool.stock import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.query.distinct import Hit
    from audit_logging.settings import Settings
    from audit_logging.shipping.dead_letters import DeadLetter
    from audit_logging.spool.segment import Record, Records

State = Literal["waiting", "sent", "acknowledged", "indexed", "quarantined", "dead", "unknown"]

SEARCHABLE_SECONDS: Final = 3.0
"""How long to look for an event that was acknowledged: it can be searched after the stream's next refresh."""

_POLL_SECONDS: Final = 0.2
_CHUNK_BYTES: Final = 1 << 20
_PLACE = re.compile(r"([0-9a-f]{20})-([0-9]{1,19})")


@dataclass(frozen=True)
class Trace:
    """Where an event is.

    Attributes:
        asked: The id that was asked for.
        state: ``waiting`` in this host's spool; ``sent`` from there and not acknowledged; ``acknowledged`` by
            OpenSearch and not found there now; ``indexed``; ``quarantined``; ``dead``: a dead letter; ``unknown`` here.
        sentence: The same in words, and what to do.
        event_id: Its id; None when no copy could be read.
        event_type: Its type; that of its stand-in when it is in quarantine.
        writer: Its writer.
        sequence: Its place in that writer's chain.
        timestamp: When it happened, as it says.
        index: The backing index that holds it.
        reason: Why it was refused.
        unasked: Why OpenSearch could not be asked; empty when it could.
    """

    asked: str
    state: State
    sentence: str
    event_id: str | None = None
    event_type: str | None = None
    writer: str | None = None
    sequence: int | None = None
    timestamp: str | None = None
    index: str | None = None
    reason: str | None = None
    unasked: str = ""

    @property
    def depends_on_server(self) -> bool:
        """Whether OpenSearch, had it answered, could have said otherwise."""
        return bool(self.unasked) and self.state in ("acknowledged", "unknown")


def trace(event_id: str, settings: Settings) -> Trace:
    """Return where an event is now.

    Args:
        event_id: Its ``event.id``, or ``<writer>-<sequence>``.
        settings: The spool directory, the server and the stream.

    Raises:
        FilterError: That is no id.
    """
    if not event_id.isprintable() or not event_id:
        raise FilterError(f"{event_id[:60]!r} is not an event's id.")
    here = _on_disk(event_id, settings)
    hit, unasked = _in_stream(here, settings)
    if hit is not None:
        return _stored(here, hit)
    if here.state == "acknowledged" and not unasked:
        here = replace(
            here,
            sentence=f"{here.sentence} It is not in {settings.stream!r} now: it left with its retention period, these"
            " credentials may not see it, or somebody deleted it (`audit-logging verify` tells).",
        )
    return replace(here, unasked=unasked)


class _Stream(AuditReader):
    """The stream, asked for one event with its backing index."""

    def find(self, event_id: str, within_seconds: float) -> Hit | None:
        deadline = time.monotonic() + within_seconds
        while True:
            question = Question("trace", {"event_id": event_id}, event_steps(self._stream, event_id))
            try:
                return self._ask(question)
            except NotFoundError as error:
                if error.error_type:  # there is no stream
                    raise
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_SECONDS)


def _in_stream(here: Trace, settings: Settings) -> tuple[Hit | None, str]:
    """Return what the stream holds of it, and why it could not be asked."""
    place = f"{here.writer}-{here.sequence}" if here.writer else here.asked
    try:
        with _Stream(settings=settings) as stream:
            return stream.find(place, SEARCHABLE_SECONDS if here.state in ("acknowledged", "unknown") else 0), ""
    except (OpenSearchError, SettingsError) as error:
        return None, str(error)


def _stored(here: Trace, hit: Hit) -> Trace:
    seal = hit.document.get("audit", {}).get("integrity", {})
    found = replace(
        _described(here, hit.document), index=hit.index, writer=seal.get("writer"), sequence=seal.get("sequence")
    )
    refused = hit.document.get("audit", {}).get("quarantine")
    if refused is None:
        return replace(found, state="indexed", sentence=f"It is indexed, in {hit.index}.")
    return replace(
        found,
        state="quarantined",
        reason=refused.get("reason"),
        sentence=f"It is in quarantine, in {hit.index}: OpenSearch refused it. Its text is in audit.quarantine.document"
        f" (`audit-logging show {hit.doc_id}`).",
    )


def _on_disk(event_id: str, settings: Settings) -> Trace:
    spool = SpoolDirectory(settings.spool_path)
    letters = DeadLetters(spool.dead_letters, settings.stream)
    writer, sequence = _place(event_id)
    for path in spool.writers():
        if writer in (None, path.name):
            try:
                found = _in_directory(path, event_id, sequence, letters)
            except (AuditError, OSError):  # gone meanwhile, or not to be read: `spool status` says which
                continue
            if found is not None:
                return found
    return _after_the_directory(event_id, spool.path, letters)


def _place(event_id: str) -> tuple[str | None, int | None]:
    found = _PLACE.fullmatch(event_id)
    return (found[1], int(found[2])) if found else (None, None)


def _in_directory(path: Path, event_id: str, sequence: int | None, letters: DeadLetters) -> Trace | None:
    """Return what is known of the event in one writer's directory; None when it is not there."""
    record = _record(path, event_id, sequence)
    acknowledged = Cursor(path).acknowledged
    if record is None:
        if sequence is None or not 0 < sequence <= acknowledged:
            return None
        found = Trace(event_id, "unknown", "", writer=path.name, sequence=sequence)
    else:
        found = _described(Trace(event_id, "unknown", "", writer=path.name, sequence=record.sequence), record.payload)
    number = found.sequence or 0
    refusal = Refusals(path).read().get(number)
    if refusal is not None and refusal.fate != "refused":
        if refusal.fate == "dead":
            return _dead(found, refusal.reason, letters)
        sentence = "OpenSearch refused it, and took it into quarantine."
        return replace(found, state="quarantined", reason=refusal.reason, sentence=sentence)
    if number <= acknowledged:
        return replace(found, state="acknowledged", sentence="OpenSearch has acknowledged it.")
    if number <= Sent(path).sequence:
        sentence = "It was sent, perhaps more than once, and is not acknowledged yet; it is in the spool until it is."
        return replace(found, state="sent", sentence=sentence)
    sentence = (
        f"It waits in the spool {path}, {number - acknowledged - 1} before it. `audit-logging spool status` tells"
    )
    return replace(found, state="waiting", sentence=f"{sentence} whether they move.")


def _record(path: Path, event_id: str, sequence: int | None) -> Record | None:
    """Find the event in the segments: what waits, and what is acknowledged and was not removed yet."""
    wanted = event_id.encode()
    for records in _records(path):
        for record in records:
            if record.sequence == sequence or (wanted in record.payload and _event_id(record.payload) == event_id):
                return record
    return None


def _records(path: Path) -> Iterator[Records]:
    for segment in segments_of(path):
        try:
            yield from records_in(segment)
        except (SegmentError, FileNotFoundError):
            continue
    reader = SpoolReader(path)  # which goes on behind damage
    while records := reader.read(_CHUNK_BYTES):
        yield records


def _after_the_directory(event_id: str, spool: Path, letters: DeadLetters) -> Trace:
    """Return what is known of an event whose writer has no directory (any more)."""
    for letter in _readable(letters):
        if event_id == letter.id or _event_id(letter.document) == event_id:
            found = Trace(event_id, "dead", "", writer=letter.writer, sequence=letter.sequence)
            return _dead(_described(found, letter.document), letter.reason, letters)
    writer, sequence = _place(event_id)
    closed = next((each for each in ClosedWriters(spool) if writer and each.writer == writer), None)
    if closed is not None and sequence is not None and 0 < sequence <= closed.last:
        sentence = "OpenSearch has acknowledged it: everything of its writer was, and the writer is closed."
        return Trace(event_id, "acknowledged", sentence, writer=writer, sequence=sequence)
    return Trace(
        event_id,
        "unknown",
        f"It is not known here. It may wait in the spool of another host, or in another directory than {spool}; or it"
        " was never emitted: then its emit call has raised, or has not returned.",
    )


def _readable(letters: DeadLetters) -> Iterator[DeadLetter]:
    for letter_id in sorted(letters.ids()):
        with contextlib.suppress(DeadLetterError):  # `spool dead list` names it
            yield letters.get(letter_id)


def _dead(found: Trace, reason: str, letters: DeadLetters) -> Trace:
    letter_id = f"{found.writer}-{found.sequence}"
    if letter_id in letters.replayed():
        return replace(found, state="acknowledged", sentence="It was a dead letter, was replayed, and is stored.")
    return replace(
        found,
        state="dead",
        reason=reason,
        sentence=f"It is a dead letter, in {letters.file_of(letter_id)}: OpenSearch refused it, and its stand-in in"
        f" quarantine too. Mend the reason, then `audit-logging spool dead replay {letter_id}`.",
    )


def _described(found: Trace, document: Any) -> Trace:
    """Return *found* with what the document says of itself."""
    fields = _parsed(document)
    event = fields.get("event")
    event = event if isinstance(event, dict) else {}
    return replace(found, event_id=event.get("id"), event_type=event.get("action"), timestamp=fields.get("@timestamp"))


def _event_id(document: Any) -> Any:
    event = _parsed(document).get("event")
    return event.get("id") if isinstance(event, dict) else None


def _parsed(document: Any) -> dict[str, Any]:
    if isinstance(document, dict):
        return document
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
