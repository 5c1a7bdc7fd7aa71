"""Legal holds: what must stay whatever the retention period says.

A hold is a question to the trail, and every backing index that holds an answer to it stays. The trail itself records
holds, as events: a hold is in force from its ``audit.hold_placed`` on until there is an ``audit.hold_released`` with
its id, in whatever order the two are found. Nothing else is kept about holds, so nothing can disagree with the trail.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import HoldError, NotFoundError, RefusedError
from audit_logging.opensearch.backing_indices import read_index_states
from audit_logging.opensearch.settling import settled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from audit_logging.opensearch.client import Client, Params

PLACED: Final = "audit.hold_placed"
RELEASED: Final = "audit.hold_released"
QUARANTINED: Final = "audit.quarantined"
"""The action of every stand-in: what is in it cannot be searched, so a hold with filters covers it."""

_OLD_QUARANTINE: Final = '{"exists":{"field":"audit.quarantine.type"}}'
_QUARANTINE: Final = '{"term":{"event.action":"audit.quarantined"}}'
"""What holds of earlier versions asked for, a field that no stand-in has; and what they meant."""

EVERYTHING: Final[dict[str, Any]] = {"match_all": {}}

MAX_QUERY_BYTES: Final = 16_000
"""A query must be kept whole in an event, whose texts are cut at about 32,700 bytes."""

MAX_RECORDS: Final = 10_000
"""OpenSearch gives no more at once."""

MOST_INDICES: Final = 10_000
"""Backing indices that one aggregation tells apart."""

_BAD_REQUEST: Final = 400
_CLAUSES: Final = ("filter", "must_not", "should")
_PLAIN_KINDS: Final = frozenset({"match_all", "term", "terms", "range", "wildcard", "match", "exists", "ids"})
_LOCK: Final = "index.blocks.read_only"


@dataclass(frozen=True)
class Hold:
    """One legal hold.

    Attributes:
        id: Its id, such as ``h-1f0c92ab``.
        reason: Why it was placed.
        placed_by: Who placed it.
        placed_at: When.
        query: OpenSearch's query DSL: what it covers.
        covers: The same for people.
        active: Whether it is in force.
        placed_in: The backing indices that hold a record of its placing.
        released_in: The backing indices that hold a record of its release.
        released_by: Who released it; None while it is in force.
        release_reason: Why it was released; empty while it is in force.
    """

    id: str
    reason: str
    placed_by: str
    placed_at: str
    query: dict[str, Any] = field(default_factory=lambda: dict(EVERYTHING))
    covers: str = "everything"
    active: bool = True
    placed_in: frozenset[str] = frozenset()
    released_in: frozenset[str] = frozenset()
    released_by: str | None = None
    release_reason: str = ""

    @property
    def said_in(self) -> frozenset[str]:
        """The backing indices that hold the last word about it."""
        return self.placed_in if self.active else self.released_in


def new_hold(reason: str, person: str, query: dict[str, Any], covers: str) -> Hold:
    """Return a hold that is to be placed.

    Args:
        reason: Why.
        person: Who places it.
        query: What it covers, as OpenSearch's query DSL.
        covers: The same for people.

    Raises:
        HoldError: There is no reason or no person, or the query is too long to be recorded.

    Example:
        >>> new_hold("Case 12/2026", "jane.doe", EVERYTHING, "everything").active
        True
    """
    if not reason.strip() or not person.strip():
        raise HoldError("A hold needs a reason and the person who places it.")
    if len(orjson.dumps(query)) > MAX_QUERY_BYTES:
        raise HoldError(
            f"That is too much for one hold (more than {MAX_QUERY_BYTES:,} bytes as a query): place several."
        )
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    return Hold(f"h-{secrets.token_hex(4)}", reason, person, now, query, covers)


def placing(hold: Hold, *, again: bool = False) -> dict[str, Any]:
    """Return what the event that places *hold* says.

    Args:
        hold: The hold.
        again: Whether this only repeats what an index that leaves soon says.
    """
    # The query is text: its keys are OpenSearch's words and may be those of secrets, and its values must not be cut.
    return {
        "user_id": hold.placed_by,
        "reason": hold.reason,
        "metadata": {
            "hold": hold.id,
            "query": orjson.dumps(hold.query).decode(),
            "covers": hold.covers,
            "placed_at": hold.placed_at,
            "again": again,
        },
    }


def releasing(hold: Hold, reason: str, person: str, *, again: bool = False) -> dict[str, Any]:
    """Return what the event that releases *hold* says.

    Raises:
        HoldError: There is no reason or no person.
    """
    if not reason.strip() or not person.strip():
        raise HoldError("A release needs a reason and the person who releases the hold.")
    return {"user_id": person, "reason": reason, "metadata": {"hold": hold.id, "covers": hold.covers, "again": again}}


def restating(hold: Hold) -> tuple[str, dict[str, Any]]:
    """Return the event, type and facts, that says again what is known of *hold*."""
    if hold.active:
        return PLACED, placing(hold, again=True)
    return RELEASED, releasing(hold, hold.release_reason or "unknown", hold.released_by or "unknown", again=True)


def read_holds(client: Client, stream: str) -> tuple[Hold, ...]:
    """Return every hold that the trail knows, released ones included, the oldest first.

    Raises:
        HoldError: The trail records more of them than can be read at once.
    """
    body = {
        "query": {"bool": {"filter": [{"terms": {"event.action": [PLACED, RELEASED]}}]}},
        "sort": [{"@timestamp": "asc"}],
        "size": MAX_RECORDS,
        "track_total_hits": True,
    }
    hits = search(client, stream, body)["hits"]
    if hits["total"]["value"] > MAX_RECORDS:
        raise HoldError(f"The trail records more than {MAX_RECORDS:,} holds and releases, more than can be judged.")
    placed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    released: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for hit in hits["hits"]:
        hold_id = _metadata(hit).get("hold")
        if isinstance(hold_id, str):
            (placed if hit["_source"]["event"]["action"] == PLACED else released)[hold_id].append(hit)
    return tuple(_hold(hold_id, records, released.get(hold_id, [])) for hold_id, records in placed.items())


def covered(client: Client, stream: str, hold: Hold, every: Iterable[str]) -> set[str]:
    """Return the backing indices that hold what *hold* covers.

    Args:
        client: The server.
        stream: The data stream.
        hold: The hold.
        every: All backing indices: the answer where OpenSearch does not understand the hold.
    """
    body = {"query": hold.query, "size": 0, "aggs": {"indices": {"terms": {"field": "_index", "size": MOST_INDICES}}}}
    try:
        answer = search(client, stream, body)
    except RefusedError as error:
        if error.status != _BAD_REQUEST:
            raise
        return set(every)  # what cannot be judged stays
    return {bucket["key"] for bucket in answer["aggregations"]["indices"]["buckets"]}


def search(client: Client, stream: str, body: dict[str, Any]) -> dict[str, Any]:
    """Search in *stream*; an answer that would be partial is an error. Closed indices are left out."""
    params: Params = {
        "allow_partial_search_results": False,
        "ignore_unavailable": True,
        "search_pipeline": "_none",  # a default one could hide a hold
    }
    answer: dict[str, Any] = settled(lambda: client.request("POST", f"/{stream}/_search", params=params, body=body))
    return answer


def kept_indices(client: Client, stream: str, every: Iterable[str]) -> set[str]:
    """Return the backing indices that have no part in retention: those that are locked, blocked or on hold.

    All of them while one is closed: what it says of holds cannot be seen.

    Args:
        client: The server.
        stream: The data stream.
        every: All backing indices, the write index last; that one is never kept.
    """
    *older, _ = every
    states = read_index_states(client, stream)
    if any(state.closed for state in states.values()):
        return {*older}  # it may record a hold on any of them
    kept = {name for name, state in states.items() if state.locked or state.blocked}
    if older:
        for hold in read_holds(client, stream):
            kept |= covered(client, stream, hold, older) if hold.active else set()
    return kept & {*older}


def lock(client: Client, index: str) -> bool:
    """Let OpenSearch itself refuse to delete *index*; false when it is gone already.

    Whoever deletes it by name, Index State Management included, gets a 403. Deleting the whole data stream is not
    stopped by it. Before 3.8 a locked index also stops the rollover of its stream, so none is locked there; and a
    mapping cannot be put to a stream with one.

    Source: OpenSearch documentation, "Index settings", ``index.blocks.read_only``; seen on 2.19.4, 3.6.0 and 3.8.0.
    """
    return _set_lock(client, index, on=True)


def unlock(client: Client, index: str) -> bool:
    """Take the lock off; false when the index is gone."""
    return _set_lock(client, index, on=None)


def _set_lock(client: Client, index: str, *, on: bool | None) -> bool:
    try:
        client.request("PUT", f"/{index}/_settings", body={_LOCK: on})
    except NotFoundError:
        return False
    return True


def _metadata(hit: dict[str, Any]) -> dict[str, Any]:
    found = (hit["_source"].get("audit") or {}).get("metadata")
    return found if isinstance(found, dict) else {}


def _hold(hold_id: str, placed: list[dict[str, Any]], released: list[dict[str, Any]]) -> Hold:
    """Put a hold together from its records, each list the oldest first."""
    first, about = placed[0], _metadata(placed[0])
    release = released[0]["_source"] if released else {}
    query = _query(about.get("query"))
    return Hold(
        id=hold_id,
        reason=str((first["_source"].get("event") or {}).get("reason", "")),
        placed_by=_person(first["_source"]),
        placed_at=str(about.get("placed_at") or first["_source"]["@timestamp"]),
        query=query,
        covers=str(about.get("covers") or query),
        active=not released,
        placed_in=frozenset(hit["_index"] for hit in placed),
        released_in=frozenset(hit["_index"] for hit in released),
        released_by=_person(release) if released else None,
        release_reason=str((release.get("event") or {}).get("reason", "")),
    )


def _person(document: dict[str, Any]) -> str:
    return str((document.get("user") or {}).get("id") or "unknown")


def _query(text: Any) -> dict[str, Any]:
    """Return the query of a record; one that cannot be read covers everything."""
    try:
        query: dict[str, Any] = (
            orjson.loads(text.replace(_OLD_QUARANTINE, _QUARANTINE)) if isinstance(text, str) else {}
        )
    except orjson.JSONDecodeError:
        query = {}
    return query if _is_plain(query) else dict(EVERYTHING)


def _is_plain(query: Any, depth: int = 16) -> bool:
    """Return whether *query* is of the kinds that a filter is made of.

    Whoever may write events can write one that looks like a hold. It shall not run a script or look into another
    index with the rights of whoever applies retention.
    """
    if not isinstance(query, dict) or len(query) != 1 or not depth:
        return False
    [(kind, body)] = query.items()
    if not isinstance(body, dict):
        return False
    if kind != "bool":
        return kind in _PLAIN_KINDS and (kind != "terms" or all(isinstance(value, list) for value in body.values()))
    clauses = [value for name, value in body.items() if name in _CLAUSES]
    return (
        body.keys() <= {*_CLAUSES, "minimum_should_match"}
        and all(isinstance(clause, list) for clause in clauses)
        and all(_is_plain(inner, depth - 1) for clause in clauses for inner in clause)
    )
