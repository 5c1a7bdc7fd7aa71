"""Helpers for tests of real processes: none sleeps, each waits for the event itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any

import pytest

from audit_logging.local.state import process_began
from audit_logging.settings import default_home
from tests.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def is_running(pid: int) -> bool:
    return process_began(pid) is not None


class Script:
    """A Python program of its own, as a parent of servers that can be killed. It reports by printing JSON lines."""

    def __init__(self, code: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            # a shell that runs the tests in the background lets its children ignore interrupts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def report(self) -> Any:
        line = _pipe(self.process.stdout).readline()
        assert line, self.errors()
        return json.loads(line)

    def end(self, number: signal.Signals) -> None:
        """Send the signal and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(PATIENCE_SECONDS)

    def errors(self) -> str:
        """What it wrote to stderr; waits until all who hold that open have ended."""
        return _pipe(self.process.stderr).read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _pipe(pipe).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Start a Python program; it is killed at the end of the test at the latest."""
    scripts: list[Script] = []

    def start(code: str, **environment: str) -> Script:
        scripts.append(Script(code, **environment))
        return scripts[-1]

    yield start
    for started in scripts:
        started.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of these tests' own, with the verified downloads of the machine's if there are any."""
    home: Path = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    for archive in (default_home() / "cache").glob("*.zip*"):
        (home / "cache" / archive.name).symlink_to(archive)
    return home


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `audit-logging` as a process of its own."""
    monkeypatch.setenv("AUDIT_HOME", str(home))
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-m", "audit_logging", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=180,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    return run
