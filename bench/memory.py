"""How much memory a process takes while events wait in its spool, by the thousands and by the millions.

One process emits while nobody listens, and is compared with itself when few events waited. Then another opens that
spool and ships a tenth of it, and is compared with one that ships a spool of few.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from bench.measuring import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = int(os.environ.get("BENCH_EVENTS", "2000000"))
FEW = 20_000
PATIENCE_SECONDS = 120.0
MOST_MEGABYTES = 30.0
FACTS = {"user_id": "u-42"}


class Memory(NamedTuple):
    """What a process takes, in megabytes: all that is resident, and its share of what it shares."""

    rss: float
    pss: float


def measure() -> Iterator[Row]:
    """Measure both processes."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = ({"spool_dir": Path(folder, name), "spool_max_bytes": 1 << 36} for name in ("large", "small"))
        yield _row(f"emitting, {EVENTS:,} events waiting", *_in_process(_emit, large, EVENTS))
        _in_process(_emit, small, FEW)
        with LocalServer() as server, AuditAdmin(**server.settings()) as admin:
            admin.setup()
            few = _in_process(_ship, small | server.settings(), FEW)
            many = _in_process(_ship, large | server.settings(), EVENTS // 10)
        yield _row("another process, shipping from these", few, many)


def _row(name: str, before: Memory, most: Memory) -> Row:
    grown = Memory(most.rss - before.rss, most.pss - before.pss)
    figure = f"{most.rss:.0f} MB resident, {grown.rss:+.1f} MB (Pss {grown.pss:+.1f} MB)"
    return Row(name, figure, f"within {MOST_MEGABYTES:g} MB", max(grown) <= MOST_MEGABYTES)


def _in_process(function: Callable[[Settings, int, Any], None], settings: dict[str, Any], events: int) -> Any:
    """Return what *function* finds in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(Settings.load(console=False, **settings), events, sending))
    process.start()
    sending.close()
    found = receiving.recv()
    process.join()
    return found


def _emit(settings: Settings, events: int, found: Any) -> None:
    """Find the memory with few events waiting, and at most."""
    logging.getLogger("audit_logging").setLevel(logging.CRITICAL)  # that nobody listens is meant
    trail = Trail(settings.model_copy(update={"opensearch_url": ("http://127.0.0.1:9",)}))
    few = most = Memory(0, 0)
    for number in range(1, events + 1):
        trail.emit("user.login", FACTS)
        if number == FEW:
            few = most = _memory()
        elif number % 50_000 == 0:
            most = _greater(most, _memory())
    trail.shutdown(0)
    found.send((few, most))


def _ship(settings: Settings, events: int, found: Any) -> None:
    """Find the memory at most until so many events are shipped."""
    shipper = Shipper(settings, SpoolDirectory(settings.spool_path), None)
    shipper.start()
    most = _memory()
    until = time.monotonic() + PATIENCE_SECONDS
    while shipper.shipped < events:
        assert time.monotonic() < until, shipper.notices.last_problem
        time.sleep(0.02)
        most = _greater(most, _memory())
    shipper.finish(0)
    found.send(most)


def _memory() -> Memory:
    """Source: proc(5), ``/proc/pid/smaps_rollup``."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return Memory(kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024)


def _greater(one: Memory, other: Memory) -> Memory:
    return Memory(max(one.rss, other.rss), max(one.pss, other.pss))
