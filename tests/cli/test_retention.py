"""`audit-logging retention` and `audit-logging hold`."""

from __future__ import annotations

import fcntl
import json

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.holds import lock

pytestmark = pytest.mark.server


@pytest.fixture
def connection(opensearch_server, stream, settings, monkeypatch):
    """Lead every command to the test's server and stream, which holds one event."""
    for name, value in opensearch_server.settings().items():
        monkeypatch.setenv(f"AUDIT_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))
    monkeypatch.setenv("AUDIT_STREAM", stream)
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    monkeypatch.delenv("AUDIT_RETENTION_DAYS", raising=False)
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    trail = Trail(settings)
    trail.emit("user.login", {"user_id": "u-1"}, "indexed")
    trail.shutdown(5)


@pytest.fixture
def roll_over(client, stream):
    return lambda: client.request("POST", f"/{stream}/_rollover")


def test_plan_shows_what_will_leave_when_and_changes_nothing(audit_logging, connection, stream, client):
    ended = audit_logging("retention", "plan")
    assert ended.code == 0
    assert f".ds-{stream}-000001" in ended.out
    assert "90 days after its rollover" in ended.out
    assert "at least 90 days and at most 7 days longer" in ended.out
    assert "roll over" not in ended.out
    later = audit_logging("retention", "plan", "--at", "31d", "--retention-days", "365")
    assert "roll over" in later.out
    assert "at least 365 days" in later.out
    assert len(client.request("GET", f"/_data_stream/{stream}")["data_streams"][0]["indices"]) == 1


def test_plan_as_json_is_for_scripts(audit_logging, connection, stream, roll_over):
    roll_over()
    told = json.loads(audit_logging("retention", "plan", "--json", "--at", "2100-01-01").out)
    assert (told["stream"], told["retention_days"], told["carried_out_by"]) == (stream, 90, "apply")
    assert told["at"] == "2100-01-01T00:00:00+00:00"
    assert [index["actions"] for index in told["indices"]] == [["seal", "delete"], []]
    assert told["indices"][0]["events"] == 1


def test_apply_says_what_it_did_or_that_there_was_nothing_to_do(audit_logging, connection, stream, client, roll_over):
    assert "Nothing had to be done." in audit_logging("retention", "apply").out
    roll_over()
    audit_logging("hold", "place", "--reason", "Case 12")
    lock(client, f".ds-{stream}-000001")
    told = json.loads(audit_logging("retention", "apply", "--json").out)
    assert told["plan"]["holds"][0]["reason"] == "Case 12"
    assert (told["changed"], told["deleted"]) == (False, [])


def test_verify_ends_with_1_for_a_monitor_when_something_is_wrong(audit_logging, connection, client, stream, roll_over):
    roll_over()
    fine = audit_logging("retention", "verify")
    assert (fine.code, "No problems." in fine.out) == (0, True)
    lock(client, f".ds-{stream}-000001")
    wrong = audit_logging("retention", "verify")
    assert (wrong.code, "1 problem." in wrong.out) == (1, True)
    assert "no hold says why" in wrong.out
    ended = audit_logging("retention", "verify", "--json")
    told = json.loads(ended.out)
    assert ended.code == 1
    assert [index["state"] for index in told["indices"]] == ["locked", "by apply"]
    assert told["problems"] == [f".ds-{stream}-000001: {told['indices'][0]['problems'][0]}"]
    assert "stays: it is locked, and no hold says why" in audit_logging("retention", "plan").out


def test_the_life_of_a_hold(audit_logging, connection, stream, roll_over):
    roll_over()
    assert "No hold is in force" in audit_logging("hold", "list").out
    placed = audit_logging("hold", "place", "--user-id", "u-1", "--reason", "Case 12", "--by", "jane.doe")
    assert placed.code == 0
    assert f"it keeps .ds-{stream}-000001" in placed.out
    assert f"Locked, kept from leaving: .ds-{stream}-000001" in placed.out
    [hold] = json.loads(audit_logging("hold", "list", "--json").out)["holds"]
    assert (hold["covers"], hold["placed_by"], hold["active"]) == ("user_id u-1", "jane.doe", True)
    listed = audit_logging("hold", "list").out
    assert "in force" in listed
    assert "Case 12" in listed
    plan = audit_logging("retention", "plan").out
    assert f"stays: on hold {hold['id']}" in plan
    assert f"Hold {hold['id']} since" in plan
    released = audit_logging("hold", "release", hold["id"], "--reason", "Closed", "--by", "john.roe")
    assert released.code == 0
    assert f"Hold {hold['id']} is released." in released.out
    assert "No hold is in force" in audit_logging("hold", "list").out
    assert "released by john.roe: Closed" in audit_logging("hold", "list", "--all").out


def test_holds_as_json(audit_logging, connection, stream):
    told = json.loads(audit_logging("hold", "place", "--reason", "Case 12", "--json").out)
    assert (told["hold"]["covers"], told["indices"]) == ("everything", [f".ds-{stream}-000001"])
    assert "stays once it is rolled over: on hold" in audit_logging("retention", "plan").out
    released = audit_logging("hold", "release", told["hold"]["id"], "--reason", "x", "--json")
    assert json.loads(released.out)["report"]["unlocked"] == []


def test_a_hold_on_nothing_that_is_there_says_so(audit_logging, connection):
    assert "nothing there matches yet" in audit_logging("hold", "place", "--user", "u-9", "--reason", "x").out


def test_archive_and_restore(audit_logging, connection, stream, settings, tmp_path, roll_over):
    from tests.opensearch.travel import Traveller

    roll_over()
    with AuditAdmin(settings=settings) as admin:
        assert Traveller(admin).later(days=2).apply(tmp_path / "archive").deleted == [f".ds-{stream}-000001"]
    manifests = [str(path) for path in (tmp_path / "archive").glob("*.manifest.json")]
    ended = audit_logging("retention", "restore", *manifests)
    assert ended.code == 0
    assert "holds 1 archived events, 1 of them new" in ended.out
    restored = f"{stream}-restored-000001"
    assert f"--stream {restored}" in ended.out
    assert json.loads(audit_logging("count", "--stream", restored, "--user", "u-1", "--json").out) == {"count": 1}
    told = json.loads(audit_logging("retention", "restore", *manifests, "--json").out)
    assert told == {"stream": restored, "events": 1, "restored": 0}


def test_an_archive_that_is_damaged_is_exit_code_4(audit_logging, connection, tmp_path):
    (tmp_path / "x.manifest.json").write_text("{")
    ended = audit_logging("retention", "restore", str(tmp_path / "x.manifest.json"))
    assert ended.code == 4
    assert "is damaged" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["retention", "plan", "--at", "soon"],
        ["retention", "plan", "--retention-days", "0"],
        ["retention", "restore"],
        ["hold", "place"],
        ["hold", "place", "--reason", " "],
        ["hold", "place", "--reason", "x", "--by", ""],
        ["hold", "release", "h-1", "--reason", "x"],
        ["hold", "release"],
    ],
)
def test_wrong_use_is_exit_code_2(audit_logging, connection, arguments):
    ended = audit_logging(*arguments)
    assert ended.code == 2
    assert "Error: " in ended.err


@pytest.mark.parametrize("command", [["plan"], ["apply"], ["verify"]])
def test_nobody_answering_is_exit_code_3(audit_logging, command):
    ended = audit_logging("retention", *command, "--url", "http://127.0.0.1:1")
    assert ended.code == 3
    assert "No OpenSearch answers" in ended.err


def test_two_runs_that_archive_into_one_directory_are_one(audit_logging, connection, tmp_path):
    with (tmp_path / ".audit-logging-archives.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = audit_logging("retention", "apply", "--archive", str(tmp_path))
    assert (ended.code, ended.out, ended.err) == (0, "", f"Another run is writing archives into {tmp_path}.\n")
