"""Following the trail: no event left out, none twice, however late it comes."""

from __future__ import annotations

import asyncio
import random

import pytest

import audit_logging as audit
from audit_logging.errors import FilterError, NotFoundError, UnreachableError
from audit_logging.query import arrivals
from audit_logging.query.exchange import run
from audit_logging.query.questions import Questions

from .trail import Trail, altered, event, ids

pytestmark = pytest.mark.server


class Followed:
    """A tail that looks when it is told to."""

    def __init__(self, reader, *, last=0, **conditions):
        self._send = reader._send
        self.tail = Questions(reader.settings.stream).tail(None, conditions, last=last)
        self.begun = ids(run(self.tail.begin(), self._send))

    def look(self):
        """Look until there is nothing more."""
        found = run(self.tail.look(), self._send)
        return ids(found) + (self.look() if self.tail.behind else [])


def at(minute):
    return f"2026-03-01T12:{minute:02}:00.000000Z"


def test_it_begins_with_the_last_events_and_goes_on_with_those_that_come(trail, reader):
    trail.add(*(event(f"old-{n}", at(n)) for n in range(5)))
    followed = Followed(reader, last=3)
    assert followed.begun == ["old-2", "old-3", "old-4"]
    assert followed.look() == []
    trail.add(event("new", at(10)))
    assert followed.look() == ["new"]
    assert followed.look() == []
    assert Followed(reader).begun == []


def test_what_arrives_while_it_begins_is_shown_once(trail, reader):
    trail.add(event("before", at(1)))
    tail = Questions(reader.settings.stream).tail(None, {}, last=5)
    asked = []

    def send(request):
        asked.append(request)
        if "preference" not in request.params:  # what was there is noted, the last of it not yet read
            trail.add(event("between", at(2)))
        return reader._send(request)

    assert ids(run(tail.begin(), send)) == ["before", "between"]
    trail.add(event("after", at(3)))
    assert ids(run(tail.look(), send)) == ["after"]
    assert len(asked) > 3


def test_a_spool_that_is_replayed_late_is_shown_whole(trail, reader):
    """Another writer's newer events came first, and even later ones of its own."""
    kept_back = [trail.seal(event(f"late-{n}", at(n)), "w1") for n in range(3)]
    trail.add(event("first", at(30)), writer="w2")
    followed = Followed(reader)
    trail.add(event("newer", at(40)), writer="w2")
    trail.add(event("later-of-its-own", at(41)))
    assert followed.look() == ["newer", "later-of-its-own"]
    trail.store(*reversed(kept_back))
    assert followed.look() == ["late-0", "late-1", "late-2"]
    assert followed.look() == []


def test_two_writers_are_shown_in_the_order_of_time(trail, reader):
    followed = Followed(reader)
    trail.add(event("b", at(2)), event("d", at(4)), writer="w1")
    trail.add(event("a", at(1)), event("c", at(3)), writer="w2")
    assert followed.look() == ["a", "b", "c", "d"]


def test_filters_apply(trail, reader):
    followed = Followed(reader, user_id="u-1", not_outcome="success")
    trail.add(
        event("no", user__id="u-2", outcome="failure"),
        event("yes", user__id="u-1", outcome="failure"),
        event("neither", user__id="u-1"),
    )
    assert followed.look() == ["yes"]


def test_a_new_backing_index_is_followed_from_its_first_event(trail, reader):
    trail.add(event("before"))
    followed = Followed(reader)
    trail.rollover()
    trail.add(event("after"))
    assert followed.look() == ["after"]
    trail.rollover()
    assert followed.look() == []
    trail.add(event("at last"))
    assert followed.look() == ["at last"]


def test_a_batch_that_was_repeated_after_a_rollover_is_shown_once(trail, reader):
    early = trail.add(event("early"))
    followed = Followed(reader)
    shown = trail.add(event("shown"))
    assert followed.look() == ["shown"]
    unseen = trail.add(event("unseen"))
    trail.rollover()
    trail.store(*early, *shown, *unseen)
    assert followed.look() == ["unseen"]
    trail.rollover()
    trail.store(*unseen, altered(shown[0], message="forged"))
    assert followed.look() == ["shown"]  # the forged one


def test_a_burst_is_taken_in_pages(trail, reader, monkeypatch):
    monkeypatch.setattr(arrivals, "PAGE_SIZE", 3)
    followed = Followed(reader)
    trail.add(*(event(f"e{n:02}", at(n)) for n in range(20)))
    assert followed.look() == [f"e{n:02}" for n in range(20)]


def test_what_becomes_visible_below_the_highest_number_is_fetched(trail, reader, monkeypatch):
    """As when two batches are indexed at the same time, and a refresh comes between them."""
    monkeypatch.setattr(arrivals, "LOOK_BACK", 5)
    trail.add(*(event(f"old-{n}") for n in range(9)))
    followed = Followed(reader)
    [shard] = followed.tail._shards
    [numbers] = shard._known.values()
    assert numbers.found == {4, 5, 6, 7, 8}
    numbers.found -= {5, 7}
    assert followed.look() == ["old-5", "old-7"]
    trail.add(event("new"))
    assert followed.look() == ["new"]
    assert followed.look() == []
    for _ in range(20):
        trail.add(event("one"), event("more"))
        assert followed.look() == ["one", "more"]
    assert len(numbers.found) <= 2 * 5 + 2


def test_every_shard_is_followed(settings, client, reader):
    """Numbers are a shard's own, so that one must not stand for the others."""
    trail = Trail(settings, client)
    template = f"{settings.stream}-settings"
    [found] = client.request("GET", f"/_component_template/{template}")["component_templates"]
    body = found["component_template"]
    body["template"]["settings"]["index"]["number_of_shards"] = 3
    client.request("PUT", f"/_component_template/{template}", body=body)
    trail.add(event("in the only shard"))
    followed = Followed(reader)
    trail.rollover()
    for batch in range(4):
        names = [f"e{batch}-{n:02}" for n in range(12)]
        trail.add(*(event(name) for name in names))
        assert sorted(followed.look()) == names
    assert len(followed.tail._shards) == 3
    assert followed.look() == []


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_each_event_is_shown_once(trail, reader, monkeypatch, seed):
    """Writers, replays out of order, repeats after rollovers and looks, in any order."""
    chance = random.Random(seed)
    monkeypatch.setattr(arrivals, "PAGE_SIZE", chance.randint(1, 4))
    followed = Followed(reader)
    stored, kept_back, shown, emitted = [], [], [], 0
    for action in chance.choices(["emit", "keep", "replay", "repeat", "rollover", "look"], [6, 4, 3, 2, 1, 6], k=25):
        if action in {"emit", "keep"}:
            sealed = trail.seal(event(f"e-{emitted}"), f"w{chance.randrange(3)}")
            emitted += 1
            (stored if action == "emit" else kept_back).append(sealed)
            if action == "emit":
                trail.store(sealed)
        elif action == "replay" and kept_back:
            chance.shuffle(kept_back)
            trail.store(*kept_back)
            stored += kept_back
            kept_back = []
        elif action == "repeat" and stored:
            trail.rollover()
            trail.store(*chance.sample(stored, chance.randint(1, len(stored))))
        elif action == "rollover":
            trail.rollover()
        else:
            shown += followed.look()
    shown += followed.look()
    assert sorted(shown) == sorted(each["event"]["id"] for each in stored)


def test_the_reader_goes_on_for_ever_and_so_does_its_twin(trail, reader, settings):
    trail.add(event("there"))
    following = reader.tail(last=1, poll_seconds=0.01)
    assert next(following).id == "there"
    trail.add(event("came"))
    assert next(following).id == "came"
    following.close()

    async def follow():
        async with audit.AsyncAuditReader(settings=settings) as twin:
            following = twin.tail(last=2, poll_seconds=0.01)
            seen = [(await anext(following)).id, (await anext(following)).id]
            coming = asyncio.ensure_future(anext(following))
            await asyncio.to_thread(trail.add, event("came later"))
            return [*seen, (await coming).id]

    assert asyncio.run(follow()) == ["there", "came", "came later"]


def test_mistakes_and_a_server_that_was_never_there_are_told_at_once(reader, stream):
    for last in (-1, 10_001, True, "5"):
        with pytest.raises(FilterError, match="last is a number from 0 to 10000"):
            reader.tail(last=last)
    with pytest.raises(NotFoundError, match="audit-logging setup"):
        next(reader.tail())
    with audit.AuditReader(opensearch_url="http://127.0.0.1:1") as away, pytest.raises(UnreachableError):
        next(away.tail())


def test_a_stream_that_goes_away_is_no_outage(trail, reader, client, settings):
    trail.add(event("there"))
    told = []
    following = reader.tail(last=1, poll_seconds=0.01, on_wait=told.append)
    next(following)
    client.request("DELETE", f"/_data_stream/{settings.stream}")
    with pytest.raises(NotFoundError):
        next(following)
    assert told == []
