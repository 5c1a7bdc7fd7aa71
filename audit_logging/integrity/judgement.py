"""What is wrong with one writer's chain, from what was found of it and what is claimed of it. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from audit_logging.integrity.claims import Claims, Departure, Head, parse_time
from audit_logging.integrity.finding import Finding, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from audit_logging.integrity.chain import Range, WriterChain

GRACE: Final = dt.timedelta(minutes=10)
"""How long events that a living writer is known to have written may be on their way."""

SILENCE_SLACK: Final = dt.timedelta(minutes=1)


@dataclass
class Signing:
    """What was seen of a writer's own signatures.

    Attributes:
        through: The last number under a valid signature; 0 without.
        started: Whether its first event is a signed ``audit.started``.
        unknown: Whether a key that is not trusted signed some of it.
        unsigned: Numbers and types of events that must be signed and are not.
        forged: Numbers and types of those whose signature is not the key's.
        restarts: Numbers of further ``audit.started``.
    """

    through: int = 0
    started: bool = False
    unknown: bool = False
    unsigned: list[tuple[int, str]] = field(default_factory=list)
    forged: list[tuple[int, str]] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """How much of the trail is looked at.

    Attributes:
        now: The time of the verification; for exported files, of the newest event.
        retention: How long every event is kept at least, where the trail does not say.
        periods: From when on each retention period was applied, by time.
        waiting: Writers whose events still wait in a spool of this host, and the last number that is acknowledged.
        keys: Whether any key is trusted, so that chains without a signature stand out.
        from_start: Whether events were looked at from the first on; else chains may begin before.
        to_end: Whether they were looked at up to now; else chains may go on.
    """

    now: dt.datetime
    retention: dt.timedelta
    periods: Sequence[tuple[dt.datetime, dt.timedelta]] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    keys: bool = True
    from_start: bool = True
    to_end: bool = True

    def may_have_left(self, newest: dt.datetime) -> bool:
        """Whether a period was in force at whose end events up to *newest* could be deleted."""
        if not self.periods:
            return newest + self.retention <= self.now
        ends = [min(time, self.now) for time, _ in self.periods[1:]] + [self.now]
        return any(newest + days <= end for (_, days), end in zip(self.periods, ends, strict=True))


@dataclass
class Judgement:
    """What is to be said of one writer.

    Attributes:
        findings: What is wrong.
        left: Events that retention removed lawfully.
        dead_letters: Events that are dead letters.
        unsigned: Events behind the last signature of a living writer.
        under_way: Events that are known of and may still be on their way.
    """

    findings: list[Finding] = field(default_factory=list)
    left: int = 0
    dead_letters: int = 0
    unsigned: int = 0
    under_way: int = 0


def judge(chain: WriterChain, claims: Claims, signing: Signing, view: View) -> Judgement:
    """Return what is to be said of one writer."""
    return _Judge(chain, claims, signing, view).judge()


class _Judge:
    def __init__(self, chain: WriterChain, claims: Claims, signing: Signing, view: View) -> None:
        self._chain = chain
        self._claims = claims
        self._signing = signing
        self._view = view
        self._result = Judgement()
        self._end = claims.end

    def judge(self) -> Judgement:
        self._altered()
        self._missing()
        self._after_the_end()
        self._signatures()
        self._silent()
        return self._result

    def _find(self, kind: Kind, sentence: str, first: int, last: int | None = None) -> None:
        self._result.findings.append(
            Finding(kind, self._chain.writer, first, first if last is None else last, sentence)
        )

    # -- events that are there --

    def _altered(self) -> None:
        for sequence in sorted(self._chain.edited):
            self._find("edited", f"Event {self._name(sequence)} was changed: it is not what was sealed.", sequence)
        broken = {each.sequence: each for each in self._chain.breaks}
        for sequence in sorted(broken):
            if sequence in self._chain.edited or sequence + 1 in self._chain.edited:
                continue
            if sequence and broken[sequence].previous == self._chain.origin:
                self._find(
                    "restarted",
                    f"The chain of writer {self._chain.writer} begins a second time with number {sequence + 1}.",
                    sequence + 1,
                )
            elif sequence + 1 in broken or sequence - 1 not in broken:
                self._rewritten(sequence, replaced=sequence + 1 in broken)
        for sequence in self._signing.restarts:
            self._find(
                "restarted",
                f"Event {self._name(sequence)} says that its writer starts, in the middle of its chain.",
                sequence,
            )

    def _rewritten(self, sequence: int, *, replaced: bool) -> None:
        if replaced or sequence == 0:
            guilty = sequence + 1
            sentence = f"Event {self._name(guilty)} was replaced: neither neighbour is chained to it."
            if sequence == 0 and not replaced:
                sentence = f"Event {self._name(guilty)} is not chained to the begin of its writer."
        else:
            guilty = sequence
            sentence = (
                f"Event {self._name(guilty)} was replaced and sealed anew: event {self._name(guilty + 1)} was chained"
                " to another."
            )
        self._find("edited", sentence, guilty)

    # -- events that are not there --

    def _missing(self) -> None:
        chain = self._chain
        reach = self._reach()
        if not chain.runs:
            if reach:
                self._gone((1, reach), "vanished")
            return
        if chain.first > 1 and self._view.from_start:
            self._gone((1, chain.first - 1), "deleted")
        for gap in chain.gaps():
            if self._end is None:
                self._gone(gap, "deleted")
            elif gap[0] <= self._end.sequence:
                self._gone((gap[0], min(gap[1], self._end.sequence)), "deleted")
        if reach > chain.last:
            self._gone((chain.last + 1, reach), "truncated")
        elif self._end is not None and self._end.sequence == chain.last and self._end.hash != chain.runs[-1].hash:
            self._find(
                "edited", f"Event {self._name(chain.last)} is not the last one that its writer wrote.", chain.last
            )

    def _reach(self) -> int:
        """Return the number up to which events must be there, or have left."""
        reach = max((departure.range[1] for departure in self._claims.departures.values()), default=0)
        under_way = 0
        for head in (self._end, self._claims.open):
            if head is None or head.sequence <= reach:
                continue
            if head.shipped or not self._is_recent(head):
                reach = head.sequence
            else:
                under_way = max(under_way, head.sequence)
        acknowledged = self._view.waiting.get(self._chain.writer)
        if acknowledged is not None and reach > acknowledged:
            reach, under_way = acknowledged, max(reach, under_way)
        self._result.under_way += max(under_way - max(reach, self._chain.last), 0)
        return reach

    def _is_recent(self, head: Head) -> bool:
        said = parse_time(head.time)
        return said is not None and self._view.now - said < GRACE

    def _gone(self, missing: Range, kind: Kind) -> None:
        """Judge numbers that are not there: left lawfully, dead letters, or taken away."""
        rest: list[Range] = [missing]
        for sequence in self._claims.dead_letters:  # before the others: no index held them
            rest = _less(rest, (sequence, sequence))
        there = _size(rest)
        self._result.dead_letters += _size([missing]) - there
        expired = [each for each in self._claims.departures.values() if self._is_expired(each)]
        for departure in expired:
            rest = _less(rest, departure.range)
        self._check_counts(missing, there - _size(rest), expired)
        for earlier in self._expired_earlier():
            before = _size(rest)
            rest = _less(rest, earlier.range)
            self._check_earlier(earlier, before - _size(rest))
        lawful = there - _size(rest)
        self._result.left += lawful
        if kind == "vanished" and lawful:
            kind = "truncated"
        for first, last in rest:
            self._find(kind, self._loss(kind, first, last), first, last)

    def _check_counts(self, missing: Range, lawful: int, expired: list[Departure]) -> None:
        """Find out whether a sealed index held all that is excused by its seal."""
        concerned = [each for each in expired if each.range[1] >= missing[0] and each.range[0] <= missing[1]]
        held = sum(each.events for each in concerned)
        if lawful > held:
            self._already_missing(missing, lawful - held)
        for each in concerned:
            self._check_follower(each)

    def _expired_earlier(self) -> list[Departure]:
        """Return what seals say of the indices before theirs, whose own seals may have left; the most telling first."""
        expired = [each for each in self._claims.earlier.values() if self._is_expired(each)]
        return sorted(expired, key=lambda each: each.range[0] - each.range[1])

    def _check_earlier(self, earlier: Departure, lawful: int) -> None:
        """Find out whether the earlier indices held all that is excused; those whose own seals are there did that."""
        if not lawful:
            return
        told = [each for each in self._claims.departures.values() if not list(_without(each.range, earlier.range))]
        held = earlier.events - sum(each.events for each in told)
        if lawful > held:
            self._already_missing(earlier.range, lawful - held)
        self._check_follower(earlier)

    def _already_missing(self, missing: Range, count: int) -> None:
        self._find(
            "deleted",
            f"{count} of the events {self._names(*missing)} were missing already when their index was sealed.",
            *missing,
        )

    def _check_follower(self, departure: Departure) -> None:
        """Compare the event behind what left with the hash that the seal says it goes on from."""
        run = next((run for run in self._chain.runs if run.first == departure.range[1] + 1), None)
        if run is not None and run.previous != departure.hash:
            self._find(
                "edited", f"Event {self._name(run.first)} does not go on from where the sealed index ended.", run.first
            )

    def _is_expired(self, departure: Departure) -> bool:
        return departure.newest is not None and self._view.may_have_left(departure.newest)

    def _loss(self, kind: Kind, first: int, last: int) -> str:
        names = self._names(first, last)
        were = "is" if first == last else "are"
        why = self._why(first, last)
        if kind == "vanished":
            count = f"{last} events" if last > 1 else "an event"
            return f"Writer {self._chain.writer} is known to have written {count}, and nothing of it is there{why}."
        if kind == "truncated":
            return f"{names} {were} missing at the end of the chain{why}."
        return f"{names} {were} missing{why}."

    def _why(self, first: int, last: int) -> str:
        for each in self._claims.departures.values():
            if each.range[0] <= last and first <= each.range[1]:
                return f", and the retention period of {each.index}, in which they were sealed, is not over"
        return ""

    def _after_the_end(self) -> None:
        if self._end is None or self._chain.last <= self._end.sequence:
            return
        first = max(
            self._end.sequence + 1, next(run.first for run in self._chain.runs if run.last > self._end.sequence)
        )
        self._find(
            "inserted",
            f"{self._names(first, self._chain.last)} came after the signed end of the chain at {self._end.sequence}.",
            first,
            self._chain.last,
        )

    # -- signatures --

    def _signatures(self) -> None:
        chain, signing = self._chain, self._signing
        for sequence, own in signing.forged:
            self._find(
                "checkpoint_forged",
                f"The signature of {own} {self._name(sequence)} is not one of the key that it names.",
                sequence,
            )
        if not self._view.keys or not chain.runs or signing.unknown:
            return
        if signing.through == 0 and self._end is None and self._claims.open is None:
            if self._view.from_start or chain.first == 1:
                self._find(
                    "inserted",
                    f"{self._names(chain.first, chain.last)} of writer {chain.writer} bear no signature of a known key:"
                    " they are forged, or come from an application that does not sign.",
                    chain.first,
                    chain.last,
                )
            return
        for sequence, own in signing.unsigned:
            self._find("checkpoint_missing", f"{own} {self._name(sequence)} must be signed and is not.", sequence)
        if chain.first == 1 and signing.through and not signing.started:
            self._find("checkpoint_missing", f"Writer {chain.writer} does not begin with a signed audit.started.", 1)
        self._unsigned_head()

    def _unsigned_head(self) -> None:
        """Compare with how far the writer is known to have signed."""
        head, through = self._claims.open, self._signing.through
        if head is not None and through < head.sequence <= self._chain.last and self._end is None:
            self._find(
                "checkpoint_missing",
                f"Event {self._name(head.sequence)} was signed when another writer saw it, and is not.",
                head.sequence,
            )

    def _silent(self) -> None:
        signing, chain = self._signing, self._chain
        if self._end is not None or not signing.through or not self._view.to_end:
            return
        self._result.unsigned = max(chain.last - signing.through, 0)
        silent_for = self._view.now - (parse_time(chain.time) or self._view.now)
        if silent_for > 2 * dt.timedelta(seconds=self._claims.interval) + SILENCE_SLACK:
            self._find(
                "unfinished",
                f"Writer {chain.writer} has neither ended nor signed anything since {self._name(chain.last)},"
                f" {_duration(silent_for)} ago: its process died and its spool was not shipped, its clock is behind, or"
                " the end of its chain was cut off.",
                chain.last,
            )

    def _name(self, sequence: int) -> str:
        return f"{self._chain.writer}-{sequence}"

    def _names(self, first: int, last: int) -> str:
        if first == last:
            return f"Event {self._name(first)}"
        return f"Events {self._name(first)} to {last}"


def _without(part: Range, taken: Range) -> Iterator[Range]:
    """Yield what is left of *part* without *taken*.

    Example:
        >>> list(_without((1, 10), (4, 6)))
        [(1, 3), (7, 10)]
    """
    if part[0] < taken[0]:
        yield part[0], min(part[1], taken[0] - 1)
    if part[1] > taken[1]:
        yield max(part[0], taken[1] + 1), part[1]


def _less(parts: Iterable[Range], taken: Range) -> list[Range]:
    """Return what is left of *parts* without *taken*."""
    return [piece for part in parts for piece in _without(part, taken)]


def _size(ranges: Iterable[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _duration(time: dt.timedelta) -> str:
    minutes = int(time.total_seconds() // 60)
    if minutes < 120:  # noqa: PLR2004 - two hours
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 2880 else f"{minutes // 1440} days"  # noqa: PLR2004 - two days
