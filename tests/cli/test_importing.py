"""`audit-logging import`."""

from __future__ import annotations

import gzip
import io
import json
import sys

import pytest

from audit_logging.errors import EventFileError
from audit_logging.integrations import importer
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
            "undated": 0,
            "stream": ready.stream,
            "files": [
                {"file": trail, "read": 5, "imported": 5, "already_there": 0, "broken": 0, "undated": 0},
            ],
            "not_read": [],
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


class TestShapes:
    """What a user has at hand goes in as it is."""

    def account(self, ended):
        answer = json.loads(ended.out)
        for each in [answer, *answer["files"]]:
            assert each["read"] == each["imported"] + each["already_there"] + each["broken"]
        return answer

    def test_joined_files_on_standard_input(self, audit_logging, ready, monkeypatch):
        content = b"".join(
            gzip.compress(json.dumps({"Records": part}).encode()) for part in (numbered(3), numbered(5)[3:])
        )
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        ended = audit_logging("import", "--format", "cloudtrail", "-")
        assert (ended.code, ended.out[:19]) == (0, "Read 5, imported 5,")

    def test_what_follows_the_records_is_an_error_with_its_place(self, audit_logging, ready, tmp_path):
        path = tmp_path / "records.json"
        path.write_text(json.dumps({"Records": numbered(2)}) + "garbage")
        ended = audit_logging("import", "--format", "cloudtrail", str(path))
        assert ended.code == 2
        assert f"{path}, line 1, byte {path.stat().st_size - 7}: it is not JSON" in ended.err
        assert "(read 3, imported 2, already there 0, broken 1)" in ended.err

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda records: {"Events": [{"EventId": "x", "CloudTrailEvent": json.dumps(each)} for each in records]},
            lambda records: [{"version": "0", "detail-type": "AWS API Call", "detail": each} for each in records],
            lambda records: {
                "messageType": "DATA_MESSAGE",
                "subscriptionFilters": ["x"],
                "logEvents": [{"id": "1", "timestamp": 1, "message": json.dumps(each)} for each in records],
            },
            lambda records: records,
            lambda records: records[0],
        ],
    )
    def test_wrapped_records(self, audit_logging, ready, tmp_path, wrap):
        path = tmp_path / "records.json"
        records = numbered(1)
        path.write_text(json.dumps(wrap(records), indent=4))
        ended = audit_logging("import", "--format", "cloudtrail", str(path))
        assert (ended.code, ended.out[:19]) == (0, "Read 1, imported 1,")

    @pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
    def test_our_own_exports(self, audit_logging, ready, trail, tmp_path, form):
        assert audit_logging("import", "--format", "cloudtrail", trail).code == 0
        out = str(tmp_path / f"export.{form}")
        assert audit_logging("export", "--format", form, "--type", "aws.*", "--out", out).code == 0
        ended = audit_logging("import", "--format", "csv" if form == "csv" else "ndjson", out)
        assert (ended.code, ended.out[:36]) == (0, "Read 5, imported 0, already there 5,")

    def test_files_and_directories(self, audit_logging, ready, tmp_path):
        folder = tmp_path / "logs"
        (folder / "b").mkdir(parents=True)
        write_lines(folder / "b" / "2.json", numbered(3))
        (folder / "a.json.gz").write_bytes(gzip.compress(json.dumps({"Records": numbered(4)[2:]}).encode()))
        (folder / "notes.txt").write_text("not a log")
        (folder / ".hidden.json").write_text("not a log")
        single = write_lines(tmp_path / "single", numbered(5)[4:])
        ended = audit_logging("import", "--format", "cloudtrail", str(folder), str(single), "--json")
        assert ended.code == 0
        answer = self.account(ended)
        assert [(each["file"], each["imported"], each["already_there"]) for each in answer["files"]] == [
            (f"{folder}/a.json.gz", 2, 0),
            (f"{folder}/b/2.json", 2, 1),
            (str(single), 1, 0),
        ]
        assert answer["not_read"] == [f"{folder}/notes.txt"]
        assert "notes.txt" in ended.err

    def test_each_file_has_its_line_and_one_that_cannot_be_read_does_not_hide(self, audit_logging, ready, tmp_path):
        good, torn = write_lines(tmp_path / "good", numbered(2)), tmp_path / "torn.gz"
        torn.write_bytes(gzip.compress(b'{"a": 1}')[:-4])
        arguments = ("--format", "cloudtrail", str(tmp_path / "nowhere"), str(torn), str(good))
        ended = audit_logging("import", *arguments, "--skip-broken")
        assert ended.code == 1
        assert f"{good}: read 2, imported 2, already there 0, broken 0\n" in ended.out
        assert f"{tmp_path}/nowhere: read 0, imported 0, already there 0, broken 0; not read to its end" in ended.out
        assert f"{tmp_path}/nowhere cannot be read (No such file or directory)" in ended.err
        assert f"{torn} cannot be read" in ended.err
        assert f"not all of it is in {ready.stream}" in ended.out

    def test_without_skip_broken_the_first_such_file_ends_it(self, audit_logging, ready, tmp_path):
        good = write_lines(tmp_path / "good", numbered(2))
        ended = audit_logging(
            "import", "--format", "cloudtrail", str(good), str(tmp_path / "nowhere"), str(good), "--json"
        )
        assert ended.code == 2
        assert "nowhere cannot be read" in ended.err
        assert [each["read"] for each in self.account(ended)["files"]] == [2, 0]


class TestNothingToImport:
    @pytest.mark.parametrize("content", ["", "\n\n", '{"Records": []}', "[]"])
    def test_a_file_without_records_says_so(self, audit_logging, ready, tmp_path, content):
        (tmp_path / "empty").write_text(content)
        ended = audit_logging("import", "--format", "cloudtrail", str(tmp_path / "empty"))
        assert ended.code == 1
        assert "empty has no records." in ended.err

    def test_a_directory_without_such_files_says_so(self, audit_logging, ready, tmp_path):
        (tmp_path / "logs").mkdir()
        ended = audit_logging("import", "--format", "cloudtrail", str(tmp_path / "logs"))
        assert ended.code == 1
        assert "There is no file to import" in ended.err

    def test_nothing_but_broken_records(self, audit_logging, ready, tmp_path):
        path = write_lines(tmp_path / "broken", ["{broken", '{"no": "record"}'])
        ended = audit_logging("import", "--format", "cloudtrail", str(path), "--skip-broken")
        assert ended.code == 1
        assert "Read 2, imported 0, already there 0, broken 2; not all of it is in" in ended.out


class TestTimes:
    def line(self, tmp_path, **facts):
        return str(write_lines(tmp_path / "lines", [{"event_type": "user.login", "user_id": "u-42", **facts}]))

    def stored(self, audit_logging):
        [event] = [
            json.loads(line) for line in audit_logging("export", "--type", "user.login", "--out", "-").out.splitlines()
        ]
        return event["@timestamp"]

    @pytest.mark.parametrize("value", [1772359200000, "1772359200", "Sun, 01 Mar 2026 10:00:00 +0000"])
    def test_what_is_understood_is_stored(self, audit_logging, ready, tmp_path, value):
        assert audit_logging("import", "--format", "ndjson", self.line(tmp_path, timestamp=value)).code == 0
        assert self.stored(audit_logging) == "2026-03-01T10:00:00.000000Z"

    def test_a_time_without_a_zone_needs_the_option(self, audit_logging, ready, tmp_path):
        path = self.line(tmp_path, timestamp="2026-03-01 10:00:00")
        ended = audit_logging("import", "--format", "ndjson", path)
        assert ended.code == 2
        assert "not a time with a zone: say which one it is in (--timezone NAME)" in ended.err
        assert audit_logging("import", "--format", "ndjson", "--timezone", "Europe/Berlin", path).code == 0
        assert self.stored(audit_logging) == "2026-03-01T09:00:00.000000Z"

    def test_lines_without_a_time_are_counted(self, audit_logging, ready, tmp_path):
        ended = audit_logging("import", "--format", "ndjson", self.line(tmp_path))
        assert ended.code == 0
        assert "having no time of their own: 1." in ended.err

    @pytest.mark.parametrize("name", ["Nowhere", "../etc/passwd", ""])
    def test_an_unknown_zone_is_wrong_use(self, audit_logging, ready, tmp_path, name):
        ended = audit_logging("import", "--format", "ndjson", "--timezone", name, self.line(tmp_path))
        assert ended.code == 2
        assert "is not a time zone" in ended.err


class TestMapping:
    def test_log_ins_over_ssh_are_found(self, audit_logging, ready, tmp_path):
        path = tmp_path / "auth.log"
        lines = [
            "Invalid user bob from 203.0.113.7 port 42",
            "Failed password for invalid user bob from 203.0.113.7 port 42 ssh2",
        ]
        path.write_text("".join(f"Mar  1 10:00:00 web sshd[1]: {line}\n" for line in lines))
        ended = audit_logging("import", "--format", "sshd", "--timezone", "UTC", "--year", "2026", str(path))
        assert (ended.code, ended.out[:19]) == (0, "Read 2, imported 2,")
        found = ("--category", "authentication", "--outcome", "failure", "--user", "bob", "--ip", "203.0.113.0/24")
        assert audit_logging("count", *found).out == "1\n"

    def test_a_mapping_of_ones_own(self, audit_logging, ready, tmp_path):
        mapping = tmp_path / "door.toml"
        mapping.write_text('name = "door"\ndescription = ""\nmark = "badge"\ntime = "at"\nevent_type = "door.opened"\n')
        path = write_lines(tmp_path / "door.log", [{"badge": 17, "at": 1772359200}])
        assert audit_logging("import", "--mapping", str(mapping), str(path)).code == 0
        assert audit_logging("count", "--type", "door.opened").out == "1\n"

    @pytest.mark.parametrize(
        ("text", "why"), [("name = ", "line 1"), ('name = "x"\ncolour = 1', "line 2, colour: there is no such entry")]
    )
    def test_mistakes_are_named_with_their_line(self, audit_logging, ready, tmp_path, text, why):
        (tmp_path / "mine.toml").write_text(text)
        ended = audit_logging("import", "--mapping", str(tmp_path / "mine.toml"), "-")
        assert ended.code == 2
        assert why in ended.err

    @pytest.mark.parametrize("options", [(), ("--format", "ndjson", "--mapping", "x"), ("--mapping", "nowhere.toml")])
    def test_wrong_use(self, audit_logging, ready, options):
        assert audit_logging("import", *options, "-").code == 2


class TestInterruption:
    def test_ctrl_c_says_what_is_in_and_the_same_import_resumes_it(self, audit_logging, ready, tmp_path, monkeypatch):
        monkeypatch.setattr(importer, "BATCH_EVENTS", 2)
        path = str(write_lines(tmp_path / "trail", numbered(6)))
        taken = importer.Importer.add

        def interrupted(self, *arguments):
            if self._account.total.read == 4:
                raise KeyboardInterrupt
            taken(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(importer.Importer, "add", interrupted)
            ended = audit_logging("import", "--format", "cloudtrail", path)
        assert ended.code == 130
        assert "Interrupted: read 4, imported 4, already there 0, broken 0. Run the same import again" in ended.err
        assert "imported 2, already there 4" in audit_logging("import", "--format", "cloudtrail", path).out


class TestMistakes:
    def test_a_broken_line_is_one_sentence_with_its_number(self, audit_logging, ready, tmp_path):
        path = write_lines(tmp_path / "trail", [*numbered(2), "{broken"])
        ended = audit_logging("import", "--format", "cloudtrail", str(path))
        assert ended.code == EventFileError.exit_code == 2
        assert ended.err.startswith(f"Error: {path}, line 3: it is not JSON")
        assert "Everything before it is in (read 3, imported 2, already there 0, broken 1)." in ended.err
        assert "--skip-broken" in ended.err
        assert ended.err.count("\n") == 1

    def test_skip_broken_names_each_and_goes_on(self, audit_logging, ready, tmp_path):
        path = write_lines(tmp_path / "trail", ["{broken", *numbered(2), '{"no": "re\\u001b[31mcord"}'])
        ended = audit_logging("import", "--format", "cloudtrail", str(path), "--skip-broken")
        assert ended.code == 1
        assert f"Read 4, imported 2, already there 0, broken 2; not all of it is in {ready.stream}." in ended.out
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
