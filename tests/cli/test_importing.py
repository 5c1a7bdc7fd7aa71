"""`audit-logging import`."""

from __future__ import annotations

import gzip
import io
import json
import sys

import pytest

from audit_logging.errors import EventFileError
from audit_logging.integrations.import_turn import ImportTurn
from tests.integrations.records import numbered, write_lines

pytestmark = pytest.mark.server


@pytest.fixture
def trail(tmp_path):
    """A file of five records."""
    return str(write_lines(tmp_path / "trail.ndjson", numbered(5)))


class TestSummary:
    def test_says_what_was_done_and_a_second_time_that_nothing_was(self, audit_logging, ready, trail):
        first = audit_logging("import", "--format", "cloudtrail", trail)
        assert first.code == 0
        assert first.out == f"Read 5, imported 5, already there 0, broken 0; all of it is in {ready.stream}.\n"
        assert first.err == ""
        second = audit_logging("import", "--format", "cloudtrail", trail)
        assert "imported 0, already there 5" in second.out

    def test_is_json_for_scripts(self, audit_logging, ready, trail):
        ended = audit_logging("import", "--format", "cloudtrail", trail, "--json")
        assert json.loads(ended.out) == {
            "read": 5,
            "imported": 5,
            "already_there": 0,
            "broken": 0,
            "stream": ready.stream,
        }

    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_reads_standard_input(self, audit_logging, ready, monkeypatch, pack):
        text = "".join(json.dumps({"event_type": "user.login", "user_id": f"u-{number}"}) + "\n" for number in range(3))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(pack(text.encode())))))
        ended = audit_logging("import", "--format", "ndjson", "-")
        assert "imported 3" in ended.out

    def test_shows_a_bar_on_a_terminal_and_leaves_nothing_of_it(self, audit_logging, ready, trail, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
        ended = audit_logging("import", "--format", "cloudtrail", trail)
        assert ended.code == 0
        assert "5 records" in ended.err


class TestMistakes:
    def test_a_broken_line_is_one_sentence_with_its_number(self, audit_logging, ready, tmp_path):
        path = write_lines(tmp_path / "trail", [*numbered(2), "{broken"])
        ended = audit_logging("import", "--format", "cloudtrail", str(path))
        assert ended.code == EventFileError.exit_code == 2
        assert ended.err.startswith(f"Error: {path}, line 3: it is not JSON")
        assert "Everything before it is in (read 3, imported 2, already there 0, broken 0)." in ended.err
        assert "--skip-broken" in ended.err
        assert ended.err.count("\n") == 1

    def test_skip_broken_names_each_and_goes_on(self, audit_logging, ready, tmp_path):
        path = write_lines(tmp_path / "trail", ["{broken", *numbered(2), '{"no": "re\\u001b[31mcord"}'])
        ended = audit_logging("import", "--format", "cloudtrail", str(path), "--skip-broken")
        assert ended.code == 0
        assert "Read 4, imported 2, already there 0, broken 2" in ended.out
        assert "line 1, left out: it is not JSON" in ended.err
        assert "line 4, left out: it is no CloudTrail record" in ended.err

    @pytest.mark.parametrize(
        "arguments", [(), ("nowhere",), ("--format", "xml", "file"), ("--format", "ndjson", "nowhere")]
    )
    def test_wrong_use_is_exit_code_2(self, audit_logging, ready, arguments):
        ended = audit_logging("import", *arguments)
        assert ended.code == 2
        assert "Error: " in ended.err

    def test_an_unreachable_opensearch_is_exit_code_3(self, audit_logging, ready, trail):
        ended = audit_logging("import", "--format", "cloudtrail", trail, "--url", "http://127.0.0.1:1")
        assert ended.code == 3
        assert ended.err.startswith("Error: No OpenSearch answers at http://127.0.0.1:1")

    def test_a_stream_that_is_not_set_up_is_exit_code_3(self, audit_logging, ready, trail):
        ended = audit_logging("import", "--format", "cloudtrail", trail, "--stream", f"{ready.stream}-other")
        assert ended.code == 3
        assert f"audit-logging setup --stream {ready.stream}-other" in ended.err

    def test_a_second_import_at_the_same_time_is_refused(self, audit_logging, ready, trail):
        with ImportTurn(ready.spool_path, ready.stream):
            ended = audit_logging("import", "--format", "cloudtrail", trail)
        assert ended.code == 2
        assert "wait until it has ended" in ended.err
