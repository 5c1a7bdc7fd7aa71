"""The set-up of a stream on a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from audit_logging.errors import CredentialsError, OpenSearchError, SettingsError
from audit_logging.opensearch import templates
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.setup import NO_ISM, matches
from audit_logging.opensearch.steps import Request

pytestmark = pytest.mark.server

EVENT = {"@timestamp": "2026-01-01T00:00:00Z"}


def outcomes(report):
    return {(step.what, step.name): step.outcome for step in report.steps}


def everything(client, stream):
    """All that a set-up may create or change, as the server tells it."""
    parts = []
    for path in (f"/_component_template/{stream}*", f"/_index_template/{stream}*", f"/_data_stream/{stream}*"):
        try:
            parts.append(client.request("GET", path))
        except OpenSearchError:
            parts.append(None)
    parts.append(client.request("GET", f"/.ds-{stream}*", params={"expand_wildcards": "all"}))
    return parts


@pytest.fixture
def older(monkeypatch):
    """Let this library be of version 0, so that the real one is an upgrade."""
    real = templates._load

    def load(name, stream):
        loaded = real(name, stream)
        if "version" in loaded:
            loaded["version"] = 0
        if name == "component-mappings":
            loaded["template"]["mappings"]["_meta"]["version"] = 0
            del loaded["template"]["mappings"]["properties"]["session"]
        return loaded

    monkeypatch.setattr(templates, "_load", load)
    return monkeypatch


def test_a_set_up_creates_what_is_missing_in_the_order_that_opensearch_needs(admin, client, stream):
    report = admin.setup()
    assert report.changed
    assert not report.dry_run
    assert [(step.what, step.name) for step in report.steps] == [
        ("ISM policy", f"{stream}-retention"),
        ("component template", f"{stream}-mappings"),
        ("component template", f"{stream}-settings"),
        ("index template", stream),
        ("data stream", stream),
    ]
    index = client.request("GET", f"/{stream}")[f".ds-{stream}-000001"]
    assert index["settings"]["index"]["append_only"] == {"enabled": "true"}
    assert index["settings"]["index"]["codec"] == "best_compression"
    assert index["mappings"]["dynamic"] == "false"


def test_setting_up_twice_changes_nothing(admin, client, stream):
    admin.setup()
    before = everything(client, stream)
    again = admin.setup()
    assert not again.changed
    assert not any(step.requests for step in again.steps)
    assert everything(client, stream) == before


def test_a_dry_run_says_the_same_and_changes_nothing(admin, client, stream):
    before = everything(client, stream)
    dry = admin.setup(dry_run=True)
    assert dry.dry_run
    assert everything(client, stream) == before
    real = admin.setup()
    assert (dry.steps, dry.notes) == (real.steps, real.notes)


def test_several_instances_may_set_up_at_once(settings, client, stream):
    def set_up(_):
        with AuditAdmin(settings=settings) as admin:
            return admin.setup()

    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(set_up, range(6)))
    assert all(not report.dry_run for report in reports)
    assert client.request("GET", f"/_data_stream/{stream}")["data_streams"][0]["generation"] == 1


def test_an_older_version_is_brought_up_to_date_and_new_fields_become_searchable(older, admin, client, stream):
    admin.setup()
    older.undo()
    report = admin.setup()
    assert outcomes(report)[("component template", f"{stream}-mappings")] == "updated"
    assert outcomes(report)[("index template", stream)] == "updated"
    assert outcomes(report)[("data stream", stream)] == "unchanged"
    assert outcomes(report)[("write index", f".ds-{stream}-000001")] == "updated"
    assert "from version 0 to 1" in {step.detail for step in report.steps}
    mapping = client.request("GET", f"/{stream}/_mapping")[f".ds-{stream}-000001"]["mappings"]
    assert mapping["properties"]["session"] == {"properties": {"id": {"type": "keyword"}}}
    assert mapping["_meta"]["version"] == 1
    assert not admin.setup().changed


def test_a_stream_whose_fields_cannot_become_ours_is_rolled_over(admin, client, stream):
    body = {
        "index_patterns": [stream],
        "priority": 1,
        "data_stream": {},
        "template": {"mappings": {"properties": {"@timestamp": {"type": "date"}}}},
    }
    client.request("PUT", f"/_index_template/{stream}-theirs", body=body)
    client.request("PUT", f"/_data_stream/{stream}")
    report = admin.setup(append_only=False)
    assert outcomes(report)[("write index", f".ds-{stream}-000001")] == "updated"
    mapping = client.request("GET", f"/{stream}/_mapping")
    assert mapping[f".ds-{stream}-000002"]["mappings"]["properties"]["@timestamp"]["type"] == "date_nanos"
    assert not admin.setup(append_only=False).changed


@pytest.mark.parametrize("part", ["component", "index"])
def test_a_newer_version_is_refused_before_anything_is_changed(admin, client, stream, part):
    admin.setup()
    name = f"{stream}-settings" if part == "component" else stream
    path = f"/_{part}_template/{name}"
    found = client.request("GET", path)[f"{part}_templates"][0][f"{part}_template"]
    client.request("PUT", path, body={**found, "version": 99})
    client.request("PUT", f"/_component_template/{stream}-mappings", body={"_meta": found["_meta"], "template": {}})
    before = everything(client, stream)
    with pytest.raises(
        OpenSearchError, match=r"version 99, newer than this audit-logging knows \(1\): upgrade"
    ) as refused:
        admin.setup()
    assert refused.value.exit_code == 3
    assert everything(client, stream) == before


def test_what_was_changed_by_hand_is_restored(admin, client, stream):
    admin.setup()
    path = f"/_component_template/{stream}-settings"
    found = client.request("GET", path)["component_templates"][0]["component_template"]
    found["template"]["settings"]["index"]["codec"] = "default"
    client.request("PUT", path, body=found)
    report = admin.setup()
    assert outcomes(report)[("component template", f"{stream}-settings")] == "updated"
    assert not admin.setup().changed


def test_a_template_of_somebody_else_is_not_touched(admin, client, stream):
    client.request("PUT", f"/_index_template/{stream}", body={"index_patterns": [f"{stream}-x"]})
    before = everything(client, stream)
    with pytest.raises(OpenSearchError, match="that audit-logging did not make: rename or delete it"):
        admin.setup()
    assert everything(client, stream) == before


def test_an_ordinary_index_of_the_streams_name_is_named_as_the_trouble(admin, client, stream):
    client.request("PUT", f"/{stream}", body={})
    with pytest.raises(OpenSearchError, match="ordinary index or alias, not a data stream"):
        admin.setup()


def test_a_broad_template_of_somebody_else_does_not_win_over_the_trail(admin, client, stream):
    body = {"index_patterns": [f"{stream[:-3]}*"], "priority": 700, "template": {"settings": {"number_of_shards": 3}}}
    client.request("PUT", f"/_index_template/{stream}-broad", body=body)
    report = admin.setup()
    assert any("higher priority" in note for note in report.notes)
    index = client.request("GET", f"/{stream}")[f".ds-{stream}-000001"]
    assert index["settings"]["index"]["number_of_shards"] == "1"
    assert not admin.setup().changed


def test_a_stream_takes_no_part_of_another_whose_name_it_begins(settings, admin, client, stream):
    admin.setup()
    client.request("PUT", f"/{stream}-more", body={})
    assert "append_only" not in client.request("GET", f"/{stream}-more")[f"{stream}-more"]["settings"]["index"]
    more = settings.model_copy(update={"stream": f"{stream}-other"})
    with AuditAdmin(settings=more) as other:
        assert other.setup().changed
    assert not admin.setup().changed


def test_a_stream_that_could_be_changed_becomes_append_only_from_now_on(admin, client, stream):
    admin.setup(append_only=False)
    report = admin.setup()
    step = report.steps[-1]
    assert (step.what, step.outcome) == ("write index", "updated")
    assert "rolled over" in step.detail
    old, new = (client.request("GET", f"/.ds-{stream}-00000{number}") for number in (1, 2))
    assert "append_only" not in old[f".ds-{stream}-000001"]["settings"]["index"]
    assert new[f".ds-{stream}-000002"]["settings"]["index"]["append_only"] == {"enabled": "true"}
    assert not admin.setup().changed


def test_an_append_only_stream_is_not_weakened_at_once(admin, client, stream):
    admin.setup()
    report = admin.setup(append_only=False)
    assert any("stays append-only" in note for note in report.notes)
    assert client.request("GET", f"/_data_stream/{stream}")["data_streams"][0]["generation"] == 1


def test_without_index_state_management_the_report_says_that_nothing_expires(admin):
    report = admin.setup()
    step = report.steps[0]
    if step.outcome != "left out":
        pytest.skip("this server has Index State Management")
    assert step.detail == "the server has no Index State Management"
    assert NO_ISM in report.notes


def test_settings_come_ready_or_by_keyword_but_not_both(settings):
    with pytest.raises(SettingsError, match="either settings= or"):
        AuditAdmin(settings=settings, stream="x")
    with pytest.raises(SettingsError, match="stream"):
        AuditAdmin(stream="Not A Name")
    with AuditAdmin(opensearch_url=settings.opensearch_url, stream="shop") as admin:
        assert admin.settings.stream == "shop"


def test_patterns_match_as_opensearch_reads_them():
    assert matches("audit-*", "audit-events")
    assert matches("*", "audit-events")
    assert matches("a*e*s", "audit-events")
    assert not matches("audit", "audit-events")
    assert not matches("audit.events", "audit-events")
    assert not matches("audit-event?", "audit-events")


def test_a_step_that_is_refused_is_an_error_and_the_next_set_up_goes_on_there(front, settings, stream):
    refusal = {"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403}
    rules = front._rules
    front.answer(f"/_component_template/{stream}-settings", lambda m, *_: (403 if m == "PUT" else 404, refusal))
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_url": (front.url,)})) as admin:
        with pytest.raises(CredentialsError, match=f"do not allow PUT /_component_template/{stream}-settings"):
            admin.setup()
        rules.clear()
        report = admin.setup()
    assert [step.outcome for step in report.steps if step.what == "component template"] == ["unchanged", "created"]


def test_a_server_that_does_not_acknowledge_in_time_is_not_taken_as_done(front, settings, stream):
    front.answer(f"/_data_stream/{stream}", lambda m, *_: (200, {"acknowledged": False}) if m == "PUT" else (404, {}))
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_url": (front.url,)})) as admin:  # noqa: SIM117
        with pytest.raises(OpenSearchError, match=r"did not acknowledge PUT .* in time: run the set-up again"):
            admin.setup()


def test_an_answer_without_an_object_is_no_complaint(front, client, settings):
    front.answer("/_anything", (200, ["done"]))
    other = Client(settings.model_copy(update={"opensearch_url": (front.url,)}))
    Request("POST", "/_anything").send(other)
    other.close()
