"""`audit-logging export` and `export verify`."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.export_schedule import due_exports
from audit_logging.cli.filtering import NEGATIVES, filter_options
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import json_text, print_json, printable
from audit_logging.cli.progress import progress_bar
from audit_logging.cli.schedule import schedule_options
from audit_logging.query.export.formats import FORMATS, Csv
from audit_logging.query.export.outfile import STANDARD_OUTPUT
from audit_logging.query.export.run import METHODS
from audit_logging.query.reader import AuditReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit_logging.cli.schedule import Schedule
    from audit_logging.query.filter import Filter
    from audit_logging.query.results import ExportReport
    from audit_logging.settings import Settings

EXIT_FINDING = 1
MOST_SHOWN = 100


def _unless_subcommand(command: Callable[..., None]) -> Callable[..., None]:
    """Let the group itself do nothing when one of its commands was called."""

    @functools.wraps(command)
    def of_its_own(**options: Any) -> None:
        if click.get_current_context().invoked_subcommand is None:
            command(**options)

    return of_its_own


@click.group(invoke_without_command=True, epilog=NEGATIVES)
@_unless_subcommand
@connection_options
@filter_options
@click.option("--out", metavar="FILE", help="File to write, compressed when it ends in .gz; - is stdout.")
@schedule_options
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="ndjson", show_default=True)
@click.option(
    "--columns", metavar="NAMES", help="For csv: which columns, in this order, such as timestamp,user_id,message."
)
@click.option("--bom", is_flag=True, help="For csv: begin with a byte order mark, so that Excel reads it as UTF-8.")
@click.option(
    "--method", type=click.Choice(list(METHODS)), help="Default: pit, a point in time, where the server has it."
)
@click.option(
    "--unordered",
    is_flag=True,
    help="In the server's order, which is faster; an identical second copy of an event may then appear.",
)
@click.option("--fresh", is_flag=True, help="Start over, and discard an unfinished export to the same file.")
@json_option
def export(
    *,
    settings: Settings,
    where: Filter,
    out: str | None,
    schedule: Schedule | None,
    timezone: str,  # noqa: ARG001 - that of the schedule
    format_: str,
    columns: str | None,
    bom: bool,
    method: str | None,
    unordered: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Write all events that match to a file, in the order of time, writer and sequence.

    The file appears when it is complete, readable by you alone, with FILE.manifest.json beside it; `export verify`
    proves it later. Whatever ends an export, the same command goes on with it. The export itself is recorded in the
    trail; when that fails, the file is kept and the exit code is 4.

    With --every, each day (week …) that is over has a compressed file in --out-dir, proven by its manifest; what
    earlier runs missed or did not finish is made up, and two runs at once are one.

    \b
    Examples:
      audit-logging export --since 2026-01-01 --until 2026-04-01 --out q1.ndjson.gz
      audit-logging export --user u-42 --format csv --bom --columns timestamp,event_type,message --out u-42.csv
      audit-logging export --user u-42 --out - | head
      audit-logging export --every day --out-dir /var/lib/audit-logging/exports
      audit-logging export verify q1.ndjson.gz.manifest.json
    """
    if (out is None) == (schedule is None):
        raise click.UsageError("Give --out FILE (- for standard output), or --every and --out-dir.")
    if schedule is not None and (where.since is not None or where.until is not None):
        raise click.UsageError("--every sets the time: leave --since and --until out.")
    chosen = [name.strip() for name in columns.split(",")] if columns is not None else []
    if schedule is not None and chosen and Csv.document not in chosen:
        raise click.UsageError(f"--every proves every event: add the column {Csv.document!r} to --columns.")
    with AuditReader(settings=settings) as reader:

        def export_to(path: str | Path, where: Filter) -> ExportReport:
            with _hint_to_resume(str(path)), progress_bar("exporting") as progress:
                return reader.export(
                    path,
                    where,
                    format=format_,
                    columns=chosen,
                    bom=bom,
                    method=method,
                    unordered=unordered,
                    fresh=fresh,
                    progress=progress,
                )

        if schedule is None:
            _tell(export_to(str(out), where), as_json=as_json, err=not as_json or out == STANDARD_OUTPUT)
            return
        made = doubtful = 0
        for report, deviations in due_exports(schedule, reader, where, format_, export_to):
            _tell(report, as_json=as_json, err=False)
            for deviation in deviations:
                click.echo(printable(deviation), err=True)
            made, doubtful = made + 1, doubtful + bool(deviations)
        if not made and not as_json:
            click.echo(f"There was nothing to do in {schedule.directory}.")
    if doubtful:
        click.echo("What was exported is what the trail holds, and that is not what was sealed: keep it.", err=True)
        sys.exit(EXIT_FINDING)


@export.command()
@click.argument("manifest", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def verify(*, manifest: Path, as_json: bool) -> None:
    """Prove exported files against their MANIFEST, without OpenSearch.

    Checks size and SHA-256 of the file and of its content, the counts an hour, each writer's stretch of sequences,
    the order, and that every event has the hash of its seal. Names every deviation; exits with 1 when there is one.

    \b
    Example:
      audit-logging export verify q1.ndjson.gz.manifest.json
    """
    from audit_logging.query.export.check import check_export

    shown = 0
    deviations: list[str] = []
    for deviation in check_export(manifest):
        if as_json:
            deviations.append(deviation)
        elif shown < MOST_SHOWN:
            click.echo(printable(deviation))
        shown += 1
    if as_json:
        print_json({"manifest": str(manifest), "proven": not shown, "deviations": deviations})
    elif shown > MOST_SHOWN:
        click.echo(f"… and {shown - MOST_SHOWN:,} more; --json gives all of them.")
    if not as_json:
        click.echo("Proven: the file is what its manifest says." if not shown else f"{shown:,} deviations.", err=True)
    if shown:
        sys.exit(EXIT_FINDING)


def _tell(report: ExportReport, *, as_json: bool, err: bool) -> None:
    """Say what an export became, on standard error where *err* says so."""
    if as_json:
        click.echo(json_text(report.model_dump(mode="json")), err=err)
        return
    where_to = f"to {report.path} " if report.path is not None else ""
    click.echo(
        f"Exported {report.events:,} events {where_to}({report.bytes:,} bytes, SHA-256 {report.sha256}).", err=err
    )
    if report.copies:
        click.echo(f"Left out {report.copies:,} identical second copies.", err=err)
    if report.manifest is not None:
        click.echo(f"Manifest: {report.manifest}", err=err)


@contextmanager
def _hint_to_resume(out: str) -> Iterator[None]:
    """Say on what an interrupted export goes on from."""
    state = Path(f"{out}.state")
    if out != "-" and state.exists():
        click.echo(f"Going on with the export that {state} tells of (--fresh begins anew).", err=True)
    try:
        yield
    except KeyboardInterrupt:
        if state.exists():
            click.echo(f"What is complete is kept in {out}.part: the same command goes on with it.", err=True)
        raise
