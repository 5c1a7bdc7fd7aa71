"""What an answer means for the events that were sent."""

import orjson
import pytest

from audit_logging.errors import (
    CredentialsError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
    UnreachableError,
)
from audit_logging.shipping.answer import Fate, explain, judge_failure, judge_items


def item(status, error_type="", reason=""):
    result = {"status": status}
    if error_type:
        result["error"] = {"type": error_type, "reason": reason, "caused_by": {"type": "deeper", "reason": "cause"}}
    return {"create": result}


STREAM, INDEX = "audit-events", ".ds-audit-events-000001"


def judge(*items, index=INDEX):
    for number, each in enumerate(items, 1):
        if "create" in each:
            each["create"] = {"_index": INDEX, "_id": f"w-{number}"} | each["create"]
    return judge_items(orjson.dumps({"items": items}), "w", range(1, len(items) + 1), STREAM, index)


@pytest.mark.parametrize("index", [INDEX, ".ds-audit-events-000002", None])
def test_what_is_stored_needs_nothing_more(index):
    """Whether it went to the index that was expected, after a rollover to another, or to one that is not known."""
    assert judge(item(201), item(201), index=index) == {}


def test_an_id_that_is_taken_is_a_conflict_and_no_success():
    assert judge(item(409, "version_conflict_engine_exception"), item(201))[0].fate is Fate.CONFLICT


@pytest.mark.parametrize(
    "index", ["audit-events", ".ds-audit-events-000001x", ".ds-other-000001", "", ".ds-audit-events-1\x1b"]
)
def test_what_was_stored_outside_the_stream_is_not_stored(index):
    stray = {"create": {"_index": index, "status": 201}}
    verdict = judge(item(201), stray)[1]
    assert (verdict.fate, verdict.elsewhere) == (Fate.RETRY, True)
    assert "\x1b" not in verdict.reason


@pytest.mark.parametrize("doc_id", ["w-1", "other", None])
def test_what_was_stored_under_another_id_is_misplaced(doc_id):
    assert judge(item(201), {"create": {"_id": doc_id, "status": 201}})[1].fate is Fate.MISPLACED


def test_the_preview_of_a_refused_value_stays_out_of_the_reason():
    """It is the event's data, and may steer a terminal."""
    reason = "failed to parse field [source.ip]. Preview of field's value: 'hunter2\x1b[31m\n'"
    verdict = judge(item(201), item(400, "mapper_parsing_exception", reason))[1]
    assert "hunter2" not in verdict.reason
    assert "\x1b" not in verdict.reason
    assert "source.ip" in verdict.reason


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (item(429, "rejected_execution_exception"), Fate.RETRY),
        (item(400, "validation_exception", "maximum shards open"), Fate.RETRY),
        (item(400, "illegal_argument_exception", "pipeline with id [x] does not exist"), Fate.RETRY),
        (item(400, "index_closed_exception"), Fate.RETRY),
        (item(403, "cluster_block_exception"), Fate.RETRY),
        (item(403, "security_exception"), Fate.RETRY),
        (item(404, "index_not_found_exception"), Fate.RETRY),
        (item(503, "unavailable_shards_exception"), Fate.RETRY),
        (item(500, "whatever"), Fate.UNCERTAIN),
        (item(503, "whatever"), Fate.UNCERTAIN),
        (item(302), Fate.UNCERTAIN),
        (item(200), Fate.UNCERTAIN),
        (item(400, "mapper_parsing_exception"), Fate.REFUSED),
        (item(400, "strict_dynamic_mapping_exception"), Fate.REFUSED),
        (item(400, "illegal_argument_exception", "immense term"), Fate.REFUSED),
        (item(400), Fate.REFUSED),
    ],
)
def test_the_items_status_decides(answer, fate):
    """Errors of the cluster's state pass; errors of the document do not; a failing server may have stored it."""
    verdict = judge(item(201), answer)[1]
    assert verdict.fate is fate
    if fate is Fate.REFUSED and "error" in answer["create"]:
        assert "deeper: cause" in verdict.reason


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"items": []},
        {"items": [1]},
        {"items": [{"index": {}}]},
        {"items": [{"create": {"status": "ok"}}]},
        {"items": [{"create": {"status": True}}]},
        {"items": [{"create": []}]},
    ],
)
def test_an_answer_to_something_else_is_no_answer(answer):
    """A proxy's page or a cut list acknowledges nothing."""
    with pytest.raises(ValueError, match="answer"):
        judge_items(orjson.dumps(answer), "w", [1], STREAM, INDEX)


def refused(status, error_type="", kind=RefusedError, **facts):
    return kind("no", status=status, error_type=error_type, reason="", **facts)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (UnreachableError("timed out"), Fate.UNCERTAIN),
        (UnreachableError("refused", was_sent=False), Fate.RETRY),
        (ValueError("no answer"), Fate.UNCERTAIN),
        (OSError("socket"), Fate.UNCERTAIN),
        (OpenSearchError("no stream"), Fate.RETRY),
        (refused(502), Fate.UNCERTAIN),
        (refused(503), Fate.UNCERTAIN),
        (refused(504), Fate.UNCERTAIN),
        (refused(429), Fate.RETRY),
        (refused(401, kind=CredentialsError), Fate.RETRY),
        (refused(403, kind=CredentialsError), Fate.RETRY),
        (refused(404, kind=NotFoundError), Fate.RETRY),
        (refused(307), Fate.RETRY),
        (refused(400, "validation_exception"), Fate.RETRY),
        (refused(400, "parse_exception"), Fate.REFUSED),
        (refused(413), Fate.REFUSED),
    ],
)
def test_a_request_that_fails_as_a_whole(error, fate):
    """Only what may have been carried out is uncertain, and only what speaks of the request refuses it."""
    assert judge_failure(error).fate is fate


def test_the_wish_of_the_server_is_passed_on():
    """A throttling one knows best when to come back."""
    assert judge_failure(refused(429, retry_after_seconds=7.0)).retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "reason",
    [
        "failed to parse field [x] of type [long]. Preview of field's value: '{}'",
        'For input string: "{}"',
        "failed to parse date field [{}] with format [strict_date_optional_time]",
        "'{}' is not an IP string literal.",
        "Document contains at least one immense term. The prefix of the first immense term is: '[{}]...'",
    ],
)
@pytest.mark.parametrize("value", ["hunter2", "it's hunter2", "a]'\n\x1b[2J\u202e hunter2"])
def test_no_error_of_the_mapping_brings_a_value_into_a_log(reason, value):
    """OpenSearch quotes what it refuses, in the error itself or in its cause."""
    told = {"type": "mapper_parsing_exception", "reason": reason.format(value)}
    for error in (told, {"type": "x", "reason": "y", "caused_by": told}):
        explained = explain(error)
        assert "hunter2" not in explained
        assert explained.isprintable()
