"""What an answer means for the events that were sent, as pure functions. The item decides, never the request alone."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from audit_logging.errors import CredentialsError, NotFoundError, OpenSearchError, RefusedError, UnreachableError
from audit_logging.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

CREATED, CONFLICT = 201, 409
ITEMS: Final = "items.*._index,items.*._id,items.*.status,items.*.error"
"""What of a bulk answer is wanted; all of it would be three times as long."""

_CREATED_ITEM = b'{"create":{"_index":"%b","_id":"%b-%d","status":201}}'
_PREVIEW: Final = re.compile(
    r"(Preview of field's value: '|For input string: |failed to parse date field |could not be parsed|prefix of the"
    r" first immense term is: ).{0,4000}",
    re.DOTALL,
)
_NO_ADDRESS: Final = "' is not an IP string literal"
_BAD_REQUEST, _TOO_LARGE, _TOO_MANY_REQUESTS, _SERVER_ERROR = 400, 413, 429, 500


class Fate(Enum):
    """What an answer means for an event."""

    RETRY = "retry"
    """It was not taken now; it can be later."""
    UNCERTAIN = "uncertain"
    """It may have been stored or not, or still be on its way."""
    REFUSED = "refused"
    """It is not accepted, and never will be."""
    CONFLICT = "conflict"
    """A document has its id. Whether it is this one is not said."""
    MISPLACED = "misplaced"
    """It was stored under another id, where nobody looks for it; sending it again would store it once more."""


class Verdict(NamedTuple):
    """The fate of one event that is not stored, or of all events of a request, and why.

    Attributes:
        retry_after_seconds: How long the server asks us to stay away, if it does.
        elsewhere: Whether it was stored outside the stream.
        forbidden: Whether the role may not write it.
    """

    fate: Fate
    reason: str
    retry_after_seconds: float | None = None
    elsewhere: bool = False
    forbidden: bool = False


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


def judge_items(
    body: bytes, writer: str, sequences: Sequence[int], stream: str, index: str | None = None
) -> dict[int, Verdict]:
    """Return the verdict on each event of a bulk answer that is not stored, by its place in the request.

    Args:
        body: JSON with what :data:`ITEMS` names.
        writer: The writer of the events that were sent.
        sequences: Their numbers, in order.
        stream: The data stream that they were sent to.
        index: The backing index that it is believed to write to.

    Raises:
        ValueError: It does not speak of these events, so it is no answer to this request.
    """
    if index is not None:  # as nearly always they are all created there; comparing is ten times as fast as parsing
        name, place = writer.encode(), index.encode()
        if body == b'{"items":[%b]}' % b",".join([_CREATED_ITEM % (place, name, number) for number in sequences]):
            return {}
    return judge_each(body, [f"{writer}-{sequence}" for sequence in sequences], stream)


def judge_each(body: bytes, ids: Sequence[str], stream: str) -> dict[int, Verdict]:
    """Do the same for events of any writers.

    Args:
        body: As above.
        ids: The ids of the events that were sent, in order.
        stream: The data stream that they were sent to.

    Raises:
        ValueError: It does not speak of these events, so it is no answer to this request.
    """
    answer = orjson.loads(body)
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != len(ids):
        raise ValueError("the answer does not list the events that were sent")
    try:
        told = [item["create"] for item in items]
        statuses = [each["status"] for each in told]
    except (KeyError, TypeError) as error:
        raise ValueError("the answer has an item without a status") from error
    if not all(type(status) is int for status in statuses):
        raise ValueError("the answer has a status that is no number")
    backing = re.compile(rf"\.ds-{re.escape(stream)}-[0-9]+")
    verdicts = {}
    for place, (wanted_id, each) in enumerate(zip(ids, told, strict=True)):
        verdict = _judge(each, wanted_id, backing)
        if verdict is not None:
            verdicts[place] = verdict
    return verdicts


def _judge(item: dict[str, Any], wanted_id: str, backing: re.Pattern[str]) -> Verdict | None:
    status, error, index = item["status"], item.get("error"), str(item.get("_index", ""))
    if status == CREATED:
        if backing.fullmatch(index) is None:
            where = printable(index)[:100]
            return Verdict(Fate.RETRY, f"it was stored in {where!r}, which is no part of the stream", elsewhere=True)
        if item.get("_id") != wanted_id:
            stored = printable(str(item.get("_id")))[:200]
            return Verdict(Fate.MISPLACED, f"it was stored under the id {stored}: does an ingest pipeline set _id?")
        return None
    reason = explain(error) or f"status {status}"
    if status == CONFLICT:
        return Verdict(Fate.CONFLICT, reason)
    if status == _TOO_MANY_REQUESTS or _passes(error):
        return Verdict(Fate.RETRY, reason, forbidden=_type_of(error) == "security_exception")
    if status >= _SERVER_ERROR:  # a primary may have stored it before it, or a replica, failed
        return Verdict(Fate.UNCERTAIN, reason)
    if status < _BAD_REQUEST:
        return Verdict(Fate.UNCERTAIN, f"status {status}, which means nothing here")
    return Verdict(Fate.REFUSED, reason)


def _type_of(error: Any) -> str:
    return str(error.get("type")) if isinstance(error, dict) else ""


def _passes(error: Any) -> bool:
    if not isinstance(error, dict):
        return False
    reason = str(error.get("reason"))
    return _type_of(error) in _PASSING_TYPES or any(fragment in reason for fragment in _PASSING_REASONS)


def judge_failure(error: Exception) -> Verdict:
    """Return what it means for all events of a request that it failed as a whole.

    Example:
        >>> judge_failure(UnreachableError("nobody there", was_sent=False)).fate
        <Fate.RETRY: 'retry'>
    """
    reason = _harmless(str(error))
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
    # Without OpenSearch's own error it is a proxy that does not like the request; that says nothing of the events.
    return bool(error.error_type) and not _passes({"type": error.error_type, "reason": error.reason})


def explain(error: Any) -> str:
    """Return OpenSearch's error with its cause as one line, harmless to show."""
    parts: list[str] = []
    while isinstance(error, dict) and len(parts) < 4:  # noqa: PLR2004 - deeper causes repeat the first ones
        parts.append(f"{error.get('type', '')}: {error.get('reason', '')}")
        error = error.get("caused_by")
    return _harmless(" ← ".join(parts))


def _harmless(text: str) -> str:
    """Return a server's text without the values it quotes: they are an event's data, and this text goes to logs."""
    before, quoted, after = text[:4000].rpartition(_NO_ADDRESS)
    shown = before.partition("'")[0] + "…" + quoted + after if quoted else after
    return printable(_PREVIEW.sub(r"\1…", shown))[:2000]
