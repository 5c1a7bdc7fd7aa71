"""Requests and answers, apart from the sending: queries are generators that yield requests and receive answers.

So the same query runs blocking or under asyncio; only the few lines that drive it differ.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from audit_logging.errors import (
    AuditError,
    FilterError,
    IncompleteResultError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from audit_logging.settings import Settings

Result = TypeVar("Result")
Answer = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request to OpenSearch.

    Attributes:
        method, path: What is asked.
        body: A JSON object.
        params: Query parameters.
        most_bytes: A larger answer is not read, but raises :class:`AnswerTooLargeError` where it is awaited.
    """

    method: str
    path: str
    body: Mapping[str, Any]
    params: Mapping[str, str | int | bool]
    most_bytes: int | None = None


Steps = Generator[Request, Answer, Result]
"""A query as it goes: yields what to ask, is sent the checked answers (or what was raised), returns its result."""


def search_request(
    stream: str, body: Mapping[str, Any], *, most_bytes: int | None = None, **params: str | int | bool
) -> Request:
    """Return a search in *stream* that a failing shard makes fail as a whole.

    Shards that hold nothing within the query's time are skipped, and told as skipped, however few there are.
    """
    # A search pipeline that somebody made the default of an index could leave events out.
    whole: dict[str, str | int | bool] = {
        "allow_partial_search_results": False,
        "pre_filter_shard_size": 1,
        "search_pipeline": "_none",
    }
    return Request("POST", f"/{stream}/_search", body, {**whole, **params}, most_bytes)


def run(steps: Steps[Result], send: Callable[[Request], Answer]) -> Result:
    """Drive a query to its result, blocking."""
    try:
        request = next(steps)
        while True:
            try:
                answer = send(request)
            except AuditError as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result: Result = stop.value
        return result


async def arun(steps: Steps[Result], send: Callable[[Request], Awaitable[Answer]]) -> Result:
    """Drive a query to its result under asyncio."""
    try:
        request = next(steps)
        while True:
            try:
                answer = await send(request)
            except AuditError as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def checked(answer: Answer) -> Answer:
    """Return *answer* when it is whole.

    Raises:
        IncompleteResultError: Time ran out on the server, or a shard failed.
    """
    if answer.get("timed_out"):
        raise IncompleteResultError(
            "OpenSearch ran out of time, so the answer would be partial: narrow the time range."
        )
    shards = answer.get("_shards", {})
    if shards.get("failed"):
        reason = _first_reason(shards.get("failures"))
        raise IncompleteResultError(
            f"{shards['failed']} of {shards.get('total')} shards failed ({reason}), so the"
            " answer would be partial: check the cluster's health and ask again."
        )
    return answer


def explained(error: OpenSearchError, settings: Settings) -> Exception:
    """Return the error that tells the reader of a stream what *error* means; *error* itself when that is clear."""
    if not isinstance(error, RefusedError):
        return error
    where = ", ".join(settings.opensearch_url)
    option = "" if settings.stream == type(settings).model_fields["stream"].default else f" --stream {settings.stream}"
    if error.error_type == "index_not_found_exception":
        sentence = f"There is no stream {settings.stream!r} at {where} yet: run `audit-logging setup{option}`."
        return NotFoundError(
            sentence, status=error.status, error_type=error.error_type, reason=error.reason, body=error.body
        )
    if error.error_type == "search_phase_execution_exception":
        return _failed_search(error, f"{settings.stream!r} at {where}", option)
    return error


def _failed_search(error: RefusedError, what: str, option: str) -> Exception:
    detail = error.body["error"] if isinstance(error.body, dict) else {}
    cause = detail.get("caused_by") or {}
    if cause.get("type") == "too_many_buckets_exception":
        return FilterError(
            f"The interval is too small for that time range (more than {cause.get('max_buckets')} steps):"
            " choose a longer one, or narrow the range."
        )
    reason = _first_reason(detail.get("failed_shards"))
    if "No mapping found for" in reason:
        return RefusedError(
            f"{what} holds no audit trail, or an older one: run `audit-logging setup{option}`.",
            status=error.status,
            error_type=error.error_type,
            reason=reason,
            body=error.body,
        )
    if error.status >= 500:  # noqa: PLR2004 - the question was sound
        return IncompleteResultError(
            f"Shards of {what} failed ({reason}), so the answer would be partial: check the cluster's health and ask"
            " again."
        )
    return error


def _first_reason(failures: Any) -> str:
    for failure in failures or ():
        reason = failure.get("reason")
        if isinstance(reason, dict):
            return str(reason.get("reason") or reason.get("type"))
    return "no shard is available"
