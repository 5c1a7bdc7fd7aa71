"""Run the measurements and print them as one table."""

from __future__ import annotations

from bench.emit import measure_emit


def main() -> None:
    """Measure and print."""
    print("Cost of one call, against structlog's own minimal JSON chain writing to /dev/null; medians of rounds that")
    print("take turns. Trust the ratios; the absolute figures are this machine's, now.\n")
    print(f"{'':<44}{'µs':>8}{'ratio':>8}")
    for row in measure_emit():
        print(f"{row.name:<44}{row.microseconds:>8.1f}{row.ratio:>8.2f}")


if __name__ == "__main__":
    main()
