"""One bulk request and its answer, as pure functions: what is sent, and what each item's answer means."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from audit_logging.spool.segment import Record

CREATED, CONFLICT, TOO_MANY_REQUESTS, SERVER_ERROR = 201, 409, 429, 500


class Fate(Enum):
    """What one item's answer means for its event."""

    ACKNOWLEDGED = "acknowledged"
    """It is stored, by this request or by an earlier one."""
    RETRY = "retry"
    """The cluster cannot take it now; it can later."""
    REFUSED = "refused"
    """The document itself is not accepted, and never will be."""


class Verdict(NamedTuple):
    """The fate of one event, and why."""

    fate: Fate
    reason: str = ""


# 400s and 403s that speak of the cluster's state and not of the document: they pass.
_PASSING_ERRORS = frozenset(
    {
        "cluster_block_exception",
        "validation_exception",  # "this action would add [1] total shards, but this cluster currently has …"
        "illegal_state_exception",
        "index_not_found_exception",
        "security_exception",
        "process_cluster_event_timeout_exception",
        "unavailable_shards_exception",
        "circuit_breaking_exception",
        "rejected_execution_exception",
        "opensearch_rejected_execution_exception",
    }
)

_ACKNOWLEDGED = Verdict(Fate.ACKNOWLEDGED)


def document_id(writer: str, sequence: int) -> str:
    """Return the ``_id`` that makes a second attempt harmless."""
    return f"{writer}-{sequence}"


def encode_batch(records: Sequence[Record], writer: str) -> bytes:
    """Return the body of one bulk request that only creates.

    Args:
        records: Sealed documents; at least one.
        writer: The writer they are from.

    Returns:
        UTF-8 NDJSON: two lines a record (action, document), each ended by a newline.

    Source: OpenSearch documentation, "Bulk", section "Request body".
    """
    prefix = b'{"create":{"_id":"%b-' % writer.encode()
    parts: list[bytes] = []
    for sequence, payload in records:
        parts += (prefix, b"%d" % sequence, b'"}}\n', payload, b"\n")
    return b"".join(parts)


def judge_items(answer: Mapping[str, Any], count: int) -> list[Verdict]:
    """Return a verdict for each item of a bulk answer, in order. The item's status decides, never the request's.

    Raises:
        ValueError: The answer does not speak of *count* items, so it is no answer to this request.
    """
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise ValueError("the answer does not list the events that were sent")
    return [_judge(item) for item in items]


def _judge(item: Any) -> Verdict:
    result = item.get("create") if isinstance(item, dict) else None
    if not isinstance(result, dict) or not isinstance(status := result.get("status"), int):
        raise ValueError("the answer has an item without a status")  # noqa: TRY004 - one error for any malformed answer
    if status in (CREATED, CONFLICT):
        return _ACKNOWLEDGED
    error = result.get("error")
    error_type = str(error.get("type", "")) if isinstance(error, dict) else ""
    reason = explain(error) or f"status {status}"
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERROR or error_type in _PASSING_ERRORS:
        return Verdict(Fate.RETRY, reason)
    return Verdict(Fate.REFUSED, reason)


def explain(error: Any) -> str:
    """Return OpenSearch's error with its cause as one line."""
    parts: list[str] = []
    while isinstance(error, dict) and len(parts) < 4:  # noqa: PLR2004 - deeper causes repeat the first ones
        parts.append(f"{error.get('type', '')}: {error.get('reason', '')}")
        error = error.get("caused_by")
    return " ← ".join(parts)[:2000]


def quarantine_document(record: Record, reason: str) -> bytes:
    """Return the stand-in for a refused document: its seal verbatim, the document as text that is not indexed.

    It keeps the place of the event in its writer's chain, so that verification finds no gap.
    """
    refused = orjson.loads(record.payload)
    stand_in = {
        "@timestamp": refused["@timestamp"],
        "audit": {
            "integrity": refused["audit"]["integrity"],
            "quarantine": {"document": record.payload.decode(), "reason": reason},
            "schema": refused["audit"]["schema"],
        },
        "event": {"action": "audit.quarantined", "id": refused["event"]["id"], "kind": "pipeline_error"},
        "log": {"level": "critical"},
        "message": "An event was refused by OpenSearch and is kept in quarantine",
    }
    return orjson.dumps(stand_in, option=orjson.OPT_SORT_KEYS)
