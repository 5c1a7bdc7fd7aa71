"""Talking to a supervisor (``watchdog.py``): starting one, giving it commands, hearing what became of its server."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from audit_logging.errors import LocalServerError
from audit_logging.local.guarded import guard_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.local.account import Account

STOP_SECONDS = 10.0
"""How long a server may take to stop in order; OpenSearch needs well under one on a machine that is not overloaded."""

GRACE_SECONDS = 30.0
"""Longest wait for a supervisor's answer; it answers at once, and ends within its own limit for stopping."""


@dataclass(frozen=True)
class Plan:
    """What a supervisor must know.

    Attributes:
        directories: The server's own; removed when nobody wants the server any more.
        keep: Do not remove them: they were there before us.
        stop_seconds: After this many the server is killed.
    """

    command: Sequence[str]
    cwd: Path
    environment: dict[str, str]
    log: Path
    directories: Sequence[Path]
    account: Account
    keep: bool = False
    stop_seconds: float = STOP_SECONDS

    def line(self) -> bytes:
        """Return the line of JSON that the supervisor reads."""
        account = [self.account.uid, self.account.gid] if self.account.switch else None
        plan = {
            "command": list(self.command),
            "cwd": str(self.cwd),
            "environment": self.environment,
            "log": str(self.log),
            "directories": [str(directory) for directory in self.directories],
            "guards": [str(guard_of(directory)) for directory in self.directories],
            "account": account,
            "keep": self.keep,
            "stop_seconds": self.stop_seconds,
            "owner": os.getpid(),
        }
        return json.dumps(plan).encode() + b"\n"


class Supervision:
    """Our end of a running supervisor.

    Attributes:
        pid: Process id of the supervisor.
        server_pid: Process id of the server (Java).
        exit_code: The server's, once it has ended; minus the signal's number when a signal ended it.
    """

    def __init__(self, plan: Plan) -> None:
        self._process = _start_supervisor()
        self.pid = self._process.pid
        self.exit_code: int | None = None
        self.server_pid = 0
        try:
            self._write(plan.line())
            self.server_pid = self._started()
        except BaseException:
            self.end()
            raise

    def _started(self) -> int:
        answer = self._read(GRACE_SECONDS)
        if "pid" not in answer:
            raise LocalServerError(f"Java cannot be started: {answer.get('failed', 'the supervisor ended')}.")
        pid: int = answer["pid"]
        return pid

    def has_exited(self, *, within_seconds: float = 0.0) -> bool:
        """Tell whether the server has ended, waiting up to *within_seconds* for it."""
        if self.exit_code is None:
            self.exit_code = self._read(within_seconds).get("exited")
        return self.exit_code is not None

    def detach(self, owner: int | None) -> None:
        """Let the server outlive us, and end with the process *owner* if one is given."""
        self._write(b"detach\n" if owner is None else b"detach %d\n" % owner)
        while not self._read(GRACE_SECONDS).get("detached"):
            if self._process.poll() is not None:
                raise LocalServerError("The server ended right after its start: see its log.")
        self._close()
        # It is nobody's child to wait for any more; without this, Popen warns of it.
        self._process.returncode = 0

    def end(self, *, keep_directory: bool = False) -> None:
        """Stop the server, wait for that, and remove its directory unless told to keep it."""
        if keep_directory:
            self._write(b"keep\n")
        self._close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills the server too
            self._process.wait()

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the next answer says so
            _pipe(self._process.stdin).write(data)

    def _read(self, seconds: float) -> dict[str, Any]:
        """Return the next answer, or nothing when there is none within *seconds*."""
        pipe = _pipe(self._process.stdout)
        if not select.select([pipe], [], [], seconds)[0]:
            return {}
        line = pipe.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"exited": -9}
        return answer

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()


def _start_supervisor() -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("watchdog.py")
    try:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # so that select() sees every answer
            cwd="/",
            start_new_session=True,  # Ctrl-C on the terminal is for us; we stop it in order
        )
    except OSError as error:
        raise LocalServerError(
            f"The server's supervisor cannot be started with {sys.executable!r} ({error.strerror}): use a Python that"
            " this user may run."
        ) from error


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
