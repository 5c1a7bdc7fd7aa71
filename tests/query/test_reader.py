"""Searching, scanning and counting, on a real server."""

from __future__ import annotations

import base64
import datetime as dt
import itertools

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit_logging.errors import (
    FilterError,
    IncompleteResultError,
    NotFoundError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from audit_logging.query import AuditReader, Filter, questions, scan, walk
from audit_logging.query.cursor import Cursor
from audit_logging.query.exchange import checked

from .trail import altered, event, ids

pytestmark = pytest.mark.server


def pages_of(reader, **asked):
    page = reader.search(**asked)
    yield page
    while page.cursor is not None:
        page = reader.search(cursor=page.cursor, **asked)
        yield page


def test_an_empty_stream_answers_emptily(trail, reader):
    page = reader.search(user_id="u-1")
    assert (page.events, page.cursor, page.total) == ([], None, 0)
    assert list(reader.scan()) == []
    assert reader.count() == 0


def test_a_page_holds_the_newest_events_whole(trail, reader):
    [old, new] = trail.add(
        event(
            "old", "2026-03-01T12:00:00.000001Z", user__id="u-1", audit__metadata={"n": 2**63 - 1, "a": {"b": ["x"]}}
        ),
        event("new", "2026-03-01T12:00:00.000002Z", user__id="u-1"),
    )
    page = reader.search(user_id="u-1")
    assert [each.document for each in page.events] == [new, old]
    assert page.to_dict() == {"events": [new, old], "cursor": None, "total": 2}
    assert ids(reader.search(sort="oldest").events) == ["old", "new"]
    assert reader.search(where := Filter.of(user_id="u-1")).total == reader.count(where) == 2


@pytest.mark.parametrize("sort", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40])
def test_pages_together_are_the_whole_trail_in_order(trail, reader, sort, limit):
    """Two events of one microsecond, of one millisecond, and of several writers each have their place."""
    times = ["2026-03-01T12:00:00.123456Z", "2026-03-01T12:00:00.123457Z", "2026-03-01T12:00:00.124000Z"]
    stored = [
        document
        for number, (time, writer) in enumerate(itertools.product(times, ("w2", "w1", "w3")))
        for document in trail.add(event(f"a{number}", time), event(f"b{number}", time), writer=writer)
    ]
    stored.sort(key=lambda each: (each["@timestamp"], *map(each["audit"]["integrity"].get, ("writer", "sequence"))))
    in_order = [each["event"]["id"] for each in stored]
    expected = in_order if sort == "oldest" else in_order[::-1]
    pages = list(pages_of(reader, sort=sort, limit=limit))
    assert [found for page in pages for found in ids(page.events)] == expected
    assert {page.total for page in pages} == {18}
    assert all(len(page.events) == limit for page in pages[:-1])
    assert ids(reader.scan(sort=sort)) == expected


def test_a_first_page_takes_one_request_unless_events_of_one_moment_meet_its_end(trail, reader, monkeypatch):
    asked = []
    send = reader._send
    monkeypatch.setattr(reader, "_send", lambda request: asked.append(request) or send(request))
    trail.add(*(event(f"{minute}", f"2026-03-01T12:{minute:02}:00.000000Z") for minute in range(10, 20)))
    assert ids(reader.search(limit=3).events) == ["19", "18", "17"]
    assert len(asked) == 1
    trail.add(*(event(f"tie {n}", "2026-03-01T12:18:00.000000Z") for n in range(4)), writer="w2")
    assert ids(reader.search(limit=3).events) == ["19", "tie 3", "tie 2"]
    assert len(asked) == 3
    assert ids(reader.search(limit=3, sort="oldest").events) == ["10", "11", "12"]
    assert len(asked) == 4


def test_relative_times_keep_the_now_of_the_first_page(trail, reader, monkeypatch):
    now = dt.datetime(2026, 3, 1, 13, tzinfo=dt.timezone.utc)
    monkeypatch.setattr(questions, "now", lambda: now)
    trail.add(*(event(str(minute), f"2026-03-01T12:{minute:02}:00.000000Z") for minute in range(4)))
    first = reader.search(since="-1h", limit=2)
    monkeypatch.setattr(questions, "now", lambda: now + dt.timedelta(days=1))
    second = reader.search(since="-1h", limit=2, cursor=first.cursor)
    assert ids(first.events + second.events) == ["3", "2", "1", "0"]
    assert reader.search(since="-1h").total == 0


def test_pages_stay_exact_while_events_arrive(trail, reader):
    trail.add(*(event(str(minute), f"2026-03-01T12:{minute:02}:00.000000Z") for minute in range(1, 5)))
    first = reader.search(limit=2)
    trail.add(event("newer", "2026-03-01T12:30:00.000000Z"), event("late", "2026-03-01T12:00:00.000000Z"))
    second = reader.search(limit=2, cursor=first.cursor)
    third = reader.search(limit=2, cursor=second.cursor)
    assert ids(first.events + second.events + third.events) == ["4", "3", "2", "1", "late"]
    assert second.total == 4  # as of the first page


def test_an_event_is_found_by_its_id_or_its_place_in_the_chain(trail, reader):
    [stored] = trail.add(event("e-1"))
    trail.rollover()
    trail.store(stored)
    assert reader.get("e-1").document == reader.get("00000000000000007731-1").document == stored
    for missing in ("e-2", "*", "00000000000000007731-*", "x" * 100_000):
        with pytest.raises(NotFoundError, match="There is no event"):
            reader.get(missing)
    with pytest.raises(FilterError, match="is not an event's id"):
        reader.get("\ud800")


class TestIdenticalSecondCopies:
    """A batch that was repeated after a rollover is stored twice and found once."""

    @pytest.fixture
    def batch(self, trail):
        trail.add(*(event(f"a{n}", f"2026-03-01T12:00:{n:02}.000000Z", user__id="u") for n in range(10)))
        batch = trail.add(*(event(f"b{n}", f"2026-03-01T12:01:{n:02}.000000Z", user__id="v") for n in range(10)))
        other = trail.add(*(event(f"c{n}", "2026-03-01T12:02:00.000000Z", user__id="u") for n in range(3)), writer="w2")
        trail.rollover()
        trail.store(*batch, *other)
        trail.add(*(event(f"d{n}", f"2026-03-01T12:03:{n:02}.000000Z", user__id="u") for n in range(10)))
        trail.add(event("e0", "2026-03-01T12:04:00.000000Z", user__id="u"), writer="w3")
        trail.rollover()
        trail.store(*batch[:2])
        return batch

    def test_everywhere(self, batch, reader, tmp_path):
        names = [
            f"{letter}{n}"
            for letter, many in (("a", 10), ("b", 10), ("c", 3), ("d", 10), ("e", 1))
            for n in range(many)
        ]
        assert ids(reader.scan()) == names
        assert ids(reader.search(limit=100).events) == names[::-1]
        assert reader.search(limit=100).total == reader.count() == 34
        assert reader.count(user_id="v") == reader.search(user_id="v", limit=1).total == 10
        assert reader.count(user_id="u") == 24
        statistics = reader.statistics(by="user", interval="1m")
        assert [(bucket.key, bucket.count) for bucket in statistics.buckets] == [("u", 24), ("v", 10)]
        assert [step.count for step in statistics.histogram] == [10, 10, 3, 10, 1]
        assert statistics.total == 34
        report = reader.export(tmp_path / "out.ndjson")
        assert (report.events, report.copies) == (34, 15)
        lines = (tmp_path / "out.ndjson").read_bytes().splitlines()
        assert [orjson.loads(line)["event"]["id"] for line in lines] == names

    @pytest.mark.parametrize("sort", ["newest", "oldest"])
    @pytest.mark.parametrize("limit", [1, 2, 3, 11])
    def test_across_the_ends_of_pages(self, batch, reader, sort, limit):
        found = [found for page in pages_of(reader, limit=limit, sort=sort) for found in ids(page.events)]
        assert found == ids(reader.scan(sort=sort))
        assert len(found) == 34

    @pytest.mark.parametrize("sort", ["newest", "oldest"])
    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_but_an_altered_copy_is_shown(self, trail, batch, reader, sort, limit):
        trail.rollover()
        trail.store(altered(batch[3], message="nothing happened"))
        pages = list(pages_of(reader, user_id="v", limit=limit, sort=sort))
        found = [found.document for page in pages for found in page.events if found.id == "b3"]
        assert len(found) == 2
        assert {each["message"] for each in found} == {"user.login happened", "nothing happened"}
        assert sum(len(page.events) for page in pages) == reader.count(user_id="v") == 11

    def test_are_found_page_by_page_of_writers_and_of_sequences(self, batch, reader, monkeypatch):
        monkeypatch.setattr("audit_logging.query.copies.PAIRS_PER_PAGE", 1)
        monkeypatch.setattr("audit_logging.query.copies.OVERLAPS_PER_WALK", 1)
        monkeypatch.setattr("audit_logging.query.copies.IDS_PER_CLAUSE", 1)
        assert reader.count() == reader.statistics().total == 34

    def test_are_counted_once_where_a_page_of_them_ends(self, batch, reader, monkeypatch):
        monkeypatch.setattr("audit_logging.query.copies.PAGE_SIZE", 1)
        for room in range(1, 9):
            monkeypatch.setattr(walk, "SMALLEST_PAGE", room)
            assert reader.count() == reader.statistics().total == 34

    def test_cost_nothing_extra_where_writers_do_not_overlap(self, trail, reader, monkeypatch):
        for _ in range(3):
            trail.add(event("x"), writer="w1")
            trail.add(event("y"), writer="w2")
            trail.rollover()
        asked = []
        send = reader._send
        monkeypatch.setattr(reader, "_send", lambda request: asked.append(request) or send(request))
        assert reader.count() == 6
        assert len(asked) == 3  # the count, whether in several indices, and which writers are

    def test_cost_nothing_extra_where_only_one_backing_index_holds_that_time(self, trail, reader, monkeypatch):
        for day in range(1, 4):
            trail.add(event("x", f"2026-03-{day:02}T12:00:00.000000Z"))
            trail.rollover()
        asked = []
        send = reader._send
        monkeypatch.setattr(reader, "_send", lambda request: asked.append(request) or send(request))
        assert reader.count(since="2026-03-02", until="2026-03-03") == 1
        assert reader.search(since="2026-03-02", until="2026-03-03").total == 1
        assert len(asked) == 2


class TestMoreForgeriesThanAPageHolds:
    """They all claim one place in the chain."""

    @pytest.fixture(autouse=True)
    def forged(self, trail, monkeypatch):
        monkeypatch.setattr(walk, "SMALLEST_PAGE", 1)
        monkeypatch.setattr(scan, "PAGE_SIZE", 1)
        [stored] = trail.add(event("first"))
        trail.bulk([line for n in range(5) for line in ({"create": {"_id": f"x{n}"}}, altered(stored, message=str(n)))])
        trail.add(event("last", "2026-03-02T00:00:00.000000Z"))

    @pytest.mark.parametrize("sort", ["newest", "oldest"])
    def test_are_all_shown(self, reader, sort):
        expected = ["first"] * 6 + ["last"]
        assert sorted(ids(reader.scan(sort=sort))) == expected
        assert sorted(found for page in pages_of(reader, limit=2, sort=sort) for found in ids(page.events)) == expected

    def test_do_not_lead_in_circles_when_they_exceed_the_largest_page_and_a_scan_says_so(self, reader, monkeypatch):
        monkeypatch.setattr(walk, "LARGEST_PAGE", 1)
        with pytest.raises(IncompleteResultError, match="ended after 2 of 7"):
            list(reader.scan())


@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_documents_that_somebody_else_put_there_are_shown_each(trail, reader, sort):
    """Without a seal there is no saying that two are the same."""
    foreign = event("foreign")
    half = event("half", audit__integrity={"writer": "w1"})
    for _ in range(2):
        trail.bulk([{"create": {"_id": "a"}}, foreign, {"create": {"_id": "b"}}, foreign, {"create": {}}, half])
        trail.rollover()
    trail.add(event("ours"))
    found = [found for page in pages_of(reader, limit=2, sort=sort) for found in ids(page.events)]
    assert sorted(found) == ["foreign"] * 4 + ["half"] * 2 + ["ours"]
    assert reader.count() == len(list(reader.scan(sort=sort))) == 7


def test_a_scan_reads_page_by_page(trail, reader, monkeypatch):
    monkeypatch.setattr(scan, "PAGE_SIZE", 16)
    trail.add(*(event(str(n), "2026-03-01T12:00:00.000000Z") for n in range(100)))
    assert ids(reader.scan()) == [str(n) for n in range(100)]


def test_a_scan_that_ends_early_says_so(trail, reader, client, settings, monkeypatch):
    monkeypatch.setattr(scan, "PAGE_SIZE", 16)
    trail.add(*(event(str(n)) for n in range(20)))
    trail.rollover()
    trail.add(*(event(str(n)) for n in range(20)))
    [first, _] = sorted(client.request("GET", f"/{settings.stream}"))
    events = reader.scan(sort="newest")
    next(events)
    client.request("DELETE", f"/{first}")
    with pytest.raises(IncompleteResultError, match=r"ended after 2\d of 40"):
        list(events)


class TestCursors:
    """They come back from anywhere."""

    @pytest.fixture
    def cursor(self, trail, reader):
        trail.add(event("1", user__id="u"), event("2", user__id="u"))
        return reader.search(user_id="u", limit=1).cursor

    def test_are_safe_in_urls(self, cursor):
        assert cursor.replace("-", "a").replace("_", "a").isalnum()

    @pytest.mark.parametrize(
        "other",
        [
            {},
            {"user_id": "v"},
            {"user_id": "u", "sort": "oldest"},
            {"user_id": "u", "since": "-1d"},
            {"not_user_id": "u"},
        ],
    )
    def test_belong_to_their_question(self, reader, cursor, other):
        with pytest.raises(FilterError, match="belongs to another search"):
            reader.search(cursor=cursor, **other)

    def test_belong_to_their_stream(self, cursor, settings, reader):
        with (
            AuditReader(settings=settings.model_copy(update={"stream": f"{settings.stream}-2"})) as elsewhere,
            pytest.raises(FilterError, match="belongs to another search"),
        ):
            elsewhere.search(user_id="u", cursor=cursor)

    def test_do_not_mind_another_limit(self, reader, cursor):
        assert ids(reader.search(user_id="u", limit=7, cursor=cursor).events) == ["1"]

    @pytest.mark.parametrize(
        "change",
        [
            {"v": 2},
            {"v": "1"},
            {"after": [1, "w"]},
            {"after": ["now", "w", 1]},
            {"after": [1.5, "w", 1]},
            {"after": [True, "w", 1]},
            {"after": [1, {"query": "x"}, 1]},
            {"after": [1 << 63, "w", 1]},
            {"after": [1, "w" * 2000, 1]},
            {"now": -1},
            {"now": 1 << 62},
            {"total": -1},
            {"total": "many"},
            {"seen": "w"},
            {"seen": [1]},
            {"seen": ["x"] * 100},
            {"question": "x"},
            {"more": 1},
        ],
    )
    def test_are_checked_in_every_part(self, reader, cursor, change):
        contents = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
        forged = base64.urlsafe_b64encode(orjson.dumps({**contents, **change})).decode().rstrip("=")
        with pytest.raises(FilterError, match="That is not a cursor"):
            reader.search(user_id="u", cursor=forged)

    @pytest.mark.parametrize("text", ["", "x", "e30", "bnVsbA", "[]", "ä", "e30\n", "e" * 9000, "W1tb" * 2000, 5])
    def test_of_any_other_shape_are_refused(self, reader, trail, text):
        with pytest.raises(FilterError, match="That is not a cursor"):
            reader.search(cursor=text)

    @hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.none() | st.text(max_size=30),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.sampled_from(["newest", "oldest"]),
    )
    def test_may_lead_anywhere_but_never_to_an_error(self, trail, reader, time, writer, sequence, sort):
        question = Filter.of().digest(reader.settings.stream, sort)
        now = dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc)
        try:
            cursor = Cursor(question, now, 0, (time, writer, sequence), ()).encode()
        except orjson.JSONEncodeError:
            return
        reader.search(cursor=cursor, sort=sort)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"limit": 0}, "limit is a number from 1 to 10000, not '0'"),
        ({"limit": 10_001}, "limit is a number"),
        ({"limit": True}, "limit is a number"),
        ({"limit": "5"}, "limit is a number"),
        ({"sort": "up"}, "sort is newest or oldest, not 'up'"),
        ({"user_name": "u"}, "did you mean 'user_id'"),
    ],
)
def test_malformed_questions_are_one_sentence(settings, asked, sentence):
    with AuditReader(settings=settings) as reader, pytest.raises(FilterError) as raised:
        reader.search(**asked)
    assert sentence in str(raised.value)


def test_a_filter_is_given_one_way_only(settings):
    with AuditReader(settings=settings) as reader:
        with pytest.raises(FilterError, match="not both"):
            reader.count(Filter.of(), user_id="u")
        with pytest.raises(FilterError, match="Give conditions as keywords, like user_id='u-42', not str"):
            reader.count("user.login")
        with pytest.raises(FilterError):
            reader.scan(sort="sideways")  # at the call, before the first event is asked for
        with pytest.raises(FilterError):
            reader.scan(nonsense=1)
    with pytest.raises(SettingsError, match="not both"):
        AuditReader(settings=settings, stream="x")


def test_a_stream_that_is_not_set_up_says_what_to_do(settings):
    asking = [lambda r: r.search(), lambda r: r.count(), lambda r: list(r.scan()), lambda r: r.statistics()]
    with AuditReader(settings=settings) as reader:
        for ask in [*asking, lambda r: r.get("x"), lambda r: r.export("-")]:
            with pytest.raises(NotFoundError) as raised:
                ask(reader)
            assert f"run `audit-logging setup --stream {settings.stream}`" in str(raised.value)


def test_an_index_that_is_no_trail_says_so(settings, client):
    client.request("PUT", f"/{settings.stream}", body={"mappings": {"dynamic": False}})
    with AuditReader(settings=settings) as reader, pytest.raises(RefusedError, match="holds no audit trail"):
        reader.search()


def test_nobody_listening_is_unreachable():
    with AuditReader(opensearch_url="http://127.0.0.1:1") as reader, pytest.raises(UnreachableError):
        reader.count()


def test_part_of_an_answer_is_no_answer(settings, trail, client, tmp_path, monkeypatch):
    """One of two indices behind a name has a shard that no node may hold."""
    monkeypatch.setattr("audit_logging.opensearch.settling.SETTLE_SECONDS", 0.1)
    [backing] = client.request("GET", f"/{settings.stream}").values()
    whole, lost, both = (f"{settings.stream}-{name}" for name in ("whole", "lost", "both"))
    client.request("PUT", f"/{whole}", body={"mappings": backing["mappings"]})
    client.request("PUT", f"/{whole}/_doc/1", params={"refresh": True}, body=event("1"))
    nowhere = {"index.routing.allocation.require._name": "nobody", "number_of_replicas": 0}
    client.request("PUT", f"/{lost}", params={"wait_for_active_shards": 0}, body={"settings": nowhere})
    actions = [{"add": {"index": name, "alias": both}} for name in (whole, lost)]
    client.request("POST", "/_aliases", body={"actions": actions})
    with AuditReader(settings=settings.model_copy(update={"stream": whole})) as reader:
        assert reader.count() == 1
    with AuditReader(settings=settings.model_copy(update={"stream": both})) as reader:
        for ask in (
            reader.search,
            reader.count,
            reader.statistics,
            lambda: list(reader.scan()),
            lambda: reader.get("1"),
            lambda: reader.export(tmp_path / "x"),
        ):
            with pytest.raises(IncompleteResultError, match="would be partial"):
                ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"timed_out": True, "_shards": {"total": 1, "failed": 0}},
        {"_shards": {"total": 2, "failed": 1, "failures": [{"reason": {"type": "x", "reason": "disk on fire"}}]}},
        {"_shards": {"total": 2, "failed": 1}},
    ],
)
def test_an_answer_of_status_200_may_be_partial_too(answer):
    with pytest.raises(IncompleteResultError, match="would be partial"):
        checked(answer)
