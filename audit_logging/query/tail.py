"""Events as they arrive: none left out, none twice, however late they come.

A spool that waited out an outage is shipped later, with the times and sequences of long ago, and other writers' events
came before it: neither time nor a writer's highest sequence tells what is new. The order of arrival does
(:mod:`audit_logging.query.arrivals`), and it costs the same however many events and writers there are. The writer's
sequence then tells what was there before: a batch that was repeated after a rollover arrives twice, and an event whose
identical copy, by writer, sequence and hash, came earlier is left out.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import FilterError, Keyword
from audit_logging.query import arrivals
from audit_logging.query.arrivals import Arrival, Shard
from audit_logging.query.event import Event
from audit_logging.query.walk import Walk

if TYPE_CHECKING:
    from audit_logging.query.distinct import Hit
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Steps

MOST_LAST: Final = 10_000


class Tail:
    """Follows what a query finds, with memory for some thousand numbers, and no more however long it runs.

    Attributes:
        verb: ``"tail"``.
        conditions: What it is about, as plain JSON values.
        behind: Whether there may be more than the last look took in.
    """

    verb = "tail"

    def __init__(self, stream: str, query: Query, *, last: int, conditions: dict[str, Any]) -> None:
        if isinstance(last, bool) or not isinstance(last, int) or not 0 <= last <= MOST_LAST:
            raise FilterError(Keyword("last"), f" is a number from 0 to {MOST_LAST}, not {str(last)[:60]!r}.")
        self.conditions = conditions
        self.behind = False
        self._stream = stream
        self._query = query
        self._last = last
        self._shards: list[Shard] = []
        self._shown_first: set[tuple[str, str]] = set()

    def begin(self) -> Steps[list[Event]]:
        """Take what is there for seen, and return the last events of it, oldest first."""
        while (yield from (shard := self._shard(len(self._shards))).begin()):
            self._shards.append(shard)
        return (yield from self._newest()) if self._last else []

    def look(self) -> Steps[list[Event]]:
        """Return what arrived since, in the order of time, writer and sequence.

        Nothing counts as seen before the last answer is here, so that a look that failed is simply repeated.
        """
        found: list[Arrival] = []
        shards: list[Shard] = []
        behind = False
        for number in itertools.count():
            shard = self._shards[number] if number < len(self._shards) else self._shard(number)
            arrived = yield from shard.look()
            if arrived is None:
                break
            shards.append(shard)
            behind = behind or len(arrived) >= arrivals.PAGE_SIZE
            found.extend(arrived)
        fresh = (yield from self._without_copies(found, shards)) if found else []
        for arrival in found:
            shards[arrival.shard].note(arrival)
        self._shards, self.behind = shards, behind
        # What arrived between the first note and the first page is on that page.
        unshown = (each.hit for each in fresh if (each.hit.index, each.hit.doc_id) not in self._shown_first)
        return [Event(hit.document) for hit in sorted(unshown, key=lambda hit: hit.key)]

    def _shard(self, number: int) -> Shard:
        return Shard(self._stream, number, self._query)

    def _newest(self) -> Steps[list[Event]]:
        walk = Walk(self._stream, self._query, newest=True, page_size=self._last)
        hits: list[Hit] = []
        while len(hits) < self._last and not walk.done:
            hits.extend(walk.take((yield walk.request())))
        del hits[self._last :]
        self._shown_first = {(hit.index, hit.doc_id) for hit in hits}
        return [Event(hit.document) for hit in reversed(hits)]

    def _without_copies(self, found: list[Arrival], shards: list[Shard]) -> Steps[list[Arrival]]:
        """Leave out those of which an identical copy lies in another backing index, and came before."""
        indices = {arrival.hit.index for arrival in found}.union(*(shard.indices for shard in shards))
        if len(indices) < 2:  # noqa: PLR2004
            return found
        copies: defaultdict[str, list[Arrival]] = defaultdict(list)
        for shard in shards:
            for copy in (yield from shard.copies([arrival.hit.doc_id for arrival in found])):
                copies[copy.hit.doc_id].append(copy)
        together = {_place(arrival) for arrival in found}

        def came_before(copy: Arrival, arrival: Arrival) -> bool:
            if _place(copy) in together:
                return copy.hit.index < arrival.hit.index
            return shards[copy.shard].has(copy)

        return [
            arrival
            for arrival in found
            if not any(
                copy.hit.identity == arrival.hit.identity
                and _place(copy) != _place(arrival)
                and came_before(copy, arrival)
                for copy in copies[arrival.hit.doc_id]
            )
        ]


def _place(arrival: Arrival) -> tuple[str, str]:
    return arrival.hit.index, arrival.hit.doc_id
