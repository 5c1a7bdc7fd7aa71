"""What an administrator can do to searches without touching an event."""

from contextlib import suppress

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import NotFoundError
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query.reader import AuditReader

pytestmark = pytest.mark.server


@pytest.fixture
def trail(settings):
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    trail = Trail(settings)
    for number in range(3):
        trail.emit("user.login", {"user_id": f"u-{number}", "reason": "u-9"})
    assert trail.flush(20)
    yield trail
    trail.shutdown(20)


def put(client, path, **body):
    client.request("PUT", path, body=body)


def change_user(client, stream, **field):
    """Map ``user.id`` otherwise, in every backing index from the next one on."""
    put_template(client, stream, {"user": {"properties": {"id": field}}})


def put_template(client, stream, properties, **mappings):
    found = client.request("GET", f"/_index_template/{stream}")["index_templates"][0]["index_template"]
    template = {**found.get("template", {}), "mappings": {"properties": properties, **mappings}}
    put(client, f"/_index_template/{stream}", **{**found, "template": template})
    client.request("POST", f"/{stream}/_rollover")


def default_search_pipeline(client, stream):
    hide = {"filter_query": {"query": {"bool": {"must_not": [{"term": {"user.id": "u-1"}}]}}}}
    put(client, f"/_search/pipeline/hide-{stream}", request_processors=[hide])
    put(client, f"/{stream}/_settings", **{"index.search.default_pipeline": f"hide-{stream}"})


def derived_field(client, stream):
    put(client, f"/{stream}/_mapping", derived={"who": {"type": "keyword", "script": {"source": 'emit("u-9")'}}})


def ingest_pipeline(client, stream):
    put(client, f"/_ingest/pipeline/drop-{stream}", processors=[{"drop": {"if": "ctx.user?.id == 'u-2'"}}])
    put(client, f"/{stream}/_settings", **{"index.final_pipeline": f"drop-{stream}"})


def clean_up(client, stream):
    put(client, f"/{stream}/_settings", **{"index.search.default_pipeline": "_none", "index.final_pipeline": "_none"})
    for path in (f"/_search/pipeline/hide-{stream}", f"/_ingest/pipeline/drop-{stream}"):
        with suppress(NotFoundError):
            client.request("DELETE", path)


CHANGES = {
    "search pipeline": default_search_pipeline,
    "derived field": derived_field,
    "ingest pipeline": ingest_pipeline,
    "alias": lambda client, stream: change_user(client, stream, type="alias", path="user.name"),
    "null value": lambda client, stream: change_user(client, stream, type="keyword", null_value="u-9"),
    "not indexed": lambda client, stream: change_user(client, stream, type="keyword", index=False),
    "cut short": lambda client, stream: change_user(client, stream, type="keyword", ignore_above=2),
    "copied": lambda client, stream: put_template(
        client, stream, {"event": {"properties": {"reason": {"type": "text", "copy_to": "user.id"}}}}
    ),
    "copied from a new field": lambda client, stream: put_template(
        client, stream, {"process": {"properties": {"pid": {"type": "long", "copy_to": "user.id"}}}}
    ),
    "another analysis": lambda client, stream: put_template(
        client, stream, {"message": {"type": "text", "analyzer": "stop"}}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_search_that_shows_something_else_than_is_stored_is_named(trail, client, settings, change):
    try:
        change(client, settings.stream)
        trail.emit("user.login", {"user_id": "u-3"})
        assert trail.flush(20)
        with AuditReader(settings=settings) as reader:
            for from_last in (False, True):
                findings = reader.verify(from_last=from_last).findings
                assert "mapping_changed" in {finding.kind for finding in findings}
                assert ".ds-" in findings[0].sentence
    finally:
        clean_up(client, settings.stream)


def test_no_search_pipeline_hides_an_event(trail, client, settings, tmp_path):
    try:
        default_search_pipeline(client, settings.stream)
        client.request("POST", f"/{settings.stream}/_refresh")
        with AuditReader(settings=settings) as reader:
            assert [event.user_id for event in reader.search(user_id="u-1").events] == ["u-1"]
            assert len(list(reader.scan(user_id="u-1"))) == reader.count(user_id="u-1") == 1
            for method in ("pit", "scroll"):
                assert reader.export(tmp_path / method, method=method, user_id="u-1").events == 1
            assert {finding.kind for finding in reader.verify().findings} == {"mapping_changed"}
        with AuditAdmin(settings=settings) as admin:
            assert admin.retention_plan().outlooks[0].index.events >= 3
    finally:
        clean_up(client, settings.stream)


def test_a_mapping_of_an_earlier_version_and_fields_of_somebody_else_are_as_they_should_be(trail, client, settings):
    put(client, f"/{settings.stream}/_mapping", properties={"theirs": {"type": "keyword"}})
    with AuditReader(settings=settings) as reader:
        assert reader.verify().findings == ()
