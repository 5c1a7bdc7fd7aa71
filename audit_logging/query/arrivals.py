"""In which order documents arrived at one shard.

Each shard numbers its documents as they come (``_seq_no``), and a document of an append-only stream keeps its number.
So what arrived since is what has a higher number, whatever its time; but documents that are indexed at the same moment
may become visible in any order. Therefore those a little below the highest are counted again with every look, and what
was missing is fetched.

Source: OpenSearch documentation, "Search API" (``seq_no_primary_term``, ``preference``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from audit_logging.query.distinct import Hit
from audit_logging.query.dsl import all_of, any_of
from audit_logging.query.event import Event
from audit_logging.query.exchange import search_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer, Steps

LOOK_BACK: Final = 5000
"""Numbers below the highest that are counted again: more than a shard gives while one document is being indexed."""

PAGE_SIZE: Final = 500
"""Events that one look takes in."""

MOST_INDICES: Final = 1000
NUMBER: Final = "_seq_no"
INDEX: Final = "_index"
NOTHING: Final[Query] = {"match_none": {}}


@dataclass(frozen=True)
class Arrival:
    """One stored copy of an event, and where and as which it arrived."""

    shard: int
    number: int
    hit: Hit

    @classmethod
    def of(cls, shard: int, raw: dict[str, Any]) -> Arrival:
        """Read one element of ``hits.hits``."""
        event = Event(raw["_source"])
        seal = event.get("audit.integrity", {})
        key = (event.timestamp.timestamp(), str(seal.get("writer")), seal.get("sequence", 0))
        return cls(shard, raw[NUMBER], Hit.of({**raw, "sort": key}))


@dataclass
class _Numbers:
    """What is known of one backing index: the highest number, and the recent ones of what the query found."""

    highest: int = -1
    found: set[int] = field(default_factory=set)

    @property
    def floor(self) -> int:
        return self.highest - LOOK_BACK

    def add(self, number: int) -> None:
        self.highest = max(self.highest, number)
        self.found.add(number)
        if len(self.found) > 2 * LOOK_BACK:
            self.found = set(self.recent())

    def recent(self) -> list[int]:
        return sorted(number for number in self.found if number > self.floor)


class Shard:
    """The shards of one number, one of each backing index, and what arrived there so far."""

    def __init__(self, stream: str, number: int, query: Query) -> None:
        self._stream = stream
        self._number = number
        self._query = query
        self._known: dict[str, _Numbers] = {}

    @property
    def indices(self) -> set[str]:
        """The backing indices that are known."""
        return set(self._known)

    def has(self, arrival: Arrival) -> bool:
        """Whether it arrived before the last :meth:`note`."""
        known = self._known.get(arrival.hit.index)
        return known is not None and arrival.number <= known.highest

    def note(self, arrival: Arrival) -> None:
        """Take it for seen."""
        self._known.setdefault(arrival.hit.index, _Numbers()).add(arrival.number)

    def begin(self) -> Steps[bool]:
        """Take all that is there for seen; tell whether there is such a shard."""
        highest = {"terms": {"field": INDEX, "size": MOST_INDICES}, "aggs": {"highest": {"max": {"field": NUMBER}}}}
        answer = yield self._request({"size": 0, "aggs": {"indices": highest}})
        if not _shards(answer):
            return False
        for bucket in answer["aggregations"]["indices"]["buckets"]:
            numbers = _Numbers(int(bucket["highest"]["value"]))
            recent = all_of([self._query, _between(bucket["key"], numbers.floor, numbers.highest)])
            answer = yield self._request({"query": recent, "size": LOOK_BACK, "_source": False})
            numbers.found = {hit[NUMBER] for hit in answer["hits"]["hits"]}
            self._known[bucket["key"]] = numbers
        return True

    def look(self) -> Steps[list[Arrival] | None]:
        """Return what arrived since, at most two pages of it; None when there is no such shard."""
        body = {
            "query": all_of([self._query, self._above("floor")]),
            "post_filter": self._above("highest"),
            "sort": [{INDEX: "asc"}, {NUMBER: "asc"}],
            "size": PAGE_SIZE,
            "aggs": {"before": {"filter": self._recent()}},
        }
        answer = yield self._request(body)
        if not _shards(answer):
            return None
        hits = answer["hits"]["hits"]
        if answer["aggregations"]["before"]["doc_count"] > sum(len(each.recent()) for each in self._known.values()):
            missed = all_of([self._query, self._recent(unseen=True)])
            hits += (yield self._request({"query": missed, "size": PAGE_SIZE}))["hits"]["hits"]
        return [Arrival.of(self._number, hit) for hit in hits]

    def copies(self, doc_ids: Sequence[str]) -> Steps[list[Arrival]]:
        """Return what is stored under these ids, without more than the seal."""
        query = {"ids": {"values": list(doc_ids)}}
        answer = yield self._request({"query": query, "size": 10_000, "_source": ["audit.integrity", "@timestamp"]})
        return [Arrival.of(self._number, hit) for hit in answer["hits"]["hits"]]

    def _above(self, bound: str) -> Query:
        if not self._known:
            return {"match_all": {}}
        further = all_of([], [{"terms": {INDEX: sorted(self._known)}}])
        return any_of([*(_between(index, getattr(each, bound)) for index, each in self._known.items()), further])

    def _recent(self, *, unseen: bool = False) -> Query:
        """Return the query for what lies between floor and highest number."""
        clauses = [
            all_of(
                [_between(index, each.floor, each.highest)], [{"terms": {NUMBER: each.recent()}}] if unseen else None
            )
            for index, each in self._known.items()
        ]
        return any_of(clauses) if clauses else NOTHING

    def _request(self, body: dict[str, Any]) -> Any:
        # Of several copies of a shard the primary knows first; and asking one copy only, nothing comes and goes.
        return search_request(
            self._stream,
            {"track_total_hits": False, "seq_no_primary_term": True, **body},
            preference=f"_shards:{self._number}|_primary_first",
        )


def _shards(answer: Answer) -> int:
    count: int = answer["_shards"]["total"]
    return count


def _between(index: str, above: int, up_to: int | None = None) -> Query:
    bounds = {"gt": above} if up_to is None else {"gt": above, "lte": up_to}
    return all_of([{"term": {INDEX: index}}, {"range": {NUMBER: bounds}}])
