"""`audit-logging verify`: what was done to the trail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_logging.cli.filtering import filter_options
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.progress import progress_bar

if TYPE_CHECKING:
    from audit_logging.query.filter import Filter
    from audit_logging.query.verification.report import VerifyReport
    from audit_logging.settings import Settings

EXIT_FINDING = 1

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@connection_options
@filter_options
@click.option("--export", "exports", multiple=True, type=_FILE, help="Verify this exported file, offline.")
@click.argument("more_exports", nargs=-1, type=_FILE, metavar="[FILES]...")
@click.option("--public-key", "public_keys", multiple=True, type=_FILE, help="Trust only this public key (.pub).")
@click.option("--checkpoints", multiple=True, type=_FILE, help="File of signed events that were kept elsewhere.")
@click.option("--from-last", is_flag=True, help="Continue from the last run without a finding; for daily runs.")
@json_option
def verify(
    *,
    settings: Settings,
    where: Filter,
    exports: tuple[Path, ...],
    more_exports: tuple[Path, ...],
    public_keys: tuple[Path, ...],
    checkpoints: tuple[Path, ...],
    from_last: bool,
    as_json: bool,
) -> None:
    """Find what was edited, deleted, inserted, reordered, cut off or forged.

    Exits with 0 when nothing was found, 1 when something was.

    \b
    Examples:
      audit-logging verify
      audit-logging verify --from-last --json
      audit-logging verify --export trail.ndjson.gz --public-key 0123456789abcdef.pub
    """
    if more_exports and not exports:
        raise click.UsageError("Give exported files with --export FILE.")
    if exports and from_last:
        raise click.UsageError("--from-last goes on in the stream; exported files are always verified whole.")
    with progress_bar("verifying") as show:
        if exports:
            import datetime as dt

            from audit_logging.query.verification.run import verify_files

            report = verify_files(
                [*exports, *more_exports],
                settings,
                where.at(dt.datetime.now(dt.timezone.utc)),
                public_keys=public_keys,
                checkpoints=checkpoints,
                progress=show,
            )
        else:
            from audit_logging.query.reader import AuditReader

            with AuditReader(settings=settings) as reader:
                report = reader.verify(
                    where, public_keys=public_keys, checkpoints=checkpoints, from_last=from_last, progress=show
                )
    if as_json:
        from audit_logging.cli.output import print_json

        print_json(report.to_dict())
    else:
        _print_for_people(report)
    if not report.ok:
        sys.exit(EXIT_FINDING)


def _print_for_people(report: VerifyReport) -> None:
    from audit_logging.cli.output import printable, table

    if report.findings:
        rows = [(each.kind, each.event_id or "-", printable(each.sentence)) for each in report.findings]
        table(("finding", "event id", "what"), rows)
        click.echo()
    for note in report.notes:
        click.echo(f"Note: {note.sentence}")
    found = f"{len(report.findings)} finding{'' if len(report.findings) == 1 else 's'}"
    click.echo(
        f"{report.events:,} events of {report.writers:,} writers, {report.signed:,} of them signed:"
        f" {found if report.findings else 'no finding'}."
    )
