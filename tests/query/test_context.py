"""One event and what happened around it."""

from __future__ import annotations

import datetime as dt

import pytest

from audit_logging.errors import FilterError, NotFoundError
from audit_logging.query.filter import Filter

from .trail import event

pytestmark = pytest.mark.server


def at(minute, second=0):
    return f"2026-03-01T12:{minute:02}:{second:02}.000000Z"


def names(related):
    return [(each.event.id, each.shares) for each in related]


@pytest.fixture
def story(trail):
    trail.add(
        event("long ago", at(0), user__id="u-1"),
        event("log-in", at(10), user__id="u-1", session__id="s-1"),
        event("another", at(11), user__id="u-2"),
        event("same session", at(11), session__id="s-1"),
        event("it", at(12), user__id="u-1", session__id="s-1", http__request__id="r-1"),
        event("same moment", at(12), user__id="u-1", http__request__id="r-1"),
        event("by another in the request", at(12, 5), user__id="u-3", http__request__id="r-1"),
        event("later", at(17), user__id="u-1"),
        event("too late", at(17, 1), user__id="u-1"),
        event("nobody's", at(12)),
    )
    return trail


def test_what_shares_request_session_or_user_is_around_it(story, reader):
    context = reader.context("it")
    assert context.event.id == "it"
    assert names(context.before) == [("log-in", ("session", "user")), ("same session", ("session",))]
    assert names(context.after) == [
        ("same moment", ("request", "user")),
        ("by another in the request", ("request",)),
        ("later", ("user",)),
    ]
    assert context.to_dict()["after"][1]["shares"] == ["request"]


def test_the_reach_and_the_number_are_limited(story, reader):
    wide = reader.context("it", within=dt.timedelta(hours=1))
    assert (wide.before[0].event.id, wide.after[-1].event.id) == ("long ago", "too late")
    near = reader.context("it", within="1h", limit=1)
    assert names(near.before) == [("same session", ("session",))]
    assert names(near.after) == [("same moment", ("request", "user"))]
    assert reader.context("it", within="0s").after[0].event.id == "same moment"
    assert len(reader.context("it", within="9999w").before) == 3
    none = reader.context("it", limit=0)
    assert (none.before, none.after) == ((), ())


def test_a_second_copy_of_it_is_not_around_it(trail, reader):
    stored = trail.add(event("it", user__id="u-1"))
    trail.rollover()
    trail.store(*stored)
    context = reader.context("it")
    assert (context.before, context.after) == ((), ())


def test_an_event_of_nobody_has_nothing_around_it(story, reader):
    assert reader.context("nobody's").after == ()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"within": "-5m"}, "is no duration: give one like 30s, 5m"),
        ({"within": "soon"}, "is no duration"),
        ({"within": 5}, "is no duration"),
        ({"within": dt.timedelta(-1)}, "is no duration"),
        ({"limit": -1}, "limit is a number from 0 to 1000"),
        ({"limit": 1001}, "limit is a number"),
    ],
)
def test_mistakes_are_one_sentence(reader, asked, sentence):
    with pytest.raises(FilterError) as raised:
        reader.context("it", **asked)
    assert sentence in str(raised.value)


def test_what_is_not_there_is_not_found(trail, reader):
    with pytest.raises(NotFoundError, match="There is no event"):
        reader.context("it")


def test_an_event_that_does_not_meet_the_conditions_cannot_be_got(trail, reader):
    trail.add(
        event("same", at(1), organization__id="evil"),
        event("same", at(2), organization__id="acme"),
        event("theirs", at(3), organization__id="evil"),
    )
    assert reader.get("same").organization_id == "evil"
    assert reader.get("same", organization_id="acme").organization_id == "acme"
    assert reader.get("00000000000000007731-2", Filter.of(organization_id="acme")).id == "same"
    for hidden in ("theirs", "00000000000000007731-1", "00000000000000007731-3"):
        with pytest.raises(NotFoundError):
            reader.get(hidden, organization_id="acme")
