"""Files that appear whole or not at all, and what is left of those that did not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from audit_logging.files import abandoned, hold, whole_file, write_durably
from tests.local.conftest import names_in

WRITES = """
import sys
from pathlib import Path
from audit_logging.files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half of it")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing ``note``."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(tmp_path / "note")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_is_removed_by_the_next(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (unfinished,) = names_in(tmp_path)
    assert unfinished != "note"
    write_durably(tmp_path / "note", b"all of it")
    assert names_in(tmp_path) == ["note"]


def test_what_a_living_writer_writes_is_left_alone(writer, tmp_path):
    write_durably(tmp_path / "note", b"mine")
    assert len(names_in(tmp_path)) == 2
    writer.communicate("go on")
    assert writer.returncode == 0
    assert names_in(tmp_path) == ["note"]
    assert (tmp_path / "note").read_bytes() == b"half of it"


def test_nothing_but_its_own_is_removed(tmp_path):
    for name in (".audit-logging-reports.lock", ".hidden", "other"):
        (tmp_path / name).touch()
    write_durably(tmp_path / "note", b"mine")
    assert names_in(tmp_path) == [".audit-logging-reports.lock", ".hidden", "note", "other"]


def test_a_link_a_pipe_and_a_directory_of_that_name_are_passed_over(tmp_path):
    """Whoever may write in that directory shall neither stop us nor have us remove something else."""
    precious = tmp_path / "precious"
    precious.touch()
    (tmp_path / ".audit-logging-unfinished-link").symlink_to(precious)
    (tmp_path / ".audit-logging-unfinished-directory").mkdir()
    os.mkfifo(tmp_path / ".audit-logging-unfinished-pipe")
    write_durably(tmp_path / "note", b"mine")
    assert precious.exists()
    assert (tmp_path / ".audit-logging-unfinished-directory").is_dir()
    assert (tmp_path / "note").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_is_another_users_is_left_to_them(tmp_path):
    left = tmp_path / ".audit-logging-unfinished-theirs"
    left.touch()
    os.chown(left, 54321, 54321)
    write_durably(tmp_path / "note", b"mine")
    assert left.exists()


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    write_durably(tmp_path / "note", b"before")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "note") as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert names_in(tmp_path) == ["note"]
    assert (tmp_path / "note").read_bytes() == b"before"


def test_a_file_that_was_removed_before_it_was_held_is_made_anew(tmp_path, monkeypatch):
    """Between making a file and holding it, another process may take it for abandoned."""
    from audit_logging import files

    held: list[bool] = []

    def late(descriptor: int) -> bool:
        if not held:
            assert len(list(abandoned(tmp_path, files.UNFINISHED))) == 1
        held.append(hold(descriptor))
        return held[-1]

    monkeypatch.setattr(files, "hold", late)
    write_durably(tmp_path / "note", b"mine")
    assert held == [False, True]
    assert names_in(tmp_path) == ["note"]
