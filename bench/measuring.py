"""What measurements share: the rows of a table, and contenders that take turns.

A measurement is a module of this package with a docstring, which is printed above its table, and a function
``measure()`` that returns its rows. Its name stands in ``MEASUREMENTS`` of ``__main__``.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Call = Callable[[], object]


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        name: What was measured.
        figure: What came out, with its unit.
        target: What was promised; empty where nothing was.
        met: Whether the promise was kept; None where nothing was promised.
    """

    name: str
    figure: str
    target: str = ""
    met: bool | None = None


class Cost(NamedTuple):
    """What one call takes, in seconds: by the clock, and of the processor."""

    wall: float
    cpu: float


class Run(NamedTuple):
    """What a run in a process of its own took: seconds by the clock and of its processor, and megabytes at most."""

    wall: float
    cpu: float
    megabytes: float


def run_alone(module: str, *arguments: str, **environment: str) -> Run:
    """Run *module*, which ends with :func:`tell_run`, in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
    return Run(*json.loads(done.stdout))


def tell_run(work: Callable[[], int], expected: int) -> None:
    """Print what *work* took, for :func:`run_alone`; it returns how many events it had, which are to be *expected*."""
    wall, cpu = time.perf_counter(), time.process_time()
    events = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert events == expected, events
    print(json.dumps([wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def take_turns(contenders: Mapping[str, Call], *, rounds: int, calls: int) -> dict[str, list[Cost]]:
    """Return what one call of each contender costs in each of the rounds.

    In every round each contender makes *calls* calls, one contender after the other, so that whatever else this
    machine does at that time hits all of them. Compare contenders by the ratios within a round.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            for _ in range(calls):
                call()
            cost = Cost((time.perf_counter() - wall) / calls, (time.thread_time() - cpu) / calls)
            if number:  # the first round warms up
                costs[name].append(cost)
    return costs


def median_ratio(found: Iterable[float], base: Iterable[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(one / other for one, other in zip(found, base, strict=True))


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows in aligned columns."""
    words = {True: "met", False: "NOT MET", None: ""}
    lines = [("", "figure", "target", ""), *((row.name, row.figure, row.target, words[row.met]) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)
