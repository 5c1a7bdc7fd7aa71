"""How long a single call takes while OpenSearch is away, against the same while it is well.

Every state takes its turn in each round, at the pace of a busy application; what is compared is the p99 of all calls.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from bench.emit import FACTS
from bench.measuring import Row
from bench.throttle import throttling

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 4
SECONDS = 1.5
CALLS_PER_SECOND = 1000
MOST = 2.0
WELL, HUNG = "well", "hung (SIGSTOP)"


def measure() -> Iterator[Row]:
    """Measure the call in each state of the server."""
    logging.getLogger("audit_logging").setLevel(logging.CRITICAL)  # that it is away is meant
    with tempfile.TemporaryDirectory() as folder, LocalServer() as server, throttling(server.url) as throttled:
        AuditAdmin(**server.settings()).setup()
        urls = {WELL: server.url, "down": "http://127.0.0.1:9", HUNG: server.url, "throttling (429)": throttled}
        trails = {
            name: Trail(Settings.load(spool_dir=Path(folder, str(number)), opensearch_url=url, console=False))
            for number, (name, url) in enumerate(urls.items())
        }
        taken: dict[str, list[float]] = {name: [] for name in trails}
        for number in range(ROUNDS + 1):
            for name, trail in trails.items():
                with _stopped(server.pid) if name == HUNG else contextlib.nullcontext():
                    found = _calls(trail)
                if number:  # the first round warms up
                    taken[name] += found
        for trail in trails.values():
            trail.shutdown(0)
    for name, found in taken.items():
        yield _row(name, found, taken[WELL])


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _calls(trail: Trail) -> list[float]:
    """Return the seconds of each call."""
    found = []
    begun = time.perf_counter()
    for number in range(int(SECONDS * CALLS_PER_SECOND)):
        time.sleep(max(begun + number / CALLS_PER_SECOND - time.perf_counter(), 0))
        started = time.perf_counter()
        trail.emit("user.login", FACTS)
        found.append(time.perf_counter() - started)
    return found


def _row(name: str, found: list[float], well: list[float]) -> Row:
    p50, p99 = _quantile(found, 0.5), _quantile(found, 0.99)
    ratio = p99 / _quantile(well, 0.99)
    figure = f"p50 {p50 * 1e6:6.1f} µs  p99 {p99 * 1e6:7.1f} µs  {ratio:5.2f} ×"
    if name == WELL:
        return Row(f"emit, the server {name}", figure)
    return Row(f"emit, the server {name}", figure, f"p99 within {MOST:g} ×", ratio <= MOST)


def _quantile(found: list[float], share: float) -> float:
    return sorted(found)[int(len(found) * share)]
