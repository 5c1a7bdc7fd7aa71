"""An export's parts: stretches of time, one after the other, each small enough to be sorted and begun again.

What was exported of a part is kept only when the part is complete, so that whatever ends an export costs at most one
part's work, and nothing has to be remembered of the server's view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from audit_logging.query.dsl import Query, all_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Search = Callable[[dict[str, Any]], dict[str, Any]]

LARGEST_PART: Final = 1_000_000
"""Events of a part, where they are not large: some seconds' work."""

PART_BYTES: Final = 1 << 30
"""Size of a part, which is the room that sorting takes on the disk."""

STEPS: Final = 1000
"""Steps of the histogram by which the parts are found."""

SAMPLE: Final = 20
"""Documents that are looked at to know how large they are."""

_TIME: Final = "@timestamp"


@dataclass(frozen=True)
class Part:
    """A stretch of time.

    Attributes:
        begin: Milliseconds since 1970, inclusive; None: whatever is first.
        end: Exclusive; None: to the last.
    """

    begin: int | None = None
    end: int | None = None

    def of(self, query: Query) -> Query:
        """Return what *query* finds in this part."""
        bounds = {name: value for name, value in (("gte", self.begin), ("lt", self.end)) if value is not None}
        return all_of([query, {"range": {_TIME: {**bounds, "format": "epoch_millis"}}}]) if bounds else query


@dataclass(frozen=True)
class Survey:
    """What there is to export.

    Attributes:
        total: How many stored events.
        begin, end: Milliseconds since 1970: no event lies before the one, none at or behind the other.
        mean_bytes: About the size of a document.
    """

    total: int
    begin: int
    end: int
    mean_bytes: float

    @classmethod
    def of(cls, search: Search, query: Query) -> Survey:
        """Look at what *query* finds."""
        ends = {"first": {"min": {"field": _TIME}}, "last": {"max": {"field": _TIME}}}
        answer = search({"query": query, "size": SAMPLE, "track_total_hits": True, "aggs": ends})
        sample = [len(str(hit.get("_source"))) for hit in answer["hits"]["hits"]]
        first, last = (answer["aggregations"][name]["value"] for name in ends)
        return cls(
            total=answer["hits"]["total"]["value"],
            begin=int(first or 0),
            end=int(last or 0) + 1,
            mean_bytes=max(sum(sample) / len(sample), 100) if sample else 1000,
        )

    @property
    def part_size(self) -> int:
        """How many events a part should have."""
        return max(1, min(LARGEST_PART, int(PART_BYTES / self.mean_bytes)))


def plan(search: Search, query: Query, survey: Survey, begin: int | None) -> list[Part]:
    """Return the parts of what *query* finds, from *begin* on: together all of it, whatever else arrives."""
    cuts = list(_cuts(search, query, Part(survey.begin, survey.end), survey.total, survey.part_size))
    return [Part(left, right) for left, right in zip([begin, *cuts], [*cuts, None], strict=True)]


def _cuts(search: Search, query: Query, stretch: Part, total: int, most: int) -> Iterator[int]:
    """Yield times that cut the *total* events of *stretch* into pieces of at most *most*, where time can tell them."""
    if total <= most:
        return
    assert stretch.begin is not None
    assert stretch.end is not None
    step = -((stretch.begin - stretch.end) // STEPS)
    histogram = {"field": _TIME, "fixed_interval": f"{step}ms", "min_doc_count": 1}
    body = {"query": stretch.of(query), "size": 0, "aggs": {"steps": {"date_histogram": histogram}}}
    gathered = 0
    for bucket in search(body)["aggregations"]["steps"]["buckets"]:
        count = bucket["doc_count"]
        here = Part(max(bucket["key"], stretch.begin), min(bucket["key"] + step, stretch.end))
        assert here.begin is not None
        if gathered and gathered + count > most:
            yield here.begin
            gathered = 0
        if count > most and step > 1:
            yield from _cuts(search, query, here, count, most)
        gathered += count
