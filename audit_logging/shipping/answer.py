"""What an answer means for the events that were sent, as pure functions. The item decides, never the request alone."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import orjson

from audit_logging.errors import CredentialsError, NotFoundError, OpenSearchError, RefusedError, UnreachableError

CREATED, CONFLICT = 201, 409
_CREATED_ITEM = b'{"create":{"status":201}}'
_BAD_REQUEST, _TOO_LARGE, _TOO_MANY_REQUESTS, _SERVER_ERROR = 400, 413, 429, 500


class Fate(Enum):
    """What an answer means for an event."""

    RETRY = "retry"
    """It was not taken now; it can be later."""
    UNCERTAIN = "uncertain"
    """It may have been stored or not, or still be on its way."""
    REFUSED = "refused"
    """It is not accepted, and never will be."""


class Verdict(NamedTuple):
    """The fate of one event that is not stored, or of all events of a request, and why.

    Attributes:
        retry_after_seconds: How long the server asks us to stay away, if it does.
    """

    fate: Fate
    reason: str
    retry_after_seconds: float | None = None


# Errors that speak of the cluster's state or configuration and not of the document: they pass, or somebody mends them.
_PASSING_TYPES = frozenset(
    {
        "circuit_breaking_exception",
        "cluster_block_exception",
        "illegal_state_exception",
        "index_closed_exception",
        "index_create_block_exception",
        "index_not_found_exception",
        "no_shard_available_action_exception",
        "node_closed_exception",
        "opensearch_rejected_execution_exception",
        "process_cluster_event_timeout_exception",
        "rejected_execution_exception",
        "resource_already_exists_exception",
        "security_exception",
        "unavailable_shards_exception",
        "validation_exception",  # "this action would add [1] total shards, but this cluster currently has …"
    }
)
_PASSING_REASONS = ("pipeline with id", "maximum shards", "total shards", "no write index")


def judge_items(body: bytes, count: int) -> dict[int, Verdict]:
    """Return the verdict on each event of a bulk answer that is not stored, by its place in the request.

    Args:
        body: JSON with ``items.*.status`` and ``items.*.error``.
        count: How many events were sent.

    Raises:
        ValueError: It does not speak of *count* events, so it is no answer to this request.
    """
    if body == b'{"items":[%b]}' % b",".join([_CREATED_ITEM] * count):  # as nearly always, and ten times as fast
        return {}
    answer = orjson.loads(body)
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise ValueError("the answer does not list the events that were sent")
    try:
        statuses = [item["create"]["status"] for item in items]
    except (KeyError, TypeError) as error:
        raise ValueError("the answer has an item without a status") from error
    if not all(type(status) is int for status in statuses):
        raise ValueError("the answer has a status that is no number")
    return {
        place: _judge(status, items[place]["create"].get("error"))
        for place, status in enumerate(statuses)
        if status not in (CREATED, CONFLICT)
    }


def _judge(status: int, error: Any) -> Verdict:
    reason = explain(error) or f"status {status}"
    if status == _TOO_MANY_REQUESTS or _passes(error):
        return Verdict(Fate.RETRY, reason)
    if status >= _SERVER_ERROR:  # a primary may have stored it before it, or a replica, failed
        return Verdict(Fate.UNCERTAIN, reason)
    if status < _BAD_REQUEST:
        return Verdict(Fate.UNCERTAIN, f"status {status}, which means nothing here")
    return Verdict(Fate.REFUSED, reason)


def _passes(error: Any) -> bool:
    if not isinstance(error, dict):
        return False
    reason = str(error.get("reason"))
    return error.get("type") in _PASSING_TYPES or any(fragment in reason for fragment in _PASSING_REASONS)


def judge_failure(error: Exception) -> Verdict:
    """Return what it means for all events of a request that it failed as a whole.

    Example:
        >>> judge_failure(UnreachableError("nobody there", was_sent=False)).fate
        <Fate.RETRY: 'retry'>
    """
    reason = str(error)
    if isinstance(error, UnreachableError):
        return Verdict(Fate.UNCERTAIN if error.was_sent else Fate.RETRY, reason)
    if not isinstance(error, RefusedError):
        known = isinstance(error, OpenSearchError)
        return Verdict(Fate.RETRY if known else Fate.UNCERTAIN, reason)
    if error.status == _TOO_LARGE or _is_about_the_request(error):
        return Verdict(Fate.REFUSED, reason)
    # A gateway may have passed the request on before it gave up.
    fate = Fate.UNCERTAIN if error.status >= _SERVER_ERROR else Fate.RETRY
    return Verdict(fate, reason, error.retry_after_seconds)


def _is_about_the_request(error: RefusedError) -> bool:
    if error.status != _BAD_REQUEST or isinstance(error, CredentialsError | NotFoundError):
        return False
    return not _passes({"type": error.error_type, "reason": error.reason})


def explain(error: Any) -> str:
    """Return OpenSearch's error with its cause as one line."""
    parts: list[str] = []
    while isinstance(error, dict) and len(parts) < 4:  # noqa: PLR2004 - deeper causes repeat the first ones
        parts.append(f"{error.get('type', '')}: {error.get('reason', '')}")
        error = error.get("caused_by")
    return " ← ".join(parts)[:2000]
