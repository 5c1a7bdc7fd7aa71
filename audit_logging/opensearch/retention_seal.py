"""The seal of a backing index: what it held when it took its last event, as an event of the trail.

Once an index has left, its seal is what tells a lawful gap from a deletion: how many events there were, of which time,
and where each writer's chain entered and left it. With tens of thousands of writers it takes several events.

The seals of earlier indices leave with the indices that hold them, long before a writer ends that wrote to all of them.
So each seal also says what the earlier ones said of its writers.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.integrity.claims import INDEX_SEALED
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.signature import is_signed
from audit_logging.opensearch.holds import MAX_RECORDS, search

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from audit_logging.integrity.keys import TrustedKeys
    from audit_logging.opensearch.client import Client
    from audit_logging.opensearch.retention import BackingIndex

WRITERS_PER_EVENT: Final = 1000
"""At most 450 KB of an event's 1 MiB."""

SEALS_PER_PAGE: Final = 20

_SEQUENCE: Final = "audit.integrity.sequence"
_HASH: Final = "audit.integrity.hash"


def seal_facts(client: Client, stream: str, index: BackingIndex, keys: TrustedKeys) -> list[dict[str, Any]]:
    """Return what the events that seal *index* say; one event but for an index of very many writers.

    Each lists writers with their ``first`` and ``last`` sequence in the index, the ``hash`` of the last one and the
    number of ``events``; and the same, as ``before``, of what earlier indices held of the writer.

    Args:
        client: The server.
        stream: The data stream.
        index: What is to be sealed.
        keys: The keys whose seals are believed; none: all are.
    """
    writers = list(read_writers(client, index.name))
    earlier = read_earlier(client, stream, index, {each["writer"] for each in writers if each["first"] > 1}, keys)
    for each in writers:
        if each["writer"] in earlier:
            each["before"] = earlier[each["writer"]]
    parts = [writers[start : start + WRITERS_PER_EVENT] for start in range(0, len(writers), WRITERS_PER_EVENT)] or [[]]
    seal_id = secrets.token_hex(8)
    about = {
        "index": index.name,
        "index_uuid": index.uuid,
        "events": index.events,
        "oldest": index.oldest and index.oldest.isoformat(),
        "newest": index.newest and index.newest.isoformat(),
        **({"dated_ahead": True} if index.dated_ahead else {}),
        "seal": seal_id,
        "parts": len(parts),
    }
    return [
        {
            "message": f"The backing index {index.name} was sealed with {index.events:,} events",
            "metadata": {**about, "part": number, "writers": part},
        }
        for number, part in enumerate(parts, 1)
    ]


def seal_again(client: Client, stream: str, index: BackingIndex) -> list[dict[str, Any]]:
    """Return what the events say that repeat the seal of *index*, before those that hold it leave."""
    message = f"The backing index {index.name} stays sealed as it was"
    parts = read_seals(client, stream, [index.uuid])[index.uuid]["parts"]
    return [{"message": message, "metadata": {**part, "again": True}} for part in parts]


def read_writers(client: Client, index: str) -> Iterator[dict[str, Any]]:
    """Yield every writer of *index* with its first and last sequence there, the last hash, and how many events."""
    newest = {"size": 1, "sort": [{_SEQUENCE: "desc"}], "_source": [_HASH]}
    aggregations = {
        "first": {"min": {"field": _SEQUENCE}},
        "last": {"max": {"field": _SEQUENCE}},
        "newest": {"top_hits": newest},
    }
    after: dict[str, Any] = {}
    while True:
        pages: dict[str, Any] = {
            "size": WRITERS_PER_EVENT,
            "sources": [{"writer": {"terms": {"field": "audit.integrity.writer"}}}],
            **after,
        }
        body = {"size": 0, "aggs": {"writers": {"composite": pages, "aggs": aggregations}}}
        page = search(client, index, body)["aggregations"]["writers"]
        for bucket in page["buckets"]:
            yield {
                "writer": bucket["key"]["writer"],
                "first": int(bucket["first"]["value"]),
                "last": int(bucket["last"]["value"]),
                "hash": bucket["newest"]["hits"]["hits"][0]["_source"]["audit"]["integrity"]["hash"],
                "events": bucket["doc_count"],
            }
        if len(page["buckets"]) < WRITERS_PER_EVENT:
            return
        after = {"after": page["after_key"]}


def read_earlier(
    client: Client, stream: str, index: BackingIndex, writers: Collection[str], keys: TrustedKeys
) -> dict[str, dict[str, Any]]:
    """Return what the seals of other indices say of *writers* taken together, by writer.

    Each has the ``first`` and ``last`` sequence, the ``hash`` of the last one, the number of ``events`` and the time of
    the ``newest``. An index with events that are dated ahead is left out: it outlives the others.
    """
    stays: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for about in _believed_seals(client, stream, keys) if writers else ():
        uuid, newest = str(about.get("index_uuid")), about.get("newest")
        if uuid == index.uuid or not isinstance(newest, str) or about.get("dated_ahead"):
            continue
        for each in about.get("writers") or ():
            if each["writer"] in writers:
                stays[each["writer"]].setdefault(uuid, {**each, "newest": newest})
    return {writer: _taken_together(list(by_index.values())) for writer, by_index in stays.items()}


def _taken_together(stays: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what seals say together of one writer. The first one tells of all that was before it."""
    first = min(stays, key=lambda stay: stay["first"])
    parts = [*stays, first["before"]] if "before" in first else stays
    return {
        "first": min(part["first"] for part in parts),
        **{name: max(parts, key=lambda part: part["last"])[name] for name in ("last", "hash")},
        "events": sum(part["events"] for part in parts),
        "newest": max(part["newest"] for part in parts),
    }


def _believed_seals(client: Client, stream: str, keys: TrustedKeys) -> Iterator[dict[str, Any]]:
    """Yield what each event says that seals an index; the earliest first."""
    client.request("POST", f"/{stream}/_refresh", params={"ignore_unavailable": True})
    body: dict[str, Any] = {
        "query": {"bool": {"filter": [{"term": {"event.action": INDEX_SEALED}}]}},
        "sort": [{"@timestamp": "asc"}, {"event.id": "asc"}],
        "size": SEALS_PER_PAGE,
    }
    while True:
        hits = search(client, stream, body)["hits"]["hits"]
        for hit in hits:
            event = read_sealed_event(orjson.dumps(hit["_source"]))
            if event is not None and (is_signed(event, keys) or (not keys and event.genuine)):
                yield event.metadata
        if len(hits) < SEALS_PER_PAGE:
            return
        body["search_after"] = hits[-1]["sort"]


def read_seals(client: Client, stream: str, uuids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the seals in *stream* say of the indices with these *uuids*, by uuid; without those not sealed.

    Each has the number of ``events``, the ``writers``, the ``parts`` as they were recorded, and ``places``: for each
    part the backing indices that hold it.

    Of several seals of one index the earliest complete one counts: a later one could cover up what was changed.
    """
    wanted = [{"term": {"event.action": INDEX_SEALED}}, {"terms": {"audit.metadata.index_uuid": list(uuids)}}]
    body = {
        "query": {"bool": {"filter": wanted}},
        "sort": [{"@timestamp": "asc"}],
        "size": MAX_RECORDS,
        "_source": ["audit.metadata"],
    }
    parts: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    places: dict[tuple[tuple[str, str], int], set[str]] = defaultdict(set)
    complete: dict[str, tuple[str, str]] = {}
    for hit in search(client, stream, body)["hits"]["hits"]:
        about = hit["_source"]["audit"]["metadata"]
        try:
            uuid, number, count = about["index_uuid"], int(about["part"]), int(about["parts"])
            key = (uuid, str(about["seal"]))
            int(about["events"])
            parts[key].setdefault(number, about)
        except (KeyError, TypeError, ValueError):
            continue  # not one of ours: nothing is sealed by it
        places[key, number].add(hit["_index"])
        if len(parts[key]) == count:
            complete.setdefault(uuid, key)
    return {
        uuid: {
            "events": int(parts[key][min(parts[key])]["events"]),
            "writers": [writer for _, part in sorted(parts[key].items()) for writer in part.get("writers") or ()],
            "parts": [part for _, part in sorted(parts[key].items())],
            "places": tuple(frozenset(places[key, number]) for number in parts[key]),
        }
        for uuid, key in complete.items()
    }
