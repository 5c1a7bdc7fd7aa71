"""Verification of a million events, side by side with their export to NDJSON from the same index.

Each in a process of its own, in rounds that take turns; ratios by the clock, medians of the rounds. The events are
sealed into chains and hashed anew, one by one; they bear no signatures, which are one in many thousands.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from audit_logging.query.filter import Filter
from audit_logging.query.reader import AuditReader
from audit_logging.query.verify import verify_files
from audit_logging.settings import Settings
from bench.export import server
from bench.measuring import Row, median_ratio
from bench.trail_of import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 1_000_000
ROUNDS = 3
STREAM = "bench-verify"
OF_THE_EXPORT = 0.8
MOST_MEGABYTES = 150

VERIFY, OFFLINE, EXPORT = "verify", "verify --export", "export"


class Run(NamedTuple):
    """What one took: seconds by the clock and of its processor, and megabytes at most."""

    wall: float
    cpu: float
    megabytes: float


def measure() -> Iterator[Row]:
    """Fill a stream; export, verify it, and verify the export."""
    with server() as url, tempfile.TemporaryDirectory() as folder:
        fill(Settings.load(opensearch_url=url, stream=STREAM), EVENTS)
        runs: dict[str, list[Run]] = {EXPORT: [], VERIFY: [], OFFLINE: []}
        for _ in range(ROUNDS):
            for name, found in runs.items():
                found.append(_run(name, url, folder))
    for name, found in runs.items():
        rate = EVENTS / statistics.median(run.wall for run in found)
        cpu = statistics.median(run.cpu for run in found) / EVENTS * 1e6
        ratio = median_ratio((run.wall for run in runs[EXPORT]), (run.wall for run in found))
        figure = f"{rate:9,.0f} events/s  {ratio:5.0%} of the export  ({cpu:.1f} µs of processor an event)"
        target = f"at least {OF_THE_EXPORT:.0%}" if name == VERIFY else None
        yield Row(name, figure, target, ratio >= OF_THE_EXPORT) if target else Row(name, figure)
    most = max(run.megabytes for run in runs[VERIFY])
    yield Row(f"{VERIFY}, memory", f"{most:.0f} MB", f"under {MOST_MEGABYTES} MB", most < MOST_MEGABYTES)


def _run(name: str, url: str, folder: str) -> Run:
    command = [sys.executable, "-m", "bench.verify", name, url, str(Path(folder) / "out.ndjson")]
    off = dict.fromkeys(("AUDIT_AUDIT_EXPORTS", "AUDIT_AUDIT_VERIFICATIONS", "AUDIT_SIGNING"), "false")
    done = subprocess.run(command, env={**os.environ, **off, "AUDIT_HOME": folder}, capture_output=True, check=True)
    return Run(*json.loads(done.stdout))


def _alone(name: str, url: str, path: str) -> None:
    """Run one in this process and print what it took."""
    settings = Settings.load(opensearch_url=url, stream=STREAM)
    wall, cpu = time.perf_counter(), time.process_time()
    if name == OFFLINE:
        events = verify_files([Path(path)], settings, Filter()).events
    else:
        with AuditReader(settings=settings) as reader:
            events = reader.verify().events if name == VERIFY else reader.export(path).events
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert events == EVENTS, events
    print(json.dumps([wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


if __name__ == "__main__":
    _alone(*sys.argv[1:])
