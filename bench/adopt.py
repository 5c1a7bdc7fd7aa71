"""How long it takes to ship what very many killed processes left, one event each, and what a new process sees of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.spool.directory import SpoolDirectory
from bench.measuring import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITERS: Final = int(os.environ.get("BENCH_WRITERS", "10000"))
WRITERS_OF_A_PROCESS: Final = 100
MOST_SECONDS: Final = 60.0
MOST_MEGABYTES: Final = 100.0
MOST_MILLISECONDS: Final = 5.0
STREAM: Final = "bench-adopt"

FIRST_EMIT = """
import time
import audit_logging as audit
audit.configure(console=False)
log = audit.get_logger()
began = time.perf_counter()
log.user_login(user_id="u-1")
print((time.perf_counter() - began) * 1000)
"""


def measure() -> Iterator[Row]:
    """Leave the spools behind, emit beside them, and ship them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = Settings.load(stream=STREAM, home=folder, console=False)
        if not settings.opensearch_url:
            server = stack.enter_context(LocalServer())
            settings = Settings.load(**server.settings(), stream=STREAM, home=folder, console=False)
        with AuditAdmin(settings=settings) as admin:
            admin.setup()
        few = sorted(_first_emit(settings) for _ in range(5))[2]
        _leave_behind(settings)
        many = sorted(_first_emit(settings) for _ in range(5))[2]
        seconds = _ship(settings)
        left = len(SpoolDirectory(settings.spool_path, STREAM).writers())
    told = f"{many:.1f} ms; {few:.1f} ms without them"
    yield Row(
        f"first emit beside {WRITERS:,} dead writers", told, f"{MOST_MILLISECONDS:g} ms", many <= MOST_MILLISECONDS
    )
    figure = f"{seconds:.1f} s, {WRITERS / seconds:,.0f} a second, {left} left"
    yield Row("`ship --once` of all of them", figure, f"{MOST_SECONDS:g} s", seconds <= MOST_SECONDS and not left)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    yield Row("its memory at most", f"{megabytes:.0f} MB", f"{MOST_MEGABYTES:g} MB", megabytes <= MOST_MEGABYTES)


def _leave_behind(settings: Settings) -> None:
    """Emit one event each from very many writers, whose process ends as if it were killed."""
    for _ in range(WRITERS // WRITERS_OF_A_PROCESS):
        process = os.fork()
        if not process:
            try:
                for number in range(WRITERS_OF_A_PROCESS):
                    Trail(settings.model_copy(update={"opensearch_url": ()})).emit(
                        "user.login", {"user_id": f"u-{number}"}
                    )
            finally:
                os._exit(0)
        os.waitpid(process, 0)


def _environment(settings: Settings) -> dict[str, str]:
    given = {"AUDIT_HOME": str(settings.home), "AUDIT_STREAM": STREAM}
    return {**os.environ, **given, "AUDIT_OPENSEARCH_URL": ",".join(settings.opensearch_url)}


def _first_emit(settings: Settings) -> float:
    """Return the milliseconds of a new process's first call that emits, where a sidecar ships."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_EMIT],
        env={**_environment(settings), "AUDIT_SHIP": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _ship(settings: Settings) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "audit_logging", "ship", "--once"]
    subprocess.run(command, env=_environment(settings), capture_output=True, check=True)
    return time.perf_counter() - began
