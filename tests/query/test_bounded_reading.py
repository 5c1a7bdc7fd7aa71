"""Files that are larger than anything this library writes are refused in one sentence, and in little memory."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pytest

from audit_logging.errors import ArchiveError, EventFileError, QueryError
from audit_logging.files import MAX_FILE_BYTES, MAX_LINE_BYTES
from audit_logging.opensearch.archive import read_lines
from audit_logging.query.export.check import check_export
from audit_logging.query.export.manifest import read_manifest
from audit_logging.query.filter import Filter
from audit_logging.query.verification.stored import StoredInFiles
from audit_logging.shipping.dead_letters import DeadLetterError, DeadLetters
from tests.integrity.chains import author

BOMB_BYTES = 256 << 20
"""What a file of 256 kB becomes: more than the memory that the readers below are given."""

MEMORY_BYTES = 400 << 20

READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))
from audit_logging.cli import main
try:
    main()
finally:
    (peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(peak)
"""


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A small gzip file with an event, and then one line of 256 MiB."""
    path = tmp_path_factory.mktemp("bomb") / "trail.ndjson.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(author().life().written[0] + b"\n")
        for _ in range(BOMB_BYTES >> 20):
            file.write(b"x" * (1 << 20))
    assert path.stat().st_size < 1 << 20
    return path


def lines_of(path):
    return [line for _, line in StoredInFiles([path], Filter()).all()]


def test_a_long_line_is_named_with_its_file_and_number(bomb):
    with pytest.raises(EventFileError, match=rf"{bomb} is no export .*line 2 is longer than"):
        lines_of(bomb)
    with pytest.raises(ArchiveError, match=rf"{bomb} is damaged: line 2 is longer"):
        list(read_lines(bomb))


@pytest.mark.parametrize("option", ["--export", "--checkpoints"])
def test_verify_reads_a_long_line_in_bounded_memory(bomb, tmp_path, option):
    small = tmp_path / "small.ndjson"
    small.write_bytes(author().life().written[0] + b"\n")
    arguments = ["verify", "--export", str(bomb if option == "--export" else small)]
    arguments += ["--checkpoints", str(bomb)] if option == "--checkpoints" else []
    environment = {**os.environ, "AUDIT_HOME": str(tmp_path / "home")}
    ended = subprocess.run(
        [sys.executable, "-c", READ.format(memory=MEMORY_BYTES), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "line 2 is longer than" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert int(ended.stdout.rpartition("VmHWM:")[2].split()[0]) < MEMORY_BYTES >> 10


@pytest.mark.parametrize("format_", ["ndjson", "json", "csv"])
@pytest.mark.parametrize("unit", [b"x", b'"\n",'])
def test_an_export_with_a_long_line_or_row_is_not_proven(tmp_path, format_, unit):
    name = f"trail.{format_}.gz"
    with gzip.open(tmp_path / name, "wb") as file:
        for _ in range(MAX_LINE_BYTES * 2 >> 20):
            file.write(unit * ((1 << 20) // len(unit)))
    manifest = {"manifest": 1, "format": format_, "compression": "gzip", "order": "", "files": [{"name": name}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = check_export(tmp_path / "manifest.json")
    assert any(name in problem for problem in found)


def test_the_longest_line_is_read(tmp_path):
    path = tmp_path / "trail.ndjson"
    path.write_bytes(b"y" * (MAX_LINE_BYTES - 1) + b"\n" + b"z")
    assert [len(line) for line in lines_of(path)] == [MAX_LINE_BYTES - 1, 1]


def test_a_large_manifest_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    path.touch()
    os.truncate(path, MAX_FILE_BYTES + 1)
    with pytest.raises(QueryError, match="larger than"):
        read_manifest(path)


def test_a_manifest_that_is_a_pipe_does_not_hold_the_reader_up(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(QueryError, match="not a regular file"):
        read_manifest(tmp_path / "manifest.json")


def test_a_large_dead_letter_is_refused(tmp_path):
    letters = DeadLetters(tmp_path / "dead-letters", "audit-events")
    letters.path.mkdir(mode=0o700)
    path = letters.file_of("a" * 20 + "-1")
    path.touch(mode=0o600)
    os.truncate(path, 1 << 30)
    with pytest.raises(DeadLetterError, match="larger than"):
        list(letters)
