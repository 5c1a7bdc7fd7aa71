"""`audit-logging tail`."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import click

from audit_logging.cli.filtering import NEGATIVES, filter_options, open_reader
from audit_logging.cli.options import connection_options
from audit_logging.cli.output import event_row, ids_option, json_text
from audit_logging.printable import printable

if TYPE_CHECKING:
    from audit_logging.query.event import Event
    from audit_logging.query.filter import Filter
    from audit_logging.settings import Settings

DEFAULT_LIMIT = 10
COLOURS = {"warning": "yellow", "critical": "red"}
TYPE_WIDTH = 20


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(0, 10_000),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="Start with this many of the newest events.",
)
@click.option("-f", "--follow", is_flag=True, help="Then print every event that arrives, until Ctrl-C.")
@ids_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for scripts.")
def tail(*, settings: Settings, where: Filter, limit: int, follow: bool, ids: bool, as_json: bool) -> None:
    """Print the newest events, oldest first; with -f, follow new ones.

    Each event is printed once, also one that arrives late from the spool of a host that was cut off. While OpenSearch
    is down, -f waits for it.

    \b
    Examples:
      audit-logging tail -f
      audit-logging tail -f --category authentication --outcome failure
      audit-logging tail -n 100 --user u-42 --json
    """
    write = _write_json if as_json else partial(_write_line, ids=ids)
    with open_reader(settings) as reader:
        if follow:
            for event in reader.tail(where, last=limit, on_wait=_Outages()):
                write(event)
        elif limit:
            for event in reversed(reader.search(where, limit=limit).events):
                write(event)


class _Outages:
    """Says once that OpenSearch does not answer, and once that it does again."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, error: Exception | None) -> None:
        if error is None:
            click.echo("OpenSearch answers again.", err=True)
        elif not self._told:
            click.echo(f"{error}\nWaiting until it answers again …", err=True)
        self._told = error is not None


def _write_json(event: Event) -> None:
    click.echo(json_text(event.to_dict()))


def _write_line(event: Event, *, ids: bool) -> None:
    *first, moment, severity, event_type, user, source, message = map(printable, event_row(event, ids=ids))
    line = "  ".join([*first, moment, f"{severity:<8}", f"{event_type:<{TYPE_WIDTH}}", user, source, message])
    # https://no-color.org; click itself leaves colours out where no terminal reads.
    click.secho(line, fg=COLOURS.get(event.severity), color=False if os.environ.get("NO_COLOR") else None)
