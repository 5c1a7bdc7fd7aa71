"""Errors of the command line name options and variables, never keywords of Python."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from base64 import b64decode

import pytest

from audit_logging.cli.options import Duration
from audit_logging.cli.root import COMMANDS, SUMMARIES
from audit_logging.errors import FilterError
from audit_logging.query.filter import Filter

NOWHERE = "http://127.0.0.1:1"

VALUES = {
    "term": "",
    "user": "",
    "pattern": "*a" * 200,
    "address": "x",
    "text": "x" * 1001,
    "severity": "x",
    "time": "x",
}


@pytest.fixture
def away(audit_logging, tmp_path, monkeypatch):
    """Run commands that reach no server."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", NOWHERE)
    return audit_logging


@pytest.mark.parametrize("name", [name for name, each in Filter.conditions().items() if VALUES.get(each.kind)])
def test_a_wrong_value_of_each_filter_names_its_option(away, name):
    condition = Filter.conditions()[name]
    option = f"--not-{condition.option}" if name.startswith("not_") else f"--{condition.option}"
    ended = away("search", option, VALUES[condition.kind])
    assert ended.code == 2
    assert f"Error: {option} is wrong: " in ended.err
    if name.removeprefix("not_") != condition.option:
        assert name not in ended.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "--since", "now", "--until", "-1d"], r"--since \(.*\) lies after --until \("),
        (["count", "--not-outcome", "maybe"], "--not-outcome is wrong"),
        (["stats", "--interval", "2M"], "--interval of 2M has no fixed length"),
        (["stats", "--interval", "soon"], "--interval: 'soon' is no interval"),
        (["stats", "--compare"], "such as --since -7d"),
        (["show", "x", "--context", "1M"], "--context: '1M' has no fixed length"),
        (["search", "--cursor", "abc"], "pass on --cursor as it came"),
        (["verify", "--from-last", "--user", "u"], "--from-last goes on"),
        (["hold", "place", "--reason", "r", "--events-since", "x"], "--events-since is wrong"),
        (["hold", "place", "--reason", "r", "--not-events-until", "x"], "--not-events-until is wrong"),
        (["count", "--url", "localhost"], "Error: --url is wrong"),
        (["count", "--stream", "Upper"], "Error: --stream is wrong"),
        (["count", "--username", "u", "--password-file", "/not/there"], "--password-file /not/there cannot be read"),
        (["count", "--url", "https://127.0.0.1:1", "--ca-file", "/not/there"], "check --ca-file"),
        (["ship", "--once", "--timeout", "soon"], "'--timeout': 'soon' is no duration"),
    ],
)
def test_mistakes_are_told_in_options(away, arguments, sentence):
    ended = away(*arguments)
    assert ended.code == 2
    assert re.search(sentence, ended.err)
    assert not re.search(r"\b(min_severity|not_outcome|from_last|opensearch_(url|ca_file|password_file))\b", ended.err)


def test_a_wrong_variable_is_named_as_a_variable(away, monkeypatch):
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", "localhost")
    ended = away("count")
    assert (ended.code, "Error: AUDIT_OPENSEARCH_URL is wrong" in ended.err) == (2, True)


def test_without_any_server_the_option_and_the_variable_are_named(away, monkeypatch):
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL")
    ended = away("count")
    assert (ended.code, "set --url or AUDIT_OPENSEARCH_URL, or start one here" in ended.err) == (2, True)


def test_a_refused_connection_is_named_without_the_objects_of_the_client(away):
    ended = away("count")
    assert ended.code == 3
    assert "Connection refused" in ended.err
    assert "HTTPConnection" not in ended.err


def test_python_sees_keywords_all_the_same():
    with pytest.raises(FilterError, match="Filter 'min_severity' is wrong"):
        Filter.of(min_severity="loud")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("0.5", 0.5), ("20", 20), ("0", 0)],
)
def test_waiting_options_take_durations(given, seconds):
    assert Duration().convert(given, None, None) == seconds


@pytest.mark.parametrize("command", [["ship"], ["emit"], ["import"], ["retention", "apply"]])
def test_waiting_is_called_timeout_everywhere(audit_logging, command):
    told = audit_logging(*command, "--help").out
    assert "--timeout DURATION" in told
    assert not re.search("--patience|--wait |SECONDS ", told)


@pytest.mark.parametrize(
    ("command", "option"),
    [(["ship", "--once"], "--patience"), (["retention", "apply"], "--wait"), (["import", "--format", "ndjson", "-"], "--patience")],
)  # fmt: skip
def test_earlier_names_of_timeout_still_work(away, command, option):
    assert "No such option" not in away(*command, option, "0.1").err


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_hold_has_no_end(away, option):
    """`hold place --until` read as the end of the hold, and filtered events."""
    ended = away("hold", "place", option, "2026-03-01", "--reason", "Case 12/2026")
    assert ended.code == 2
    assert "lasts until `audit-logging hold release`" in " ".join(ended.err.split())
    assert f"--events-{option[2:]}" in ended.err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("AUDIT_DURABILTY", "AUDIT_DURABILITY"),
        ("audit_spool_dirr", "AUDIT_SPOOL_DIR"),
        ("AUDIT_STREEM", "AUDIT_STREAM"),
    ],
)
def test_a_misspelt_variable_is_reported(tmp_path, given, meant):
    environment = {**os.environ, "AUDIT_HOME": str(tmp_path), "AUDIT_OPENSEARCH_URL": NOWHERE, given: "x"}
    ended = subprocess.run(
        [sys.executable, "-m", "audit_logging", "count"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr.count(f"The variable {given} is not a setting and is ignored; did you mean {meant}?") == 1
    assert ended.returncode == 3


def test_doctor_reports_unknown_variables_and_takes_a_spool(away, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_ENTIRELY_ELSE", "x")
    ended = away("doctor", "--json", "--spool-dir", str(tmp_path / "elsewhere"))
    checks = {check["name"]: check for check in json.loads(ended.out)["checks"]}
    assert "AUDIT_ENTIRELY_ELSE" in checks["environment"]["sentence"]
    assert str(tmp_path / "elsewhere") in json.dumps(checks)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_completes_commands_and_options(tmp_path, shell):
    def complete(instruction, **more):
        environment = {**os.environ, "_AUDIT_LOGGING_COMPLETE": f"{shell}_{instruction}", **more}
        command = [sys.executable, "-m", "audit_logging"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    if shell != "bash":  # for which click starts the installed bash, to see its version
        assert "audit-logging" in complete("source").stdout
    assert (
        "verify"
        in complete("complete", COMP_WORDS="audit-logging ver", COMP_CWORD="1" if shell != "fish" else "ver").stdout
    )


def test_server_down_prints_json(away):
    assert json.loads(away("server", "down", "--json").out) == {"name": "default", "stopped": False}


def test_every_command_has_a_line_in_the_help():
    assert list(SUMMARIES) == list(COMMANDS)
    assert max(map(len, SUMMARIES.values())) <= 65


def test_a_password_file_wins_over_the_environment(audit_logging, tmp_path, monkeypatch):
    seen = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(self.headers["authorization"])
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("AUDIT_OPENSEARCH_PASSWORD", "other")
    (tmp_path / "password").write_text("s3cret\n")
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_port}"
        ended = audit_logging(
            "count", "--url", url, "--username", "ann", "--password-file", str(tmp_path / "password")
        )  # fmt: skip
        server.shutdown()
    assert ended.code == 3
    assert b64decode(seen[0].removeprefix("Basic ")) == b"ann:s3cret"
    assert "s3cret" not in ended.err
