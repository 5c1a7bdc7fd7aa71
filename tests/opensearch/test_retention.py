"""When an index may leave: the plan, which is a function of facts and a time."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.opensearch.holds import Hold
from audit_logging.opensearch.ism import ManagedIndex
from audit_logging.opensearch.retention import LEEWAY, SETTLED_AFTER, BackingIndex, plan_retention
from audit_logging.opensearch.templates import rollover_bytes, rollover_days

T0 = dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
MS = dt.timedelta(milliseconds=1)

OLD = BackingIndex("old", "u-old", T0, T0 + 7 * DAY, 10, oldest=T0, newest=T0 + 7 * DAY, sealed_events=10)
WRITE = BackingIndex("write", "u-write", T0 + 7 * DAY, None, 5, oldest=T0 + 7 * DAY, newest=T0 + 8 * DAY)


def outlook(index, at, *, days=90, ism=False, archiving=False):
    plan = plan_retention("s", [index, WRITE], (), days=days, at=at, ism=ism, archiving=archiving)
    return plan.outlooks[0]


def managed(policy="s-retention"):
    return ManagedIndex("old", policy, None, None, stuck=False, trouble="")


def test_an_index_leaves_when_the_period_has_passed_since_its_rollover_and_not_a_millisecond_before():
    due = OLD.rolled_over + 90 * DAY
    assert outlook(OLD, due - MS).actions == ()
    assert outlook(OLD, due).actions == ("delete",)
    assert outlook(OLD, due).leaves == due


def test_its_age_since_creation_does_not_count():
    assert outlook(OLD, T0 + 90 * DAY).actions == ()


def test_an_event_dated_later_than_the_rollover_keeps_its_index():
    ahead = replace(OLD, newest=OLD.rolled_over + 30 * DAY)
    early = outlook(ahead, OLD.rolled_over + 90 * DAY)
    assert early.leaves == ahead.newest + 90 * DAY
    assert early.actions == ("lock",)
    assert "dated 2026-04-07, after it came in" in early.kept[0]
    assert outlook(replace(ahead, locked=True), ahead.newest + 90 * DAY).actions == ("unlock", "delete")


def test_clocks_that_differ_a_little_do_not_lock_anything_and_still_nothing_leaves_early():
    ahead = replace(OLD, newest=OLD.rolled_over + LEEWAY)
    assert outlook(ahead, OLD.rolled_over + 90 * DAY).actions == ()
    assert outlook(ahead, ahead.newest + 90 * DAY).actions == ("delete",)


def test_old_events_that_came_late_are_kept_the_whole_period_since_they_came():
    late = replace(OLD, oldest=T0 - 3000 * DAY, newest=T0 - 1000 * DAY)
    assert outlook(late, OLD.rolled_over + 90 * DAY - MS).actions == ()


def test_an_event_dated_at_the_end_of_the_calendar_breaks_nothing():
    ahead = replace(OLD, newest=dt.datetime(2262, 4, 11, tzinfo=dt.timezone.utc))
    assert outlook(ahead, T0 + 1000 * DAY, days=10**9).leaves == dt.datetime.max.replace(tzinfo=dt.timezone.utc)


def test_the_write_index_never_leaves_however_old():
    plan = plan_retention("s", [WRITE], (), days=1, at=T0 + 10_000 * DAY, ism=False)
    assert plan.outlooks[0].actions == ("roll over",)
    assert plan.outlooks[0].leaves is None


@pytest.mark.parametrize("days", [1, 12, 90, 3650])
def test_the_write_index_is_rolled_over_by_age_even_of_a_quiet_stream(days):
    due = WRITE.created + rollover_days(days) * DAY
    quiet = replace(WRITE, events=1)
    assert plan_retention("s", [quiet], (), days=days, at=due - MS, ism=False).to_do("roll over") == ()
    assert plan_retention("s", [quiet], (), days=days, at=due, ism=False).to_do("roll over") == (quiet,)


def test_the_write_index_is_rolled_over_by_size():
    large = replace(WRITE, primary_bytes=rollover_bytes())
    assert plan_retention("s", [large], (), days=90, at=WRITE.created, ism=False).to_do("roll over") == (large,)
    almost = replace(WRITE, primary_bytes=rollover_bytes() - 1)
    assert plan_retention("s", [almost], (), days=90, at=WRITE.created, ism=False).to_do("roll over") == ()


def test_an_empty_write_index_stays_for_it_keeps_nothing_too_long():
    empty = replace(WRITE, events=0)
    assert plan_retention("s", [empty], (), days=1, at=T0 + 1000 * DAY, ism=False).to_do("roll over") == ()


def test_ism_rolls_over_and_deletes_by_itself():
    index = replace(OLD, managed=managed())
    plan = plan_retention("s", [index, replace(WRITE, managed=managed())], (), days=1, at=T0 + 1000 * DAY, ism=True)
    assert [outlook.actions for outlook in plan.outlooks] == [(), ()]


def test_an_index_is_sealed_once_no_request_can_reach_it_any_more_and_before_it_leaves():
    bare = replace(OLD, sealed_events=None)
    settled = OLD.rolled_over + SETTLED_AFTER
    assert outlook(bare, settled - MS).actions == ()
    assert outlook(bare, settled).actions == ("seal",)
    assert outlook(bare, T0 + 1000 * DAY).actions == ("seal", "delete")
    assert outlook(bare, T0 + 1000 * DAY, archiving=True).actions == ("seal", "archive", "delete")


def test_an_unsealed_index_that_may_still_get_events_is_not_deleted_even_where_the_clock_says_so():
    bare = replace(OLD, sealed_events=None, rolled_over=T0 + 1000 * DAY, newest=T0)
    assert outlook(bare, T0 + 1000 * DAY, days=0).actions == ()


def test_an_index_that_is_not_in_the_archive_is_archived_first():
    assert outlook(OLD, T0 + 10 * DAY, archiving=True).actions == ("archive",)
    assert outlook(replace(OLD, archived=True), T0 + 10 * DAY, archiving=True).actions == ()


@pytest.mark.parametrize("ism", [False, True])
def test_what_is_on_hold_stays_for_ever_and_is_locked(ism):
    held = replace(OLD, holds=("h-1", "h-2"), managed=managed() if ism else None)
    found = outlook(held, T0 + 10_000 * DAY, ism=ism)
    assert found.actions == (("detach", "lock") if ism else ("lock",))
    assert found.kept == ("on hold h-1, h-2",)
    quiet = replace(held, locked=True, managed=managed(None) if ism else None)
    assert outlook(quiet, T0 + 10_000 * DAY, ism=ism).actions == ()


def test_where_a_lock_would_stop_the_stream_an_index_on_hold_is_kept_without_one():
    held = replace(OLD, holds=("h-1",), managed=managed())
    for ism, actions in ((False, ()), (True, ("detach",))):
        plan = plan_retention("s", [held, WRITE], (), days=1, at=T0 + 1000 * DAY, ism=ism, lock=False)
        assert plan.outlooks[0].actions == actions


def test_an_index_on_hold_is_taken_from_somebody_elses_policy_too():
    assert "detach" in outlook(replace(OLD, holds=("h-1",), managed=managed("theirs")), T0, ism=True).actions


def test_what_a_released_hold_locked_is_unlocked_and_leaves():
    locked = replace(OLD, locked=True, released=True)
    assert outlook(locked, T0 + 1000 * DAY).actions == ("unlock", "delete")
    assert outlook(replace(locked, managed=managed(None)), T0 + 1000 * DAY, ism=True).actions == ("unlock", "attach")


def test_a_lock_that_nobody_here_explains_is_left_alone():
    locked = replace(OLD, locked=True)
    assert outlook(locked, T0 + 1000 * DAY).actions == ()
    assert outlook(replace(locked, managed=managed(None)), T0 + 1000 * DAY, ism=True).actions == ()


def test_an_index_that_lost_events_since_it_was_sealed_is_evidence_and_stays():
    found = outlook(replace(OLD, events=9), T0 + 1000 * DAY)
    assert found.actions == ("lock",)
    assert found.kept == ("it holds 9 events and its seal says 10",)


def test_a_bare_index_is_attached():
    assert outlook(replace(OLD, managed=managed(None)), T0, ism=True).actions == ("attach",)


# What records a hold must not leave before the hold does.

ACTIVE = Hold("h-1", "case", "jane", "2026-03-01", placed_in=frozenset({"old"}))
RELEASED = replace(ACTIVE, active=False, released_in=frozenset({"old"}), released_by="jane", release_reason="over")
SOON = OLD.rolled_over + 90 * DAY - 2 * rollover_days(90) * DAY


def restated(hold, *, at=SOON, indices=(OLD, WRITE)):
    return plan_retention("s", indices, [hold], days=90, at=at, ism=False).restate


def test_a_hold_is_recorded_again_before_its_last_record_leaves():
    assert restated(ACTIVE) == (ACTIVE,)
    assert restated(ACTIVE, at=SOON - MS) == ()
    assert restated(replace(ACTIVE, placed_in=frozenset({"old", "write"}))) == ()


def test_a_hold_that_is_over_is_forgotten_with_its_records():
    assert restated(RELEASED) == ()


def test_a_release_is_recorded_again_while_a_record_of_the_hold_stays():
    """Or the hold would be in force again."""
    both = replace(RELEASED, placed_in=frozenset({"old", "write"}))
    assert restated(both) == (both,)
    kept = replace(OLD, holds=("h-2",))
    assert restated(RELEASED, indices=(kept, WRITE)) == (RELEASED,)


def test_the_seal_of_an_index_that_stays_is_recorded_again_before_it_leaves():
    held = replace(OLD, holds=("h-1",), locked=True, seal_in=(frozenset({"next"}), frozenset({"next", "write"})))
    then = replace(OLD, name="next", rolled_over=OLD.rolled_over + DAY, newest=OLD.newest)
    soon = then.rolled_over + 90 * DAY - 2 * rollover_days(90) * DAY

    def again(index, at):
        return plan_retention("s", [index, then, WRITE], (), days=90, at=at, ism=False).to_do("seal again")

    assert again(held, soon) == (held,)
    assert again(held, soon - MS) == ()
    assert again(replace(held, seal_in=(frozenset({"next", "write"}),)), soon) == ()
    assert again(replace(held, holds=()), soon) == (), "it leaves before its seal does"


# Whatever the facts.

moments = st.integers(0, 400 * 24).map(lambda hours: T0 + dt.timedelta(hours=hours))


@st.composite
def rolled(draw):
    created = draw(moments)
    rolled_over = created + dt.timedelta(hours=draw(st.integers(0, 40 * 24)))
    events = draw(st.integers(0, 3))
    newest = draw(moments) if events else None
    return BackingIndex(
        "old",
        "u",
        created,
        rolled_over,
        events,
        oldest=newest,
        newest=newest,
        locked=draw(st.booleans()),
        sealed_events=draw(st.sampled_from([None, events, events + 1])),
        archived=draw(st.booleans()),
        holds=draw(st.sampled_from([(), ("h-1",)])),
        released=draw(st.booleans()),
        managed=draw(st.sampled_from([None, managed(), managed(None)])),
    )


@given(rolled(), moments, st.integers(1, 400), st.booleans(), st.booleans())
def test_nothing_is_deleted_that_must_stay(index, at, days, ism, archiving):
    found = outlook(index, at, days=days, ism=ism, archiving=archiving)
    actions = found.actions
    if "delete" in actions:
        assert not ism
        assert at - index.rolled_over >= days * DAY
        assert index.newest is None or at - index.newest >= days * DAY
        assert not index.holds
        assert not index.changed_since_sealed
        assert not index.locked or "unlock" in actions
        assert index.sealed_events is not None or actions.index("seal") < actions.index("delete")
        assert not archiving or index.archived or actions.index("archive") < actions.index("delete")
    assert not {"lock", "unlock"} <= {*actions}
    assert not {"detach", "attach"} <= {*actions}
    if index.holds:
        assert index.locked or "lock" in actions
        assert "attach" not in actions
        assert not ism or index.managed is None or index.managed.policy is None or "detach" in actions


@given(rolled(), st.integers(1, 400))
def test_what_nothing_keeps_leaves(index, days):
    free = replace(index, locked=False, holds=(), sealed_events=index.events)
    assert "delete" in outlook(free, free.leaves(days), days=days).actions
