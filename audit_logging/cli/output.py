"""What commands print: JSON for scripts, tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNBOUNDED = 100_000
"""Columns of an imagined terminal that is wide enough for any row, to measure a table in."""


def print_json(value: Any) -> None:
    """Print *value* as one JSON document, indented by two spaces."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a plain table: folded to fit a terminal, one line a row and nothing cut in a pipe.

    Cells are shown as text, never as markup or control codes: an event may hold anything.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        grid.add_column(header, overflow="fold")
    for row in rows:
        grid.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(grid)
        return
    console.width = _UNBOUNDED
    console.width = console.measure(grid).maximum
    with console.capture() as printed:
        console.print(grid)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def printable(text: str) -> str:
    """Show control characters as escapes, so that an event's text cannot steer the reader's terminal.

    Example:
        >>> printable("two" + chr(10) + "lines")
        'two\\\\nlines'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
