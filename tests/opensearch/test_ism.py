"""Retention by Index State Management: the calls that the set-up makes, against recorded answers."""

from __future__ import annotations

import json

import pytest

from audit_logging.errors import OpenSearchError, RefusedError
from audit_logging.opensearch import templates
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.ism import NAMES_PER_REQUEST, explain, kept_days

from .recorded_ism import BASE, RecordedIsm, lint

pytestmark = pytest.mark.server


@pytest.fixture
def ism(front):
    return RecordedIsm(front)


@pytest.fixture
def managed(front, ism, settings):
    """An administrator of the test's stream behind a server that has Index State Management."""
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_url": (front.url,)})) as admin:
        yield admin


def with_days(admin, days):
    return AuditAdmin(settings=admin.settings.model_copy(update={"retention_days": days}))


def calls(front, since=0):
    """The changing calls to Index State Management, in order."""
    return [(m, p.removeprefix(BASE)) for m, p in front.seen[since:] if p.startswith(BASE) and m != "GET"]


def roll_over(client, stream):
    client.request("POST", f"/{stream}/_rollover")


def test_the_policy_is_there_before_the_stream(managed, front, ism, stream):
    report = managed.setup()
    changes = [path for method, path in front.seen if method in {"PUT", "POST"}]
    assert changes[0] == f"{BASE}/policies/{stream}-retention"
    assert changes[-1] == f"/_data_stream/{stream}"
    assert report.steps[0].outcome == "created"
    assert not any("Index State Management" in note for note in report.notes)


def test_setting_up_twice_sends_nothing_to_ism(managed, front, ism, stream):
    managed.setup()
    ism.manage(f".ds-{stream}-000001", f"{stream}-retention")
    since = len(front.seen)
    report = managed.setup()
    assert not report.changed
    assert calls(front, since) == []


def test_a_dry_run_sends_nothing_to_ism(managed, front):
    managed.setup(dry_run=True)
    assert calls(front) == []


def test_indices_that_were_there_before_the_policy_are_attached(admin, managed, front, ism, client):
    stream = managed.settings.stream
    admin.setup()
    roll_over(client, stream)
    report = managed.setup()
    names = [f".ds-{stream}-00000{number}" for number in (1, 2)]
    assert calls(front) == [("PUT", f"/policies/{stream}-retention"), ("POST", f"/add/{','.join(names)}")]
    assert report.steps[-1].detail == "2 attached"
    assert {index: told["policy_id"] for index, told in ism.managed.items()} == dict.fromkeys(
        names, f"{stream}-retention"
    )
    assert not managed.setup().changed


def test_another_retention_replaces_exactly_the_policy_that_was_read_and_reaches_managed_indices(
    managed, front, ism, stream
):
    managed.setup()
    index = f".ds-{stream}-000001"
    ism.manage(index, f"{stream}-retention")
    since = len(front.seen)
    with with_days(managed, 365) as admin:
        report = admin.setup()
        assert calls(front, since) == [
            ("PUT", f"/policies/{stream}-retention"),
            ("POST", f"/remove/{index}"),
            ("POST", f"/add/{index}"),
        ]
        assert report.steps[0].requests[0].params == {"if_seq_no": 1, "if_primary_term": 1}
        assert "1 moved to the changed policy" in report.steps[-1].detail
        states = ism.managed[index]["policy"]["states"]
        assert states[0]["transitions"][0]["conditions"] == {"min_rollover_age": "365d"}
        assert not admin.setup().changed


def test_an_index_that_no_longer_looks_at_its_policy_is_detached_and_attached_again(
    managed, front, ism, client, stream
):
    managed.setup()
    roll_over(client, stream)
    failed, done = (f".ds-{stream}-00000{number}" for number in (1, 2))
    ism.manage(failed, f"{stream}-retention", action={"name": "delete", "failed": True}, enabled=False)
    ism.manage(done, f"{stream}-retention", policy_completed=True)
    since = len(front.seen)
    with with_days(managed, 30) as admin:
        admin.setup()
    assert calls(front, since)[1:] == [("POST", f"/remove/{failed},{done}"), ("POST", f"/add/{failed},{done}")]


def test_a_set_up_that_names_no_retention_does_not_shorten_the_one_in_force(managed, front, ism, stream, monkeypatch):
    monkeypatch.delenv("AUDIT_RETENTION_DAYS", raising=False)
    with with_days(managed, 365) as admin:
        admin.setup()
    assert "retention_days" not in managed.settings.model_fields_set
    assert managed.setup().steps[0].outcome == "unchanged"
    with with_days(managed, 90) as admin:
        assert admin.setup().steps[0].outcome == "updated"


def test_an_index_under_somebody_elses_policy_is_left_to_it(managed, front, ism, stream):
    managed.setup()
    ism.manage(f".ds-{stream}-000001", "theirs")
    since = len(front.seen)
    report = managed.setup()
    assert not report.changed
    assert "another policy (theirs)" in report.steps[-1].detail
    assert calls(front, since) == []


def test_an_index_that_has_not_read_its_policy_yet_is_left_to_do_so(managed, front, ism, stream):
    managed.setup()
    ism.managed[f".ds-{stream}-000001"] = {"policy_id": f"{stream}-retention"}
    assert not managed.setup().changed


def test_the_operators_channel_for_failures_survives_an_update(managed, ism, stream):
    managed.setup()
    channel = {"channel": {"id": "c-1"}, "message_template": {"source": "retention failed"}}
    ism.policies[f"{stream}-retention"]["policy"]["error_notification"] = channel
    assert managed.setup().steps[0].outcome == "unchanged"
    with with_days(managed, 30) as admin:
        admin.setup()
    assert ism.policies[f"{stream}-retention"]["policy"]["error_notification"] == channel


def test_a_newer_policy_and_one_of_somebody_else_are_refused_before_anything_is_changed(managed, front, ism, stream):
    managed.setup()
    policy = ism.policies[f"{stream}-retention"]["policy"]
    since = len(front.seen)
    policy["description"] = "Version 7 of audit-logging. Something new."
    with pytest.raises(OpenSearchError, match="version 7, newer than this audit-logging"):
        managed.setup()
    policy["description"] = "Ours since 2019."
    with pytest.raises(OpenSearchError, match="that audit-logging did not make"):
        managed.setup()
    assert all(method == "GET" for method, _ in front.seen[since:])


def test_a_policy_changed_by_hand_is_restored(managed, ism, stream):
    managed.setup()
    states = ism.policies[f"{stream}-retention"]["policy"]["states"]
    states[0]["actions"][0]["rollover"]["min_doc_count"] = 5
    report = managed.setup()
    assert report.steps[0].outcome == "updated"
    assert not managed.setup().steps[0].requests


def test_somebody_who_changes_the_policy_meanwhile_is_noticed_and_the_set_up_looks_again(managed, front, ism, stream):
    managed.setup()
    raced: list[str] = []

    def conflict_once(method, path, query, body):
        if method == "PUT" and not raced:
            raced.append(path)
            return 409, {"error": {"type": "version_conflict_engine_exception", "reason": "conflict"}, "status": 409}
        return ism._answer(method, path, query, body)

    front._rules.insert(0, (f"{BASE}/policies/", conflict_once))
    with with_days(managed, 30) as admin:
        assert admin.setup().changed
    assert raced
    assert '"30d"' in json.dumps(ism.policies)


def test_an_index_that_could_not_be_attached_is_an_error_that_names_it(admin, managed, ism, stream):
    admin.setup()
    index = f".ds-{stream}-000001"
    ism.fail_adding.add(index)
    with pytest.raises(OpenSearchError, match=f"only in part \\({index}: Failed to add policy"):
        managed.setup()


def test_a_role_that_may_not_see_policies_is_told_so(front, managed):
    refusal = {"error": {"type": "security_exception", "reason": "no permissions for [get policy]"}, "status": 403}
    front._rules.insert(0, (BASE, lambda *_: (403, refusal)))
    with pytest.raises(RefusedError, match="do not allow"):
        managed.setup()


def test_many_backing_indices_are_asked_about_in_requests_that_a_server_takes(front, ism, settings):
    from audit_logging.opensearch.client import Client

    client = Client(settings.model_copy(update={"opensearch_url": (front.url,)}))
    for length, number in ((20, 2 * NAMES_PER_REQUEST + 1), (220, 40)):
        names = [f".ds-{'x' * length}-{n:06}" for n in range(number)]
        assert [managed.index for managed in explain(client, names)] == names
    assert max(len(path) for _, path in front.seen) < 4096 - len("GET ?show_policy=true HTTP/1.1")
    client.close()


def test_the_recorded_server_refuses_what_the_real_one_refuses():
    policy = templates.blueprint().policy
    lint(policy)
    policy["policy"]["states"][0]["transitions"][0]["conditions"]["min_size"] = "1gb"
    with pytest.raises(AssertionError, match="exactly one condition"):
        lint(policy)


@pytest.mark.parametrize(
    "states", [[], [{"name": "x", "transitions": []}], [{"transitions": [{"conditions": {"min_rollover_age": "12h"}}]}]]
)
def test_a_policy_that_tells_no_retention_tells_none(states):
    assert kept_days({"policy": {"states": states}}) is None
    assert kept_days(None) is None
