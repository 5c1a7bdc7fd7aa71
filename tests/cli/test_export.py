"""Exports as a user types them, on a stream with a known trail."""

import gzip
import os
import pty
import subprocess
import sys

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.query.export import parts, view
from audit_logging.query.export.outfile import PartFile

pytestmark = pytest.mark.server


@pytest.fixture
def trail(settings, monkeypatch):
    """Twenty log-ins, seconds apart; and no export is an event."""
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    monkeypatch.setenv("AUDIT_AUDIT_EXPORTS", "false")
    AuditAdmin(settings=settings).setup()
    trail = Trail(settings)
    for number in range(20):
        origin = {("@timestamp",): f"2026-03-01T12:00:{number:02}.000000Z"}
        trail.emit("user.login", {"user_id": f"u-{number % 2}", "user_name": "=cmd"}, origin=origin)
    assert trail.shutdown(20) == 0
    refresh(settings)
    return settings


def refresh(settings):
    client = Client(settings)
    client.request("POST", f"/{settings.stream}/_refresh")
    client.close()


@pytest.fixture
def cli(audit_logging, trail):
    """Run a command against that stream."""

    def cli(*arguments):
        return audit_logging(*arguments, "--url", trail.opensearch_url[0], "--stream", trail.stream)

    return cli


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(view, "LARGEST_PAGE", 3)
    monkeypatch.setattr(parts, "LARGEST_PART", 5)


def test_export_writes_the_stored_documents(cli, tmp_path):
    """To a file, compressed by its name, and to standard output, where nothing else is."""
    out = tmp_path / "t.ndjson"
    result = cli("export", "--out", str(out))
    assert result.code == 0
    assert result.out == ""
    assert "Exported 20 events" in result.err
    assert f"Manifest: {out}.manifest.json" in result.err
    lines = out.read_bytes().splitlines()
    assert [orjson.loads(line)["audit"]["integrity"]["sequence"] for line in lines] == list(range(1, 21))
    report = orjson.loads(cli("export", "--json", "--user", "u-1", "--out", str(tmp_path / "t.gz")).out)
    assert report["events"] == 10
    assert len(gzip.decompress((tmp_path / "t.gz").read_bytes()).splitlines()) == 10
    assert cli("export", "--out", "-").out.encode().splitlines() == lines
    piped = cli("export", "--out", "-", "--json")
    assert piped.out.encode().splitlines() == lines
    assert orjson.loads(piped.err)["path"] is None


@pytest.mark.parametrize("method", ["pit", "scroll"])
@pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
@pytest.mark.parametrize("order", [[], ["--unordered"]])
def test_what_was_exported_is_proven(cli, audit_logging, tmp_path, method, form, order):
    """By every way there is."""
    out = tmp_path / "t"
    assert cli("export", "--format", form, "--method", method, *order, "--out", str(out)).code == 0
    result = audit_logging("export", "verify", f"{out}.manifest.json")
    assert (result.code, result.out) == (0, "")
    assert "Proven" in result.err


def test_what_was_changed_since_is_named(cli, audit_logging, tmp_path):
    """With exit code 1; without any OpenSearch."""
    out = tmp_path / "t"
    cli("export", "--out", str(out))
    out.write_bytes(out.read_bytes().replace(b'"u-1"', b'"u-2"', 1))
    result = audit_logging("export", "verify", f"{out}.manifest.json")
    assert result.code == 1
    assert "t, event 2: its content does not have the hash of its seal" in result.out
    assert "sha256" in result.out
    answer = audit_logging("export", "verify", f"{out}.manifest.json", "--json")
    assert answer.code == 1
    assert orjson.loads(answer.out)["proven"] is False
    assert orjson.loads(answer.out)["deviations"] == result.out.splitlines()
    out.write_bytes(b"nonsense\n" * 200)
    assert "--json gives all of them" in audit_logging("export", "verify", f"{out}.manifest.json").out


def test_an_interrupted_export_says_how_to_go_on_and_goes_on(cli, tmp_path, small_parts, monkeypatch):
    """The same command; another one is told what is in its way."""
    out = tmp_path / "t"
    checkpoint = PartFile.checkpoint
    kept = []

    def interrupt(part_file):
        checkpoint(part_file)
        kept.append(part_file)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartFile, "checkpoint", interrupt)
        stopped = cli("export", "--out", str(out))
    assert stopped.code == 130
    assert "the same command goes on with it" in stopped.err
    assert not out.exists()
    other = cli("export", "--out", str(out), "--user", "u-1")
    assert (other.code, "--fresh" in other.err) == (2, True)
    again = cli("export", "--out", str(out))
    assert again.code == 0
    assert "Going on with the export that" in again.err
    assert "Exported 20 events" in again.err
    assert [each.name for each in sorted(tmp_path.glob("t*"))] == ["t", "t.manifest.json"]


def test_an_export_that_cannot_be_recorded_exits_with_4(cli, tmp_path, monkeypatch):
    """And the file is there."""
    monkeypatch.setenv("AUDIT_AUDIT_EXPORTS", "true")
    monkeypatch.setenv("AUDIT_SPOOL_DIR", "/dev/null/spool")
    result = cli("export", "--out", str(tmp_path / "t"))
    assert result.code == 4
    assert "could not record" in result.err
    assert len((tmp_path / "t").read_bytes().splitlines()) == 20


def test_the_trail_knows_of_an_export(cli, trail, tmp_path, monkeypatch):
    """A command at a shell has no trail of its own."""
    monkeypatch.setenv("AUDIT_AUDIT_EXPORTS", "true")
    report = orjson.loads(cli("export", "--json", "--out", str(tmp_path / "t")).out)
    refresh(trail)
    [found] = orjson.loads(cli("search", "--type", "audit.exported", "--json").out)["events"]
    assert found["event"]["id"] == report["event_id"]
    assert found["audit"]["metadata"]["sha256"] == report["sha256"]


def test_a_terminal_sees_how_it_goes_on(trail, tmp_path):
    """On standard error, so that a pipe holds events alone."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "audit_logging", "export", "--out", "-", "--url", trail.opensearch_url[0]]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        [*command, "--stream", trail.stream], stderr=follower, stdout=subprocess.PIPE, check=True, env=environment
    )
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert len(done.stdout.splitlines()) == 20
    assert "exporting" in shown
    assert "/s" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "/nowhere/t.ndjson"], "choose another place"),
        ([], "Give --out FILE"),
        (["--out", "t", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(cli, arguments, sentence):
    """No traceback, ever."""
    result = cli("export", *arguments)
    assert (result.code, sentence in result.err) == (2, True)


def test_a_manifest_that_is_none_is_a_mistake(audit_logging, tmp_path):
    """Not a finding."""
    result = audit_logging("export", "verify", str(tmp_path / "none"))
    assert (result.code, "cannot be read" in result.err) == (2, True)


class TestTable:
    def test_columns_and_byte_order_mark_are_a_matter_of_choice(self, cli, audit_logging, tmp_path):
        out = tmp_path / "t.csv"
        chosen = ["--format", "csv", "--columns", "timestamp, user_id,outcome", "--bom"]
        assert cli("export", *chosen, "--type", "user.login", "--out", str(out)).code == 0
        lines = out.read_bytes().decode("utf-8-sig").splitlines()
        assert lines[0] == "timestamp,user_id,outcome"
        assert lines[1].partition(",")[2] == "u-0,success"
        assert out.read_bytes().startswith(b"\xef\xbb\xbf")
        assert audit_logging("export", "verify", f"{out}.manifest.json").code == 0
        out.write_bytes(out.read_bytes().replace(b",u-1,", b",u-2,", 1))
        assert audit_logging("export", "verify", f"{out}.manifest.json").code == 1

    def test_a_chosen_document_is_verified_event_by_event(self, cli, audit_logging, tmp_path):
        out = tmp_path / "t.csv"
        assert cli("export", "--format", "csv", "--columns", "document,user_id", "--out", str(out)).code == 0
        out.write_bytes(out.read_bytes().replace(b'""u-1""', b'""u-2""', 1))
        result = audit_logging("export", "verify", f"{out}.manifest.json")
        assert (result.code, "its content does not have the hash of its seal" in result.out) == (1, True)

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (["--format", "csv", "--columns", "user"], "did you mean 'user_id'"),
            (["--format", "csv", "--columns", ""], "no CSV column ''"),
            (["--columns", "user_id"], "those of csv"),
            (["--format", "json", "--bom"], "those of csv"),
        ],
    )
    def test_wrong_use_is_exit_code_2(self, cli, tmp_path, options, why):
        result = cli("export", *options, "--out", str(tmp_path / "t"))
        assert result.code == 2
        assert why in result.err
        assert not (tmp_path / "t").exists()

    def test_a_schedule_needs_the_document(self, cli, tmp_path):
        result = cli("export", "--format", "csv", "--columns", "user_id", "--every", "day", "--out-dir", str(tmp_path))
        assert result.code == 2
        assert "add the column 'document'" in result.err
