"""An export of a million events over REST: the memory of the serving process, how other requests fare, and its end.

The end is that of a client who leaves: how far the export had come by then stands in the event that tells of it.

The process is a uvicorn with nothing but the router in it. Loading takes some minutes, unless AUDIT_OPENSEARCH_URL
leads to a server that was filled before.
"""

from __future__ import annotations

import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit_logging.errors import NotFoundError
from audit_logging.local import LocalServer
from audit_logging.local.server import PEAK
from audit_logging.query import AuditReader
from audit_logging.settings import Settings
from bench.measuring import Row
from bench.trail_of import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: Final = 1_000_000
STREAM: Final = "bench-rest"
UNTIL: Final = "until=2026-03-31"
"""Behind the last of the events, and before those of the measurement itself."""

MOST_MIB: Final = 150
MOST_WAIT_SECONDS: Final = 0.25
MOST_SENT: Final = EVENTS // 10


def measure() -> Iterator[Row]:
    """Export, and ask for the API's description all the while."""
    with ExitStack() as stack:
        settings = Settings.load(stream=STREAM)
        if not settings.opensearch_url:
            server = stack.enter_context(LocalServer(heap="1g", jvm_options=PEAK))
            settings = Settings.load(**server.settings(), stream=STREAM)
        if _stored(settings) != EVENTS:
            fill(settings, EVENTS)
        process, port = stack.enter_context(serving(settings))
        waits: list[float] = []
        done = threading.Event()
        asking = threading.Thread(target=_ask, args=(port, waits, done))
        asking.start()
        began = time.perf_counter()
        lines = lines_of_export(port, UNTIL)
        elapsed = time.perf_counter() - began
        done.set()
        asking.join()
        peak = peak_mib(process)
        sent = _leave(port, settings)
    yield Row("events exported", f"{lines:,}", f"{EVENTS:,}", lines == EVENTS)
    yield Row("speed", f"{lines / elapsed:,.0f} events/s")
    yield Row("peak memory of the process", f"{peak:.0f} MiB", f"< {MOST_MIB} MiB", peak < MOST_MIB)
    yield Row("another request meanwhile, median", f"{statistics.median(waits) * 1000:.1f} ms")
    slow = statistics.quantiles(waits, n=100)[98]
    yield Row(
        "another request meanwhile, 99 of 100",
        f"{slow * 1000:.1f} ms",
        f"< {MOST_WAIT_SECONDS * 1000:.0f} ms",
        slow < MOST_WAIT_SECONDS,
    )
    yield Row("read for a client that left at once", f"{sent:,} events", f"< {MOST_SENT:,}", sent < MOST_SENT)


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[int, int]]:
    """Serve the trail of *settings* from a process of its own; yield its pid and port."""
    with tempfile.TemporaryDirectory() as spool_dir:
        environment = {
            **os.environ,
            "AUDIT_OPENSEARCH_URL": ",".join(settings.opensearch_url),
            "AUDIT_STREAM": settings.stream,
            "AUDIT_SPOOL_DIR": spool_dir,
        }
        command = [sys.executable, "-m", "bench.rest_server"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            try:
                assert process.stdout is not None
                yield process.pid, int(process.stdout.readline())
            finally:
                process.terminate()


def lines_of_export(port: int, query: str) -> int:
    """Export and return the number of lines that came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/admin/audit-export?{query}")
    answer, lines = connection.getresponse(), 0
    assert answer.status == http.client.OK
    while piece := answer.read(1 << 16):
        lines += piece.count(b"\n")
    connection.close()
    return lines


def _leave(port: int, settings: Settings) -> int:
    """Begin an export and leave; return how many events had been read for it when it ended."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/admin/audit-export?{UNTIL}")
    answer = connection.getresponse()
    answer.read(1 << 16)
    answer.close()
    connection.close()
    with AuditReader(settings=settings) as reader:
        for _ in range(600):
            ended = reader.search(event_type="audit.exported", outcome="failure").events
            if ended:
                return int(ended[0].metadata["record_count"])
            time.sleep(0.1)
    raise TimeoutError("The export goes on, though nobody reads it.")


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def _stored(settings: Settings) -> int:
    try:
        with AuditReader(settings=settings) as reader:
            return reader.count(until="2026-03-31")
    except NotFoundError:
        return 0


def _ask(port: int, waits: list[float], done: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while not done.wait(0.05):
        began = time.perf_counter()
        connection.request("GET", "/nothing")
        connection.getresponse().read()
        waits.append(time.perf_counter() - began)
    connection.close()
