"""`audit-logging import`: bring existing records into the trail."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from audit_logging.cli.options import connection_options, json_option, timeout_option
from audit_logging.integrations.import_formats import format_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit_logging.integrations.event_file import Entry, EventFile
    from audit_logging.integrations.import_formats import ImportFormat
    from audit_logging.integrations.importer import ImportAccount, ImportReport
    from audit_logging.settings import Settings

EXIT_LEFT_OUT = 1
EXIT_STOPPED = 2
MOST_FILES_SHOWN = 20


class _Zone(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic in newer click alone
    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        try:
            return ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            self.fail(f"{value!r} is not a time zone: use an IANA name such as Europe/Berlin, or UTC.", param, ctx)


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True))
@click.option("--format", "format_", type=click.Choice(format_names()), help="Format of the files.")
@click.option(
    "--mapping",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Description (TOML) of a format of your own, instead of --format.",
)
@click.option("--timezone", "zone", type=_Zone(), metavar="NAME", help="Time zone of times that have none.")
@click.option(
    "--year",
    type=click.IntRange(1970, 2261),
    metavar="YYYY",
    help="Year of the first time without one, as in syslog (default: the latest before the file was last changed).",
)
@connection_options
@click.option("--skip-broken", is_flag=True, help="Skip invalid records and report them.")
@timeout_option("How long OpenSearch may take for a batch.", "--patience")
@json_option
def import_(
    *,
    files: tuple[str, ...],
    format_: str | None,
    mapping: Path | None,
    zone: ZoneInfo | None,
    year: int | None,
    settings: Settings,
    skip_broken: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Import the records of each FILE into the trail, with their own times and ids.

    FILE is plain or gzip; - is standard input. A directory stands for the files in it whose names fit the format.
    JSON records may be lines, arrays, pretty-printed, or joined in any way. The guide lists the formats.

    Records that are already in the stream are skipped: run the same import again to resume it.

    Exits with 0 when every record is in the stream, with 1 when some were left out or there was none, with 2 at the
    first invalid record without --skip-broken (everything before it is in), with 3 when OpenSearch cannot be reached
    or the stream is not set up, with 4 when OpenSearch went away during the import (accepted events are in the spool).

    \b
    Examples:
      audit-logging import --format cloudtrail AWSLogs/123456789012/CloudTrail
      audit-logging import --format sshd --timezone Europe/Berlin /var/log/auth.log*
      audit-logging export --out - | audit-logging import --format ndjson --stream audit-copy -
    """
    from audit_logging.cli.emit import make_findable
    from audit_logging.integrations.import_paths import find_files
    from audit_logging.integrations.importer import FileReport, ImportAccount, ImportOptions, import_files

    format_of_files = _format(format_, mapping)
    found = find_files(files, format_of_files.files)
    account = ImportAccount([FileReport(name, problem=f"{name} {why}") for name, why in found.problems])
    if found.problems and not skip_broken:
        account.stopped = account.files[0].problem
    elif found.paths:
        with _progress() as (on_file, on_progress):
            options = ImportOptions(zone, year, _say_broken if skip_broken else None, on_progress, timeout_seconds)
            try:
                import_files(found.paths, format_of_files, settings, options, account, on_file=on_file)
            except KeyboardInterrupt:
                click.echo(f"Interrupted: {account.total}. Run the same import again to resume it.", err=True)
                raise
        make_findable(settings)
    if found.other:
        names = "1 file has a name" if len(found.other) == 1 else f"{len(found.other):,} files have names"
        click.echo(f"{names} that the format does not use, and were not read: {found.other[0]} …", err=True)
    _report(account, settings.stream, found.other, as_json=as_json)


def _format(name: str | None, mapping: Path | None) -> ImportFormat:
    if (name is None) == (mapping is None):
        raise click.UsageError("Give --format, or --mapping with a description of your own.")
    from audit_logging.integrations.import_formats import Mapped, format_named
    from audit_logging.integrations.mapping import load

    if mapping is None:
        return format_named(str(name))
    try:
        text = mapping.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--mapping {mapping} cannot be read ({getattr(error, 'strerror', error)}).") from error
    return Mapped(load(text, str(mapping)))


def _report(account: ImportAccount, stream: str, other: list[str], *, as_json: bool) -> None:
    """Print the account, and exit with 1 or 2 unless all of it is in."""
    from audit_logging.cli.output import print_json, printable
    from audit_logging.integrations.importer import what_is_in

    total = account.total
    if as_json:
        files = [
            {"file": file.name, **asdict(file.report)} | ({"problem": file.problem} if file.problem else {})
            for file in account.files
        ]
        print_json({**asdict(total), "stream": stream, "files": files, "not_read": other})
    if account.stopped is not None:
        click.echo(printable(f"Error: {what_is_in(account.stopped, total)}"), err=True)
        sys.exit(EXIT_STOPPED)
    if not as_json:
        for line in _lines_of_files(account) if len(account.files) > 1 else ():
            click.echo(printable(line))
        summary = str(total)
        left_out = "all of it is in" if account.is_complete else "not all of it is in"
        click.echo(f"{summary[0].upper()}{summary[1:]}; {left_out} {stream}.")
    for note in _notes(account):
        click.echo(printable(note), err=True)
    if not account.is_complete:
        sys.exit(EXIT_LEFT_OUT)


def _notes(account: ImportAccount) -> Iterator[str]:
    for file in account.files:
        if file.problem is not None:
            yield f"{file.problem}."
        elif not file.report.read:
            yield f"{file.name} has no records."
    if not account.files:
        yield "There is no file to import: no name in the directory fits the format."
    if undated := account.total.undated:
        yield f"Imported with the time of the import, having no time of their own: {undated:,}."


def _lines_of_files(account: ImportAccount) -> Iterator[str]:
    """Yield a line for each file; where there are many, for those of which something was left out."""
    files = account.files
    if len(files) > MOST_FILES_SHOWN:
        files = [file for file in files if file.problem is not None or file.report.broken]
    for file in files:
        yield f"{file.name}: {file.report}{'; not read to its end' if file.problem is not None else ''}"


def _say_broken(file: EventFile, entry: Entry, why: str) -> None:
    from audit_logging.cli.output import printable

    click.echo(printable(f"{file.name}, {entry.where}, left out: {why}"), err=True)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[EventFile], None] | None, Callable[[ImportReport], None] | None]]:
    """Show a bar on a terminal, and nothing elsewhere; the size of standard input is not known."""
    if not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    opened: list[EventFile] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Importing", total=None)

        def begin(file: EventFile) -> None:
            opened[:] = [file]
            bar.reset(task, total=file.size)

        def show(report: ImportReport) -> None:
            bar.update(task, completed=opened[0].position, description=f"{report.read:,} records")

        yield begin, show
