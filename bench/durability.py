"""What a commit of many threads together gives, against one fdatasync for each event.

Sixteen threads emit with durability ``disk``; beside them one thread writes the same number of bytes and calls
fdatasync, event after event, on the same disk. Medians of rounds that take turns.

Threads that share a sync still emit one after the other, since Python runs one at a time, and each must be woken. What
that leaves of a sync for each event is printed twice: as if waking a thread cost nothing, and with what it costs here,
measured with threads that wake one another in turns, work as long as an event takes, and wait for no disk. The faster
the disk, the less there is to share. ``TMPDIR`` chooses another one.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from audit_logging.spool.reader import SpoolReader
from bench.emit import FACTS
from bench.measuring import Row, median_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 7
THREADS = 16
SECONDS = 1.0
LEAST = 10.0


def measure() -> Iterator[Row]:
    """Measure all of it in turns."""
    with ExitStack() as stack:
        directory = os.environ.get("TMPDIR", "/var/tmp")  # which outlives the machine, unlike many a /tmp
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
        audit.configure(replace=True, spool_dir=folder / "spool", console=False, opensearch_url=(), ship=False)
        stack.callback(audit.shutdown, 0)
        record = _record(folder / "spool")
        naive, together, free, woken = [], [], [], []
        for number in range(ROUNDS + 1):
            alone, shared = _one_by_one(folder / "naive", record), _emitting("disk", THREADS, SECONDS)
            without = _emitting("process", 1, SECONDS / 10)
            turns = _in_turns(THREADS, 1 / without, SECONDS / 4)
            if number:  # the first round warms up
                naive.append(alone)
                together.append(shared)
                free.append(THREADS / (1 / alone + THREADS / without))
                woken.append(THREADS / (1 / alone + THREADS / turns))
    ratio = median_ratio(together, naive)
    yield Row("write + fdatasync, one thread", f"{statistics.median(naive):8,.0f} events/s   1.00 ×")
    for name, bound in (("the bound, waking for nothing", free), ("the bound, waking as it is", woken)):
        yield Row(name, f"{statistics.median(bound):8,.0f} events/s  {median_ratio(bound, naive):5.2f} ×")
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


def _emitting(durability: str, number: int, seconds: float) -> float:
    """Return the events a second that so many threads emit for so long."""
    log = audit.get_logger()
    ending = time.perf_counter() + seconds

    def emit(_: int) -> int:
        count = 0
        while time.perf_counter() < ending:
            log.emit("user.login", durability=durability, **FACTS)
            count += 1
        return count

    return _rate(emit, number)


def _in_turns(number: int, work: float, seconds: float) -> float:
    """Return the events a second of threads that work for each as long as given, and wake one another for the next."""
    bells = [threading.Lock() for _ in range(number)]
    for bell in bells[1:]:
        bell.acquire()
    ending = time.perf_counter() + seconds

    def act(place: int) -> int:
        count = 0
        while True:
            bells[place].acquire()
            bells[(place + 1) % number].release()  # it comes to itself while this one works
            if (began := time.perf_counter()) > ending:
                return count
            while time.perf_counter() < began + work:
                pass
            count += 1

    return _rate(act, number)


def _rate(work: Callable[[int], int], number: int) -> float:
    """Return the events a second of so many threads, each of which is given its place and says how many it had."""
    with ThreadPoolExecutor(number) as pool:
        began = time.perf_counter()
        return sum(pool.map(work, range(number))) / (time.perf_counter() - began)
