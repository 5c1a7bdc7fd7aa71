"""`audit-logging import`: bring existing records into the trail."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option, patience_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit_logging.integrations.event_file import EventFile
    from audit_logging.integrations.importer import ImportReport
    from audit_logging.settings import Settings


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["cloudtrail", "ndjson"]),
    required=True,
    help="cloudtrail: AWS CloudTrail records; ndjson: our own exports, or objects of keywords with an event_type.",
)
@connection_options
@click.option("--skip-broken", is_flag=True, help="Leave out what is no event, say so, and go on.")
@patience_option("How long OpenSearch may take for a batch.")
@json_option
def import_(
    *, file: str, format_: str, settings: Settings, skip_broken: bool, patience_seconds: float, as_json: bool
) -> None:
    """Bring the records of FILE into the trail, with their own times and ids.

    FILE is plain or gzip, a record a line or CloudTrail's {"Records": [...]}; - is standard input. What the stream
    holds already is skipped, so that a second import changes nothing and an interrupted one goes on.

    Exits with 2 when a record is no event (everything before it is in), 3 when OpenSearch cannot be reached or the
    stream is not set up, 4 when OpenSearch went away on the way (what was accepted waits in the spool).

    \b
    Examples:
      audit-logging import --format cloudtrail 123456789012_CloudTrail_eu-west-1_20260301T1000Z.json.gz
      audit-logging export --out - | audit-logging import --format ndjson --stream audit-copy -
    """
    from audit_logging.cli.emit import make_findable
    from audit_logging.integrations.event_file import EventFile
    from audit_logging.integrations.importer import import_file

    with EventFile(file) as events, _progress(events) as on_progress:
        report = import_file(
            events,
            format_,
            settings,
            patience_seconds=patience_seconds,
            on_broken=(lambda number, why: _say_broken(events, number, why)) if skip_broken else None,
            on_progress=on_progress,
        )
    make_findable(settings)
    if as_json:
        from dataclasses import asdict

        from audit_logging.cli.output import print_json

        print_json({**asdict(report), "stream": settings.stream})
    else:
        summary = str(report)
        click.echo(f"{summary[0].upper()}{summary[1:]}; all of it is in {settings.stream}.")


def _say_broken(file: EventFile, number: int, why: str) -> None:
    from audit_logging.cli.output import printable

    click.echo(printable(f"{file.name}, {file.noun} {number}, left out: {why}"), err=True)


@contextmanager
def _progress(file: EventFile) -> Iterator[Callable[[ImportReport], None] | None]:
    """Show a bar on a terminal, and nothing elsewhere; of standard input nobody knows how much is to come."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Importing", total=file.size)

        def show(report: ImportReport) -> None:
            bar.update(task, completed=file.position, description=f"{report.read:,} records")

        yield show
