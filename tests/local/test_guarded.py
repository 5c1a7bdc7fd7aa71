"""Directories that go with the process that made them, also when it was killed."""

from __future__ import annotations

import signal

import pytest

from audit_logging.local import guarded
from audit_logging.local.guarded import guard_of, guarded_directory, make_guarded
from tests.local.conftest import names_in

MAKES = """
import json, sys
from pathlib import Path
from audit_logging.local.guarded import make_guarded
directory, guard = make_guarded(Path(sys.stdin.readline().strip()), "made-")
(directory / "content").touch()
print(json.dumps(directory.name), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(script, tmp_path):
    """Another process that has made one; and its name."""
    process = script(MAKES)
    process.process.stdin.write(f"{tmp_path}\n")
    process.process.stdin.flush()
    return process, process.report()


def test_it_goes_at_the_end_of_the_block(tmp_path):
    with guarded_directory(tmp_path, "made-") as directory:
        (directory / "content").touch()
        assert directory.stat().st_mode & 0o777 == 0o700
    assert names_in(tmp_path) == []


def test_a_killed_process_leaves_its_to_the_next(other, tmp_path):
    process, name = other
    process.end(signal.SIGKILL)
    assert (tmp_path / name / "content").exists()
    with guarded_directory(tmp_path, "made-"):
        assert not (tmp_path / name).exists()
    assert names_in(tmp_path) == []


def test_a_living_process_keeps_its_own(other, tmp_path):
    _, name = other
    with guarded_directory(tmp_path, "made-"):
        assert (tmp_path / name / "content").exists()
    assert names_in(tmp_path) == [name, f"{name}.guard"]


def test_what_has_no_guard_is_left_alone(tmp_path):
    (tmp_path / "made-of-old").mkdir()
    with guarded_directory(tmp_path, "made-"):
        pass
    assert names_in(tmp_path) == ["made-of-old"]


def test_what_could_not_be_removed_whole_is_gone_on_with(tmp_path):
    """The guard goes last: a process that is killed in the middle of removing leaves it."""
    guard_of(tmp_path / "made-half").touch()
    with guarded_directory(tmp_path, "made-"):
        assert not guard_of(tmp_path / "made-half").exists()


def test_one_that_is_taken_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    """Between making the guard and holding it, another process may take it for left over."""
    hold, taken = guarded.hold, []

    def late(descriptor):
        if not taken:
            taken.append(names_in(tmp_path))
            with guarded_directory(tmp_path, "other-"):
                pass
        return hold(descriptor)

    monkeypatch.setattr(guarded, "hold", late)
    directory, guard = make_guarded(tmp_path, "made-")
    with guard:
        assert directory.is_dir()
        assert len(names_in(tmp_path)) == 2
