"""What a commit of many threads together gives, against one fdatasync for each event.

Sixteen threads emit with durability ``disk``; beside them one thread writes the same number of bytes and calls
fdatasync, event after event, on the same disk. Medians of rounds that take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from audit_logging.spool.reader import SpoolReader
from bench.emit import FACTS
from bench.measuring import Row, median_ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 7
THREADS = 16
SECONDS = 1.0
LEAST = 10.0


def measure() -> Iterator[Row]:
    """Measure both in turns, in the folder for temporary files that outlive the machine."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        audit.configure(replace=True, spool_dir=folder / "spool", console=False, opensearch_url=(), ship=False)
        stack.callback(audit.shutdown, 0)
        record = _record(folder / "spool")
        naive, together = [], []
        for number in range(ROUNDS + 1):
            alone, shared = _one_by_one(folder / "naive", record), _together()
            if number:  # the first round warms up
                naive.append(alone)
                together.append(shared)
    ratio = median_ratio(together, naive)
    yield Row("write + fdatasync, one thread", f"{statistics.median(naive):8,.0f} events/s   1.00 ×")
    yield Row(
        f"durability disk, {THREADS} threads",
        f"{statistics.median(together):8,.0f} events/s  {ratio:5.2f} ×",
        f"at least {LEAST:g} ×",
        ratio >= LEAST,
    )


def _record(spool: Path) -> bytes:
    """Return what one event is in the spool."""
    audit.get_logger().emit("user.login", **FACTS)
    trail = current_trail()
    return SpoolReader(spool / trail.writer_id).read(1)[0].payload


def _one_by_one(path: Path, record: bytes) -> float:
    """Return the events a second that one thread brings to the disk, each with a sync of its own."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        os.write(descriptor, record)
        os.fdatasync(descriptor)
        count += 1
    elapsed = time.perf_counter() - began
    os.close(descriptor)
    return count / elapsed


def _together() -> float:
    """Return the events a second that the threads bring to the disk."""
    log = audit.get_logger()
    counts = [0] * THREADS
    ending = time.perf_counter() + SECONDS

    def emit(place: int) -> None:
        while time.perf_counter() < ending:
            log.emit("user.login", durability="disk", **FACTS)
            counts[place] += 1

    threads = [threading.Thread(target=emit, args=(place,)) for place in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)
