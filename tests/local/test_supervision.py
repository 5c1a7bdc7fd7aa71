"""The supervisor, with small programs in the place of OpenSearch: what is asked of it does not depend on which."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local import detached
from audit_logging.local.detached import bring_up, stop_detached
from audit_logging.local.guarded import guarded_directory, make_guarded
from audit_logging.local.launch import Plan, Supervision
from audit_logging.local.state import State, process_began, state_file
from audit_logging.local.watchdog import Owner
from tests.local.conftest import is_running, names_in
from tests.waiting import until, until_ended

STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)
WILLING = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def supervise(tmp_path):
    """Start a program under a supervisor; all are ended afterwards."""
    started: list[Supervision] = []

    def start(*command: str, directory: Path = tmp_path / "instance", **other: Any) -> Supervision:
        directory.mkdir(exist_ok=True)
        account = detached_account()
        plan = Plan(command, tmp_path, {}, tmp_path / "log", [directory], account, **other)
        started.append(Supervision(plan))
        return started[-1]

    yield start
    for supervision in started:
        if is_running(supervision.pid):
            os.kill(supervision.pid, signal.SIGKILL)


def detached_account():
    from audit_logging.local.account import Account

    return Account("us", os.geteuid(), os.getegid(), switch=False)


def wait_until_ready(tmp_path: Path) -> None:
    until(lambda: "ready" in (tmp_path / "log").read_text())


def state_of(supervision: Supervision, directory: Path) -> State:
    began = process_began(supervision.pid) or ""
    return State("3.8.0", 1, 2, "1g", str(directory), supervision.pid, supervision.server_pid, began)


def test_a_server_that_does_not_stop_in_order_is_killed(supervise, tmp_path):
    supervision = supervise(sys.executable, "-c", STUBBORN, stop_seconds=0.1)
    wait_until_ready(tmp_path)
    supervision.end()
    assert not is_running(supervision.server_pid)
    assert not (tmp_path / "instance").exists()


def test_the_end_of_the_server_is_told_with_its_code(supervise):
    supervision = supervise("/bin/sh", "-c", "exit 7")
    assert supervision.has_exited(within_seconds=30)
    assert supervision.has_exited()
    assert supervision.exit_code == 7
    supervision.end()


def test_a_program_that_cannot_be_started_is_told(supervise, tmp_path):
    with pytest.raises(LocalServerError, match=r"Java cannot be started: .*No such file.*/no/such/java"):
        supervise("/no/such/java")
    assert not (tmp_path / "instance").exists()


def test_a_python_that_cannot_be_run_is_told(supervise, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(LocalServerError, match="use a Python that this user may run"):
        supervise("/bin/true")


def test_a_directory_that_was_there_before_is_kept(supervise, tmp_path):
    supervision = supervise(sys.executable, "-c", WILLING, keep=True)
    supervision.end()
    assert (tmp_path / "instance").exists()


def test_detaching_from_a_server_that_has_ended_is_told(supervise):
    supervision = supervise("/bin/true")
    assert supervision.has_exited(within_seconds=30)
    supervision.detach(None)  # it answers, and ends then
    until_ended(supervision.pid)


def test_detaching_from_a_supervisor_that_has_ended_is_told(supervise):
    supervision = supervise(sys.executable, "-c", WILLING)
    os.kill(supervision.pid, signal.SIGKILL)
    supervision._process.wait(30)
    with pytest.raises(LocalServerError, match="ended right after its start"):
        supervision.detach(None)
    supervision.end()


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_detached_server_is_stopped_with_all_that_is_its(supervise, tmp_path, monkeypatch, pidfd):
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)  # macOS
    supervision = supervise(sys.executable, "-c", WILLING)
    supervision.detach(None)
    state = state_of(supervision, tmp_path / "instance")
    assert state.is_alive
    stop_detached(state)
    assert not is_running(supervision.server_pid)
    assert not (tmp_path / "instance").exists()
    stop_detached(state)


def test_a_supervisor_that_hangs_is_killed_and_the_server_with_it(supervise, tmp_path, monkeypatch):
    supervision = supervise(sys.executable, "-c", WILLING)
    supervision.detach(None)
    monkeypatch.setattr(detached, "GRACE_SECONDS", 0.1)
    os.kill(supervision.pid, signal.SIGSTOP)
    stop_detached(state_of(supervision, tmp_path / "instance"))
    os.waitpid(supervision.pid, 0)
    until_ended(supervision.server_pid)


class TestTheDirectoryOfAKilledSupervisor:
    """It cannot remove it any more; whoever starts the next server does."""

    @pytest.fixture
    def made(self, supervise, tmp_path):
        """A supervised program in a guarded directory, of which its maker has let go."""
        parent = tmp_path / "instances"
        parent.mkdir()
        directory, guard = make_guarded(parent, "server-")
        supervision = supervise(sys.executable, "-c", WILLING, directory=directory)
        guard.close()
        return directory, supervision

    def kill(self, supervision):
        os.kill(supervision.pid, signal.SIGKILL)
        until_ended(supervision.pid)
        supervision.end()

    def start_another(self, directory):
        with guarded_directory(directory.parent, "server-"):
            pass

    def test_goes_at_the_next_start(self, made):
        directory, supervision = made
        self.start_another(directory)
        assert directory.exists()  # the supervisor holds it
        self.kill(supervision)
        assert directory.exists()
        self.start_another(directory)
        assert names_in(directory.parent) == []

    def test_stays_when_the_server_was_to_outlive_its_owner(self, made):
        """`server up` goes on with the data that is there."""
        directory, supervision = made
        supervision.detach(None)
        os.kill(supervision.pid, signal.SIGKILL)
        os.waitpid(supervision.pid, 0)
        self.start_another(directory)
        assert names_in(directory.parent) == [directory.name]

    def test_goes_without_it_in_an_orderly_end(self, made):
        directory, supervision = made
        supervision.end()
        assert names_in(directory.parent) == []


def test_a_server_is_written_down_before_it_is_let_go(tmp_path):
    """Killed in between, `server up` must not leave one that nobody knows of."""

    class Server:
        state = State("3.8.0", 1, 2, "1g", str(tmp_path), os.getpid(), os.getpid(), "now")

        def start(self):
            return self

        def detach(self):
            assert State.read(state_file(tmp_path)) == self.state

    assert bring_up(tmp_path, "default", lambda _: Server()) == (Server.state, True)


class TestOwnerWithoutPidfd:
    """Where the kernel does not tell, the owner is looked at."""

    @pytest.fixture(autouse=True)
    def without_pidfd(self, monkeypatch):
        monkeypatch.delattr(os, "pidfd_open", raising=False)

    def test_a_living_owner_is_there(self):
        owner = Owner(os.getpid())
        assert owner.needs_polling
        assert not owner.is_gone()

    def test_an_owner_of_another_user_is_there(self):
        assert not Owner(1).is_gone()

    def test_a_dead_owner_is_gone(self, script):
        owner = script("")
        owner.process.wait(30)
        assert Owner(owner.process.pid).is_gone()

    def test_nobody_never_is(self):
        assert not Owner(None).needs_polling
        assert not Owner(None).is_gone()
