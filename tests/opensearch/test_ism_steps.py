"""The policy, step by step: every event is kept its period, and at most one rollover and a few runs longer."""

from __future__ import annotations

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.opensearch.templates import blueprint, rollover_days

from .ism_steps import DAY, Clockwork

LONGEST_RUN = 8
"""Minutes: every five, and at most 60 % more."""

RUNS_A_LIFE = 6
"""Rollover, transition and delete take a run each; twice that leaves room for a run that only just came too early."""


def lives(policy, events, runs, days):
    clockwork = Clockwork(policy, runs)
    for event in sorted(events):
        clockwork.pass_until(event)
        clockwork.receive(event)
    clockwork.pass_until(max(events) + (days + rollover_days(days) + 2) * DAY)
    return clockwork


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 7, 24]),
    st.lists(st.integers(0, 30 * DAY), min_size=1, max_size=20),
    st.lists(st.integers(5, LONGEST_RUN), min_size=1, max_size=7),
)
def test_every_event_lives_as_long_as_promised_and_not_much_longer(days, events, runs):
    clockwork = lives(blueprint(retention_days=days).policy["policy"], events, runs, days)
    assert sorted(event for event, _ in clockwork.gone) == sorted(events), "quiet or not, everything leaves"
    longest = (days + rollover_days(days)) * DAY + RUNS_A_LIFE * LONGEST_RUN
    for event, gone in clockwork.gone:
        assert days * DAY <= gone - event <= longest
    assert all(index.failures == 0 for index in clockwork.indices)


def broken(change):
    policy = copy.deepcopy(blueprint(retention_days=7).policy["policy"])
    change(policy)
    return policy


def test_without_an_age_a_quiet_stream_keeps_everything():
    policy = broken(lambda policy: policy["states"][0]["actions"][0]["rollover"].pop("min_index_age"))
    assert lives(policy, [0], [5], 7).gone == []


def test_counted_from_the_creation_the_last_events_leave_early():
    def from_creation(policy):
        policy["states"][0]["transitions"][0]["conditions"] = {"min_index_age": "7d"}

    [(event, gone)] = lives(broken(from_creation), [DAY - 10], [5], 7).gone
    assert gone - event < 7 * DAY


def test_counted_from_a_rollover_that_the_state_does_not_do_nothing_leaves():
    policy = broken(lambda policy: policy["states"][0].update(actions=[]))
    clockwork = lives(policy, [0], [5], 7)
    assert clockwork.gone == []
    assert clockwork.indices[0].failures > 0
