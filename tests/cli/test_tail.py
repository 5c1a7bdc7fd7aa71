"""`audit-logging tail` and `show`, as a user meets them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading

import orjson
import pytest

from audit_logging.capture.trail import Trail

pytestmark = pytest.mark.server

ESCAPES = ("\x1b[31m", "\u202e")


def command(trail, *arguments):
    connection = ["--url", trail.opensearch_url[0], "--stream", trail.stream]
    return [sys.executable, "-m", "audit_logging", *arguments, *connection]


def emit(trail, event_type, **facts):
    capture = Trail(trail)
    event_id = capture.emit(event_type, facts)
    assert capture.shutdown(20) == 0
    return event_id


def test_the_last_events_are_printed_oldest_first(cli):
    lines = cli("tail", "-n", "3", "--type", "user.*").out.splitlines()
    assert [line.split()[4] for line in lines] == ["u-1", "u-2", "u-0"]
    assert cli("tail", "-n", "0").out == ""
    assert len(cli("tail").out.splitlines()) == 10
    objects = [orjson.loads(line) for line in cli("tail", "--json", "--outcome", "failure").out.splitlines()]
    assert {each["event"]["outcome"] for each in objects} == {"failure"}


def test_following_goes_on_until_it_is_interrupted(trail):
    """A new event is a new line within moments, and Ctrl-C ends it without a word of Python."""
    arguments = command(trail, "tail", "-f", "-n", "1", "--json", "--type", "user.*")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        ended = threading.Timer(60, following.kill)  # instead of a test that hangs
        ended.start()
        try:
            assert json.loads(following.stdout.readline())["event"]["action"] == "user.login"
            emit(trail, "data.accessed", user_id="u-9", resource="r")
            event_id = emit(trail, "user.logout", user_id="u-9")
            assert json.loads(following.stdout.readline())["event"]["id"] == event_id
            following.send_signal(signal.SIGINT)
            out, err = following.communicate(timeout=20)
        finally:
            ended.cancel()
            following.kill()
    assert (out, err.strip(), following.returncode) == ("", "Stopped.", 130)


def test_a_terminal_shows_colours_of_ours_and_none_of_an_events(trail):
    """The warning is yellow; what an event says stays text."""
    reading, writing = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    subprocess.run(command(trail, "tail", "-n", "2"), stdout=writing, check=True, env=environment, timeout=60)
    os.close(writing)
    shown = os.read(reading, 100_000).decode()
    os.close(reading)
    assert "\x1b[33m" in shown
    assert not any(escape in shown for escape in ESCAPES)
    assert "\\u202e" in shown


def test_an_outage_is_told_once_and_its_end(capsys):
    from audit_logging.cli.tail import _Outages

    told = _Outages()
    for error in (OSError("away"), OSError("away"), None, OSError("again")):
        told(error)
    assert capsys.readouterr().err.splitlines() == [
        "away",
        "Waiting until it answers again …",
        "OpenSearch answers again.",
        "again",
        "Waiting until it answers again …",
    ]


class TestShow:
    """One event, whole."""

    @pytest.fixture
    def event_id(self, trail):
        return emit(
            trail,
            "admin.role_change",
            user_id="u-1",
            target_user_id="u-2",
            request_id="r-1",
            changes={"role": {"before": "member", "after": "\x1b[31madmin"}, "limits": {"before": {"a": 1, "b": 2}, "after": {"a": 1, "b": 3}}},
            metadata={"notes": [{"x": 1}], "ways": ["a", "b"], "empty": {}},
        )  # fmt: skip

    @pytest.fixture(autouse=True)
    def refreshed(self, event_id, client, trail):
        client.request("POST", f"/{trail.stream}/_refresh")

    def test_is_told_field_by_field_and_its_changes_are_a_diff(self, cli, event_id):
        out = cli("show", event_id).out
        lines = [line.split(None, 1) for line in out.splitlines()]
        assert ["user.target.id", "u-2"] in lines
        assert ["audit.metadata.notes", '[{"x":1}]'] in lines
        assert ["audit.metadata.ways", "a, b"] in lines
        assert '    - "member"\n    + "\\u001b[31madmin"\n' in out
        assert "    - {\n" not in out
        assert '    -   "b": 2\n    +   "b": 3\n' in out
        assert "\x1b" not in out

    def test_stands_among_what_the_same_user_did(self, cli, event_id):
        out = cli("show", event_id, "--context", "5m", "--limit", "2").out
        assert "u-1 logged in" in out or "u-1 failed to log in" in out
        assert [line for line in out.splitlines() if line.endswith("this event")]
        assert out.count("user.login") == 2
        alone = cli("show", event_id, "--context", "0s").out
        assert "Nothing else of the same user, request or session within 0s." in alone

    def test_is_json_for_scripts(self, cli, event_id):
        assert orjson.loads(cli("show", event_id, "--json").out)["event"]["id"] == event_id
        around = orjson.loads(cli("show", event_id, "--json", "--context", "5m").out)
        assert around["event"]["event"]["id"] == event_id
        assert all("user" in each["shares"] for each in around["before"])

    def test_is_found_by_its_place_in_the_chain_too(self, cli, event_id):
        seal = orjson.loads(cli("show", event_id, "--json").out)["audit"]["integrity"]
        assert event_id in cli("show", f"{seal['writer']}-{seal['sequence']}").out
