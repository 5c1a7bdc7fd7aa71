"""`audit-logging search`, `count` and `stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.filtering import NEGATIVES, filter_options, open_reader
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import print_json, printable, table
from audit_logging.query.statistics import FIELDS

if TYPE_CHECKING:
    from audit_logging.query.event import Event
    from audit_logging.query.filter import Filter
    from audit_logging.query.results import Statistics
    from audit_logging.settings import Settings

DEFAULT_LIMIT = 20
BAR_WIDTH = 30


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=DEFAULT_LIMIT, show_default=True, help="Events a page."
)
@click.option("--cursor", metavar="CURSOR", help="Go on where the page before ended; with the same filters.")
@click.option("--oldest-first", is_flag=True, help="Oldest events first.")
@json_option
def search(
    *, settings: Settings, where: Filter, limit: int, cursor: str | None, oldest_first: bool, as_json: bool
) -> None:
    """Find events.

    \b
    Examples:
      audit-logging search --user u-42 --since -24h
      audit-logging search --type 'admin.*' --severity warning --since 2026-03-01 --until 2026-04-01
      audit-logging search --ip 203.0.113.0/24 --not-outcome success --json
    """
    with open_reader(settings) as reader:
        page = reader.search(where, limit=limit, cursor=cursor, sort="oldest" if oldest_first else "newest")
    if as_json:
        print_json(page.to_dict())
        return
    if not page.events:
        click.echo(_nothing_found(where))
        return
    table(("time (UTC)", "severity", "type", "user", "from", "message"), (_row(event) for event in page.events))
    more = f"\nNext page: --cursor {page.cursor}" if page.cursor else ""
    click.echo(f"\n{len(page.events):,} of {page.total:,} events.{more}", err=True)


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@json_option
def count(*, settings: Settings, where: Filter, as_json: bool) -> None:
    """Count events, exactly.

    \b
    Example:
      audit-logging count --category authentication --outcome failure --since -7d
    """
    with open_reader(settings) as reader:
        number = reader.count(where)
    if as_json:
        print_json({"count": number})
    else:
        click.echo(number)


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "--by", type=click.Choice(list(FIELDS)), default="event_type", show_default=True, help="What to count by."
)
@click.option("--interval", metavar="STEP", help="Also over time, in steps such as 15m, 1h, 1d.")
@click.option("--top", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many values.")
@json_option
def stats(*, settings: Settings, where: Filter, by: str, interval: str | None, top: int, as_json: bool) -> None:
    """Count events by one field, and over time.

    \b
    Examples:
      audit-logging stats --by user --category authentication --outcome failure
      audit-logging stats --by severity --interval 1h --since -24h
    """
    with open_reader(settings) as reader:
        found = reader.statistics(where, by=by, interval=interval, top=top)  # type: ignore[arg-type] # click checked it
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.total:
        _print_statistics(found)
    else:
        click.echo(_nothing_found(where))


def _row(event: Event) -> tuple[Any, ...]:
    moment = event.timestamp.strftime("%Y-%m-%d %H:%M:%S")
    return moment, event.severity, event.event_type, event.user_id or "-", event.source_ip or "-", event.message


def _nothing_found(where: Filter) -> str:
    if where.since is None and where.until is None:
        return "No events. New ones are found a second after they were shipped; `audit-logging doctor` checks the way."
    return "No events in that time. Widen --since and --until, or leave out a filter."


def _print_statistics(found: Statistics) -> None:
    rows = [(bucket.key, bucket.count) for bucket in found.buckets]
    rows += [(label, number) for label, number in (("(others)", found.other), ("(none)", found.missing)) if number]
    _print_bars(found.by, rows)
    if found.histogram:
        click.echo()
        _print_bars("from", [(step.start.strftime("%Y-%m-%d %H:%M:%S"), step.count) for step in found.histogram])
    click.echo(f"\n{found.total:,} events.", err=True)


def _print_bars(header: str, rows: list[tuple[str, int]]) -> None:
    most = max(number for _, number in rows)
    table(
        (header, "events", ""),
        (
            (printable(key), f"{number:,}", "█" * max(round(BAR_WIDTH * number / (most or 1)), 1 if number else 0))
            for key, number in rows
        ),
    )
