"""`audit-logging report`: a page for auditors, about a period or a person."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from audit_logging.cli.filtering import open_reader
from audit_logging.cli.options import connection_options
from audit_logging.cli.schedule import is_made, only_run, schedule_options
from audit_logging.files import whole_file, write_durably
from audit_logging.printable import json_bytes
from audit_logging.query.export.outfile import explaining_disk
from audit_logging.query.period import Period

if TYPE_CHECKING:
    from audit_logging.cli.schedule import Schedule
    from audit_logging.query.event import Event
    from audit_logging.query.reader import AuditReader
    from audit_logging.settings import Settings

PERIODS = "2026-Q3, 2026-09, 2026-W36, 2026-09-30, last-month, 2026-01-15..2026-02-15"


@click.command()
@connection_options
@click.option("--period", metavar="PERIOD", help=f"The time that it is about: {PERIODS}.")
@click.option("--subject", metavar="USER", help="About one person (id, name or mail) and not about everything.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html", help="The page.")
@schedule_options
def report(
    *,
    settings: Settings,
    period: str | None,
    subject: str | None,
    out: Path | None,
    schedule: Schedule | None,
    timezone: str,
) -> None:
    """Write a report as one self-contained page: for a period, or about a person.

    With --subject, everything that the trail holds about that person also goes into a file beside the page, one event a
    line (FILE.ndjson). With --every, pages that earlier runs missed are made up, and two runs at once are one.

    \b
    Examples:
      audit-logging report --period 2026-Q3 --out report.html
      audit-logging report --subject u-42 --out u-42.html
      audit-logging report --every day --out-dir /var/lib/audit/reports
    """
    if schedule is not None:
        if period or subject or out:
            raise click.UsageError("--every goes with --out-dir alone.")
        _make_due(settings, schedule)
        return
    if out is None or not (period or subject):
        raise click.UsageError("Give --period or --subject, and --out; or --every and --out-dir.")
    about = None if period is None else Period.of(period, zone=timezone)
    with open_reader(settings) as reader:
        if subject is not None:
            _write_subject(reader, subject, about, out)
        else:
            assert about is not None
            _write_report(reader, about, out)


def _make_due(settings: Settings, schedule: Schedule) -> None:
    directory = schedule.directory
    with only_run(directory, "reports") as ours:
        if not ours:
            return
        missing = [
            (period, path)
            for period in schedule.periods()
            if not is_made(path := directory / f"{settings.stream}-report-{period.name}.html")
        ]
        if not missing:
            click.echo(f"No report was missing in {directory}.")
            return
        with open_reader(settings) as reader:
            for period, path in missing:
                _write_report(reader, period, path)


def _write_report(reader: AuditReader, period: Period, path: Path) -> None:
    from audit_logging.query.report.page import report_page

    found = reader.report(period)
    with explaining_disk(path, what="report"):
        write_durably(path, report_page(found).encode())
    click.echo(f"Wrote the report of {period.name}, {found.charts[0].total:,} events, to {path}.")


def _write_subject(reader: AuditReader, subject: str, period: Period | None, path: Path) -> None:
    from audit_logging.query.report.page import MOST_EVENTS, subject_page

    shown: list[Event] = []
    total = 0
    beside = path.with_suffix(".ndjson")
    with explaining_disk(path, what="report"):
        with whole_file(beside) as file:
            for event in reader.about(subject, period):
                total += 1
                if total <= MOST_EVENTS:
                    shown.append(event)
                file.write(json_bytes(event.document, orjson.OPT_APPEND_NEWLINE))
        page = subject_page(subject, period, shown, total, dt.datetime.now(dt.timezone.utc))
        write_durably(path, page.encode())
    click.echo(f"Wrote what the trail holds about {subject}, {total:,} events, to {path} and {beside}.")
