"""How fast events get from the spool to OpenSearch, against the same documents as ready-made bodies.

The limit: the very documents, serialised beforehand, in bulk bodies of 5 MB with explicit ids, on two connections to
the same stream of the same server. Each round measures all contenders, in an order that changes, until all is
searchable.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.local.server import PEAK
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings
from audit_logging.shipping.batch import encode_batch
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from bench.measuring import Row, median_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CONNECTIONS = 2
BODY_BYTES = 5_000_000
SECONDS = 600.0
FACTS = {
    "source_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "request_id": "5f0c6f5e-6d2f-4c39-9d2b-0b5b7f0f6a11",
    "outcome": "failure",
    "reason": "bad password",
    "method": "password",
}
USERS = [f"u-{number}" for number in range(1000)]


class Cost(NamedTuple):
    """What one drain took: seconds by the clock, and of this process's processor time."""

    wall: float
    cpu: float


def measure() -> list[Row]:
    """Measure on a server of its own."""
    logging.getLogger("audit_logging").setLevel(logging.ERROR)  # that no URL is set is meant
    with LocalServer(heap="1g", jvm_options=PEAK) as server:
        return measure_drain(Settings.load(**server.settings(), signing=False))


def measure_drain(settings: Settings) -> list[Row]:
    """Return how fast the contenders are on the server of *settings*."""
    contenders: dict[str, Callable[[Settings], Cost]] = {
        "ready-made bodies": _send_bodies,
        "the shipper": _drain_spool,
        "emitting and shipping": _emit_and_ship,
    }
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(ROUNDS + 1):
        for name in names:
            cost = _on_fresh_stream(settings, contenders[name])
            if number:  # the first round warms the server up
                costs[name].append(cost)
        names = names[1:] + names[:1]
    return list(_rows(costs))


def _rows(costs: dict[str, list[Cost]]) -> Iterable[Row]:
    limit = [cost.wall for cost in costs["ready-made bodies"]]
    targets = {"the shipper": 0.9, "emitting and shipping": 0.75}
    for name, found in costs.items():
        wall = statistics.median(cost.wall for cost in found)
        cpu = statistics.median(cost.cpu for cost in found)
        speed = f"{EVENTS / wall:,.0f} events/s, {cpu / EVENTS * 1e6:.1f} µs of the client's processor an event"
        if (target := targets.get(name)) is None:
            yield Row(name, speed)
            continue
        ratio = median_ratio(limit, [cost.wall for cost in found])
        yield Row(name, f"{ratio:.2f} of the limit: {speed}", f">= {target}", ratio >= target)


def _on_fresh_stream(settings: Settings, contender: Callable[[Settings], Cost]) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        chosen = settings.model_copy(
            update={
                "stream": f"bench-{uuid4().hex[:12]}",
                "spool_dir": Path(folder),
                "spool_max_bytes": 4 << 30,
                "console": False,
            }
        )
        client = Client(chosen)
        try:
            with AuditAdmin(settings=chosen) as admin:
                admin.setup()
            return contender(chosen)
        finally:
            client.request("DELETE", f"/_data_stream/{chosen.stream}")
            client.close()


def _write_spool(settings: Settings) -> Path:
    """Fill the spool as a process would that died before it shipped, and return the writer's directory."""
    trail = Trail(settings.model_copy(update={"opensearch_url": ()}))
    _emit(trail)
    trail.shutdown(0)
    (directory,) = SpoolDirectory(settings.spool_path, settings.stream).writers()
    return directory


def _emit(trail: Trail) -> None:
    for number in range(EVENTS):
        trail.emit("user.login", {"user_id": USERS[number % len(USERS)], **FACTS})


def _send_bodies(settings: Settings) -> Cost:
    directory = _write_spool(settings)
    reader = SpoolReader(directory)
    bodies = []
    while records := reader.read(BODY_BYTES):
        bodies.append(encode_batch(records, directory.name))
    client = Client(settings)

    def send(body: bytes) -> None:
        answer = client.request_bytes(
            "POST", f"/{settings.stream}/_bulk", params={"filter_path": "errors"}, body=body, timeout=SECONDS
        )
        assert answer == b'{"errors":false}'

    def send_all() -> None:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(send, bodies))

    try:
        return _until_searchable(settings, send_all)
    finally:
        client.close()


def _drain_spool(settings: Settings) -> Cost:
    _write_spool(settings)
    shipper = Shipper(settings, SpoolDirectory(settings.spool_path, settings.stream), None)

    def drain() -> None:
        shipper.start()
        assert shipper.finish(SECONDS)

    return _until_searchable(settings, drain)


def _emit_and_ship(settings: Settings) -> Cost:
    trail = Trail(settings)

    def emit_and_flush() -> None:
        _emit(trail)
        assert trail.flush(SECONDS)

    try:
        return _until_searchable(settings, emit_and_flush)
    finally:
        trail.shutdown(0)


def _until_searchable(settings: Settings, action: Callable[[], None]) -> Cost:
    client = Client(settings)
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    client.request("POST", f"/{settings.stream}/_refresh", timeout=SECONDS)
    count = client.request("GET", f"/{settings.stream}/_count")["count"]
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu)
    client.close()
    assert count == EVENTS, f"{count} of {EVENTS} are searchable"
    return cost
