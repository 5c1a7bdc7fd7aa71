"""`audit-logging stats`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_logging.cli.filtering import NEGATIVES, filter_options, open_reader
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import print_json, table
from audit_logging.cli.reading import nothing_found
from audit_logging.files import write_durably
from audit_logging.query.export.outfile import explaining_disk
from audit_logging.query.report.chart import change, svg
from audit_logging.query.statistics import FIELDS
from audit_logging.query.times import zone_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.query.filter import Filter
    from audit_logging.query.results import Interval, Statistics
    from audit_logging.settings import Settings

BAR_WIDTH = 30
MOST_ROWS = 48
"""Steps of time that are shown as a line each; more become one picture."""

PICTURE_WIDTH = 72
PICTURE_HEIGHT = 8
EIGHTHS = " ▁▂▃▄▅▆▇█"


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "--by", type=click.Choice(list(FIELDS)), default="event_type", show_default=True, help="What to count by."
)
@click.option("--interval", metavar="STEP", help="Also over time, in steps such as 15m, 1h, 1d, 1w, 1M, 1q, 1y.")
@click.option("--timezone", metavar="ZONE", default="UTC", show_default=True, help="Where days and longer steps begin.")
@click.option("--compare", is_flag=True, help="Compare with the previous period of the same length; needs --since.")
@click.option(
    "--top",
    "--limit",
    "top",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="How many values, the most frequent ones.",
)
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg", help="Also as a picture.")
@json_option
def stats(
    *,
    settings: Settings,
    where: Filter,
    by: str,
    interval: str | None,
    timezone: str,
    compare: bool,
    top: int,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Count events by one field, over time, and against the period before.

    \b
    Examples:
      audit-logging stats --by user --category authentication --outcome failure
      audit-logging stats --by severity --interval 1h --since -24h
      audit-logging stats --since -7d --compare --interval 1d --timezone Europe/Prague --chart week.svg
    """
    if chart is not None and chart.suffix.lower() != ".svg":
        raise click.BadParameter("a chart is an SVG file: give it a name that ends in .svg.", param_hint="--chart")
    with open_reader(settings) as reader:
        found = reader.statistics(
            where,
            by=by,  # type: ignore[arg-type] # click checked it
            interval=interval,
            top=top,
            timezone=timezone,
            compare=compare,
        )
    if chart is not None:
        with explaining_disk(chart, what="chart", option="--chart"):
            write_durably(chart, svg(found).encode())
        click.echo(f"Chart written to {chart}.", err=True)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.total:
        _print_statistics(found)
    else:
        click.echo(nothing_found(where))


def _print_statistics(found: Statistics) -> None:
    unlisted = (("(others)", found.other), ("(none)", found.missing))
    rest = [(label, f"{number:,}") for label, number in unlisted if number]
    _print_bars(found.by, [(bucket.key, bucket.count, bucket.before) for bucket in found.buckets], rest)
    if found.histogram:
        click.echo()
        _print_histogram(found)
    distinct = "" if found.distinct_exact else f" About {found.distinct:,} different values in all."
    before = "" if found.before is None else f" The period before: {found.before.total:,}."
    click.echo(f"\n{found.total:,} events.{distinct}{before}", err=True)


def _print_bars(header: str, rows: Sequence[tuple[str, int, int | None]], rest: Sequence[tuple[str, str]] = ()) -> None:
    """Print a line for each of *rows* (label, events, events before), with a bar; and one without for the *rest*."""
    most = max((number for _, number, _ in rows), default=0)
    compared = any(before is not None for _, _, before in rows)
    lines = []
    for key, number, before in rows:
        against = () if before is None else (f"{before:,}", change(number, before))
        lines.append((key, f"{number:,}", *against, _bar(number, most)))
    blank = ("", "", "") if compared else ("",)
    lines.extend((label, number, *blank) for label, number in rest)
    table((header, "events", *(("before", "change") if compared else ()), ""), lines)


def _bar(number: int, most: int) -> str:
    return "█" * max(round(BAR_WIDTH * number / (most or 1)), 1 if number else 0)


def _print_histogram(found: Statistics) -> None:
    zone = zone_of(found.timezone)
    if len(found.histogram) <= MOST_ROWS:
        rows = [(f"{step.start.astimezone(zone):%Y-%m-%d %H:%M:%S}", step.count, None) for step in found.histogram]
        _print_bars(f"from ({found.timezone})", rows)
        return
    first, last = (found.histogram[end].start.astimezone(zone) for end in (0, -1))
    columns = _merged(found.histogram, PICTURE_WIDTH)
    click.echo(f"events over time, at most {max(columns):,} in a column")
    for line in _picture(columns):
        click.echo(line.rstrip())
    begin, end = f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M} {found.timezone}"
    click.echo(begin + end.rjust(len(columns) - len(begin)))


def _merged(steps: Sequence[Interval], width: int) -> list[int]:
    """Return the counts of *steps*, several of them together where there are more than *width*."""
    together = -(-len(steps) // width)
    return [sum(step.count for step in steps[at : at + together]) for at in range(0, len(steps), together)]


def _picture(columns: Sequence[int]) -> list[str]:
    """Return lines that show *columns* as columns, in eighths of a line; what is there can be seen."""
    most = max(columns) or 1
    heights = [max(round(PICTURE_HEIGHT * 8 * count / most), 1 if count else 0) for count in columns]
    return [
        "".join(EIGHTHS[min(max(height - 8 * line, 0), 8)] for height in heights)
        for line in reversed(range(PICTURE_HEIGHT))
    ]
