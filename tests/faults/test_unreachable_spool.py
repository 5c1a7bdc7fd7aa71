"""A spool that may not be entered, read or listed: every surface says so, and none raises or calls it empty."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail
from audit_logging.cli.root import run
from audit_logging.errors import SettingsError
from audit_logging.query.accounting import check_accounts
from audit_logging.settings import Settings
from audit_logging.shipping.accounts import take_accounts
from audit_logging.spool.directory import SpoolDirectory

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

STRANGER = 54_321


@contextmanager
def as_stranger():
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place(monkeypatch):
    """A directory that everybody may enter, with a spool two levels below."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        for name in [name for name in os.environ if name.startswith("AUDIT_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AUDIT_HOME", f"{directory}/home")
        monkeypatch.setenv("AUDIT_SIGNING", "false")
        yield Path(directory)


@pytest.fixture
def trail(place):
    (place / "lib").mkdir()
    trail = Trail(Settings.load(spool_dir=place / "lib" / "spool", ship=False))
    trail.emit("user.login", {"user_id": "u-1"})
    trail.health()
    yield trail
    trail.shutdown(0)


CLOSED = ["lib", "lib/spool", "lib/spool/<writer>"]


def close(place, which, trail, mode):
    path = place / which.replace("<writer>", trail.writer_id)
    path.chmod(mode)
    return path


@only_root
@pytest.mark.parametrize("which", CLOSED)
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
class TestStranger:
    def test_health_is_failing(self, place, trail, which, mode):
        """Whichever level may not be entered, listed or written. It says which."""
        with as_stranger():
            trail.health()  # a stranger may not import what is imported when first used
        path = close(place, which, trail, mode)
        with as_stranger():
            found = trail.health()
        assert found.status == "failing"
        assert any(str(path) in reason.sentence for reason in found.reasons)

    def test_accounts_say_that_they_cannot_be_taken(self, place, trail, which, mode):
        take_accounts(place / "lib" / "spool")
        close(place, which, trail, mode)
        with as_stranger(), pytest.raises(SettingsError, match="cannot be read by this user"):
            take_accounts(place / "lib" / "spool")

    def test_the_doctor_has_a_problem(self, place, trail, which, mode):
        list(check_accounts(trail.settings, ask=False))
        close(place, which, trail, mode)
        with as_stranger():
            (check,) = check_accounts(trail.settings, ask=False)
        assert (check.name, check.verdict) == ("accounts", "problem")

    def test_the_metrics_say_down(self, place, trail, which, mode):
        from audit_logging.integrations.prometheus import AuditCollector

        collector = AuditCollector(trail.settings)
        list(collector.collect())
        close(place, which, trail, mode)
        with as_stranger():
            (up,) = collector.collect()
        assert (up.name, up.samples[0].value) == ("audit_spool_up", 0)

    @pytest.mark.parametrize("command", ["spool status", "ship --once --url http://127.0.0.1:1"])
    def test_commands_end_in_one_sentence(self, place, trail, which, mode, command, capsys):
        """Never with 0 and "0 events"."""
        words = [*command.split(), "--spool-dir", str(trail.settings.spool_path)]
        with pytest.raises(SystemExit):
            run(words)
        capsys.readouterr()
        close(place, which, trail, mode)
        with as_stranger(), pytest.raises(SystemExit) as ended:
            run(words)
        said = capsys.readouterr().err
        assert ended.value.code in {2, 3, 4}
        assert "user" in said or "cannot be opened" in said


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ELOOP])
def test_health_is_failing_whatever_the_disk_says(trail, monkeypatch, code):
    """A disk that fails, a network that is gone."""

    def fail(path, *_, **__):
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as broken:
        for name in ("stat", "lstat", "iterdir"):
            broken.setattr(Path, name, fail)
        found = trail.health()
    assert found.status == "failing"
    assert os.strerror(code) in str(found.reasons)
    assert trail.health().status == "ok"


def test_what_cannot_be_listed_is_not_called_empty(place, trail, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = SpoolDirectory(trail.settings.spool_path, trail.settings.stream)
    monkeypatch.setattr(Path, "iterdir", fail)
    assert list(spool.adopt()) == []
    assert "Input/output error" in str(spool.unreadable)
    with pytest.raises(SettingsError, match="Input/output error"):
        take_accounts(trail.settings.spool_path)


def test_the_public_functions(trail, place):
    before = swap_trail(trail)
    try:
        assert audit.health().status == "ok"
        (place / "lib").rename(place / "elsewhere")
        (place / "lib").touch()
        assert json.loads(json.dumps(audit.health().to_dict()))["status"] == "failing"
        with pytest.raises(SettingsError):
            audit.accounts()
        (place / "lib").unlink()
        (place / "elsewhere").rename(place / "lib")
    finally:
        swap_trail(before)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("stream", 4, "its file `stream` is missing"),
        ("shipping", 4, "its file `shipping` is missing"),
        ("lock", 3, "1 event remain"),
    ],
)
def test_a_dead_writer_that_nobody_can_take_is_reported(trail, place, name, code, said, capsys):
    """A cleaner removed one of its files: the events are there, and no shipper would ever say so."""
    spool = trail.settings.spool_path
    home = spool / trail.writer_id
    trail.shutdown(0)
    (home / name).unlink()
    with pytest.raises(SystemExit) as ended:
        run(["ship", "--once", "--url", "http://127.0.0.1:1", "--spool-dir", str(spool)])
    assert ended.value.code == code
    assert said in capsys.readouterr().err
