"""One event and what happened around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import FilterError, Keyword, NotFoundError
from audit_logging.query.dsl import all_of, any_of, timestamp
from audit_logging.query.event import Event
from audit_logging.query.results import Context, Related
from audit_logging.query.times import EARLIEST, LATEST, duration_of
from audit_logging.query.walk import SMALLEST_PAGE, Walk

if TYPE_CHECKING:
    import datetime as dt

    from audit_logging.query.distinct import Hit
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Steps

SHARED: Final = {"request": "http.request.id", "session": "session.id", "user": "user.id"}
"""What makes another event a related one, the closest first."""

MOST_EACH_SIDE: Final = 1000


def event_steps(stream: str, event_id: str, *among: Query) -> Steps[Hit]:
    """Find the event with this ``event.id``, or this ``<writer>-<sequence>``, among what all of *among* match.

    Raises:
        FilterError: That is no id.
        NotFoundError: There is no such event.
    """
    if not isinstance(event_id, str) or not event_id.isprintable():
        raise FilterError(f"{str(event_id)[:60]!r} is not an event's id.")
    known_as = any_of([{"term": {"event.id": event_id}}, {"ids": {"values": [event_id]}}])
    walk = Walk(stream, all_of([known_as, *among]), page_size=SMALLEST_PAGE)
    hits = walk.take((yield walk.request()))
    if not hits:
        raise NotFoundError(
            f"There is no event {event_id!r} in {stream!r}: it may not have arrived yet, or left with its retention"
            " period.",
            status=404,
            error_type="",
            reason="no such event",
        )
    return hits[0]


def context_steps(stream: str, event_id: str, *, within: str | dt.timedelta, limit: int) -> Steps[Context]:
    """Find an event, and those around it of the same request, session or user.

    Raises:
        FilterError: *within* or *limit* is malformed, or the id is none.
        NotFoundError: There is no such event.
    """
    try:
        reach = duration_of(within)
    except FilterError as error:
        raise FilterError(Keyword("within"), f": {error}") from None
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MOST_EACH_SIDE:
        raise FilterError(Keyword("limit"), f" is a number from 0 to {MOST_EACH_SIDE}, not {str(limit)[:60]!r}.")
    hit = yield from event_steps(stream, event_id)
    event = Event(hit.document)
    shared = {name: value for name, path in SHARED.items() if (value := event.get(path)) is not None}
    if not shared:
        return Context(event, (), ())
    query = all_of([any_of([{"term": {SHARED[name]: value}} for name, value in shared.items()]), _around(event, reach)])
    sides: list[tuple[Related, ...]] = []
    for newest in (True, False):
        hits = yield from _side(stream, query, hit, newest=newest, limit=limit)
        sides.append(tuple(_related(Event(each.document), shared) for each in hits))
    before, after = sides
    return Context(event, before[::-1], after)


def _around(event: Event, reach: dt.timedelta) -> Query:
    moment = event.timestamp
    since, until = moment - min(reach, moment - EARLIEST), moment + min(reach, LATEST - moment)
    bounds = {"gte": timestamp(since), "lte": timestamp(until)}
    return {"range": {"@timestamp": {**bounds, "format": "strict_date_optional_time_nanos"}}}


def _side(stream: str, query: Query, hit: Hit, *, newest: bool, limit: int) -> Steps[list[Hit]]:
    """Return at most *limit* events from *hit* on, going away from it."""
    walk = Walk(stream, query, newest=newest, page_size=limit + 1, after=hit.key, seen=[hit.identity])
    hits: list[Hit] = []
    while len(hits) < limit and not walk.done:
        hits.extend(walk.take((yield walk.request())))
    return hits[:limit]


def _related(event: Event, shared: dict[str, Any]) -> Related:
    return Related(event, tuple(name for name, value in shared.items() if event.get(SHARED[name]) == value))
