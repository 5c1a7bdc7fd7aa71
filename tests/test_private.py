"""What this library makes is private whatever the umask, and what others could have changed is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import SettingsError
from audit_logging.integrity.keys import SigningKey, TrustedKeys
from audit_logging.privacy.subjects import SubjectKeys
from audit_logging.private import (
    NotPrivateError,
    check_parents,
    make_directory,
    open_private,
    private_directory,
    read_private,
)
from audit_logging.settings import Settings
from audit_logging.shipping.dead_letters import DeadLetterError, DeadLetters

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

LIFE = """
import os, sys
os.umask(int(sys.argv[2], 8))
import audit_logging as audit
from audit_logging.settings import Settings
from audit_logging.spool.segment import Record
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.local import places
from pathlib import Path
home = Path(sys.argv[1])
for _ in range(2):
    audit.configure(service="shop", home=home, signing=True, console=False, checkpoint_file=home / "second" / "heads",
                    erasable_fields="user_id", replace=True)
    audit.get_logger().user_login(user_id="u-1")
    audit.shutdown(0)
DeadLetters(home / "spool" / "dead-letters", "audit-events").keep(Record(1, b"{}"), "a" * 20, "refused")
places.state_directory(home), places.cache_directory(home), places.demo_directory(home)
"""


def live(home: Path, umask: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")}
    subprocess.run([sys.executable, "-c", LIFE, str(home), umask], check=True, env=environment, timeout=60)


@pytest.mark.parametrize("umask", ["000", "002", "022", "077"])
def test_everything_a_trail_makes_is_private_whatever_the_umask(tmp_path, umask):
    live(tmp_path / "deep" / "home", umask)
    made = [path for path in tmp_path.rglob("*") if path.suffix != ".pub"]
    assert len(made) > 20
    assert {path for path in made if path.lstat().st_mode & 0o077} == set()
    assert {path for path in tmp_path.rglob("*.pub") if path.lstat().st_mode & 0o022} == set()


@pytest.mark.parametrize("name", [".", "signing", "signing/key.pem"])
def test_a_signing_key_that_others_could_have_replaced_is_refused(tmp_path, name):
    settings = Settings.load(home=tmp_path / "home", signing=True, console=False, ship=False)
    Trail(settings).shutdown(0)
    (settings.home / name).chmod(0o777)
    with pytest.raises(SettingsError, match=r"others can write .*chmod"):
        SigningKey.load_or_create(settings.signing_key_path)
    with pytest.raises(SettingsError):
        Trail(settings)


@pytest.mark.parametrize("name", [".", "signing", "planted.pub"])
def test_public_keys_that_others_could_have_planted_are_not_trusted(tmp_path, name):
    path = tmp_path / "home" / "signing" / "key.pem"
    key = SigningKey.load_or_create(path)
    target = path.parent.with_name("signing") / name if name.endswith(".pub") else tmp_path / "home" / name
    if name.endswith(".pub"):
        target.write_bytes((path.parent / f"{key.id}.pub").read_bytes())
    target.chmod(0o777)
    with pytest.raises(SettingsError, match="others can write"):
        TrustedKeys.beside(path)


@pytest.mark.parametrize("name", ["home", "home/privacy", "home/privacy/keys.sqlite"])
def test_a_key_store_that_others_could_have_replaced_is_refused(tmp_path, name):
    path = tmp_path / "home" / "privacy" / "keys.sqlite"
    keys = SubjectKeys(path)
    keys.token("u-1")
    keys.close()
    (tmp_path / name).chmod(0o777)
    with pytest.raises(SettingsError, match="key store"):
        SubjectKeys(path).token("u-1")


def test_a_key_store_that_others_could_have_read_is_refused(tmp_path):
    path = tmp_path / "keys.sqlite"
    keys = SubjectKeys(path)
    keys.token("u-1")
    keys.close()
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        SubjectKeys(path).token("u-1")


def test_a_spool_whose_home_others_can_write_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(SettingsError, match=r"others can write .*chmod 700"):
        Trail(Settings.load(home=home, signing=False, console=False, ship=False))


def test_dead_letters_that_others_could_have_planted_are_not_read(tmp_path):
    letters = DeadLetters(tmp_path / "dead-letters", "audit-events")
    letters.path.mkdir()
    letters.path.chmod(0o777)
    with pytest.raises(DeadLetterError, match="others can write"):
        list(letters)
    with pytest.raises(DeadLetterError, match="others can write"):
        letters.get("a-1")


class TestDirectory:
    def test_missing_parents_are_private(self, tmp_path):
        before = os.umask(0)
        try:
            make_directory(tmp_path / "a" / "b")
        finally:
            os.umask(before)
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o700}

    def test_one_that_others_can_read_is_closed(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(0o755)
        private_directory(tmp_path / "a" / "b", within=tmp_path)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
    def test_one_that_others_can_write_is_refused_and_left_as_it_is(self, tmp_path, mode):
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(mode)
        with pytest.raises(NotPrivateError, match=r"a: check what is in it, then run `chmod 700"):
            private_directory(tmp_path / "a" / "b", within=tmp_path)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode

    def test_a_link_below_is_refused(self, tmp_path):
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NotPrivateError, match="symbolic link"):
            private_directory(tmp_path / "a", within=tmp_path)

    @as_root
    def test_another_users_is_refused(self, tmp_path):
        (tmp_path / "a").mkdir(mode=0o700)
        os.chown(tmp_path / "a", STRANGER, STRANGER)
        with pytest.raises(NotPrivateError, match="belongs to another user"):
            private_directory(tmp_path / "a", within=tmp_path)

    def test_parents_with_a_sticky_bit_are_safe_but_not_as_the_directory_itself(self, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o1777)
        (tmp_path / "shared" / "ours").mkdir(mode=0o700)
        check_parents(tmp_path / "shared" / "ours" / "key.pem")
        with pytest.raises(NotPrivateError):
            check_parents(tmp_path / "shared" / "key.pem")

    def test_a_link_is_checked_at_both_ends(self, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o777)
        (tmp_path / "shared" / "key.pem").touch()
        (tmp_path / "key.pem").symlink_to(tmp_path / "shared" / "key.pem")
        with pytest.raises(NotPrivateError):
            check_parents(tmp_path / "key.pem")


class TestFile:
    def planted(self, path: Path, kind: str) -> None:
        if kind == "link":
            path.with_name("target").touch(mode=0o600)
            path.symlink_to(path.with_name("target"))
        elif kind == "dangling link":
            path.symlink_to(path.with_name("nothing"))
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "device":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        elif kind == "second name":
            path.with_name("target").touch(mode=0o600)
            os.link(path.with_name("target"), path)
        else:
            path.touch()
            path.chmod(0o666)
            if kind == "another's":
                path.chmod(0o600)
                os.chown(path, STRANGER, STRANGER)

    @as_root
    @pytest.mark.parametrize(
        "kind",
        ["link", "dangling link", "pipe", "directory", "device", "second name", "writable", "another's"],
    )
    def test_what_others_could_have_planted_is_refused_without_waiting(self, tmp_path, kind):
        self.planted(tmp_path / "file", kind)
        with pytest.raises(NotPrivateError, match="remove it, or choose a directory that only this user can write"):
            os.close(open_private(tmp_path / "file", os.O_RDWR | os.O_CREAT))
        with pytest.raises(NotPrivateError):
            read_private(tmp_path / "file")
