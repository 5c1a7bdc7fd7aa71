"""Legal holds: recorded in the trail, enforced by the server, and outliving what records them."""

from __future__ import annotations

import datetime as dt
import gzip

import pytest

from audit_logging.errors import FilterError, HoldError, NotFoundError, RefusedError
from audit_logging.integrations.admin import hold_query
from audit_logging.opensearch.holds import EVERYTHING, MAX_QUERY_BYTES, lock, new_hold, placing, releasing
from audit_logging.opensearch.retention_verify import verify_plan
from audit_logging.query.filter import Filter
from audit_logging.settings import Settings

from .travel import travelling


@pytest.fixture
def trail(settings):
    with travelling(settings) as traveller:
        yield traveller


@pytest.fixture
def three(trail):
    """A trail whose first three backing indices hold one user each, and are sealed."""
    for user in ("u-1", "u-2", "u-3"):
        trail.emit(user)
        trail.roll_over()
    trail.later(minutes=11).apply()
    return trail


CASE = {"reason": "Case 12/2026", "person": "jane.doe"}


def deletable(trail, number):
    try:
        trail.client.request("DELETE", f"/{trail.name(number)}")
    except RefusedError as error:
        return error.error_type != "cluster_block_exception"
    return True


@pytest.mark.server
def test_a_hold_on_a_user_keeps_the_indices_with_that_users_events_and_lets_the_others_go(three):
    placed = three.admin.place_hold(**CASE, user_id="u-2")
    assert placed.indices == (three.name(2),)
    assert placed.hold.covers == "user_id u-2"
    plan = three.later(days=10).plan()
    assert plan.outlooks[1].kept == (f"on hold {placed.hold.id}",)
    assert three.apply().deleted == [three.name(1), three.name(3)]
    assert not deletable(three, 2), "OpenSearch itself refuses"


@pytest.mark.server
def test_a_hold_is_an_event_that_says_who_why_and_what(three):
    hold = three.admin.place_hold(**CASE, user_id="u-2").hold
    three.client.request("POST", f"/{three.stream}/_refresh")
    query = {"query": {"term": {"event.action": "audit.hold_placed"}}}
    [hit] = three.client.request("POST", f"/{three.stream}/_search", body=query)["hits"]["hits"]
    event = hit["_source"]
    assert (event["user"]["id"], event["event"]["reason"]) == ("jane.doe", "Case 12/2026")
    assert event["message"] == "jane.doe placed a legal hold"
    assert event["audit"]["metadata"]["hold"] == hold.id
    [listed] = three.admin.list_holds()
    assert (listed.id, listed.query, listed.covers, listed.reason) == (hold.id, hold.query, hold.covers, hold.reason)


@pytest.mark.server
def test_a_hold_on_a_time_range_keeps_what_overlaps_it(trail):
    for day in (1, 2, 3):
        trail.emit("u-1", timestamp=f"2026-03-0{day}T12:00:00Z")
        trail.roll_over()
    held = trail.admin.place_hold(**CASE, since="2026-03-02", until="2026-03-03T12:00:00Z")
    assert held.indices == (trail.name(2),)
    assert trail.admin.place_hold(**CASE, since="2026-03-02").indices[:2] == (trail.name(2), trail.name(3))


@pytest.mark.server
def test_a_hold_on_the_whole_stream_keeps_everything_and_what_comes_later(three):
    placed = three.admin.place_hold(**CASE)
    assert placed.hold.covers == "everything"
    three.later(days=5).apply()
    three.later(days=5).apply()
    assert three.later(days=1000).apply().deleted == []
    assert not deletable(three, 4)


@pytest.mark.server
def test_what_is_released_leaves_but_for_what_another_hold_keeps(three):
    one = three.admin.place_hold(**CASE, user_id=["u-1", "u-2"]).hold
    other = three.admin.place_hold(**CASE, user_id="u-2").hold
    three.later(days=2).apply()
    released = three.admin.release_hold(one.id, reason="Closed", person="john.roe")
    assert released.report.unlocked == [three.name(1)]
    gone = three.apply().deleted
    assert three.name(1) in gone
    assert three.name(2) not in gone
    assert not deletable(three, 2)
    states = {hold.id: (hold.active, hold.released_by, hold.release_reason) for hold in three.admin.list_holds()}
    assert states == {one.id: (False, "john.roe", "Closed"), other.id: (True, None, "")}
    three.admin.release_hold(other.id, **CASE)
    assert three.name(2) in three.apply().deleted


@pytest.mark.server
def test_a_hold_outlives_the_index_that_records_it(three):
    hold = three.admin.place_hold(**CASE, user_id="u-2").hold
    recorded_in = three.indices()[-1]
    for _ in range(12):
        three.later(hours=12).apply()
    assert recorded_in not in three.indices()
    [known] = three.admin.list_holds()
    assert (known.id, known.active, known.placed_by, known.reason) == (hold.id, True, "jane.doe", "Case 12/2026")
    assert known.placed_at == hold.placed_at
    assert "000002" in three.indices()
    assert any(record["again"] for record in three.recorded("audit.hold_placed"))
    # The seal of what stays outlives its index, too.
    assert three.plan().outlooks[0].index.sealed_events == 1


@pytest.mark.server
def test_a_released_hold_does_not_come_back_when_its_release_leaves(three):
    three.emit("u-4")
    over = three.admin.place_hold(**CASE, user_id="u-2").hold
    three.later(hours=26).apply()
    three.admin.release_hold(over.id, **CASE)
    released_in = three.indices()[-1]
    stays = three.admin.place_hold(**CASE, user_id="u-4").hold  # and with it the record of the placing
    for _ in range(10):
        three.later(hours=12).apply()
    assert released_in not in three.indices()
    assert "000004" in three.indices()
    assert [hold.id for hold in three.admin.list_holds() if hold.active] == [stays.id]


@pytest.mark.server
def test_a_quarantined_event_counts_as_matching_since_its_fields_cannot_be_searched(trail):
    trail.emit("u-1")
    writer, document = (
        "f" * 20,
        {"audit": {"quarantine": {"document": "{}", "reason": "mapper_parsing_exception"}, "schema": "1"}},
    )
    document |= {"@timestamp": "2026-03-02T00:00:00Z", "event": {"action": "audit.quarantined", "id": "e-1"}}
    trail.client.request("PUT", f"/{trail.stream}/_create/{writer}-1", body=document)
    trail.roll_over()
    trail.emit("u-1")
    trail.roll_over()
    assert trail.admin.place_hold(**CASE, user_id="u-9").indices == (trail.name(1),)
    assert trail.admin.place_hold(**CASE, user_id="u-9", since="2026-03-03").indices == ()


@pytest.mark.server
def test_a_lock_of_somebody_else_is_left_alone_and_named(three):
    lock(three.client, three.name(2))
    assert three.name(2) not in three.later(days=10).apply().deleted
    assert "000002" in three.indices()
    [problem] = verify_plan(three.plan(), None).problems
    assert "no hold says why" in problem


@pytest.mark.server
def test_a_hold_that_was_not_enforced_yet_is_named(three):
    """As when the host died between the record and the lock."""
    three.admin._record("audit.hold_placed", placing(new_hold("Case", "jane.doe", EVERYTHING, "everything")))
    problems = verify_plan(three.plan(), None).problems
    assert len(problems) == 3
    assert all("is not locked" in problem for problem in problems)
    assert len(three.apply().locked) == 3
    assert verify_plan(three.plan(), None).problems == ()


@pytest.mark.server
def test_the_set_up_brings_new_fields_although_an_index_is_locked(three):
    """A mapping cannot be put to a locked index, nor to a stream with one."""
    older = {"_meta": {"managed_by": "audit-logging", "version": 0}}
    three.client.request("PUT", f"/{three.stream}/_mapping", body=older)
    three.admin.place_hold(**CASE, user_id="u-2")
    step = three.admin.setup().steps[-1]
    assert (step.what, step.outcome) == ("write index", "updated")
    assert not three.admin.setup().changed


@pytest.mark.server
def test_what_people_write_is_looked_through_for_secrets_and_the_query_stays_to_the_letter(trail):
    token = "q7Zk2Vb9Xw4Lr8Ty3Nm6Pd1Sf5Gh0Jc2Ae"
    trail.emit("u-1", session_id=token)
    trail.roll_over()
    placed = trail.admin.place_hold(reason="with password=hunter2 in it", person="jane.doe", session_id=token)
    assert placed.indices == (trail.name(1),)
    [hold] = trail.admin.list_holds()
    assert hold.reason == "with password=[redacted] in it"
    assert token not in hold.covers
    trail.admin.release_hold(hold.id, reason="password=hunter2", person="jane.doe")
    assert trail.admin.list_holds()[0].release_reason == "password=[redacted]"


@pytest.mark.server
def test_an_application_that_looks_for_no_secrets_gets_the_reason_as_it_is(settings):
    with travelling(settings.model_copy(update={"detect_secrets": False})) as trail:
        trail.admin.place_hold(reason="password=hunter2", person="jane.doe")
        assert trail.admin.list_holds()[0].reason == "password=hunter2"


@pytest.mark.server
def test_a_hold_on_a_person_finds_what_is_sealed_under_that_persons_key_and_so_does_the_archive_keep_it(
    settings, tmp_path
):
    protected = settings.model_copy(update={"erasable_fields": frozenset({"user_id"})})
    with travelling(protected) as trail:
        for user in ("u-1", "u-2"):
            trail.emit(user)
            trail.roll_over()
        held = trail.admin.place_hold(**CASE, user_id="u-2")
        assert held.indices == (trail.name(2),)
        assert trail.name(1) in trail.later(days=2).apply(tmp_path / "archive").deleted
    [file] = (tmp_path / "archive").glob(f"{trail.stream}-000001-*.ndjson.gz")
    assert b'"u-1"' not in gzip.decompress(file.read_bytes())


@pytest.mark.server
def test_a_hold_on_a_person_where_the_keys_are_not_is_refused_since_it_would_miss_events(settings, tmp_path):
    protected = settings.model_copy(update={"erasable_fields": frozenset({"user_id"})})
    with travelling(protected) as trail:
        trail.emit("u-1")
    elsewhere = protected.model_copy(update={"home": tmp_path / "elsewhere"})
    with travelling(elsewhere) as trail:
        with pytest.raises(HoldError, match="their keys are not here"):
            trail.admin.place_hold(**CASE, user_id="u-1")
        assert trail.admin.place_hold(**CASE, since="-1d").indices == (trail.name(1),)


HOSTILE = [
    None,
    "",
    "{",
    "[]",
    "{}",
    '"x"',
    '{"script": {"script": "while(true){}"}}',
    '{"bool": {"filter": [{"script": {"script": "1"}}]}}',
    '{"bool": {"filter": {"match_all": {}}}}',
    '{"bool": {"boost": 2}}',
    '{"terms": {"user.id": {"index": "secrets", "id": "1", "path": "x"}}}',
    '{"match_all": {}, "term": {}}',
    '{"term": "x"}',
    '{"bool": {"filter": ' * 300 + "1" + "}}" * 300,
    '{"range": {"@timestamp": {"gte": "no time"}}}',
    '{"term": {"user.id": {"nonsense": 1}}}',
]


@pytest.mark.server
def test_a_record_that_cannot_be_understood_keeps_everything_rather_than_nothing(trail):
    trail.emit("u-1")
    trail.roll_over()
    for number, query in enumerate(HOSTILE):
        facts = {"metadata": {"hold": f"h-{number}", "query": query}}
        trail.admin._record("audit.hold_placed", facts)
    held = trail.plan().outlooks[0].index.holds
    assert held == tuple(f"h-{number}" for number in range(len(HOSTILE)))


@pytest.mark.server
def test_records_without_an_id_hold_and_release_nothing(trail):
    trail.emit("u-1")
    trail.roll_over()
    for metadata in ({}, {"hold": 7}, {"hold": ["x"]}):
        trail.admin._record("audit.hold_placed", {"metadata": metadata})
        trail.admin._record("audit.hold_released", {"metadata": metadata})
    trail.admin._record("audit.hold_released", {"metadata": {"hold": "h-unknown"}})
    assert trail.plan().holds == ()


@pytest.mark.server
def test_wrong_use_is_refused_and_recorded_nowhere(trail):
    for wrong in ({"reason": " ", "person": "jane"}, {"reason": "Case", "person": ""}):
        with pytest.raises(HoldError, match="needs a reason and the person"):
            trail.admin.place_hold(**wrong)
    with pytest.raises(FilterError, match="no filter 'usr_id'"):
        trail.admin.place_hold(**CASE, usr_id="u-1")
    with pytest.raises(HoldError, match="too much for one hold"):
        trail.admin.place_hold(**CASE, user_id=[f"user-{number:020}" for number in range(MAX_QUERY_BYTES // 20)])
    with pytest.raises(HoldError, match=r"No hold 'h-1' is in force \(in force: there is none\)"):
        trail.admin.release_hold("h-1", **CASE)
    hold = trail.admin.place_hold(**CASE).hold
    with pytest.raises(HoldError, match="A release needs a reason"):
        trail.admin.release_hold(hold.id, reason="", person="jane")
    trail.admin.release_hold(hold.id, **CASE)
    with pytest.raises(HoldError, match="No hold"):
        trail.admin.release_hold(hold.id, **CASE)
    assert len(trail.recorded("audit.hold_placed")) == 1


@pytest.mark.server
def test_a_hold_on_a_stream_that_is_not_there_is_no_hold(settings):
    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=settings) as admin, pytest.raises(NotFoundError, match="audit-logging setup"):
        admin.place_hold(**CASE)
    assert not (settings.spool_path).exists()


def test_a_hold_says_at_which_times_it_looks_whenever_it_is_asked():
    query, covers = hold_query(Filter.of(since="-30d", user_id=["u-1", "u-2"], not_outcome="success"), Settings.load())
    [times, others] = query["bool"]["filter"]
    moment = dt.datetime.fromisoformat(covers.partition("since ")[2].partition(",")[0])
    assert dt.timedelta(days=29) < dt.datetime.now(dt.timezone.utc) - moment < dt.timedelta(days=31)
    assert times["bool"]["filter"][0]["range"]["@timestamp"]["gte"][:10] == f"{moment:%Y-%m-%d}"
    assert {"term": {"event.action": "audit.quarantined"}} in others["bool"]["should"]
    assert "user_id u-1 or u-2" in covers
    assert "not_outcome success" in covers


def test_a_release_says_which_hold_it_ends():
    hold = new_hold("Case", "jane.doe", EVERYTHING, "everything")
    assert releasing(hold, "Closed", "john")["metadata"]["hold"] == hold.id
