"""What the server says of a stream's backing indices: everything that a retention plan is made from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_logging.errors import NotFoundError
from audit_logging.opensearch.backing_indices import (
    find_stream,
    moment,
    names_of_backing_indices,
    read_index_states,
)
from audit_logging.opensearch.holds import MOST_INDICES, covered, read_holds, search
from audit_logging.opensearch.ism import chunks_of_names, explain
from audit_logging.opensearch.retention import BackingIndex
from audit_logging.opensearch.retention_seal import read_seals

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    from audit_logging.opensearch.client import Client, Params
    from audit_logging.opensearch.holds import Hold


def read_backing_indices(
    client: Client, stream: str, *, ism: bool, archived: Callable[[BackingIndex], bool] | None = None
) -> tuple[list[BackingIndex], tuple[Hold, ...]]:
    """Return the stream's backing indices, oldest first, and every hold that the trail knows.

    What was acknowledged before the call is seen, since the stream is refreshed first.

    Args:
        client: The server.
        stream: The data stream.
        ism: Whether the server has Index State Management.
        archived: Tells whether an index is in the archive; None: there is none.

    Raises:
        NotFoundError: There is no such stream.
        OpenSearchError: The server refused; an answer that would be partial is refused as well.
    """
    found = find_stream(client, stream)
    if found is None:
        raise NotFoundError(
            f"There is no stream {stream!r}: run `audit-logging setup`.", status=404, error_type="", reason=""
        )
    # What a closed index holds cannot be seen: the plan names it, and goes on with the others.
    client.request("POST", f"/{stream}/_refresh", params={"ignore_unavailable": True})
    indices = _settled(client, stream, names_of_backing_indices(found))
    seals = read_seals(client, stream, [index.uuid for index in indices])
    holds = read_holds(client, stream)
    names = [index.name for index in indices]
    active = {hold.id: covered(client, stream, hold, names) for hold in holds if hold.active}
    released: set[str] = set()
    if any(index.locked for index in indices):
        released = {name for hold in holds if not hold.active for name in covered(client, stream, hold, names)}
    managed = {told.index: told for told in explain(client, names)} if ism else {}
    complete = []
    for index in indices:
        about = replace(
            index,
            sealed_events=seals[index.uuid]["events"] if index.uuid in seals else None,
            seal_in=seals[index.uuid]["places"] if index.uuid in seals else (),
            holds=tuple(hold_id for hold_id, names in active.items() if index.name in names),
            released=index.name in released,
            managed=managed.get(index.name),
        )
        complete.append(replace(about, archived=archived is not None and archived(about)))
    return complete, holds


def _settled(client: Client, stream: str, names: Sequence[str]) -> list[BackingIndex]:
    states = read_index_states(client, stream)
    # An index that left since the stream was read is in none of the answers.
    names = [name for name in names if name in states]
    sizes = _sizes(client, [name for name in names if not states[name].closed and not states[name].blocked])
    contents = _contents(client, stream)
    indices = []
    for name, successor in zip(names, [*names[1:], None], strict=True):
        state = states[name]
        events, oldest, newest = contents.get(name, (0, None, None))
        indices.append(
            BackingIndex(
                name=name,
                uuid=state.uuid,
                created=state.created,
                # The next one was made by the rollover of this one; where a later one is the next now, that errs to
                # keeping.
                rolled_over=(state.rolled_over or states[successor].created) if successor else None,
                events=events,
                primary_bytes=sizes.get(name, 0),
                oldest=oldest,
                newest=newest,
                locked=state.locked,
                closed=state.closed,
                blocked=state.blocked,
            )
        )
    return indices


def _sizes(client: Client, names: Sequence[str]) -> dict[str, int]:
    """Return the size of the primary shards, in bytes. All must be open, or the answer is refused."""
    sizes: dict[str, int] = {}
    for some in chunks_of_names(names):
        params: Params = {"filter_path": "indices.*.primaries.store.size_in_bytes", "ignore_unavailable": True}
        answer = client.request("GET", f"/{','.join(some)}/_stats/store", params=params)
        told = answer.get("indices", {})
        sizes |= {name: about["primaries"]["store"]["size_in_bytes"] for name, about in told.items()}
    return sizes


def _contents(client: Client, stream: str) -> dict[str, tuple[int, dt.datetime | None, dt.datetime | None]]:
    """Return count, oldest and newest time of the events in every backing index that holds any."""
    times = {name: {name: {"field": "@timestamp"}} for name in ("min", "max")}
    body = {"size": 0, "aggs": {"indices": {"terms": {"field": "_index", "size": MOST_INDICES}, "aggs": times}}}
    return {
        # Told in whole milliseconds, rounded down: the newest event may be up to one later.
        bucket["key"]: (bucket["doc_count"], _time(bucket["min"], 0), _time(bucket["max"], 1))
        for bucket in search(client, stream, body)["aggregations"]["indices"]["buckets"]
    }


def _time(told: dict[str, Any], more_milliseconds: int) -> dt.datetime | None:
    return None if told["value"] is None else moment(int(told["value"]) + more_milliseconds)
