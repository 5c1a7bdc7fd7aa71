"""Retention where Index State Management carries it out: against recorded answers, and for real where it is there."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress

import pytest

from audit_logging.errors import NotFoundError, OpenSearchError
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.capabilities import Capabilities
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.doctor import diagnose
from audit_logging.settings import Settings
from tests.waiting import until

from .recorded_ism import BASE, RecordedIsm

pytestmark = pytest.mark.server

CASE = {"reason": "Case 12/2026", "person": "jane.doe"}


@pytest.fixture
def ism(front):
    return RecordedIsm(front)


@pytest.fixture
def managed(front, ism, settings):
    """An administrator behind a server that has Index State Management; two backing indices follow the policy."""
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_url": (front.url,)})) as admin:
        admin.setup()
        admin._record("user.login", {"user_id": "u-1"})
        roll_over(admin)
        for number in (1, 2):
            ism.manage(name(admin, number), f"{admin.settings.stream}-retention")
        yield admin


def name(admin, number):
    return f".ds-{admin.settings.stream}-{number:06}"


def roll_over(admin):
    admin._client.request("POST", f"/{admin.settings.stream}/_rollover")


def changes(front, since):
    return [(method, path) for method, path in front.seen[since:] if method in {"PUT", "DELETE"} or BASE in path]


def period(ism, index):
    return ism.managed[index]["policy"]["states"][0]["transitions"][0]["conditions"]["min_rollover_age"]


def followed(ism):
    return {index for index, told in ism.managed.items() if told["policy_id"]}


def test_nothing_is_rolled_over_or_deleted_by_apply(managed, front):
    since = len(front.seen)
    report = managed.apply_retention(retention_days=90)
    assert (report.policy, report.attached) == ("unchanged", "")
    assert not [path for method, path in front.seen[since:] if method == "DELETE" or path.endswith("_rollover")]
    assert managed.verify_retention().problems == ()


def test_apply_puts_the_policy_and_attaches_what_is_unmanaged(managed, ism):
    ism.policies.clear()
    ism.managed.clear()
    problems = managed.verify_retention().problems
    assert "There is no policy" in problems[0]
    assert ["follows no policy" in problem for problem in problems[1:]] == [True, True]
    report = managed.apply_retention()
    assert (report.policy, report.attached) == ("created", "2 attached")
    assert followed(ism) == {name(managed, 1), name(managed, 2)}
    assert managed.verify_retention().problems == ()


def test_another_period_reaches_the_policy_and_every_managed_index(managed, front, ism):
    report = managed.apply_retention(retention_days=365)
    assert (report.policy, report.days) == ("updated", 365)
    assert "2 moved to the changed policy" in report.attached
    assert {period(ism, index) for index in ism.managed} == {"365d"}
    assert managed.verify_retention().plan.days == 365
    assert managed.verify_retention().problems == ()


@pytest.mark.parametrize("told", [{"state": {"name": "expired"}}, {"transition_to": "expired"}])
@pytest.mark.parametrize("days", [365, 90])
def test_an_index_that_is_about_to_be_deleted_too_early_is_stopped(managed, ism, told, days):
    """Its deletion had begun when the period became longer, or goes on under a copy that was changed since."""
    policy = f"{managed.settings.stream}-retention"
    ism.manage(name(managed, 1), policy, **told)
    if days == 90:
        [problem] = managed.verify_retention().problems
        assert "is deleting it, though it may leave only on" in problem
    report = managed.apply_retention(retention_days=days)
    assert f"{1 if days == 90 else 2} moved to the changed policy" in report.attached
    assert period(ism, name(managed, 1)) == f"{days}d"
    assert ism.managed[name(managed, 1)]["state"] == {"name": "collecting"}
    assert "transition_to" not in ism.managed[name(managed, 1)]
    assert managed.verify_retention().problems == ()


def test_an_index_whose_period_is_over_is_left_to_its_deletion(managed, ism, monkeypatch):
    """Taken out again and again, it would never leave."""
    ism.manage(name(managed, 1), f"{managed.settings.stream}-retention", state={"name": "expired"})
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=91)
    monkeypatch.setattr(managed, "_now", lambda: later)
    managed.apply_retention()
    assert ism.managed[name(managed, 1)]["state"] == {"name": "expired"}


def test_set_up_again_with_a_longer_period_stops_a_deletion_too(managed, ism):
    ism.manage(name(managed, 1), f"{managed.settings.stream}-retention", state={"name": "expired"})
    with AuditAdmin(settings=managed.settings.model_copy(update={"retention_days": 365})) as longer:
        longer.setup()
    assert period(ism, name(managed, 1)) == "365d"
    assert ism.managed[name(managed, 1)]["state"] == {"name": "collecting"}


def test_two_hosts_may_change_the_policy_at_once(managed, front, ism):
    raced = []

    def conflict_once(method, path, query, body):
        if method == "PUT" and not raced:
            raced.append(path)
            return 409, {"error": {"type": "version_conflict_engine_exception", "reason": "conflict"}, "status": 409}
        return ism._answer(method, path, query, body)

    front._rules.insert(0, (f"{BASE}/policies/", conflict_once))
    assert managed.apply_retention(retention_days=30).policy == "updated"
    assert raced


def test_a_managed_index_that_has_not_taken_the_change_over_is_told_of(managed, ism, monkeypatch):
    """It does so at its next run, minutes later."""
    copied_later = {"policy": None, "state": None}
    monkeypatch.setattr(
        ism, "manage", lambda index, policy_id: ism.managed.update({index: {"policy_id": policy_id, **copied_later}})
    )
    report = managed.apply_retention(retention_days=30, wait_seconds=0.01)
    assert "2 backing indices take the policy over at their next run" in report.notes[0]
    assert managed.verify_retention().problems == ()


def test_a_managed_index_with_an_older_policy_is_named(managed, ism):
    ism.managed[name(managed, 1)]["policy"]["states"][0]["transitions"][0]["conditions"] = {"min_rollover_age": "7d"}
    [problem] = managed.verify_retention().problems
    assert "older version of the policy" in problem


def test_a_hold_takes_the_index_out_of_management_before_it_locks_it(managed, front, ism):
    since = len(front.seen)
    placed = managed.place_hold(**CASE, user_id="u-1")
    assert placed.indices == (name(managed, 1),)
    assert followed(ism) == {name(managed, 2)}
    index = name(managed, 1)
    steps = [f"{BASE}/remove/{index}", f"/{index}/_settings"]
    assert [path for _, path in front.seen[since:] if path in steps][:2] == steps
    assert managed.verify_retention().problems == ()
    assert managed.retention_plan().outlooks[0].kept == (f"on hold {placed.hold.id}",)


def test_a_hold_on_what_is_being_written_does_not_wait_for_anybody_to_apply_retention(managed, ism):
    managed._record("user.login", {"user_id": "u-2"})
    placed = managed.place_hold(**CASE, user_id="u-2")
    assert placed.report.rolled_over == [name(managed, 2)]
    assert placed.indices == (name(managed, 2),)
    assert name(managed, 2) not in followed(ism)


def test_neither_apply_nor_setup_hands_what_is_on_hold_back(managed, ism):
    managed.place_hold(**CASE, user_id="u-1")
    managed.apply_retention()
    assert name(managed, 1) not in followed(ism)
    managed.setup()
    assert name(managed, 1) not in followed(ism)


def test_a_release_hands_it_back(managed, ism):
    placed = managed.place_hold(**CASE, user_id="u-1")
    released = managed.release_hold(placed.hold.id, **CASE)
    assert released.report.unlocked == [name(managed, 1)]
    assert name(managed, 1) in followed(ism)
    assert managed.verify_retention().problems == ()


def test_an_index_that_does_not_come_out_of_management_is_an_error(managed, ism, front):
    failed = {"index_name": name(managed, 1), "index_uuid": "u", "reason": "Failed to clean metadata"}
    refusal = {"updated_indices": 0, "failures": True, "failed_indices": [failed]}
    front._rules.insert(0, (f"{BASE}/remove/", lambda *_: (200, refusal)))
    with pytest.raises(OpenSearchError, match="did not let go") as refused:
        managed.place_hold(**CASE, user_id="u-1")
    [hold] = managed.list_holds()
    assert f"The hold {hold.id} is placed" in str(refused.value)
    assert any("Index State Management has it" in problem for problem in managed.verify_retention().problems)


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_a_hold_does_not_depend_on_what_is_explained(managed, ism, lag):
    """Which comes from a search: it may tell for a while that the index is managed, or that it is not."""
    ism.lag = lag
    placed = managed.place_hold(**CASE, user_id="u-1")
    assert placed.indices == (name(managed, 1),)
    assert name(managed, 1) not in followed(ism)


def test_an_index_that_another_host_attached_a_moment_ago_is_taken_out(managed, ism):
    """Explain does not know of that yet."""
    policy = ism.managed[name(managed, 1)]["policy_id"]
    del ism.managed[name(managed, 1)]
    ism.lag = 5
    ism._before = [dict(ism.managed)] * 5
    ism.manage(name(managed, 1), policy)
    managed.place_hold(**CASE, user_id="u-1")
    assert name(managed, 1) not in followed(ism)


def test_what_another_host_did_at_the_same_time_is_no_error(managed, ism):
    """Set up and applied twice within a second, while explain is behind."""
    ism.managed.clear()
    ism.lag = 20
    managed.setup()
    managed.setup()
    managed.apply_retention(wait_seconds=0.01)
    assert followed(ism) == {name(managed, 1), name(managed, 2)}


def test_an_index_that_left_meanwhile_keeps_nothing_from_the_others(managed, ism):
    from audit_logging.opensearch.ism import _posts

    ism.gone = {"left"}
    for request in _posts("remove", [name(managed, 1), "left"]):
        request.send(managed._client)
    assert name(managed, 1) not in followed(ism)


def test_a_policy_that_is_gone_is_an_error_and_no_index_that_left(managed, ism, front):
    from audit_logging.opensearch.ism import _posts

    missing = {"error": {"type": "status_exception", "reason": "Could not find policy=x"}, "status": 404}
    front._rules.insert(0, (f"{BASE}/add/", lambda *_: (404, missing)))
    for request in _posts("add", [name(managed, 1), name(managed, 2)], "x"):
        with pytest.raises(NotFoundError, match="Could not find policy"):
            request.send(managed._client)


def test_a_release_hands_the_index_back_while_explain_is_behind(managed, ism):
    placed = managed.place_hold(**CASE, user_id="u-1")
    policy = f"{managed.settings.stream}-retention"
    before = {name(managed, 1): {"policy_id": policy, "policy": None}, **ism.managed}
    ism.lag = 5
    ism._before = [before] * 5
    managed.release_hold(placed.hold.id, **CASE)
    assert name(managed, 1) in followed(ism)


def test_a_policy_that_somebody_deleted_does_not_shorten_the_period(managed, ism):
    managed.apply_retention(retention_days=365, wait_seconds=0.01)
    for index in ism.managed:
        ism.manage(index, f"{managed.settings.stream}-retention")
    ism.policies.clear()
    report = managed.apply_retention(wait_seconds=0.01)
    assert report.days == 365


@pytest.mark.parametrize("copies", [True, False])
def test_a_set_up_does_not_shorten_the_period_of_a_policy_that_is_gone(managed, ism, copies):
    """Both the copies of the indices and the trail tell it."""
    managed.apply_retention(retention_days=365, wait_seconds=0.01)
    ism.policies.clear()
    if not copies:
        ism.managed.clear()
    managed.setup()
    policy = ism.policies[f"{managed.settings.stream}-retention"]["policy"]
    assert policy["states"][0]["transitions"][0]["conditions"] == {"min_rollover_age": "365d"}


def test_a_policy_of_others_with_a_higher_priority_gets_no_new_index(managed, ism):
    stream = managed.settings.stream
    theirs = {"ism_template": [{"index_patterns": ["*"], "priority": 600}], "default_state": "gone", "states": []}
    ism.policies["theirs"] = {"_id": "theirs", "policy": theirs}
    report = managed.setup()
    assert any("'theirs' also matches" in note for note in report.notes)
    assert ism.policies[f"{stream}-retention"]["policy"]["ism_template"][0]["priority"] == 601
    assert managed.verify_retention().problems == ()
    assert not managed.setup().changed
    assert managed.apply_retention().policy == "unchanged"
    ism.attach_new(name(managed, 3), stream)
    assert ism.managed[name(managed, 3)]["policy_id"] == f"{stream}-retention"


def test_an_index_that_others_attached_meanwhile_is_not_taken_for_ours(managed, ism):
    """Index State Management says the same of both: the index already has a policy."""
    ism.managed.pop(name(managed, 1))
    before = [dict(ism.managed)] * 2
    ism.manage(name(managed, 1), "theirs")
    ism._before = before
    with pytest.raises(OpenSearchError, match="it follows another policy, theirs"):
        managed.setup()
    report = managed.setup()
    assert any("follows another policy, 'theirs'" in note for note in report.notes)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"step": {"step_status": "failed"}, "info": {"message": "Failed to delete", "cause": "red"}},
            "failed (Failed to delete: red): mend the cause, it is tried again",
        ),
        (
            {"action": {"name": "delete", "failed": True}, "info": {"message": "Failed"}, "enabled": False},
            "failed (Failed): mend the cause, then POST _plugins/_ism/retry/<index>",
        ),
    ],
)
def test_what_ism_could_not_do_is_named(managed, ism, told, expected):
    ism.manage(name(managed, 1), f"{managed.settings.stream}-retention", **told)
    [problem] = managed.verify_retention().problems
    assert expected in problem


def test_an_index_under_another_policy_and_a_policy_changed_by_hand_are_named(managed, ism):
    ism.managed[name(managed, 1)]["policy_id"] = "theirs"
    policy = ism.policies[f"{managed.settings.stream}-retention"]["policy"]
    del policy["states"][0]["actions"][0]["rollover"]["min_index_age"]
    problems = managed.verify_retention().problems
    assert "never happens on a quiet stream" in problems[0]
    assert "is not that of 90 days" in problems[1]
    assert "follows another policy, 'theirs'" in problems[2]


def test_a_policy_that_is_newer_or_somebody_elses_is_named(managed, ism):
    policy = ism.policies[f"{managed.settings.stream}-retention"]["policy"]
    policy["description"] = "Version 9 of audit-logging."
    assert any("newer than this audit-logging" in problem for problem in managed.verify_retention().problems)


def test_the_doctor_finds_nothing_wrong_with_an_index_on_hold(managed):
    managed.place_hold(**CASE, user_id="u-1")
    [check] = [check for check in diagnose(managed.settings).checks if check.name == "retention"]
    assert check.verdict == "ok"
    assert "but 1 that are kept" in check.sentence


def test_a_server_without_data_streams_is_told_so(managed, front):
    front.answer("/", (404, {}))
    for call in (managed.retention_plan, managed.apply_retention, managed.verify_retention):
        with pytest.raises(OpenSearchError, match="Serverless"):
            call()


# For real, where the server has the plugin: AUDIT_OPENSEARCH_URL names it.


@pytest.fixture
def plugin(settings):
    """A client of a server with Index State Management, set to run every minute; set back afterwards.

    The hold below needs no lock, so that the releases before 3.8 do as well.
    """
    client = Client(settings)
    try:
        if not Capabilities.probe(client).ism:
            pytest.skip("this server has no Index State Management: set AUDIT_OPENSEARCH_URL to one that has")
        fast = {"plugins.index_state_management.job_interval": 1, "plugins.index_state_management.jitter": 0.0}
        client.request("PUT", "/_cluster/settings", body={"persistent": fast})
        try:
            yield client
        finally:
            client.request("PUT", "/_cluster/settings", body={"persistent": dict.fromkeys(fast)})
            with suppress(NotFoundError):
                client.request("DELETE", f"{BASE}/policies/{settings.stream}-retention")
    finally:
        client.close()


@pytest.mark.slow
def test_for_real_the_policy_rolls_over_and_deletes_and_a_hold_stops_it(plugin, settings: Settings):
    """The policy of the set-up with minutes in place of days; everything else as it is."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
        path = f"{BASE}/policies/{settings.stream}-retention"
        found = plugin.request("GET", path)
        states = found["policy"]["states"]
        states[0]["actions"][0]["rollover"] = {"min_index_age": "1m"}
        states[0]["transitions"][0]["conditions"] = {"min_rollover_age": "1m"}
        wanted = {name: found["policy"][name] for name in ("description", "default_state", "states")}
        wanted["ism_template"] = [{"index_patterns": [settings.stream], "priority": 500}]
        params = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
        plugin.request("PUT", path, params=params, body={"policy": wanted})
        body = {"policy_id": f"{settings.stream}-retention"}
        plugin.request("POST", f"{BASE}/remove/{name(admin, 1)}")
        plugin.request("POST", f"{BASE}/add/{name(admin, 1)}", body=body)

        def there():
            found = plugin.request("GET", f"/_data_stream/{settings.stream}")["data_streams"][0]["indices"]
            return {index["index_name"] for index in found}

        admin._record("user.login", {"user_id": "u-1"})
        placed = admin.place_hold(**CASE, user_id="u-1")
        assert placed.indices == (name(admin, 1),)
        until(lambda: name(admin, 2) not in there(), seconds=900)
        assert name(admin, 1) in there()
        admin.release_hold(placed.hold.id, **CASE)
