"""What has to happen until every event of a batch is where it belongs, as a generator without any I/O.

:func:`deliver` yields the next step and is sent its result, so the whole protocol can be driven by a test's imagination
as well as by :class:`~audit_logging.shipping.delivery.Delivery`. What it upholds:

- An event is settled when a bulk answer says so by item, when it was found in the stream with its own hash, or when it
  is set aside.
- That its ``_id`` is taken is no answer: what is stored under it is compared. Where that is another document, the event
  is kept as a dead letter.
- What may have been stored is looked up before it is sent again: after a rollover the same ``_id`` would be accepted
  once more. So it does not matter when the rollover happens, before the look-up or after it.
- A refusal is noted before the stand-in takes the event's ``_id``: afterwards nobody could tell one from the other.
- One event that is refused, for itself or as too large, takes no other with it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from audit_logging.integrity.stand_in import stand_in
from audit_logging.shipping.answer import Fate, Verdict
from audit_logging.spool.segment import Record, Records


class Send(NamedTuple):
    """Send these; the result is the verdicts on those that are not stored, by place, or one verdict on all."""

    records: Records


class LookUp(NamedTuple):
    """Find out which of these are stored; the result is the stored hashes by sequence, None where nobody may look."""

    records: Records


class Pause(NamedTuple):
    """Wait before the next attempt."""

    verdict: Verdict
    waiting: int


class Split(NamedTuple):
    """Note that so many events were too much for one request."""

    records: Records


class Refuse(NamedTuple):
    """Note durably which events are refused, with the reasons: from now on their ``_id`` is their stand-in's."""

    reasons: Mapping[int, str]


class Quarantine(NamedTuple):
    """Note which events' stand-ins are stored, with the reasons."""

    reasons: Mapping[int, str]


class Bury(NamedTuple):
    """Keep an event as a dead letter."""

    record: Record
    reason: str


Step = Send | LookUp | Pause | Split | Refuse | Quarantine | Bury
Steps = Generator[Step, Any, None]


MOST_CONFLICTS = 3
"""How often the id of an event may be taken by what cannot be found."""

TAKEN = "another document is stored under its id"
TAKEN_UNSEEN = "its id was taken before it was ever sent, and the role may not look at what has it"

_HASH = re.compile(rb'"integrity":\{"hash":"([0-9a-f]{64})"')


def _hash_of(record: Record) -> str:
    """Return the hash in the seal of a sealed document; the seal stands before anything that an application gave."""
    match = _HASH.search(record.payload)
    return match[1].decode() if match else "-"


class _Group(NamedTuple):
    """Events that are sent together.

    Attributes:
        records: The events, or their stand-ins.
        uncertain: Whether they may be stored, so that they are looked up first.
        in_quarantine: Whether they are stand-ins.
        sent_before: Whether they may have been sent before, by this process or an earlier one.
        conflict: Whether the answer was that their ids are taken.
        conflicts: How often it was.
    """

    records: Records
    uncertain: bool = False
    in_quarantine: bool = False
    sent_before: bool = False
    conflict: bool = False
    conflicts: int = 0


def deliver(records: Records, *, uncertain_to: int = 0, refused: Mapping[int, str] | None = None) -> Steps:
    """Yield the steps that bring *records* where they belong.

    Args:
        records: Sealed documents in the order of their sequences; at least one.
        uncertain_to: Events up to this sequence may have been sent by an earlier process.
        refused: What an earlier process was about to quarantine: sequences and reasons.
    """
    course = _Course()
    if refused:
        yield from course.set_aside(
            [(record, refused[record.sequence]) for record in records if record.sequence in refused], uncertain=True
        )
        records = Records.of(record for record in records if record.sequence not in refused)
    certain_from = bisect_right(records.sequences, uncertain_to)
    course.add(records[:certain_from], uncertain=True)
    course.add(records[certain_from:])
    yield from course.run()


class _Course:
    """The groups that are still to be sent, and what was refused."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._refused: dict[int, tuple[Record, str]] = {}

    def add(self, records: Records, *, uncertain: bool = False, in_quarantine: bool = False) -> None:
        """Add a group, unless there is nothing in it."""
        if records:
            self._groups.append(_Group(records, uncertain, in_quarantine, sent_before=uncertain))

    def run(self) -> Steps:
        """Yield steps until nothing is left to be sent."""
        while self._groups:
            group = self._groups.pop()
            if group.uncertain or group.conflict:
                yield from self._compare(group, (yield LookUp(group.records)))
                continue
            result = yield Send(group.records)
            if not isinstance(result, Verdict):
                yield from self._settle(group, result)
            elif result.fate is not Fate.REFUSED:
                self._again(group, group.records, uncertain=result.fate is Fate.UNCERTAIN)
                yield Pause(result, len(group.records))
            elif len(group.records) > 1:
                yield Split(group.records)
                half = len(group.records) // 2
                self._again(group, group.records[half:])
                self._again(group, group.records[:half])
            else:
                yield from self._settle(group, {0: result})

    def _compare(self, group: _Group, found: Mapping[int, str] | None) -> Steps:
        """Settle what is stored as it is here, set aside what another document took the place of, send the rest."""
        if found is None:
            # Nobody may look. An id that is taken is no surprise where this event may have been sent before.
            expected = group.conflict and group.sent_before
            stored = list(group.records) if expected else []
            foreign = [] if expected or not group.conflict else list(group.records)
        else:
            stored = [each for each in group.records if found.get(each.sequence) == _hash_of(each)]
            foreign = [each for each in group.records if found.get(each.sequence, _hash_of(each)) != _hash_of(each)]
            if group.conflicts >= MOST_CONFLICTS:  # its id is taken, and yet it is nowhere in the stream
                foreign += [each for each in group.records if each.sequence not in found]
        yield from self._note_stored(group, stored)
        for record in foreign:
            yield from self._bury(group, record, TAKEN if found is not None else TAKEN_UNSEEN)
        settled = {record.sequence for record in (*stored, *foreign)}
        rest = Records.of(record for record in group.records if record.sequence not in settled)
        if rest:
            self._groups.append(group._replace(records=rest, uncertain=False, conflict=False, sent_before=True))
            if group.conflict:
                yield Pause(Verdict(Fate.RETRY, "an id is taken, and what has it cannot be found yet"), len(rest))

    def _bury(self, group: _Group, record: Record, reason: str) -> Steps:
        if group.in_quarantine:
            record, first = self._refused.pop(record.sequence)
            reason = f"{first} ← in quarantine: {reason}"
        yield Bury(record, reason)

    def set_aside(self, refused: Sequence[tuple[Record, str]], *, uncertain: bool = False) -> Steps:
        """Send stand-ins for *refused*, whose refusal is noted; what is no event at all cannot have one.

        Args:
            refused: The events, with the reasons.
            uncertain: An earlier process may have sent the stand-ins.
        """
        stand_ins = []
        for record, reason in refused:
            try:
                stand_ins.append(Record(record.sequence, stand_in(record.payload, reason)))
            except ValueError as error:
                yield Bury(record, f"{error} ← {reason}")
            else:
                self._refused[record.sequence] = record, reason
        self.add(Records.of(stand_ins), uncertain=uncertain, in_quarantine=True)

    def _again(self, group: _Group, records: Records, *, uncertain: bool = False) -> None:
        if records:
            sent_before = group.sent_before or uncertain
            self._groups.append(group._replace(records=records, uncertain=uncertain, sent_before=sent_before))

    def _settle(self, group: _Group, verdicts: Mapping[int, Verdict]) -> Steps:
        by_fate: dict[Fate, list[tuple[Record, Verdict]]] = {fate: [] for fate in Fate}
        for place, verdict in verdicts.items():
            by_fate[verdict.fate].append((group.records[place], verdict))
        if group.in_quarantine:
            stored = [record for place, record in enumerate(group.records) if place not in verdicts]
            yield from self._note_stored(group, stored)
        yield from self._refuse(group, by_fate[Fate.REFUSED])
        for record, verdict in by_fate[Fate.MISPLACED]:
            yield from self._bury(group, record, verdict.reason)
        if taken := Records.of(record for record, _ in by_fate[Fate.CONFLICT]):
            self._groups.append(group._replace(records=taken, conflict=True, conflicts=group.conflicts + 1))
        for fate in (Fate.RETRY, Fate.UNCERTAIN):
            self._again(group, Records.of(record for record, _ in by_fate[fate]), uncertain=fate is Fate.UNCERTAIN)
        if waiting := by_fate[Fate.RETRY] + by_fate[Fate.UNCERTAIN]:
            yield Pause(waiting[-1][1], len(waiting))

    def _refuse(self, group: _Group, refused: Sequence[tuple[Record, Verdict]]) -> Steps:
        if group.in_quarantine:
            for record, verdict in refused:
                yield from self._bury(group, record, verdict.reason)
            return
        if refused:
            yield Refuse({record.sequence: verdict.reason for record, verdict in refused})
            yield from self.set_aside([(record, verdict.reason) for record, verdict in refused])

    def _note_stored(self, group: _Group, records: Sequence[Record]) -> Steps:
        if group.in_quarantine and records:
            yield Quarantine({record.sequence: self._refused.pop(record.sequence)[1] for record in records})
