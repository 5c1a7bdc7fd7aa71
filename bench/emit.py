"""What an emit call costs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog

import audit_logging as audit
from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
CALLS = 2000
FACTS = {
    "user_id": "u-42",
    "source_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "request_id": "5f0c6f5e-6d2f-4c39-9d2b-0b5b7f0f6a11",
    "outcome": "failure",
    "reason": "bad password",
    "method": "password",
}


class Row(NamedTuple):
    """One line of the table."""

    name: str
    microseconds: float
    ratio: float


def measure_emit() -> list[Row]:
    """Return the cost of a log call by structlog, and of emit calls by durability."""
    with open(os.devnull, "wb") as null, tempfile.TemporaryDirectory() as folder:  # noqa: PTH123
        plain = structlog.wrap_logger(
            structlog.BytesLogger(null),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            cache_logger_on_first_use=True,
        ).bind()
        trail = Trail(Settings.load(spool_dir=folder, console=False, opensearch_url=()))
        with audit.context(organization_id="acme"):
            contenders: dict[str, Callable[[], object]] = {
                "structlog, minimal chain": lambda: plain.info("user.login", **FACTS),
                "emit, durability process": lambda: trail.emit("user.login", FACTS),
            }
            seconds = {name: _rounds(call) for name, call in _in_turns(contenders)}
        trail.shutdown(0)
    base = statistics.median(seconds["structlog, minimal chain"])
    return [
        Row(name, statistics.median(found) * 1e6, statistics.median(found) / base) for name, found in seconds.items()
    ]


def _in_turns(contenders: dict[str, Callable[[], object]]) -> list[tuple[str, Callable[[], object]]]:
    for call in contenders.values():  # warm up: models are built with the first event
        for _ in range(200):
            call()
    return list(contenders.items())


def _rounds(call: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        found.append((time.perf_counter() - started) / CALLS)
    return found
