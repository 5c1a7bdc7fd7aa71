"""What is sent and what each item's answer means, without any I/O."""

import orjson
import pytest

from audit_logging.shipping.backoff import LONGEST_SECONDS, Backoff
from audit_logging.shipping.batch import Fate, encode_batch, judge_items, quarantine_document
from audit_logging.spool.segment import Record


def item(status, error_type="", reason=""):
    result = {"status": status}
    if error_type:
        result["error"] = {"type": error_type, "reason": reason, "caused_by": {"type": "deeper", "reason": "cause"}}
    return {"create": result}


def test_a_batch_only_creates_with_ids_from_the_seal():
    """Two lines a record; a retry meets its own id."""
    body = encode_batch([Record(7, b'{"a":1}'), Record(8, b'{"b":2}')], "w")
    assert body == b'{"create":{"_id":"w-7"}}\n{"a":1}\n{"create":{"_id":"w-8"}}\n{"b":2}\n'


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (item(201), Fate.ACKNOWLEDGED),
        (item(409, "version_conflict_engine_exception"), Fate.ACKNOWLEDGED),
        (item(429, "rejected_execution_exception"), Fate.RETRY),
        (item(500, "whatever"), Fate.RETRY),
        (item(503, "unavailable_shards_exception"), Fate.RETRY),
        (item(400, "validation_exception", "maximum shards open"), Fate.RETRY),
        (item(403, "cluster_block_exception"), Fate.RETRY),
        (item(403, "security_exception"), Fate.RETRY),
        (item(404, "index_not_found_exception"), Fate.RETRY),
        (item(400, "mapper_parsing_exception"), Fate.REFUSED),
        (item(400, "illegal_argument_exception"), Fate.REFUSED),
        (item(400), Fate.REFUSED),
    ],
)
def test_the_items_status_decides(answer, fate):
    """Errors of the cluster's state pass; errors of the document do not."""
    verdict = judge_items({"items": [answer]}, 1)[0]
    assert verdict.fate is fate
    if fate is Fate.REFUSED and "error" in answer["create"]:
        assert "deeper: cause" in verdict.reason


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"items": []}, {"items": [1]}, {"items": [{"index": {}}]}, {"items": [{"create": {"status": "ok"}}]}],
)
def test_an_answer_to_something_else_is_no_answer(answer):
    """A proxy's page or a cut list acknowledges nothing."""
    with pytest.raises(ValueError, match="answer"):
        judge_items(answer, 1)


def test_quarantine_keeps_the_seal_and_the_document_verbatim():
    """The chain still verifies over what was refused."""
    payload = b'{"@timestamp":"t","audit":{"integrity":{"hash":"h"},"schema":"1"},"event":{"id":"e"},"x":1}'
    stand_in = orjson.loads(quarantine_document(Record(1, payload), "why"))
    assert stand_in["audit"]["integrity"] == {"hash": "h"}
    assert stand_in["audit"]["quarantine"] == {"document": payload.decode(), "reason": "why"}
    assert stand_in["event"]["id"] == "e"


def test_delays_grow_to_a_limit_and_begin_anew():
    """Full jitter under an exponential ceiling."""
    backoff = Backoff()
    delays = [backoff.next() for _ in range(60)]
    assert all(0 <= delay <= min(0.25 * 2**index, LONGEST_SECONDS) for index, delay in enumerate(delays))
    backoff.reset()
    assert backoff.next() <= 0.25
