"""`audit-logging setup`."""

from __future__ import annotations

import json

import pytest

from audit_logging.errors import NotFoundError


@pytest.fixture
def connection(opensearch_server, stream, monkeypatch):
    """Lead every command to the test's server and stream."""
    for name, value in opensearch_server.settings().items():
        monkeypatch.setenv(f"AUDIT_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))
    return ["--url", opensearch_server.url, "--stream", stream]


@pytest.mark.server
def test_it_says_what_it_did_and_the_second_time_that_there_was_nothing_to_do(audit_logging, connection, stream):
    first = audit_logging("setup", *connection)
    assert first.code == 0
    assert f"The stream {stream!r} is ready." in first.out
    assert "created" in first.out
    second = audit_logging("setup", *connection)
    assert second.code == 0
    assert "Nothing had to be changed." in second.out
    assert "created" not in second.out


@pytest.mark.server
def test_a_dry_run_creates_nothing(audit_logging, connection, client, stream):
    ended = audit_logging("setup", *connection, "--dry-run")
    assert ended.code == 0
    assert "would be created" in ended.out
    assert "Nothing was changed." in ended.out
    with pytest.raises(NotFoundError):
        client.request("GET", f"/_index_template/{stream}")


@pytest.mark.server
def test_json_tells_every_step_and_request(audit_logging, connection, stream):
    told = json.loads(audit_logging("setup", *connection, "--json", "--dry-run").out)
    assert (told["stream"], told["dry_run"], told["changed"]) == (stream, True, True)
    assert told["steps"][-1]["requests"] == [
        {"method": "PUT", "path": f"/_data_stream/{stream}", "body": None, "params": None}
    ]
    assert json.loads(audit_logging("setup", *connection, "--json").out)["dry_run"] is False
    assert json.loads(audit_logging("setup", *connection, "--json").out)["changed"] is False
    assert audit_logging("setup", *connection, "--dry-run").out.count("Nothing would be changed.") == 1


@pytest.mark.server
def test_no_append_only_leaves_the_setting_out_and_warns(audit_logging, connection, client, stream):
    ended = audit_logging("setup", *connection, "--no-append-only")
    assert "not append-only" in ended.out
    [index] = client.request("GET", f"/{stream}").values()
    assert "append_only" not in index["settings"]["index"]


@pytest.mark.server
def test_retention_days_reach_the_plan(audit_logging, connection, monkeypatch):
    from audit_logging.opensearch.templates import blueprint

    asked = []

    def watched(stream, **given):
        asked.append(given["retention_days"])
        return blueprint(stream, **given)

    monkeypatch.setattr("audit_logging.opensearch.setup.blueprint", watched)
    audit_logging("setup", *connection, "--dry-run", "--retention-days", "365")
    assert asked == [365]


def test_nobody_answering_is_one_sentence_and_exit_code_3(audit_logging):
    ended = audit_logging("setup", "--url", "http://127.0.0.1:1")
    assert ended.code == 3
    assert ended.out == ""
    assert "No OpenSearch answers at http://127.0.0.1:1" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--retention-days", "0"],
        ["--retention-days", "x"],
        ["--stream", "Bad Name"],
        ["--url", "x"],
        ["--no-such-option"],
    ],
)
def test_wrong_use_is_exit_code_2(audit_logging, arguments):
    ended = audit_logging("setup", "--url", "http://127.0.0.1:1", *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err
