"""The supervisor of one server: a tiny process that starts Java, and stops it when nobody wants it any more.

Run as a script, with nothing but the standard library. It reads one line of JSON (see ``launch.py``), starts the
server as the given account, answers ``{"pid": …}``, and then waits for the first of:

- ``keep`` on its input: stop the server, keep its directory, end
- ``detach``: answer ``{"detached": true}`` and go on without an owner; ``detach PID``: with that one
- the end of its input, the death of its owner, or SIGTERM: stop the server, remove its directory, end
- the end of the server: answer ``{"exited": code}``; when detached, end

A directory that outlives its owner (detached without one, or taken over from such a server) is not removed here:
SIGTERM also comes when the machine goes down, and `audit-logging server down` removes it itself. It loses its guard;
any other has one (``guarded.py``), which this process holds, so that what it cannot remove, being killed, the next
start does.

The owner's death is seen through a pidfd as well as through the pipe, because children that the owner forked hold
the pipe open. Should this process be killed itself, the kernel kills the server with it (PR_SET_PDEATHSIG, set after
the change of account, which would clear it).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Any

PR_SET_PDEATHSIG = 1

POLL_SECONDS = 1.0
"""How often the owner is looked at where there is no pidfd (not Linux)."""


class Owner:
    """The process on whose behalf the server runs; without a pid, nobody, who never dies."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.descriptor: int | None = None
        if pid is not None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.descriptor = os.pidfd_open(pid)

    @property
    def needs_polling(self) -> bool:
        """Whether its death wakes nobody."""
        return self.pid is not None and self.descriptor is None

    def is_gone(self) -> bool:
        """Tell whether it has ended."""
        if self.pid is None:
            return False
        if self.descriptor is not None:
            return bool(select.select([self.descriptor], [], [], 0)[0])
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Supervisor:
    """Starts one server and sees to its end."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.owner = Owner(plan["owner"])
        self.keep = plan["keep"]
        self.detached = self.terminated = self.reported = False
        hold(plan["guards"])
        self.wakeup = self._listen_to_signals()
        self.server = self._start()
        answer(pid=self.server.pid)

    def _listen_to_signals(self) -> int:
        """Return a descriptor that becomes readable with every signal."""
        wakeup, sink = os.pipe()
        os.set_blocking(sink, False)
        signal.set_wakeup_fd(sink)
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Ctrl-C and a closed terminal concern the owner, who then stops us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return wakeup

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def _start(self) -> subprocess.Popen[bytes]:
        account: dict[str, Any] = {}
        if self.plan["account"] is not None:
            uid, gid = self.plan["account"]
            account = {"user": uid, "group": gid, "extra_groups": []}
        with open(self.plan["log"], "ab") as log:  # noqa: PTH123 - pathlib would double this process's start time
            return subprocess.Popen(  # noqa: S603
                self.plan["command"],
                cwd=self.plan["cwd"],
                env=self.plan["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_the_supervisor,  # noqa: PLW1509 - this process has one thread
                **account,
            )

    def run(self) -> None:
        """Wait for the end, and act on it."""
        while self._is_wanted():
            pass
        self._stop()
        if not self.keep:
            remove(self.plan)

    def _is_wanted(self) -> bool:
        """Wait for something to happen; tell whether to go on after it."""
        ready = self._wait()
        if self.wakeup in ready:
            os.read(self.wakeup, 512)
        if self.terminated or self.owner.is_gone() or (0 in ready and not self._obey()):
            return False
        if self.server.poll() is not None and not self.reported:
            self.reported = True
            answer(exited=self.server.returncode)
        return not (self.detached and self.reported)

    def _obey(self) -> bool:
        """Carry out one command; tell whether to go on after it."""
        command, _, argument = read_line().partition(b" ")
        if command == b"keep":
            self.keep = True
        if command != b"detach":
            return False
        self.detached = True
        self.owner = Owner(int(argument) if argument else None)
        self.keep = self.owner.pid is None
        if self.keep:
            unlink(self.plan["guards"])
        answer(detached=True)
        return True

    def _wait(self) -> list[int]:
        watched = [self.wakeup]
        if not self.detached:
            watched.append(0)
        if self.owner.descriptor is not None:
            watched.append(self.owner.descriptor)
        return select.select(watched, [], [], POLL_SECONDS if self.owner.needs_polling else None)[0]

    def _stop(self) -> None:
        for number, seconds in ((signal.SIGTERM, self.plan["stop_seconds"]), (signal.SIGKILL, None)):
            if self.server.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.server.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(seconds)


def answer(**facts: Any) -> None:
    """Tell the one who started us, if anybody still listens."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(facts).encode() + b"\n")


def _die_with_the_supervisor() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def remove(plan: dict[str, Any]) -> None:
    """Remove all that is the server's own, and the guards last."""
    for directory in plan["directories"]:
        shutil.rmtree(directory, ignore_errors=True)
    unlink(plan["guards"])


def unlink(paths: list[str]) -> None:
    """Remove these files, those that are there."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - pathlib would double this process's start time


def hold(guards: list[str]) -> None:
    """Hold the guards that are there as long as this process lives."""
    for guard in guards:
        with contextlib.suppress(OSError):
            fcntl.flock(os.open(guard, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def read_line() -> bytes:
    """Return one line of our input without its end; nothing at the end of the input."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # no further, so that select() sees the next line
        if not byte:
            return b""
        line += byte
    return bytes(line[:-1])


def main() -> None:
    """Supervise the server that the first line of the input describes."""
    plan = json.loads(read_line() or b"null")
    if plan is None:
        return
    try:
        supervisor = Supervisor(plan)
    except (OSError, subprocess.SubprocessError) as error:
        answer(failed=str(error))
        remove(plan)
        return
    supervisor.run()


if __name__ == "__main__":
    main()
