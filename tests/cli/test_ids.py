"""The ids of events stand where the next command needs them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.server

ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def on_a_terminal(trail, columns, *arguments):
    """Return what a command prints on a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "AUDIT_HOME": str(trail.home), "COLUMNS": str(columns), "TERM": "xterm"}
    arguments = [*arguments, "--url", trail.opensearch_url[0], "--stream", trail.stream]
    process = subprocess.Popen(
        [sys.executable, "-m", "audit_logging", *arguments], stdout=theirs, stderr=subprocess.PIPE, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # what Linux answers when the other end is closed
        pass
    os.close(ours)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, said
    return shown.decode(), said


@pytest.mark.parametrize("command", ["search", "tail"])
def test_an_id_of_a_table_leads_to_the_event(cli, command):
    [event_id, *_] = ID.findall(cli(command, "--ids", "--limit", "1").out)
    assert json.loads(cli("show", event_id, "--json").out)["event"]["id"] == event_id


@pytest.mark.parametrize("command", ["search", "tail"])
def test_a_pipe_keeps_its_columns(cli, command):
    ended = cli(command)
    assert not ID.search(ended.out)
    assert command == "tail" or "--ids" in ended.err


@pytest.mark.parametrize("command", ["search", "tail"])
def test_a_terminal_shows_ids_where_they_fit(trail, command):
    assert ID.search(on_a_terminal(trail, 200, command)[0].replace("\x1b[33m", ""))
    narrow, said = on_a_terminal(trail, 80, command)
    assert not ID.search(narrow)
    assert command == "tail" or "--ids" in said


def test_the_context_of_an_event_shows_ids(cli):
    [event_id, *_] = ID.findall(cli("search", "--ids", "--type", "user.login", "--limit", "1").out)
    assert len(set(ID.findall(cli("show", event_id, "--context", "1h", "--ids").out.split("\n\n")[-1]))) > 1


def test_an_unknown_event_is_a_finding(cli, audit_logging, trail):
    assert cli("show", "0197f3c2-5b7e-7cc1-9d0a-3f2a6f1e8b11").code == 1
    assert cli("show", "nowhere", "--context", "5m").code == 1
    assert audit_logging("show", "x", "--url", trail.opensearch_url[0], "--stream", f"{trail.stream}-no").code == 3
