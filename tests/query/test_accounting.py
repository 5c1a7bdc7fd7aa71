"""The doctor's check of the accounts against a real stream."""

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query import accounting
from audit_logging.query.accounting import check_accounts
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import Damage, DamagedBytes
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.refusals import Refusals
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.server


@pytest.fixture
def prepared(settings):
    """A stream without the protection from deletions, which are what is to be found."""
    AuditAdmin(settings=settings).setup(append_only=False)
    return settings


@pytest.fixture
def impatient(monkeypatch):
    """What the stream lacks here is not on its way."""
    monkeypatch.setattr(accounting, "REFRESH_SECONDS", 0.0)


@pytest.fixture
def trail(prepared):
    trail = Trail(prepared)
    for number in range(20):
        trail.emit("user.login", {"user_id": f"u-{number}"})
    assert trail.flush(20)
    yield trail
    trail.shutdown(5)


def verdicts(settings, **options):
    return [(check.name, check.verdict) for check in check_accounts(settings, **options)]


def delete(client, stream, writer, *sequences):
    client.request("POST", f"/{stream}/_refresh")
    query = {"ids": {"values": [f"{writer}-{sequence}" for sequence in sequences]}}
    answer = client.request("POST", f"/{stream}/_delete_by_query", params={"refresh": True}, body={"query": query})
    assert answer["deleted"] == len(sequences)


def the_stream(settings):
    *_, check = check_accounts(settings)
    return check


def test_what_was_acknowledged_is_there(trail, prepared):
    """At once, though the last of it is found only after the next refresh; also when the writer is closed."""
    assert verdicts(prepared) == [("accounts", "ok"), ("acknowledged events", "ok")]
    trail.shutdown(5)
    assert verdicts(prepared) == [("accounts", "ok"), ("acknowledged events", "ok")]
    assert verdicts(prepared, ask=False) == [("accounts", "ok")]


def test_damage_is_a_problem_although_no_event_is_missing(trail, prepared):
    """It is the disk's; and a file about it that cannot be read does not end the doctor's visit."""
    kept = DamagedBytes(SpoolDirectory(prepared.spool_path).dead_letters)
    damage = Damage(trail.writer_id, "1.seg", 42, 3, 1, 0, "no whole record in its place", "2026-01-01T00:00:00+00:00")
    kept.keep(damage, b"???")
    check, _ = check_accounts(prepared)
    assert check.verdict == "problem"
    assert "damaged in 1 place" in check.sentence
    kept.file_of(damage.id).write_bytes(b"{")
    (check,) = check_accounts(prepared)
    assert check.verdict == "problem"
    assert f"{damage.id}.damage cannot be read" in check.sentence


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_is_missing_is_named(is_closed, trail, prepared, client, impatient):
    """How many, whose, and the first."""
    writer = trail.writer_id
    if is_closed:
        trail.shutdown(5)
    delete(client, prepared.stream, writer, 7, 12, 20)
    check = the_stream(prepared)
    assert check.verdict == "problem"
    assert f"3 acknowledged events of writer {writer} not found, the first is {writer}-7" in check.sentence
    assert "A local server that was taken down took its events with it." in check.remedy


def test_what_retention_may_have_removed_is_not_missing(trail, prepared, client, impatient):
    """The oldest backing indices leave first; a hole behind that is none of its doing."""
    writer = trail.writer_id
    first = client.request("GET", f"/_data_stream/{prepared.stream}")["data_streams"][0]["indices"][0]["index_name"]
    client.request("POST", f"/{prepared.stream}/_rollover")
    for _ in range(5):
        trail.emit("user.login", {"user_id": "u-1"})
    assert trail.flush(20)
    client.request("DELETE", f"/{first}")
    client.request("POST", f"/{prepared.stream}/_refresh")
    assert the_stream(prepared).verdict == "ok"
    delete(client, prepared.stream, writer, 23)
    assert f"the first is {writer}-23" in the_stream(prepared).sentence
    delete(client, prepared.stream, writer, 21, 22, 24, 25)
    assert (
        f"1 acknowledged event of writer {writer} not found, the first is {writer}-25" in the_stream(prepared).sentence
    )


def test_what_left_before_the_oldest_index_was_made_is_not_missing(trail, prepared, client):
    """The whole of a writer may leave."""
    trail.shutdown(5)
    client.request("POST", f"/{prepared.stream}/_rollover")
    first = client.request("GET", f"/_data_stream/{prepared.stream}")["data_streams"][0]["indices"][0]["index_name"]
    client.request("DELETE", f"/{first}")
    assert the_stream(prepared).verdict == "ok"


def test_dead_letters_are_a_warning_and_not_missing(prepared, client):
    """They are known not to be there."""
    with FaultProxy(prepared.opensearch_url[0]) as proxy:
        proxy.faults.extend([proxy.items(400, "mapper_parsing_exception", every=1)] * 2)
        trail = Trail(prepared.model_copy(update={"opensearch_url": (proxy.url,)}))
        trail.emit("user.login", {"user_id": "u-1"})
        assert trail.flush(20)
        trail.emit("user.login", {"user_id": "u-2"})
        assert trail.flush(20)
        client.request("POST", f"/{prepared.stream}/_refresh")
        assert verdicts(prepared) == [("accounts", "warning"), ("acknowledged events", "ok")]
        trail.shutdown(5)


def test_what_is_lost_on_the_disk_is_a_problem(trail, prepared):
    """The letter is said to be there and is not."""
    (path,) = trail._writer.directory.writers()
    Refusals(path).note("dead", {3: "why"})
    assert not DeadLetters(path.parent / "dead-letters", prepared.stream).ids()
    assert verdicts(prepared, ask=False) == [("accounts", "problem")]


def test_without_a_server_the_disk_is_checked_alone(trail, prepared):
    """And a role that may not search is no finding."""
    there = {"opensearch_url": ()}
    assert verdicts(prepared.model_copy(update=there)) == [("accounts", "ok"), ("acknowledged events", "skipped")]
    with FaultProxy(prepared.opensearch_url[0]) as proxy:
        proxy.forbidden = ("_search",)
        found = verdicts(prepared.model_copy(update={"opensearch_url": (proxy.url,)}))
    assert found == [("accounts", "ok"), ("acknowledged events", "skipped")]


def test_nothing_acknowledged_is_nothing_to_compare(prepared):
    """Such as before the first event."""
    assert verdicts(prepared) == [("accounts", "ok"), ("acknowledged events", "skipped")]
