"""`audit-logging report`: a page for auditors, about a period or a person."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import orjson

from audit_logging.cli.filtering import open_reader
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import print_json
from audit_logging.cli.schedule import is_made, only_run, schedule_options
from audit_logging.files import whole_file, write_durably
from audit_logging.printable import json_bytes, printable
from audit_logging.query.export.outfile import explaining_disk
from audit_logging.query.period import Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
@json_option
def report(
    *,
    settings: Settings,
    period: str | None,
    subject: str | None,
    out: Path | None,
    schedule: Schedule | None,
    timezone: str,
    as_json: bool,
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
        _tell(_due_reports(settings, schedule), as_json=as_json, directory=schedule.directory)
        return
    if out is None or not (period or subject):
        raise click.UsageError("Give --period or --subject, and --out; or --every and --out-dir.")
    about = None if period is None else Period.of(period, zone=timezone)
    with open_reader(settings) as reader:
        if subject is not None:
            made = _write_subject(reader, subject, about, out)
        else:
            assert about is not None
            made = _write_report(reader, about, out)
    _tell([made], as_json=as_json)


class Written(NamedTuple):
    """A report that was written.

    Attributes:
        out: The page.
        period: Name of its period, or None.
        subject: The person it is about, or None.
        events: How many events it is about.
        data: The file with the events of a person, or None.
    """

    out: str
    period: str | None
    subject: str | None
    events: int
    data: str | None

    @property
    def sentence(self) -> str:
        """What was written, for people."""
        if self.subject is None:
            return f"Wrote the report of {self.period}, {self.events:,} events, to {self.out}."
        return (
            f"Wrote what the trail holds about {self.subject}, {self.events:,} events, to {self.out} and {self.data}."
        )


def _tell(written: Iterable[Written], *, as_json: bool, directory: Path | None = None) -> None:
    """Print each report as soon as it is written; as JSON, all of them at the end."""
    reports = []
    for each in written:
        reports.append(each._asdict())
        if not as_json:
            click.echo(printable(each.sentence))
    if as_json:
        print_json({"reports": reports})
    elif not reports:
        click.echo(f"No report was missing in {directory}.")


def _due_reports(settings: Settings, schedule: Schedule) -> Iterator[Written]:
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
            return
        with open_reader(settings) as reader:
            for period, path in missing:
                yield _write_report(reader, period, path)


def _write_report(reader: AuditReader, period: Period, path: Path) -> Written:
    from audit_logging.query.report.page import report_page

    found = reader.report(period)
    with explaining_disk(path, what="report"):
        write_durably(path, report_page(found).encode())
    return Written(str(path), period.name, None, found.charts[0].total, None)


def _write_subject(reader: AuditReader, subject: str, period: Period | None, path: Path) -> Written:
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
    return Written(str(path), None if period is None else period.name, subject, total, str(beside))
