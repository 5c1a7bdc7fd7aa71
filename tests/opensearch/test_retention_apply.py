"""Retention where the server has no Index State Management: real events, rollovers and deletions, at another time."""

from __future__ import annotations

import datetime as dt
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from audit_logging.errors import NotFoundError, NotIndexedError, OpenSearchError, SettingsError
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.doctor import diagnose
from audit_logging.opensearch.holds import lock
from audit_logging.opensearch.retention_apply import Retention, RetentionReport
from audit_logging.opensearch.retention_period import days_in_force
from audit_logging.opensearch.retention_verify import verify_plan
from audit_logging.query.reader import AuditReader

from .travel import Traveller, travelling

pytestmark = pytest.mark.server


@pytest.fixture
def trail(settings):
    with travelling(settings) as traveller:
        yield traveller


def test_a_life_rolled_over_sealed_and_gone_and_nothing_before_its_time(trail, settings):
    trail.emit("u-1", "u-2")
    assert not trail.later(hours=23).apply().changed
    assert trail.recorded("audit.retention_applied") == []
    first = trail.later(hours=1).apply()
    assert first.rolled_over == [trail.name(1)]
    assert first.sealed == [], "requests on their way may still reach it"
    assert trail.later(minutes=11).apply().sealed == [trail.name(1)]
    assert trail.later(hours=23, minutes=48).apply().deleted == []
    with AuditReader(settings=settings) as reader:
        assert reader.count(user_id=["u-1", "u-2"]) == 2
        assert trail.later(minutes=2).apply().deleted == [trail.name(1)]
        assert trail.indices()[0] == "000002"
        assert reader.count(user_id=["u-1", "u-2"]) == 0
    # What tells of it is there, and was before the index went.
    [seal] = trail.recorded("audit.index_sealed")
    assert (seal["index"], seal["events"]) == (trail.name(1), 2)
    assert trail.recorded("audit.retention_applied")[-1]["leaving"] == [trail.name(1)]


def test_every_event_is_kept_its_period_and_at_most_one_rollover_and_a_day_longer(trail, settings):
    """Four weeks of daily cron, on a stream with events and silences."""
    trail.days = 12
    busy = {0, 1, 2, 9, 14}
    with AuditReader(settings=settings) as reader:
        for day in range(29):
            if day in busy:
                trail.emit(f"u-{day}")
            trail.apply()
            trail.client.request("POST", f"/{trail.stream}/_refresh")
            there = {int(event.user_id[2:]) for event in reader.scan(event_type="user.login")}
            assert {born for born in busy if born <= day < born + 12} <= there, day
            assert all(day <= born + 12 + 1 + 1 for born in there), (day, there)
            trail.later(days=1)
    assert trail.plan().outlooks[-1].index.rolled_over is None


def test_the_seal_names_every_writer_with_where_its_chain_entered_and_left(trail, settings):
    trail.emit("u-1", "u-2", "u-3")
    trail.emit("u-4")
    trail.roll_over()
    trail.later(minutes=11).apply()
    [seal] = trail.recorded("audit.index_sealed")
    with AuditReader(settings=settings) as reader:
        events = [event.document for event in reader.scan(event_type="user.login")]
    expected = {}
    for document in events:
        integrity = document["audit"]["integrity"]
        first = expected.get(integrity["writer"], (integrity["sequence"],))[0]
        expected[integrity["writer"]] = (first, integrity["sequence"], integrity["hash"])
    assert {w["writer"]: (w["first"], w["last"], w["hash"]) for w in seal["writers"]} == expected
    assert sorted(writer["events"] for writer in seal["writers"]) == [1, 3]
    assert (seal["part"], seal["parts"]) == (1, 1)


def test_an_index_of_very_many_writers_is_sealed_in_parts(trail, monkeypatch):
    monkeypatch.setattr("audit_logging.opensearch.retention_seal.WRITERS_PER_EVENT", 2)
    for number in range(5):
        trail.emit(f"u-{number}")
    trail.roll_over()
    trail.later(minutes=11).apply()
    seals = trail.recorded("audit.index_sealed")
    assert [seal["part"] for seal in seals] == [1, 2, 3]
    assert len({writer["writer"] for seal in seals for writer in seal["writers"]}) == 5
    assert trail.plan().outlooks[0].index.sealed_events == 5


def test_part_of_a_seal_seals_nothing(trail, monkeypatch):
    monkeypatch.setattr("audit_logging.opensearch.retention_seal.WRITERS_PER_EVENT", 2)
    for number in range(3):
        trail.emit(f"u-{number}")
    trail.roll_over()

    def only_the_first(event_type, facts):
        if facts["metadata"].get("part", 1) > 1:
            raise KeyboardInterrupt
        return trail.admin._record(event_type, facts)

    with pytest.raises(KeyboardInterrupt):
        trail.later(days=2).retention().apply(only_the_first)
    assert trail.plan().to_do("seal")
    assert trail.apply().deleted == [trail.name(1)]


def test_nothing_is_deleted_that_could_not_be_recorded_first(trail):
    trail.emit("u-1")
    trail.roll_over()
    trail.later(days=2)

    def fail(event_type, facts):
        raise NotIndexedError("OpenSearch did not acknowledge it", event_id="e", state="spooled")

    with pytest.raises(NotIndexedError):
        trail.retention().apply(fail)
    assert trail.indices() == ["000001", "000002"]
    recorded = []

    def fail_at_the_last(event_type, facts):
        recorded.append(event_type)
        if event_type == "audit.retention_applied":
            fail(event_type, facts)
        return trail.admin._record(event_type, facts)

    with pytest.raises(NotIndexedError):
        trail.retention().apply(fail_at_the_last)
    assert recorded == ["audit.index_sealed", "audit.retention_applied"]
    assert trail.indices() == ["000001", "000002"]


def test_a_seal_that_the_stream_does_not_hold_lets_nothing_leave(trail):
    """What the trail said it took is looked up before anything is deleted on its account."""
    trail.emit("u-1")
    trail.roll_over()
    report = trail.later(days=2).retention().apply(lambda *_: "e-1")
    assert report.sealed == [trail.name(1)]
    assert report.deleted == []
    assert trail.indices() == ["000001", "000002"]


def test_the_write_index_stays_however_old_and_the_server_would_refuse_as_well(trail):
    trail.emit("u-1")
    assert trail.later(days=1000).apply().deleted == []
    assert trail.indices() == ["000001", "000002"]
    with pytest.raises(OpenSearchError, match="write index"):
        trail.client.request("DELETE", f"/{trail.name(2)}")


def test_a_quiet_stream_ends_as_well(trail):
    """Its last events are not kept for ever by nobody writing after them."""
    trail.emit("u-1")
    assert trail.later(days=1).apply().rolled_over == [trail.name(1)]
    assert trail.later(days=1).apply().deleted == [trail.name(1)]


def test_an_event_dated_ahead_keeps_its_index_until_its_own_time_has_passed(trail):
    trail.emit("u-1", timestamp=dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=30))
    trail.roll_over()
    assert trail.later(days=2).apply().locked == [trail.name(1)]
    assert trail.name(1) not in trail.later(days=28).apply().deleted
    report = trail.later(days=1, minutes=1).apply()
    assert report.unlocked == [trail.name(1)]
    assert trail.name(1) in report.deleted


def test_old_events_that_come_late_are_kept_the_whole_period(trail):
    trail.emit("u-1", timestamp="2020-01-01T00:00:00Z")
    trail.roll_over()
    assert trail.later(hours=23).apply().deleted == []
    assert trail.later(hours=2).apply().deleted == [trail.name(1)]


def test_hosts_at_once_do_it_once(trail, settings, tmp_path):
    for number in range(3):
        trail.emit(f"u-{number}")
        trail.roll_over()
    trail.later(days=2)
    reports, errors = [], []
    ready = threading.Barrier(3)

    def host(number):
        mine = settings.model_copy(update={"home": tmp_path / f"host-{number}"})
        with AuditAdmin(settings=mine) as admin:
            retention = trail.retention(admin=admin)
            ready.wait()
            try:
                reports.append(retention.apply(admin._record))
            except Exception as error:
                errors.append(error)

    hosts = [threading.Thread(target=host, args=(number,)) for number in range(3)]
    for thread in hosts:
        thread.start()
    for thread in hosts:
        thread.join()
    assert errors == []
    gone = sorted(name for report in reports for name in report.deleted)
    assert gone == [trail.name(number) for number in (1, 2, 3)], "each was deleted by exactly one host"
    assert trail.indices()[0] == "000004"


def test_of_two_hosts_one_rolls_over(trail):
    """The second would close an index that was opened a moment ago."""
    trail.emit("u-1")
    trail.later(days=1)
    other = trail.retention()
    [seen] = other.plan().to_do("roll over")
    first, second = RetentionReport(trail.stream, 1), RetentionReport(trail.stream, 1)
    trail.retention()._roll_over(seen, first)
    # An index that is due is a day old and not seconds, and what is half as old is not rolled over in its place.
    Retention._roll_over(other, replace(seen, created=seen.created - dt.timedelta(days=1)), second)
    assert (first.rolled_over, second.rolled_over) == ([trail.name(1)], [])
    assert trail.indices() == ["000001", "000002"]


def test_an_index_that_another_host_deleted_meanwhile_is_as_it_should_be(trail):
    trail.emit("u-1")
    trail.roll_over()
    [index] = trail.later(days=2).plan().to_do("delete")
    trail.client.request("DELETE", f"/{index.name}")
    report = RetentionReport(trail.stream, 1)
    trail.retention()._delete(index, report)
    assert report.deleted == []


def test_an_index_that_is_locked_at_the_last_moment_stays(trail):
    trail.emit("u-1")
    trail.roll_over()
    [index] = trail.later(days=2).plan().to_do("delete")
    lock(trail.client, index.name)
    report = RetentionReport(trail.stream, 1)
    trail.retention()._delete(index, report)
    assert report.deleted == []
    assert report.notes == [f"{index.name} stays: it was locked a moment ago."]
    assert "000001" in trail.indices()


def test_events_that_vanished_since_the_seal_keep_the_index_as_evidence(settings):
    with AuditAdmin(settings=settings) as admin:
        admin.setup(append_only=False)
        trail = Traveller(admin)
        trail.emit("u-1", "u-2")
        trail.roll_over()
        trail.later(minutes=11).apply()
        query = {"query": {"term": {"user.id": "u-2"}}}
        path = f"/{trail.name(1)}/_delete_by_query"
        assert trail.client.request("POST", path, body=query, params={"refresh": True})["deleted"] == 1
        report = trail.later(days=2).apply()
        assert report.locked == [trail.name(1)]
        assert trail.name(1) not in report.deleted
        assert "it holds 1 events and its seal says 2" in report.plan.outlooks[0].kept
        assert any("was sealed with 2 events and holds 1" in text for text in verify_plan(report.plan, None).problems)


def test_the_period_that_was_applied_stays_in_force_and_no_event_can_shorten_it(trail, settings, monkeypatch):
    monkeypatch.delenv("AUDIT_RETENTION_DAYS", raising=False)
    plain = settings.load(**settings.model_dump(include={"opensearch_url", "stream", "home"}))
    assert days_in_force(trail.client, plain, ism=False) == 90
    trail.emit("u-1")
    trail.roll_over()
    trail.days = 365
    trail.later(minutes=11).apply()
    trail.client.request("POST", f"/{trail.stream}/_refresh")
    assert days_in_force(trail.client, plain, ism=False) == 365
    for days in (1, "x", None):
        trail.admin._record("audit.retention_applied", {"metadata": {"retention_days": days}})
        trail.client.request("POST", f"/{trail.stream}/_refresh")
        assert days_in_force(trail.client, plain, ism=False) == 365
    assert days_in_force(trail.client, plain.model_copy(update={"retention_days": 7}), ism=False) == 7


def test_retention_of_a_stream_that_is_not_set_up_says_so(settings):
    with AuditAdmin(settings=settings) as admin:
        for call in (admin.retention_plan, admin.apply_retention, admin.verify_retention):
            with pytest.raises(NotFoundError, match="run `audit-logging setup`"):
                call()


def test_verify_finds_nothing_where_apply_runs_daily_and_names_what_stands_still_where_it_does_not(trail):
    trail.emit("u-1")
    assert verify_plan(trail.plan(), None).problems == ()
    [late] = verify_plan(trail.later(days=3).plan(), None).problems
    assert "should have been rolled over" in late
    trail.apply()
    assert verify_plan(trail.plan(), None).problems == ()
    unsealed, overdue, _ = verify_plan(trail.later(days=3).plan(), None).problems
    assert "is not sealed" in unsealed
    assert "should have left" in overdue
    trail.apply()
    assert verify_plan(trail.plan(), None).problems == ()


def test_the_administrators_own_methods_work_at_the_time_it_is(trail):
    trail.emit("u-1")
    assert not trail.admin.apply_retention(retention_days=90).changed
    assert trail.admin.retention_plan().days == 90
    assert trail.admin.verify_retention().problems == ()
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=30)
    assert trail.admin.retention_plan(at=later).to_do("roll over")


def test_it_records_by_itself_where_applications_leave_shipping_to_a_sidecar(settings):
    with travelling(settings.model_copy(update={"ship": False, "indexed_timeout_seconds": 5})) as trail:
        trail.admin.place_hold(reason="Case", person="jane.doe")
        assert len(trail.admin.list_holds()) == 1


def test_a_clock_that_is_ahead_lets_nothing_leave(trail, monkeypatch):
    """Of the host that applies retention; OpenSearch's own is asked as well."""
    trail.emit("u-1")
    trail.roll_over()
    real = time.time
    monkeypatch.setattr("audit_logging.opensearch.admin.time.time", lambda: real() + 1000 * 86400)
    report = trail.admin.apply_retention(retention_days=1)
    assert (report.deleted, report.sealed, report.rolled_over) == ([], [], [])


def test_a_period_that_makes_no_sense_is_refused(trail):
    with pytest.raises(SettingsError, match="retention_days"):
        trail.admin.apply_retention(retention_days=0)


@pytest.fixture
def beside_others(trail):
    """A stream with a closed index, one whose metadata is blocked, and one that is neither; all rolled over."""
    for user in ("u-1", "u-2", "u-3"):
        trail.emit(user)
        trail.roll_over()
    trail.client.request("POST", f"/{trail.name(1)}/_close")
    trail.client.request("PUT", f"/{trail.name(2)}/_settings", body={"index.blocks.metadata": True})
    yield trail
    with suppress(NotFoundError):  # it left
        trail.client.request("PUT", f"/{trail.name(2)}/_settings", body={"index.blocks.metadata": False})


def test_a_closed_and_a_blocked_index_are_named_and_the_others_get_on(beside_others):
    trail = beside_others
    report = trail.later(minutes=11).apply()
    assert report.sealed == [trail.name(2), trail.name(3)]
    assert any(trail.name(1) in note and "is closed" in note for note in report.notes)
    closed, blocked = verify_plan(trail.plan(), None).problems
    assert closed.startswith(f"{trail.name(1)}: it is closed")
    assert blocked.startswith(f"{trail.name(2)}: its metadata is blocked")
    report = trail.later(days=2).apply()
    assert report.deleted == [trail.name(3)]
    assert any(f"{trail.name(2)} stays: its metadata is blocked" in note for note in report.notes)
    # As soon as they are what they were, they are sealed and leave like any other.
    trail.client.request("POST", f"/{trail.name(1)}/_open", params={"wait_for_active_shards": 1})
    trail.client.request("PUT", f"/{trail.name(2)}/_settings", body={"index.blocks.metadata": False})
    report = trail.apply()
    assert (report.sealed, report.notes) == ([trail.name(1)], [])
    assert trail.later(minutes=1).apply().deleted + report.deleted == [trail.name(1), trail.name(2)]
    assert verify_plan(trail.plan(), None).problems == ()


def test_a_hold_that_only_a_closed_index_records_is_not_undone(trail):
    trail.emit("u-1")
    trail.roll_over()
    hold = trail.admin.place_hold(reason="Case 12/2026", person="jane.doe", user_id="u-1").hold
    trail.roll_over()
    trail.client.request("POST", f"/{trail.name(2)}/_close")
    report = trail.later(days=3).apply()
    assert (report.unlocked, report.deleted) == ([], [])
    trail.client.request("POST", f"/{trail.name(2)}/_open", params={"wait_for_active_shards": 1})
    assert trail.plan().outlooks[0].kept == (f"on hold {hold.id}",)


def test_the_doctor_names_a_closed_and_a_blocked_index(beside_others):
    checks = [check for check in diagnose(beside_others.admin.settings).checks if check.name == "backing indices"]
    assert [check.verdict for check in checks] == ["problem", "problem"]
    assert beside_others.name(1) in checks[0].sentence
    assert beside_others.name(2) in checks[1].sentence


def test_a_set_up_beside_a_closed_and_a_blocked_index_goes_through(beside_others):
    assert beside_others.admin.setup().steps[-1].outcome == "unchanged"
