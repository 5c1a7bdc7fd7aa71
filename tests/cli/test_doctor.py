"""`audit-logging doctor`."""

from __future__ import annotations

import json

import pytest

from audit_logging.opensearch.admin import AuditAdmin


@pytest.fixture
def connection(opensearch_server, stream, monkeypatch, tmp_path):
    """Lead every command to the test's server and stream."""
    for name, value in opensearch_server.settings().items():
        monkeypatch.setenv(f"AUDIT_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "spool"))
    return ["--url", opensearch_server.url, "--stream", stream]


@pytest.mark.server
def test_a_problem_is_exit_code_1_with_its_remedy(audit_logging, connection):
    ended = audit_logging("doctor", *connection)
    assert ended.code == 1
    assert "problem" in ended.out
    assert "Run `audit-logging setup`." in ended.out


@pytest.mark.server
def test_warnings_are_no_problem(audit_logging, connection, settings):
    with AuditAdmin(settings=settings) as admin:
        admin.setup(append_only=False)
    ended = audit_logging("doctor", *connection)
    assert ended.code == 0
    assert "no problems, " in ended.out
    assert "not append-only" in ended.out


@pytest.mark.server
def test_json_tells_every_check(audit_logging, connection):
    ended = audit_logging("doctor", *connection, "--json")
    told = json.loads(ended.out)
    assert ended.code == 1
    assert told["answered"] is True
    assert all(set(check) == {"name", "verdict", "sentence", "remedy"} for check in told["checks"])
    assert "problem" in {check["verdict"] for check in told["checks"]}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nobody_answering_is_exit_code_3(audit_logging, more):
    ended = audit_logging("doctor", "--url", "http://127.0.0.1:1", *more)
    assert ended.code == 3
    assert "No OpenSearch answers" in ended.out


def test_numbers_agree_with_their_nouns(audit_logging):
    assert "1 problem, " in audit_logging("doctor", "--url", "http://127.0.0.1:1").out
