"""What a call costs, against structlog's own minimal JSON chain writing to /dev/null.

Medians of rounds in which the contenders take turns. Trust the ratios; the microseconds are this machine's, now.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson
import structlog

import audit_logging as audit
from audit_logging.integrity.seal import Chain
from bench.measuring import Row, median_ratio, take_turns

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from bench.measuring import Cost

ROUNDS = 21
CALLS = 1000
BASE = "structlog, minimal JSON chain"
EMIT = "emit"
MOST = 2.0
MOST_SECONDS_OF_A_SEAL = 3e-6
FACTS: dict[str, Any] = {
    "user_id": "u-42",
    "source_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "request_id": "5f0c6f5e-6d2f-4c39-9d2b-0b5b7f0f6a11",
    "outcome": "failure",
    "reason": "bad password",
    "method": "password",
}


def measure() -> Iterator[Row]:
    """Measure the ways in, and the seal alone."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        null = stack.enter_context(open(os.devnull, "wb"))  # noqa: PTH123
        audit.configure(replace=True, spool_dir=folder, console=False, opensearch_url=())
        logging.getLogger("audit_logging").setLevel(logging.ERROR)  # that no URL is set is meant
        stack.callback(audit.shutdown, 0)
        # structlog's own context, since all contenders see that one.
        stack.enter_context(structlog.contextvars.bound_contextvars(organization_id="acme"))
        costs = take_turns(_contenders(null), rounds=ROUNDS, calls=CALLS)
    for name, found in costs.items():
        yield _row(name, found, costs[BASE])
    yield _seal()


def _contenders(null: io.BufferedWriter) -> dict[str, Callable[[], object]]:
    log = audit.get_logger()
    minimal = _structlog(null)
    tapped = _structlog(null, audit.AuditProcessor())
    handled = logging.getLogger("bench.emit")
    handled.setLevel(logging.INFO)
    handled.propagate = False
    handled.addHandler(audit.AuditHandler())
    return {
        BASE: lambda: minimal.info("user.login", **FACTS),
        EMIT: lambda: log.emit("user.login", **FACTS),
        "emit, by the typed call": lambda: log.user_login(**FACTS),
        "emit, a type that nobody registered": lambda: log.emit("invoice.approved", **FACTS),
        "the tap, the minimal chain included": lambda: tapped.info("Log-in", audit="user.login", **FACTS),
        "the standard library's handler": lambda: handled.info("Log-in", extra={"audit": "user.login", **FACTS}),
    }


def _structlog(null: io.BufferedWriter, *tap: structlog.typing.Processor) -> Any:
    return structlog.wrap_logger(
        structlog.BytesLogger(null),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *tap,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        cache_logger_on_first_use=True,
    ).bind()


def _row(name: str, found: list[Cost], base: list[Cost]) -> Row:
    wall = median_ratio((cost.wall for cost in found), (cost.wall for cost in base))
    cpu = median_ratio((cost.cpu for cost in found), (cost.cpu for cost in base))
    microseconds = statistics.median(cost.wall for cost in found) * 1e6
    figure = f"{microseconds:6.1f} µs  {wall:5.2f} ×  (processor {cpu:.2f} ×)"
    # The processor's time decides: it does not change with what else the machine is doing.
    return Row(name, figure, f"at most {MOST:g} ×", cpu <= MOST) if name == EMIT else Row(name, figure)


def _seal() -> Row:
    with audit.record_events() as events:
        audit.get_logger().emit("user.login", **FACTS)
    canonical = orjson.dumps(events[0], option=orjson.OPT_SORT_KEYS)
    splice = canonical.index(b'"schema"')
    chain = Chain("w" * 20)
    (found,) = take_turns(
        {"seal": lambda: chain.advance(chain.seal(canonical, splice))}, rounds=ROUNDS, calls=CALLS
    ).values()
    seconds = statistics.median(cost.cpu for cost in found)
    figure = f"{seconds * 1e6:6.1f} µs"
    return Row("sealing's part of it", figure, "at most 3 µs", seconds <= MOST_SECONDS_OF_A_SEAL)
