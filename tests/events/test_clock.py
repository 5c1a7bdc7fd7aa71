"""A system clock that no event can hold: ids stay valid, times are the nearest possible, and the event says so."""

import re
import time
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audit_logging.capture.trail import Trail
from audit_logging.events import identity
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings
from audit_logging.shipping.accounts import take_accounts
from tests.faults.interrupting import events_in

SECOND = 10**9
YEAR = 365 * 86_400 * SECOND
LAST = 9_223_286_400 * SECOND
"""2262-04-11, behind which OpenSearch holds no time."""


@pytest.fixture(autouse=True)
def own_clock(monkeypatch):
    monkeypatch.setattr(identity, "_second", identity._NEVER)
    yield
    identity._second = identity._NEVER
    identity.clock_problem.clear()


@given(st.lists(st.integers(-3000 * YEAR, 9000 * YEAR), min_size=1, max_size=5))
@example([-1])
@example([-1000, 0, -1])
@example([0, 999])
@example([LAST - 1, LAST, LAST - 1])
@example([1 << 63])
@example([8500 * YEAR, 1_800_000_000 * SECOND])
def test_ids_and_times_are_well_formed_whatever_the_clock_says(moments):
    """In whichever order it says it: set back in the middle, or reset to before 1970."""
    real, seen = time.time_ns, set()
    try:
        for nanoseconds in moments:
            time.time_ns = lambda: nanoseconds  # noqa: B023 - it is called at once
            event_id, moment = identity.new_identity()
            assert uuid.UUID(event_id).version == 7
            assert str(uuid.UUID(event_id)) == event_id
            assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", moment)
            assert "1970" <= moment < "2262-04-11"
            assert bool(identity.clock_problem) == (not 0 <= nanoseconds < LAST)
            seen.add(event_id)
    finally:
        time.time_ns = real
    assert len(seen) == len(moments)


@pytest.mark.parametrize(
    ("nanoseconds", "expected"), [(-YEAR, "1970-01-01T00:00:00.000000Z"), (300 * YEAR, "2262-04-10T23:59:59.999999Z")]
)
def test_an_event_says_that_its_time_is_not_the_clocks(tmp_path, monkeypatch, caplog, nanoseconds, expected):
    """Until the clock is set; what bears a time of its own keeps it. Said once in the log."""
    trail = Trail(Settings.load(spool_dir=tmp_path / "spool", ship=False, home=tmp_path, on_invalid="raise"))
    trail.emit("user.login", {"user_id": "u-1"})
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time_ns", lambda: nanoseconds)
        trail.emit("user.login", {"user_id": "u-2"})
        trail.emit("user.login", {"user_id": "u-3", "timestamp": "2026-01-01T00:00:00Z"})
        trail.emit("user.login", {"user_id": "u-4"})
    trail.emit("user.login", {"user_id": "u-5"})
    trail.shutdown(0)
    before, *wrong_ones, after = events_in(tmp_path / "spool")
    assert [event["@timestamp"] for event in wrong_ones] == [expected, "2026-01-01T00:00:00.000000Z", expected]
    assert [event["audit"].get("invalid") for event in wrong_ones] == [["timestamp"], None, ["timestamp"]]
    assert wrong_ones[0]["audit"]["metadata"]["clock"].endswith("s since 1970")
    assert "invalid" not in before["audit"]
    assert "invalid" not in after["audit"]
    assert caplog.text.count("Set the clock") == 1


@pytest.mark.parametrize(
    "given",
    ["1969-12-31T23:59:59Z", "2262-04-12T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", -1, 10**18],
)
def test_a_time_that_is_given_and_cannot_be_held_is_kept_as_metadata(tmp_path, given):
    trail = Trail(Settings.load(spool_dir=tmp_path / "spool", ship=False, home=tmp_path))
    trail.emit("user.login", {"user_id": "u-1", "timestamp": given})
    trail.shutdown(0)
    (event,) = events_in(tmp_path / "spool")
    assert event["audit"]["invalid"] == ["timestamp"]
    assert event["audit"]["metadata"]["timestamp"] == given
    assert event["@timestamp"] > "2026"


@pytest.mark.server
@pytest.mark.parametrize("nanoseconds", [-YEAR, -1, 0, 300 * YEAR])
def test_events_of_a_wrong_clock_are_stored(settings, client, monkeypatch, nanoseconds):
    """And are no dead letters."""
    AuditAdmin(settings=settings).setup()
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds)
    trail = Trail(settings.model_copy(update={"batch_seconds": 0.01}))
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(5)]
    assert trail.flush(20)
    assert trail.shutdown(10) == 0
    client.request("POST", f"/{settings.stream}/_refresh")
    with AuditReader(settings=settings) as reader:
        found = [event.id for event in reader.scan(since="1970-01-01T00:00:00Z", until="2262-04-11T00:00:00Z")]
        assert sorted(found) == sorted(ids)
        assert reader.verify().findings == ()
    total = take_accounts(settings.spool_path).total
    assert (total.indexed, total.quarantined, total.dead) == (5, 0, 0)
