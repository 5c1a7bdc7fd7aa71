"""Where the server's account can read, and only we can write."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local import places
from audit_logging.local.account import Account, server_account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")


@pytest.fixture
def stranger():
    return Account("stranger", 54321, 54321, switch=True)


@pytest.fixture
def ourselves():
    return Account("me", os.geteuid(), os.getegid(), switch=False)


def test_an_ordinary_user_keeps_all_under_the_home(tmp_path, ourselves):
    assert places.shared_directory(tmp_path / "home", ourselves) == tmp_path / "home" / "local"
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


@as_root
def test_a_closed_home_is_left_for_a_place_that_the_account_can_enter(tmp_path, stranger):
    shared = places.shared_directory(tmp_path / "home", stranger)
    assert tmp_path not in shared.parents
    assert stranger.can_enter(shared)
    assert shared.stat().st_uid == 0
    assert shared.stat().st_mode & 0o022 == 0


@as_root
def test_a_directory_that_others_could_write_is_not_trusted(tmp_path, stranger, monkeypatch):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setattr(places, "SYSTEM_CACHE", open_to_all)
    assert places.shared_directory(tmp_path / "home", stranger) != open_to_all


def test_no_place_at_all_is_explained(tmp_path, monkeypatch):
    closed = tmp_path / "file"
    closed.touch()
    monkeypatch.setattr(places, "SYSTEM_CACHE", closed)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(closed))
    (tmp_path / "local").touch()
    with pytest.raises(LocalServerError, match="set AUDIT_HOME to a directory that every user may enter"):
        places.shared_directory(tmp_path, Account("stranger", 54321, 54321, switch=True))


@pytest.fixture
def homes_of_root():
    """A directory of root's that everybody may enter, and this process as somebody else."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        home.chmod(0o755)
        places.state_directory(home)
        (home / "lock").touch(mode=0o644)
        os.seteuid(54321)
        yield home
        os.seteuid(0)


@as_root
def test_what_belongs_to_another_user_is_told_in_one_sentence(homes_of_root):
    for ask in (places.state_directory, places.cache_directory, places.demo_directory):
        with pytest.raises(LocalServerError, match=r"belongs to another user: set AUDIT_HOME to a directory of your"):
            ask(homes_of_root)
    with pytest.raises(LocalServerError, match="lock belongs to another user"), places.locked(homes_of_root / "lock"):
        pass


class TestAccount:
    @as_root
    def test_root_lends_it_to_nobody_or_to_whom_it_is_told(self):
        assert server_account() == Account(
            "nobody", pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid, switch=True
        )
        assert server_account("daemon").name == "daemon"

    @as_root
    @pytest.mark.parametrize("name", ["root", "no-such-user"])
    def test_root_cannot_run_it_as_root_or_as_someone_unknown(self, name):
        with pytest.raises(LocalServerError, match="does not run as root"):
            server_account(name)

    def test_an_ordinary_user_runs_it_alone(self, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        assert server_account() == Account("54321", 54321, os.getegid(), switch=False)
        for name in ("daemon", "no-such-user"):
            with pytest.raises(LocalServerError, match="Only root can start the server as"):
                server_account(name)

    def test_entering_asks_for_the_bit_of_owner_group_or_others(self, tmp_path, stranger):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o750)
        status = closed.stat()
        assert not stranger.can_enter(closed)
        assert Account("owner", status.st_uid, 1, switch=True)._has_search_bit(status)
        assert Account("group", 54321, status.st_gid, switch=True)._has_search_bit(status)
        assert not stranger._has_search_bit(status)
