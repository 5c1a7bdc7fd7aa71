"""What signed events say of writers: how far each came, that it ended, and what left lawfully.

A claim counts only when the event that makes it is genuine and signed by a trusted key.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from audit_logging.integrity.chain import Range
    from audit_logging.integrity.sealed_event import SealedEvent

STARTED: Final = "audit.started"
CHECKPOINT: Final = "audit.checkpoint"
STOPPED: Final = "audit.stopped"
WRITER_CLOSED: Final = "audit.writer_closed"
INDEX_SEALED: Final = "audit.index_sealed"
DEAD_LETTERED: Final = "audit.dead_lettered"
RETENTION_APPLIED: Final = "audit.retention_applied"

DEFAULT_CHECKPOINT_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Head:
    """How far a writer had come.

    Attributes:
        sequence: The number of its event.
        hash: The hash of that event.
        time: ``@timestamp`` of the event that says so.
        shipped: Whether it is known that the trail has had it. What another writer saw of this one on its host may
            still be on its way.
    """

    sequence: int
    hash: str
    time: str
    shipped: bool = True


@dataclass(frozen=True)
class Departure:
    """The events of one writer in a backing index that was sealed.

    Attributes:
        index: Name of the backing index.
        range: First and last number in it.
        hash: The hash of the last one.
        events: How many of this writer were in it.
        newest: Time of the newest event of the whole index; None when it is not told.
        time: When it was sealed.
    """

    index: str
    range: Range
    hash: str
    events: int
    newest: dt.datetime | None
    time: str


@dataclass
class Claims:
    """What is claimed of one writer.

    Attributes:
        end: Its last event: it stopped, or was found dead.
        open: The furthest that it was seen alive.
        departures: By the id of the backing index, the earliest seal of each.
        earlier: By the id of a backing index, what its seal says of all that was before it.
        dead_letters: Numbers of events that no index took, with their hashes.
        interval: Seconds for which it is silent at most.
    """

    end: Head | None = None
    open: Head | None = None
    departures: dict[str, Departure] = field(default_factory=dict)
    earlier: dict[str, Departure] = field(default_factory=dict)
    dead_letters: dict[int, str] = field(default_factory=dict)
    interval: float = DEFAULT_CHECKPOINT_SECONDS


class ClaimBook:
    """Claims by writer.

    Args:
        streams: The names of the stream that is verified; a seal of another one's index excuses nothing. Without any,
            as for exported files, every seal counts.
    """

    def __init__(self, streams: Collection[str] = ()) -> None:
        self.heads: defaultdict[str, dict[int, set[str]]] = defaultdict(dict)
        """By writer and number, the hashes that other writers and sealed indices vouch for."""
        self.periods: list[tuple[dt.datetime, dt.timedelta]] = []
        """From when on each retention period was applied, in any order."""
        self._streams = streams
        self._by_writer: defaultdict[str, Claims] = defaultdict(Claims)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_writer)

    @property
    def departed(self) -> bool:
        """Whether anything is said to have left."""
        return any(claims.departures for claims in self._by_writer.values())

    def of(self, writer: str) -> Claims:
        """Return what is claimed of *writer*, which may be nothing."""
        return self._by_writer.get(writer) or Claims()

    def pace(self, writer: str, seconds: float) -> None:
        """Note for how long *writer* is silent at most."""
        self._by_writer[writer].interval = seconds

    def take(self, event: SealedEvent) -> None:
        """Note what a signed event says. What is malformed says nothing: it was signed, but not by this library."""
        tells = _TELLS.get(event.own)
        if tells is None:
            return
        try:
            tells(self, event, event.metadata)
        except (KeyError, TypeError, ValueError):
            return

    def _alive(self, event: SealedEvent, told: dict[str, Any]) -> None:
        if "checkpoint_seconds" in told:
            self.pace(event.writer, float(told["checkpoint_seconds"]))
        for head in told.get("heads", ()):
            shipped = head.get("shipped") is True
            seen = Head(int(head["sequence"]), str(head["hash"]), event.time, shipped=shipped)
            self.claim_head(head["writer"], seen, end=bool(head.get("ended")))
            self._vouch(head["writer"], seen.sequence, seen.hash)

    def _stopped(self, event: SealedEvent, _: dict[str, Any]) -> None:
        self.claim_head(event.writer, Head(event.sequence, event.hash, event.time), end=True)

    def _writer_closed(self, event: SealedEvent, told: dict[str, Any]) -> None:
        self.claim_head(told["writer"], Head(int(told["sequence"]), str(told["hash"]), event.time), end=True)
        self._vouch(told["writer"], int(told["sequence"]), str(told["hash"]))

    def _vouch(self, writer: str, sequence: int, digest: str) -> None:
        self.heads[writer].setdefault(sequence, set()).add(digest)

    def _dead_lettered(self, _: SealedEvent, told: dict[str, Any]) -> None:
        told = told["dead_letter"]
        self._by_writer[told["writer"]].dead_letters[int(told["sequence"])] = str(told["hash"])

    def _index_sealed(self, event: SealedEvent, told: dict[str, Any]) -> None:
        if self._streams and str(told["index"]).rpartition("-")[0] not in {f".ds-{name}" for name in self._streams}:
            return
        for each in told.get("writers") or ():
            claims = self._by_writer[each["writer"]]
            self._depart(claims.departures, told, {**each, "newest": told.get("newest")}, event.time)
            if "before" in each:
                self._depart(claims.earlier, told, each["before"], event.time)
            self._vouch(each["writer"], int(each["last"]), str(each["hash"]))

    def _depart(
        self, departures: dict[str, Departure], sealed: dict[str, Any], told: dict[str, Any], time: str
    ) -> None:
        known = departures.get(sealed["index_uuid"])
        if known is None or time < known.time:  # a later seal could cover up what was changed meanwhile
            departures[sealed["index_uuid"]] = Departure(
                str(sealed["index"]),
                (int(told["first"]), int(told["last"])),
                str(told["hash"]),
                int(told["events"]),
                parse_time(told.get("newest")),
                time,
            )

    def _retention_applied(self, event: SealedEvent, told: dict[str, Any]) -> None:
        if self._streams and told["stream"] not in self._streams:
            return
        applied = parse_time(event.time)
        if applied is not None:
            self.periods.append((applied, dt.timedelta(days=int(told["retention_days"]))))

    def claim_head(self, writer: str, head: Head, *, end: bool) -> None:
        """Note how far *writer* came, and whether that was its end. The furthest counts."""
        claims = self._by_writer[writer]
        known = claims.end if end else claims.open
        if known is not None and (known.sequence, known.shipped) >= (head.sequence, head.shipped):
            return
        if end:
            claims.end = head
        else:
            claims.open = head


_TELLS = {
    STARTED: ClaimBook._alive,  # noqa: SLF001
    CHECKPOINT: ClaimBook._alive,  # noqa: SLF001
    STOPPED: ClaimBook._stopped,  # noqa: SLF001
    WRITER_CLOSED: ClaimBook._writer_closed,  # noqa: SLF001
    DEAD_LETTERED: ClaimBook._dead_lettered,  # noqa: SLF001
    INDEX_SEALED: ClaimBook._index_sealed,  # noqa: SLF001
    RETENTION_APPLIED: ClaimBook._retention_applied,  # noqa: SLF001
}


def parse_time(text: Any) -> dt.datetime | None:
    """Return a stored time; None when it is none.

    Example:
        >>> parse_time("2026-03-01T12:00:00.000000Z").isoformat()
        '2026-03-01T12:00:00+00:00'
    """
    try:
        time = dt.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.timezone.utc)
