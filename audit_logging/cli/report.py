"""`audit-logging report`: a page for auditors, about a period or a person."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from audit_logging.cli.filtering import open_reader
from audit_logging.cli.options import connection_options
from audit_logging.cli.schedule import UNITS, only_run, past_periods
from audit_logging.errors import QueryError
from audit_logging.query.period import Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from audit_logging.query.event import Event
    from audit_logging.query.reader import AuditReader
    from audit_logging.settings import Settings

PERIODS = "2026-Q3, 2026-09, 2026-W36, 2026-09-30, last-month, 2026-01-15..2026-02-15"


@click.command()
@connection_options
@click.option("--period", metavar="PERIOD", help=f"The time that it is about: {PERIODS}.")
@click.option("--timezone", metavar="ZONE", default="UTC", show_default=True, help="Where the days of a period begin.")
@click.option("--subject", metavar="USER", help="About one person (id, name or mail) and not about everything.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html", help="The page.")
@click.option("--every", type=click.Choice(UNITS), help="For cron: the last whole day, week …, into --out-dir.")
@click.option(
    "--out-dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where --every writes."
)
@click.option(
    "--catch-up", type=click.IntRange(1, 366), default=7, show_default=True, help="How far --every looks back."
)
def report(
    *,
    settings: Settings,
    period: str | None,
    timezone: str,
    subject: str | None,
    out: Path | None,
    every: str | None,
    out_dir: Path | None,
    catch_up: int,
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
    if every is not None:
        _refuse(given=(period, subject, out), wrong=out_dir is None, hint="--every goes with --out-dir alone")
        assert out_dir is not None
        _make_due(settings, every, out_dir, timezone, catch_up)
        return
    _refuse(
        given=(out_dir,), wrong=out is None or (period or subject) is None, hint="give --period or --subject, and --out"
    )
    assert out is not None
    about = None if period is None else Period.of(period, zone=timezone)
    with open_reader(settings) as reader:
        if subject is not None:
            _write_subject(reader, subject, about, out)
        else:
            assert about is not None
            _write_report(reader, about, out)


def _refuse(*, given: Iterable[object], wrong: bool, hint: str) -> None:
    if wrong or any(value is not None for value in given):
        raise click.UsageError(f"{hint[0].upper()}{hint[1:]}.")


def _make_due(settings: Settings, unit: str, directory: Path, timezone: str, catch_up: int) -> None:
    with only_run(directory) as ours:
        if not ours:
            click.echo(f"Another run is writing reports into {directory}.")
            return
        missing = [
            (period, path)
            for period in past_periods(unit, catch_up, zone=timezone)
            if not (path := directory / f"audit-report-{period.name}.html").exists()
        ]
        if not missing:
            click.echo(f"No report is missing in {directory}.")
            return
        with open_reader(settings) as reader:
            for period, path in missing:
                _write_report(reader, period, path)


def _write_report(reader: AuditReader, period: Period, path: Path) -> None:
    from audit_logging.query.report_page import report_page

    found = reader.report(period)
    _write_whole(path, [report_page(found).encode()])
    click.echo(f"Wrote the report of {period.name}, {found.charts[0].total:,} events, to {path}.")


def _write_subject(reader: AuditReader, subject: str, period: Period | None, path: Path) -> None:
    from audit_logging.query.report_page import MOST_EVENTS, subject_page

    shown: list[Event] = []
    total = 0

    def lines() -> Iterator[bytes]:
        nonlocal total
        for event in reader.about(subject, period):
            total += 1
            if total <= MOST_EVENTS:
                shown.append(event)
            yield orjson.dumps(event.document, option=orjson.OPT_APPEND_NEWLINE)

    beside = path.with_suffix(".ndjson")
    _write_whole(beside, lines())
    page = subject_page(subject, period, shown, total, dt.datetime.now(dt.timezone.utc))
    _write_whole(path, [page.encode()])
    click.echo(f"Wrote what the trail holds about {subject}, {total:,} events, to {path} and {beside}.")


def _write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that appears under its name, readable by its owner alone, when it is whole."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".report-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise QueryError(f"The report cannot be written to {path} ({error.strerror}): choose another place.") from error
