"""What commands print: JSON for scripts, tables for people."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import click
import orjson

from audit_logging.cli.encoding import is_utf8
from audit_logging.printable import in_ascii, json_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from audit_logging.query.event import Event


def print_json(value: Any) -> None:
    """Print *value* as one JSON document, indented by two spaces."""
    click.echo(json_text(value, orjson.OPT_INDENT_2))


def json_text(value: Any, option: int = 0) -> str:
    """Return *value* as JSON that standard output can hold: in ASCII alone, where that is not UTF-8."""
    text = json_bytes(value, option).decode()
    return text if is_utf8() else in_ascii(text)


__all__ = ["event_columns", "event_row", "fits_ids", "ids_option", "json_text", "print_json", "printable", "table"]

ROOM_FOR_IDS = 140
"""Columns of a terminal from which on event ids are shown."""

_EVENT_COLUMNS = ("time (UTC)", "severity", "type", "user", "from", "message")

ids_option = click.option(
    "--ids/--no-ids",
    default=None,
    callback=lambda _context, _option, given: fits_ids() if given is None else given,
    help="Show event ids, as `show`, `trace` and `prove` take them. Default: only on a wide terminal.",
)


def fits_ids() -> bool:
    """Return whether standard output is a terminal with room for event ids. In a pipe, scripts count on the columns."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns >= ROOM_FOR_IDS


def event_columns(*, ids: bool) -> tuple[str, ...]:
    """Return the headers of a table of events."""
    return (*(("event id",) if ids else ()), *_EVENT_COLUMNS)


def event_row(event: Event, *, ids: bool) -> tuple[str, ...]:
    """Return the cells of one event, in the order of :func:`event_columns`."""
    moment = event.timestamp.strftime("%Y-%m-%d %H:%M:%S")
    user = event.user_id or event.user_name or "-"
    row = moment, event.severity, event.event_type, user, event.source_ip or "-", event.message
    return (event.id, *row) if ids else row


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a plain table: folded to fit a terminal, one line a row and nothing cut in a pipe.

    Cells are shown as text, never as markup or control codes: an event may hold anything.
    """
    texts = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_grid(headers, texts)
        return
    lines = [list(headers), *texts]
    widths = [max(map(_columns, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell + " " * (width - _columns(cell)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _print_grid(headers: Sequence[str], texts: Iterable[Sequence[str]]) -> None:
    from rich.console import Console  # takes a tenth of the time of a search to load, and a pipe does not need it
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        grid.add_column(header, overflow="fold")
    for row in texts:
        grid.add_row(*map(Text, row))
    Console(highlight=False).print(grid)


def _columns(text: str) -> int:
    """Return how many columns a terminal needs for *text*."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
