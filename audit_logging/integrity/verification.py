"""Verification: takes stored events in any order, and tells what was done to them.

It keeps nothing of an event but what its writer's chain comes to, so memory grows with writers and not with events.
What cannot be told from one pass it asks for: numbers that came twice, gaps that a time range may have cut, heads
that are claimed. Whoever drives it looks those up, hands them in, and asks for the verdict.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

from audit_logging.integrity.chain import Run, WriterChain
from audit_logging.integrity.claims import STARTED, ClaimBook, Head
from audit_logging.integrity.finding import Finding, Note
from audit_logging.integrity.judgement import Signing, View, judge
from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.integrity.sealed_event import SealedEvent, read_sealed_event
from audit_logging.integrity.signature import CHAIN, SIGNED_TYPES, is_signed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from audit_logging.integrity.keys import TrustedKeys

Place = tuple[str, int]
"""Writer and sequence."""

Stretch = tuple[str, int, int]
"""Writer, first and last sequence."""

MOST_EXAMPLES: Final = 200
"""How many changed or misplaced events are kept, to see whether they stand in each other's place."""


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        findings: In the order of writers and numbers.
        notes: What else is worth knowing.
        events: Stored events that were checked, copies included.
        copies: Identical second copies among them.
        writers: Writers that have events.
        signed: Events under a valid signature of their own.
    """

    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    events: int
    copies: int
    writers: int
    signed: int


class Verification:
    """Checks events one by one, and what they come to together.

    Args:
        keys: The public keys whose signatures are believed.
        content_only: Check every event by itself and nothing between them: for a filter's answer, in which a gap
            means nothing.
        streams: The names of the stream that is verified: writers that began in another one were copied into it. Empty
            where it has no name, as for exported files.

    Example:
        >>> from audit_logging.integrity.keys import TrustedKeys
        >>> verification = Verification(TrustedKeys({}))
        >>> verification.add(b'{"event":{"id":"e-1"}}')
        >>> verification.events
        1
    """

    def __init__(self, keys: TrustedKeys, *, content_only: bool = False, streams: Collection[str] = ()) -> None:
        self.events = 0
        self.claims = ClaimBook(streams)
        self._streams = streams
        self._foreign: dict[str, str] = {}
        self._kept: defaultdict[str, dict[int, set[str]]] = defaultdict(dict)
        self._replaced: dict[Place, str] = {}
        self._quarantined = 0
        self._keys = keys
        self._content_only = content_only
        self._chains: dict[str, WriterChain] = {}
        self._signings: defaultdict[str, Signing] = defaultdict(Signing)
        self._signed = 0
        self._unknown_keys: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._altered: list[SealedEvent] = []
        self._misplaced: list[tuple[str, SealedEvent]] = []
        self._headless: set[str] = set()

    def add(self, document: bytes, doc_id: str | None = None) -> None:
        """Take one stored event.

        Args:
            document: Its JSON.
            doc_id: The id it is stored under; None where there is none, as in a file.
        """
        self.events += 1
        event = read_sealed_event(document)
        if event is None:
            self._findings.append(_without_seal(document, doc_id))
            return
        if doc_id is not None and doc_id != event.place and len(self._misplaced) < MOST_EXAMPLES:
            self._misplaced.append((doc_id, event))
        chain = self._chains.get(event.writer)
        if chain is None:
            chain = self._chains[event.writer] = WriterChain(event.writer)
        if not event.genuine and len(self._altered) < MOST_EXAMPLES:
            self._altered.append(event)
        fresh = chain.add(event)
        self._quarantined += event.quarantined and fresh
        if event.own and event.genuine and fresh:
            self._check_signature(event)

    def include(self, document: bytes, doc_id: str | None = None) -> None:
        """Take a stored event that was looked up; one that was met before says nothing new."""
        event = read_sealed_event(document)
        chain = self._chains.get(event.writer) if event is not None else None
        if event is None or (chain is not None and chain.covers(event.sequence)):
            return
        self.add(document, doc_id)
        self.events -= 1

    def believe(self, document: bytes, *, arrived: bool = True) -> None:
        """Take a signed event that was kept elsewhere: what it says is known, though it is not part of the trail.

        Args:
            document: Its JSON.
            arrived: Whether it must be in the trail by now. If not, it only says what is there where its number is.
        """
        event = read_sealed_event(document)
        if event is None or not is_signed(event, self._keys):
            return
        self._kept[event.writer].setdefault(event.sequence, set()).add(event.hash)
        if arrived:
            self.claims.take(event)
            self.claims.claim_head(event.writer, Head(event.sequence, event.hash, event.time), end=False)

    def learn(self, document: bytes) -> None:
        """Take from a signed event of the trail what it tells of the trail, whether it is to be verified or not."""
        event = read_sealed_event(document)
        if event is not None and is_signed(event, self._keys):
            self.claims.take(event)

    def resume(self, writer: str, sequence: int, digest: str, time: str, *, started: bool, through: int) -> None:
        """Go on behind what an earlier verification found to be whole."""
        chain = self._chains[writer] = WriterChain(writer)
        chain.runs.append(Run(1, chain.origin, sequence, digest))
        chain.time = time
        self._signings[writer] = Signing(through=through, started=started)

    def _check_signature(self, event: SealedEvent) -> None:
        must = event.own in SIGNED_TYPES and event.metadata.get(CHAIN) == event.writer
        if not must and not event.key:
            return
        signing = self._signings[event.writer]
        if event.own == STARTED and event.sequence > 1:
            signing.restarts.append(event.sequence)
        if not event.key or not event.signature:
            signing.unsigned.append((event.sequence, event.own))
        elif event.key not in self._keys:
            self._unknown_keys[event.key] += 1
            signing.unknown = True
        elif not is_signed(event, self._keys):
            signing.forged.append((event.sequence, event.own))
        else:
            self._signed += 1
            signing.through = max(signing.through, event.sequence)
            signing.started = signing.started or (event.own == STARTED and event.sequence == 1)
            self._note_stream(event)
            self.claims.take(event)

    def _note_stream(self, event: SealedEvent) -> None:
        stream = event.metadata.get("stream") if event.own == STARTED else None
        if self._streams and isinstance(stream, str) and stream not in self._streams:
            self._foreign[event.writer] = stream

    # -- what has to be looked up --

    def heads(self) -> list[Place]:
        """Return the numbers at which a head is known, and the event there has to be compared with it.

        What other writers and sealed indices signed is compared one by one. Of the heads that were kept elsewhere the
        furthest of each writer vouches, through the chain, for those before it.
        """
        wanted = [
            (writer, sequence)
            for writer, heads in self.claims.heads.items()
            if (chain := self._chains.get(writer)) is not None
            for sequence in heads
            if chain.covers(sequence)
        ]
        for writer, kept in self._kept.items():
            chain = self._chains.get(writer)
            covered = [sequence for sequence in kept if chain is not None and chain.covers(sequence)]
            wanted += [(writer, max(covered))] if covered else []
        return sorted(set(wanted))

    def compare(self, found: Iterable[bytes]) -> None:
        """Compare events that are stored under the numbers of :meth:`heads` with the heads that are known there."""
        for document in found:
            event = read_sealed_event(document)
            if event is None or not event.genuine:  # each is named as changed already
                continue
            for heads in (self.claims.heads.get(event.writer, {}), self._kept.get(event.writer, {})):
                if heads.get(event.sequence, {event.hash}) != {event.hash}:
                    self._replaced[event.writer, event.sequence] = event.event_id

    def doubles(self) -> list[Place]:
        """Return the numbers that came twice, not recognisably as identical copies."""
        return [(chain.writer, sequence) for chain in self._chains.values() for sequence in sorted(chain.doubles)]

    def missing(self, *, from_start: bool) -> list[Stretch]:
        """Return what is missing within chains, behind them where a head is claimed, and in front of them.

        Args:
            from_start: Whether chains should begin with their first event.
        """
        missing = [(chain.writer, first, last) for chain in self._chains.values() for first, last in chain.gaps()]
        if from_start:
            missing += [(chain.writer, 1, chain.first - 1) for chain in self._chains.values() if chain.first > 1]
        for writer in self.claims:
            chain = self._chains.get(writer)
            last = chain.last if chain is not None else 0
            reach = max((head.sequence for head in self._heads(writer)), default=0)
            if reach > last:
                missing.append((writer, last + 1, reach))
        return missing

    def is_recent(self, writer: str, time: str) -> bool:
        """Return whether *writer* is known to have written anything after *time*."""
        chain = self._chains.get(writer)
        return (chain is not None and chain.time > time) or any(head.time > time for head in self._heads(writer))

    def _heads(self, writer: str) -> list[Head]:
        claims = self.claims.of(writer)
        return [head for head in (claims.end, claims.open) if head is not None]

    def beginnings(self) -> list[Place]:
        """Return the events in front of chains that do not begin with number 1."""
        return [(chain.writer, chain.first - 1) for chain in self._chains.values() if chain.first > 1]

    def miss(self, writers: Iterable[str]) -> None:
        """Note that the chains of *writers* should begin earlier: what was looked for in front of them is not there."""
        self._headless.update(writers)

    def settle(self, found: Iterable[bytes]) -> None:
        """Compare all that is stored under the numbers of :meth:`doubles` and the ones behind them."""
        copies: defaultdict[Place, list[SealedEvent]] = defaultdict(list)
        for document in found:
            event = read_sealed_event(document)
            if event is not None:
                copies[event.writer, event.sequence].append(event)
        for writer, sequence in self.doubles():
            followers = {each.previous for each in copies[writer, sequence + 1] if each.genuine}
            self._settle(self._chains[writer], copies[writer, sequence], followers)

    def _settle(self, chain: WriterChain, copies: list[SealedEvent], followers: set[str]) -> None:
        hashes = {each.hash for each in copies if each.genuine}
        if not hashes:  # nothing to compare with: each is named as changed
            return
        wanted = hashes & followers or hashes
        true = wanted.pop() if len(wanted) == 1 else None
        chain.copies += sum(each.genuine and each.hash == true for each in copies) - (true is not None)
        sequence = copies[0].sequence
        for each in copies:
            if not each.genuine or each.hash != true:
                sentence = f"A second, different event is stored under number {sequence} of writer {chain.writer}."
                self._findings.append(Finding("inserted", chain.writer, sequence, sequence, sentence, each.event_id))
        chain.edited.discard(sequence)
        genuine = next((each for each in copies if each.genuine and each.hash == true), None)
        chain.prefer(sequence, genuine)
        if genuine is not None and genuine.own:
            self._check_signature(genuine)

    # -- the verdict --

    def verdict(self, view: View) -> Verdict:
        """Return what is to be said of all that was taken."""
        notes = _Notes(content_only=self._content_only, keys=bool(self._keys))
        notes.quarantined = self._quarantined
        findings = [*self._findings, *self._out_of_place(), *self._strangers(), *self._copied_writers()]
        writers = sorted({*self._chains, *(() if self._content_only else self.claims)})
        for writer in writers:
            chain = self._chains.get(writer) or WriterChain(writer)
            notes.copies += chain.copies
            if self._content_only:
                findings.extend(_changed(chain, self._signings[writer]))
                continue
            seen = replace(view, from_start=True) if writer in self._headless else view
            judgement = judge(chain, self.claims.of(writer), self._signings[writer], seen)
            findings.extend(judgement.findings)
            notes.add(judgement.left, judgement.dead_letters, judgement.unsigned, judgement.under_way)
        findings += self._replaced_events(findings)
        findings = list(self._reordered(findings))
        findings.sort(key=lambda finding: (finding.writer, finding.sequence))
        return Verdict(
            findings=tuple(findings),
            notes=tuple(notes.told()),
            events=self.events,
            copies=notes.copies,
            writers=len(self._chains),
            signed=self._signed,
        )

    def _copied_writers(self) -> Iterator[Finding]:
        for writer, stream in sorted(self._foreign.items()):
            chain = self._chains[writer]
            sentence = f"Writer {writer} began in the stream {stream!r} and was copied into this one."
            yield Finding("inserted", writer, chain.first, chain.last, sentence)

    def _replaced_events(self, findings: Iterable[Finding]) -> list[Finding]:
        named = {(each.writer, each.sequence) for each in findings if each.kind == "edited"}
        return [
            Finding(
                "edited",
                writer,
                sequence,
                sequence,
                f"Event {writer}-{sequence} is not the one that was there when its head was signed or kept: the hash"
                " differs, so the chain was written again.",
                event_id,
            )
            for (writer, sequence), event_id in self._replaced.items()
            if (writer, sequence) not in named
        ]

    def _strangers(self) -> Iterator[Finding]:
        for key, count in sorted(self._unknown_keys.items()):
            yield Finding(
                "unknown_key",
                "",
                0,
                0,
                f"{count} events are signed by the key {key}, which is not trusted: if it is yours, give its .pub file"
                " with --public-key, or put it beside the signing key. A container without a signing_key_file that"
                " outlives it makes a new key at every start.",
            )

    def _out_of_place(self) -> Iterator[Finding]:
        """Yield events that are stored under another's id."""
        by_place = {event.place: doc_id for doc_id, event in self._misplaced}
        for doc_id, event in self._misplaced:
            if by_place.get(doc_id) is not None:
                sentence = f"Event {event.place} is stored in the place of {doc_id}."
                yield Finding("reordered", event.writer, event.sequence, event.sequence, sentence, event.event_id)
            else:
                sentence = f"Event {event.place} is stored under the id {doc_id!r}, which no writer gave it."
                yield Finding("inserted", event.writer, event.sequence, event.sequence, sentence, event.event_id)

    def _reordered(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield *findings*; a changed event that holds what was sealed under another number is reordered."""
        moved = dict(self._swaps())
        for finding in findings:
            origin = moved.get((finding.writer, finding.sequence)) if finding.kind == "edited" else None
            if origin is None:
                yield finding
                continue
            sentence = f"Event {finding.writer}-{finding.sequence} holds what was sealed as number {origin}."
            yield Finding("reordered", finding.writer, finding.sequence, finding.last, sentence, finding.event_id)

    def _swaps(self) -> Iterator[tuple[Place, int]]:
        for event in self._altered:
            content = canonical_form(orjson.loads(event.document))
            for other in self._altered:
                if other.writer == event.writer and other is not event:
                    digest = digest_of(other.previous, other.writer, other.sequence, content)
                    if digest == other.hash:
                        yield (event.writer, event.sequence), other.sequence

    def progress(self) -> Iterator[tuple[WriterChain, Signing]]:
        """Yield what is known of each writer, for :meth:`resume`."""
        for writer, chain in self._chains.items():
            yield chain, self._signings[writer]


class _Notes:
    def __init__(self, *, content_only: bool, keys: bool) -> None:
        self.copies = self.quarantined = 0
        self._content_only = content_only
        self._keys = keys
        self._counts: Counter[str] = Counter()

    def add(self, left: int, dead_letters: int, unsigned: int, under_way: int) -> None:
        self._counts.update(retention=left, dead_letters=dead_letters, unsigned=unsigned, under_way=under_way)

    def told(self) -> Iterator[Note]:
        sentences = {
            "copies": "are identical second copies, which count once.",
            "retention": "left lawfully: their retention period is over and their index was sealed.",
            "quarantined": "are in quarantine: OpenSearch refused them, and searches do not see what is in them.",
            "dead_letters": "were refused by OpenSearch and are kept as dead letters.",
            "unsigned": "of living writers are newer than the last signature; the next checkpoint vouches for them.",
            "under_way": "are known of and may still be on their way.",
        }
        self._counts["copies"] = self.copies
        self._counts["quarantined"] = self.quarantined
        for kind, sentence in sentences.items():
            if count := self._counts[kind]:
                yield Note(kind, count, f"{count:,} events {sentence}")
        if not self._keys:
            yield Note("no_keys", 0, "No public key is known, so that no signature could be checked.")
        if self._content_only:
            yield Note(
                "content_only",
                0,
                "Only the content of each event was checked: under a filter, a missing event cannot be told from one"
                " that does not match.",
            )


def _changed(chain: WriterChain, signing: Signing) -> Iterator[Finding]:
    """Yield what is wrong with single events."""
    for sequence in sorted(chain.edited):
        sentence = f"Event {chain.writer}-{sequence} was changed: it is not what was sealed."
        yield Finding("edited", chain.writer, sequence, sequence, sentence)
    for sequence, own in signing.forged:
        sentence = f"The signature of {own} {chain.writer}-{sequence} is not one of the key that it names."
        yield Finding("checkpoint_forged", chain.writer, sequence, sequence, sentence)


def _without_seal(document: bytes, doc_id: str | None) -> Finding:
    try:
        event_id = str(orjson.loads(document)["event"]["id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        event_id = ""
    where = f" under the id {doc_id!r}" if doc_id is not None else ""
    sentence = f"An event{where} bears no seal: no writer of ours wrote it."
    return Finding("inserted", "", 0, 0, sentence, event_id)
