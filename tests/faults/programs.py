"""Programs of many processes that emit into one stream, and the reckoning with them all."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.cli.root import run
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.emitting import JOURNAL
from tests.faults.reckoning import reckon
from tests.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.event import Event
    from audit_logging.settings import Settings

ROOT = Path(__file__).parents[2]


class Programs:
    """Starts programs that share a stream and a spool directory.

    Attributes:
        environment: Theirs.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._journal = settings.home / "journal"
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal.touch()
        self.output = settings.home / "output"
        self.environment = {
            # Without measuring coverage: that takes a lock of its own at every call, which a fork may find held.
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
            "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
            "AUDIT_STREAM": settings.stream,
            "AUDIT_SPOOL_DIR": str(settings.spool_path),
            "AUDIT_BATCH_SECONDS": "0.02",
            "PYTHONPATH": str(ROOT),
            JOURNAL: str(self._journal),
        }

    def emitted(self) -> list[str]:
        """Return the ids of the events whose calls have returned so far."""
        return self._journal.read_text().split()

    @contextmanager
    def start(self, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command with its output in a file; it, and what it started, is gone afterwards."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self.environment | environment,
                cwd=self.settings.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                try:
                    os.killpg(process.pid, 9)
                except ProcessLookupError:
                    pass
                process.wait()

    def python(self, script: Path | str, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a program to its end, assert its exit code, and return what it printed."""
        path = self.settings.home / f"program{time.monotonic_ns()}.py"  # a file: `spawn` imports it once more
        path.write_text(script)
        with self.start(sys.executable, str(path), *arguments, **environment) as process:
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                printed = self.output.read_text()
        assert process.returncode == code, printed
        return printed

    def reckon(self) -> list[Event]:
        """Ship what the dead left, assert that no spool is left nor locked, and reckon."""
        where = ["--url", *self.settings.opensearch_url, "--stream", self.settings.stream]
        code: object = 0
        try:
            run(["ship", "--once", "--spool-dir", str(self.settings.spool_path), *where])
        except SystemExit as end:
            code = end.code
        assert not code
        assert self.writers() == []
        return reckon(self.settings, self.emitted())

    def writers(self) -> list[Path]:
        """Return the spools that there are."""
        return SpoolDirectory(self.settings.spool_path, self.settings.stream).writers()


def get(port: int, path: str) -> str:
    """Return what the server answers; empty when it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
