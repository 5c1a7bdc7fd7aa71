"""Verification of a million events, side by side with their export to NDJSON from the same index.

Each in a process of its own, in rounds that take turns; ratios by the clock, medians of the rounds. The events are
sealed into chains and hashed anew, one by one; they bear no signatures, which are one in many thousands.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.query.filter import Filter
from audit_logging.query.reader import AuditReader
from audit_logging.query.verification.run import verify_files
from audit_logging.settings import Settings
from bench.export import server
from bench.measuring import Row, Run, median_ratio, run_alone, tell_run
from bench.trail_of import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 1_000_000
ROUNDS = 3
STREAM = "bench-verify"
OF_THE_EXPORT = 0.8
MOST_MEGABYTES = 150

OFF = dict.fromkeys(("AUDIT_AUDIT_EXPORTS", "AUDIT_AUDIT_VERIFICATIONS", "AUDIT_SIGNING"), "false")

VERIFY, OFFLINE, EXPORT = "verify", "verify --export", "export"


def measure() -> Iterator[Row]:
    """Fill a stream; export, verify it, and verify the export."""
    with server() as url, tempfile.TemporaryDirectory() as folder:
        fill(Settings.load(opensearch_url=url, stream=STREAM), EVENTS)
        runs: dict[str, list[Run]] = {EXPORT: [], VERIFY: [], OFFLINE: []}
        for _ in range(ROUNDS):
            for name, found in runs.items():
                out = str(Path(folder) / "out.ndjson")
                found.append(run_alone(__name__, name, url, out, AUDIT_HOME=folder, **OFF))
    for name, found in runs.items():
        rate = EVENTS / statistics.median(run.wall for run in found)
        cpu = statistics.median(run.cpu for run in found) / EVENTS * 1e6
        ratio = median_ratio((run.wall for run in runs[EXPORT]), (run.wall for run in found))
        figure = f"{rate:9,.0f} events/s  {ratio:5.0%} of the export  ({cpu:.1f} µs of processor an event)"
        target = f"at least {OF_THE_EXPORT:.0%}" if name == VERIFY else None
        yield Row(name, figure, target, ratio >= OF_THE_EXPORT) if target else Row(name, figure)
    most = max(run.megabytes for run in runs[VERIFY])
    yield Row(f"{VERIFY}, memory", f"{most:.0f} MB", f"under {MOST_MEGABYTES} MB", most < MOST_MEGABYTES)


def _alone(name: str, url: str, path: str) -> None:
    """Run one in this process and print what it took."""
    settings = Settings.load(opensearch_url=url, stream=STREAM)

    def online() -> int:
        with AuditReader(settings=settings) as reader:
            return reader.verify().events if name == VERIFY else reader.export(path).events

    def offline() -> int:
        return verify_files([Path(path)], settings, Filter()).events

    tell_run(offline if name == OFFLINE else online, EVENTS)


if __name__ == "__main__":
    _alone(*sys.argv[1:])
