"""`audit-logging export`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from audit_logging.cli.filtering import NEGATIVES, filter_options
from audit_logging.cli.options import connection_options, json_option
from audit_logging.query.export import FORMATS, METHODS
from audit_logging.query.reader import AuditReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.export import Progress
    from audit_logging.query.filter import Filter
    from audit_logging.settings import Settings


@click.command(epilog=NEGATIVES)
@connection_options
@filter_options
@click.option(
    "--out", required=True, metavar="FILE", help="File to write, compressed when it ends in .gz; - is stdout."
)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="ndjson", show_default=True)
@click.option("--method", type=click.Choice(METHODS), default="scroll", show_default=True)
@json_option
def export(*, settings: Settings, where: Filter, out: str, format_: str, method: str, as_json: bool) -> None:
    """Write all events that match to a file, one stored document a line, oldest first.

    The file appears when it is complete, and is readable by you alone.

    \b
    Examples:
      audit-logging export --since 2026-01-01 --until 2026-04-01 --out q1.ndjson.gz
      audit-logging export --user u-42 --out - | head
    """
    with AuditReader(settings=settings) as reader, _progress() as progress:
        report = reader.export(out, where, format=format_, method=method, progress=progress)
    if as_json:
        click.echo(report.model_dump_json(), err=report.path is None)
        return
    where_to = f"to {report.path} " if report.path is not None else ""
    click.echo(
        f"Exported {report.events:,} events {where_to}({report.bytes:,} bytes, SHA-256 {report.sha256}).", err=True
    )


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Yield what shows the progress on a terminal; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("export", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
