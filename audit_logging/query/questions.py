"""What can be asked of a stream. Each question is made here once; the readers, blocking or not, only send it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol

from audit_logging.errors import FilterError
from audit_logging.query.context import context_steps, event_steps
from audit_logging.query.copies import total_and_copies
from audit_logging.query.dsl import query_of
from audit_logging.query.event import Event
from audit_logging.query.exchange import Result, Steps, search_request
from audit_logging.query.filter import Filter
from audit_logging.query.paging import check_sort, page_steps
from audit_logging.query.scan import Scan
from audit_logging.query.statistics import Counting, statistics_steps
from audit_logging.query.tail import Tail

if TYPE_CHECKING:
    from audit_logging.query.dsl import Query
    from audit_logging.query.period import Period
    from audit_logging.query.report.run import Report
    from audit_logging.query.results import Context, Page, Statistics

Conditions = dict[str, Any]


class Asked(Protocol):
    """What is known of every question."""

    @property
    def verb(self) -> str:
        """What is asked, in a word: ``"search"``, ``"count"`` and so on."""
        ...

    @property
    def conditions(self) -> Conditions:
        """What it is about, as plain JSON values; relative times as they were given."""
        ...


@dataclass(frozen=True)
class Question(Generic[Result]):
    """A question with one answer, which the ``steps`` find."""

    verb: str
    conditions: Conditions
    steps: Steps[Result] = field(repr=False)


class Questions:
    """Makes questions to one stream. Every method raises :class:`FilterError` for what is malformed."""

    def __init__(self, stream: str) -> None:
        self._stream = stream

    def search(
        self, where: Filter | None, conditions: Conditions, *, limit: int, cursor: str | None, sort: str
    ) -> Question[Page]:
        """Ask for one page."""
        filter_ = filter_of(where, conditions)
        steps = page_steps(self._stream, filter_, limit=limit, cursor=cursor, sort=sort, now=now())
        return Question("search", filter_.given(), steps)

    def scan(self, where: Filter | None, conditions: Conditions, *, sort: str) -> Scan:
        """Ask for everything, page by page."""
        check_sort(sort)
        filter_ = filter_of(where, conditions)
        return Scan(self._stream, query_of(filter_.at(now())), newest=sort == "newest", conditions=filter_.given())

    def tail(self, where: Filter | None, conditions: Conditions, *, last: int) -> Tail:
        """Ask for the last events, and then for each that arrives."""
        filter_ = filter_of(where, conditions)
        return Tail(self._stream, query_of(filter_.at(now())), last=last, conditions=filter_.given())

    def count(self, where: Filter | None, conditions: Conditions) -> Question[int]:
        """Ask how many there are."""
        filter_ = filter_of(where, conditions)
        query = query_of(filter_.at(now()))
        return Question("count", filter_.given(), _count_steps(self._stream, query))

    def get(self, event_id: str, where: Filter | None, conditions: Conditions) -> Question[Event]:
        """Ask for one event, if it meets the conditions."""
        filter_ = filter_of(where, conditions)
        steps = _get_steps(self._stream, event_id, query_of(filter_.at(now())))
        return Question("get", {"event_id": str(event_id), **filter_.given()}, steps)

    def context(self, event_id: str, *, within: str | dt.timedelta, limit: int) -> Question[Context]:
        """Ask for one event and what happened around it."""
        steps = context_steps(self._stream, event_id, within=within, limit=limit)
        return Question("context", {"event_id": str(event_id), "within": str(within)}, steps)

    def statistics(self, where: Filter | None, conditions: Conditions, counting: Counting) -> Question[Statistics]:
        """Ask for counts by a field and over time."""
        filter_ = filter_of(where, conditions)
        moment = now()
        steps = statistics_steps(self._stream, filter_.at(moment), counting, now=moment)
        return Question("statistics", filter_.given(), steps)

    def report(self, period: Period) -> Question[Report]:
        """Ask for what happened in a period."""
        from audit_logging.query.report.run import report_steps

        return Question("report", {"period": period.name}, report_steps(self._stream, period, now=now()))

    def about(self, subject: str, period: Period | None) -> Scan:
        """Ask for everything that concerns one person, newest first."""
        from audit_logging.query.report.run import subject_query

        conditions = {"subject": str(subject)} | ({} if period is None else {"period": period.name})
        return Scan(self._stream, subject_query(subject, period), newest=True, conditions=conditions)


def now() -> dt.datetime:
    """Return the present instant, in UTC."""
    return dt.datetime.now(dt.timezone.utc)


def filter_of(where: Filter | None, conditions: Conditions) -> Filter:
    """Return the one filter that a caller gave, in either of the two ways."""
    if where is None:
        return Filter.of(**conditions)
    if not isinstance(where, Filter):
        raise FilterError(f"Give conditions as keywords, like user_id='u-42', not {type(where).__name__}.")
    if conditions:
        raise FilterError("Give either a ready filter or conditions as keywords, not both.")
    return where


def _count_steps(stream: str, query: Query) -> Steps[int]:
    answer = yield search_request(stream, {"query": query, "size": 0, "track_total_hits": True})
    total, _ = yield from total_and_copies(stream, query, answer)
    return total


def _get_steps(stream: str, event_id: str, query: Query) -> Steps[Event]:
    hit = yield from event_steps(stream, event_id, query)
    return Event(hit.document)
