"""What the server says of a stream's backing indices: everything that a retention plan is made from."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import NotFoundError
from audit_logging.opensearch.holds import MOST_INDICES, covered, read_holds, search
from audit_logging.opensearch.ism import explain, kept_days, read_policy
from audit_logging.opensearch.retention import BackingIndex
from audit_logging.opensearch.retention_seal import read_seals
from audit_logging.opensearch.setup import read_stream
from audit_logging.opensearch.templates import policy_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit_logging.opensearch.client import Client
    from audit_logging.opensearch.holds import Hold
    from audit_logging.settings import Settings


APPLIED: Final = "audit.retention_applied"


def days_in_force(client: Client, settings: Settings, *, ism: bool) -> int:
    """Return the retention period: the one that was asked for, else the one in force, else the default.

    Where there is no policy (no Index State Management, or somebody deleted it), it is the longest of what the trail
    says was applied last, of what the indices have copies of, and of the default: neither a deleted policy nor an
    event that anybody may have written must make others leave early.
    """
    if "retention_days" in settings.model_fields_set:
        return settings.retention_days
    copied = 0
    if ism:
        policy = read_policy(client, policy_name(settings.stream))
        if policy is not None:
            return kept_days(policy) or settings.retention_days
        copied = _days_in_copies(client, settings.stream)
    body = {
        "query": {"bool": {"filter": [{"term": {"event.action": APPLIED}}]}},
        "sort": [{"@timestamp": "desc"}],
        "size": 1,
        "_source": ["audit.metadata.retention_days"],
    }
    try:
        hits = search(client, settings.stream, body)["hits"]["hits"]
        applied = int(hits[0]["_source"]["audit"]["metadata"]["retention_days"]) if hits else 0
    except (NotFoundError, KeyError, TypeError, ValueError):
        applied = 0
    return max(applied, copied, settings.retention_days)


def _days_in_copies(client: Client, stream: str) -> int:
    """Return the longest period of the policies that backing indices have copies of; 0 without any."""
    found = read_stream(client, stream)
    names = found.backing_indices if found is not None else ()
    days = [kept_days({"policy": index.copy}) for index in explain(client, names) if index.copy is not None]
    return max((each for each in days if each is not None), default=0)


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
    found = read_stream(client, stream)
    if found is None:
        raise NotFoundError(
            f"There is no stream {stream!r}: run `audit-logging setup`.", status=404, error_type="", reason=""
        )
    client.request("POST", f"/{stream}/_refresh")
    indices = _settled(client, stream, found.backing_indices)
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
    settings = client.request("GET", f"/{stream}/_settings")
    state = client.request(
        "GET", f"/_cluster/state/metadata/{stream}", params={"filter_path": "metadata.indices.*.rollover_info"}
    )
    rollovers = state.get("metadata", {}).get("indices", {})
    sizes = client.request("GET", f"/{stream}/_stats/store", params={"filter_path": "indices.*.primaries.store"})
    contents = _contents(client, stream)
    # An index that left since the stream was read is in none of the answers.
    names = [name for name in names if name in settings]
    created = {name: _moment(int(settings[name]["settings"]["index"]["creation_date"])) for name in names}
    indices = []
    for name, successor in zip(names, [*names[1:], None], strict=True):
        about = settings[name]["settings"]["index"]
        told = rollovers.get(name, {}).get("rollover_info", {}).get(stream)
        # The next one was made by the rollover of this one; where a later one is the next now, that errs to keeping.
        rolled_over = _moment(told["time"]) if told else created[successor] if successor else None
        events, oldest, newest = contents.get(name, (0, None, None))
        indices.append(
            BackingIndex(
                name=name,
                uuid=about["uuid"],
                created=created[name],
                rolled_over=rolled_over if successor else None,
                events=events,
                primary_bytes=sizes.get("indices", {})
                .get(name, {})
                .get("primaries", {})
                .get("store", {})
                .get("size_in_bytes", 0),
                oldest=oldest,
                newest=newest,
                locked=about.get("blocks", {}).get("read_only") == "true",
            )
        )
    return indices


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
    return None if told["value"] is None else _moment(int(told["value"]) + more_milliseconds)


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)
