"""Run the measurements and print each as a table: all of them, or those named on the command line."""

from __future__ import annotations

import sys
from importlib import import_module

from bench.measuring import print_table

MEASUREMENTS = (
    "emit",
    "durability",
    "outage",
    "search",
    "storage",
    "privacy",
    "export",
    "verify",
    "drain",
    "memory",
    "adopt",
    "rest",
)
"""The modules of this package that measure something, in the order in which they run."""


def main(names: list[str]) -> int:
    """Measure and print; 1 when a target is not met, 2 when there is no such measurement."""
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        print(f"No measurement {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}.", file=sys.stderr)
        return 2
    all_met = True
    for name in names or MEASUREMENTS:
        module = import_module(f"bench.{name}")
        print(f"{name}: {(module.__doc__ or '').strip()}\n", flush=True)
        rows = list(module.measure())
        print_table(rows)
        all_met = all_met and all(row.met is not False for row in rows)
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
