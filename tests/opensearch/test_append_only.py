"""A trail that was set up cannot be rewritten through the ordinary interfaces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from audit_logging.errors import RefusedError

pytestmark = pytest.mark.server

EVENT: dict[str, Any] = {"@timestamp": "2026-01-01T00:00:00.000001Z", "event": {"id": "e-1", "action": "user.login"}}
EVERYTHING: dict[str, Any] = {"query": {"match_all": {}}}


@pytest.fixture
def index(admin, client, stream):
    """The write index of a stream that holds one event, with the id w-1."""
    admin.setup()
    return client.request("PUT", f"/{stream}/_create/w-1", params={"refresh": True}, body=EVENT)["_index"]


@pytest.mark.parametrize(
    "attempt",
    [
        ("PUT", "/{stream}/_doc/w-1", EVENT),
        ("PUT", "/{stream}/_doc/w-2", EVENT),
        ("PUT", "/{index}/_doc/w-1", EVENT),
        ("PUT", "/{index}/_doc/w-2", EVENT),
        ("POST", "/{stream}/_update/w-1", {"doc": {"message": "x"}}),
        ("POST", "/{index}/_update/w-1", {"doc": {"message": "x"}}),
        ("POST", "/{index}/_update/w-1", {"script": {"source": "ctx._source.message = 'x'"}}),
        ("POST", "/{index}/_update/w-1", {"script": {"source": "ctx.op = 'delete'"}}),
        ("POST", "/{index}/_update/w-3", {"doc": {"message": "x"}, "upsert": EVENT}),
        ("PUT", "/{index}/_doc/w-1?version=9&version_type=external", EVENT),
        ("DELETE", "/{stream}/_doc/w-1", None),
        ("DELETE", "/{index}/_doc/w-1", None),
        ("POST", "/{stream}/_delete_by_query", EVERYTHING),
        ("POST", "/{index}/_delete_by_query", EVERYTHING),
        ("POST", "/{stream}/_update_by_query", EVERYTHING),
        ("PUT", "/{index}/_settings", {"index.append_only.enabled": False}),
    ],
)
def test_every_way_to_change_an_event_is_refused(client, stream, index, attempt):
    method, path, body = attempt
    with pytest.raises(RefusedError):
        client.request(method, path.format(stream=stream, index=index), body=body)
    client.request("POST", f"/{stream}/_refresh")
    answer = client.request("POST", f"/{stream}/_search", body=EVERYTHING)
    assert [(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]] == [("w-1", EVENT)]


@pytest.mark.parametrize("action", ["delete", "index", "update"])
def test_a_bulk_request_may_not_change_an_event_either(client, stream, index, action):
    lines: list[dict[str, Any]] = [{action: {"_index": index, "_id": "w-1"}}]
    lines += [] if action == "delete" else [{"doc": EVENT}] if action == "update" else [{**EVENT, "message": "x"}]
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    try:
        answer = client.request("POST", "/_bulk", body=body)
    except RefusedError:
        pass
    else:
        assert answer["errors"] is True
    assert client.request("GET", f"/{index}/_doc/w-1")["_source"] == EVENT


def test_the_same_event_again_is_a_conflict(client, stream, index):
    with pytest.raises(RefusedError) as refused:
        client.request("PUT", f"/{stream}/_create/w-1", body=EVENT)
    assert refused.value.status == 409


def test_without_the_setting_a_trail_can_be_rewritten_and_the_report_says_so(admin, client, stream):
    report = admin.setup(append_only=False)
    assert any("not append-only" in note for note in report.notes)
    client.request("PUT", f"/{stream}/_create/w-1", params={"refresh": True}, body=EVENT)
    answer = client.request("POST", f"/{stream}/_delete_by_query", body=EVERYTHING)
    assert answer["deleted"] == 1
