"""`audit-logging search` and `count`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from audit_logging.cli.filtering import NEGATIVES, filter_options, open_reader
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import event_columns, event_row, ids_option, print_json, table

if TYPE_CHECKING:
    from audit_logging.query.filter import Filter
    from audit_logging.settings import Settings

DEFAULT_LIMIT = 20


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=DEFAULT_LIMIT, show_default=True, help="Events a page."
)
@click.option("--cursor", metavar="CURSOR", help="Continue after the previous page, with the same filters.")
@click.option("--oldest-first", is_flag=True, help="Oldest events first.")
@ids_option
@json_option
def search(
    *, settings: Settings, where: Filter, limit: int, cursor: str | None, oldest_first: bool, ids: bool, as_json: bool
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
        click.echo(nothing_found(where))
        return
    table(event_columns(ids=ids), [event_row(event, ids=ids) for event in page.events])
    more = f"\nNext page: --cursor {page.cursor}" if page.cursor else ""
    hint = "" if ids else " With --ids: their ids, for `audit-logging show ID`."
    click.echo(f"\n{len(page.events):,} of {page.total:,} events.{hint}{more}", err=True)


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


def nothing_found(where: Filter) -> str:
    """Say that there is nothing, and what to try."""
    if where.since is None and where.until is None:
        return "No events. New ones are found a second after they were shipped; `audit-logging doctor` checks the way."
    return "No events in that time. Widen --since and --until, or leave out a filter."
