"""`audit-logging show`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import orjson

from audit_logging.cli.filtering import open_reader
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import event_columns, event_row, ids_option, print_json, table
from audit_logging.errors import NotFoundError
from audit_logging.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.event import Event
    from audit_logging.query.results import Context, Related
    from audit_logging.settings import Settings

EXIT_FINDING = 1
HERE = "this event"
HEADLINE = ("@timestamp", "message", "audit.changes")
"""What is shown above and below the other fields."""


@click.command()
@click.argument("event_id", metavar="EVENT_ID")
@connection_options
@click.option(
    "--context",
    "within",
    metavar="DURATION",
    help="Also show other events of the same user, request or session within this time before and after, such as 5m.",
)
@click.option(
    "--limit",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="With --context: events before, and events after.",
)
@ids_option
@json_option
def show(*, event_id: str, settings: Settings, within: str | None, limit: int, ids: bool, as_json: bool) -> None:
    """Show one event whole, its changes as a diff, and what happened around it.

    EVENT_ID is the event.id that emitting returned, or writer-sequence. Exits with 1 when there is no such event.

    \b
    Examples:
      audit-logging show 0197f3c2-5b7e-7cc1-9d0a-3f2a6f1e8b11
      audit-logging show 6f1e8b11aa20cc31-17 --context 5m
    """
    with open_reader(settings) as reader:
        try:
            context = None if within is None else reader.context(event_id, within=within, limit=limit)
            event = reader.get(event_id) if context is None else context.event
        except NotFoundError as error:
            if error.error_type:  # it is the stream that does not exist
                raise
            click.echo(f"Error: {printable(str(error))}", err=True)
            sys.exit(EXIT_FINDING)
    if as_json:
        print_json(event.to_dict() if context is None else context.to_dict())
        return
    _print_event(event)
    if context is not None:
        click.echo()
        _print_context(context, str(within), ids=ids)


def _print_event(event: Event) -> None:
    click.secho(printable(event.message) or "(no message)", bold=True)
    click.echo()
    rows = [("time", event.timestamp.strftime("%Y-%m-%d %H:%M:%S.%f UTC")), *_fields(event.document)]
    width = max(len(printable(path)) for path, _ in rows)
    for path, value in rows:
        click.echo(f"{printable(path):<{width}}  {printable(value)}")
    if event.changes:
        click.echo("\nchanges")
        for change in event.changes:
            _print_change(change)


def _fields(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of a document with its path."""
    if path in HEADLINE:
        return
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _fields(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and node and not any(isinstance(each, (dict, list)) for each in node):
        yield path, ", ".join(map(_text, node))
    else:
        yield path, _text(node)


def _print_change(change: dict[str, Any]) -> None:
    """Print one change as a diff; of objects and lists, only what differs."""
    from difflib import ndiff

    click.echo(f"  {printable(str(change.get('field', '?')))}")
    before, after = (_lines(change, side) for side in ("before", "after"))
    for line in ndiff(before, after):
        if line.startswith("?"):
            continue
        colour = {"-": "red", "+": "green"}.get(line[0])
        click.secho(f"    {printable(line)}", fg=colour)


def _lines(change: dict[str, Any], side: str) -> list[str]:
    if side not in change:
        return []
    return orjson.dumps(change[side], option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode().splitlines()


def _print_context(context: Context, within: str, *, ids: bool) -> None:
    if not context.before and not context.after:
        click.echo(f"Nothing else of the same user, request or session within {printable(within)}.")
        return
    rows = [
        *(_related_row(related, ids=ids) for related in context.before),
        (*event_row(context.event, ids=ids), HERE),
        *(_related_row(related, ids=ids) for related in context.after),
    ]
    table((*event_columns(ids=ids), "same"), rows)


def _related_row(related: Related, *, ids: bool) -> tuple[str, ...]:
    return (*event_row(related.event, ids=ids), ", ".join(related.shares))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
