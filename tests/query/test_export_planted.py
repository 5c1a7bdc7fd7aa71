"""Exports into a directory that another user can write: what that user planted there is never taken over."""

from __future__ import annotations

import json
import os
import stat

import pytest

from audit_logging.cli.schedule import is_made
from audit_logging.errors import QueryError
from audit_logging.files import appear, whole_file
from audit_logging.query.export.outfile import PartFile, explaining_disk, target_of
from audit_logging.query.export.run import _part_file
from audit_logging.query.export.state import State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")

STRANGER = 54321


@pytest.fixture
def shared(tmp_path):
    """A directory that everybody can write."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.fixture
def state():
    return State(query={"format": "ndjson"}, filter={}, begun="2026-03-01T12:00:00+00:00")


def plant(path, kind):
    if kind == "another's":
        path.write_bytes(b"")
        os.chown(path, STRANGER, STRANGER)
    elif kind == "open to others":
        path.touch()
        path.chmod(0o666)
    elif kind == "second name":
        path.with_name("theirs").touch(mode=0o600)
        os.link(path.with_name("theirs"), path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.with_name("theirs").touch(mode=0o600)
        path.symlink_to(path.with_name("theirs"))


KINDS = ["another's", "open to others", "second name", "pipe", "link"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["part", "state"])
def test_an_unfinished_export_that_another_user_planted_is_refused(shared, state, suffix, kind):
    target = shared / "trail.ndjson"
    plant(shared / f"trail.ndjson.{suffix}", kind)
    with (
        pytest.raises(QueryError, match=rf"trail.ndjson.{suffix}: it .*choose a directory"),
        explaining_disk(target),
        _part_file(target, state, fresh=False),
    ):
        pass
    assert not target.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_begins_anew_with_a_file_of_ones_own(shared, state, kind):
    target = shared / "trail.ndjson"
    for suffix in ("part", "state"):
        plant(shared / f"trail.ndjson.{suffix}", kind if suffix == "part" else "open to others")
    with explaining_disk(target), _part_file(target, state, fresh=True) as file:
        file.write(b"{}\n")
        file.checkpoint()
        file.finish()
    found = target.lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_nlink) == (os.geteuid(), 0o600, 1)
    assert target.read_bytes() == b"{}\n"


def test_a_state_that_another_user_wrote_is_not_resumed(shared, state):
    target = shared / "trail.ndjson"
    (shared / "trail.ndjson.state").write_text(json.dumps({**state.__dict__, "bytes": 5}))
    os.chown(shared / "trail.ndjson.state", STRANGER, STRANGER)
    (shared / "trail.ndjson.part").write_bytes(b"evil\n")
    (shared / "trail.ndjson.part").chmod(0o600)
    with (
        pytest.raises(QueryError, match="belongs to another user"),
        explaining_disk(target),
        _part_file(target, state, fresh=False),
    ):
        pass


def test_an_unfinished_file_that_is_swapped_during_the_export_is_noticed(shared, state):
    file = PartFile(shared / "trail.ndjson", state)
    file.write(b"{}\n")
    file.checkpoint()
    file.part.rename(shared / "aside")
    file.part.write_bytes(b"evil\n")
    with pytest.raises(QueryError, match="another user put another file in its place"), explaining_disk(file.path):
        file.finish()
    file.close()


def test_a_file_that_is_swapped_while_it_is_written_is_noticed(shared):
    with (
        pytest.raises(OSError, match="another user put another file in its place"),
        whole_file(shared / "report") as file,
    ):
        [unfinished] = shared.iterdir()
        unfinished.rename(shared / "aside")
        unfinished.write_bytes(b"evil\n")
        file.write(b"true\n")


def test_a_link_of_another_user_is_not_followed(shared, tmp_path):
    (tmp_path / "precious").write_text("mine")
    (shared / "trail.ndjson").symlink_to(tmp_path / "precious")
    os.chown(shared / "trail.ndjson", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(QueryError, match="symbolic link of another user"):
        target_of(shared / "trail.ndjson")


def test_a_link_of_ones_own_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("target")
    assert target_of(tmp_path / "link") == tmp_path / "target"


def test_a_file_appears_under_its_name(tmp_path):
    descriptor = os.open(tmp_path / "unfinished", os.O_CREAT | os.O_WRONLY, 0o600)
    appear(descriptor, tmp_path / "unfinished", tmp_path / "name")
    os.close(descriptor)
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_file_that_another_user_planted_is_not_taken_for_an_earlier_run(shared, kind):
    assert not is_made(shared / "trail-2026-03.ndjson.gz")
    plant(shared / "trail-2026-03.ndjson.gz", kind)
    with pytest.raises(QueryError, match="not what an earlier run wrote"):
        is_made(shared / "trail-2026-03.ndjson.gz")
