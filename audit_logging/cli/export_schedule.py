"""Exports from cron: a file for each day, week and so on, each proven before it counts as made."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

import click

from audit_logging.cli.schedule import is_made, only_run
from audit_logging.errors import ExportDamagedError, QueryError
from audit_logging.query.export.manifest import manifest_path, read_manifest
from audit_logging.query.filter import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from audit_logging.cli.schedule import Schedule
    from audit_logging.query.period import Period
    from audit_logging.query.reader import AuditReader
    from audit_logging.query.results import ExportReport

    Export = Callable[[Path, Filter], ExportReport]
    """Writes what a filter finds to a file."""

WHAT = "exports"
DAMAGED = ".damaged"
MOST_DEVIATIONS = 100


def due_exports(
    schedule: Schedule, reader: AuditReader, where: Filter, format_: str, export: Export
) -> Iterator[tuple[ExportReport, list[str]]]:
    """Make the exports that are missing, one after the other; yield what each became, and what its check found.

    A period is missing when it has no file with a manifest, or when the trail holds more of it now than its files do:
    events come late when a host was cut off. What is there is evidence and is never replaced; a further file, with all
    of the period, stands beside it.

    Raises:
        QueryError: The directory holds exports of another kind.
        ExportDamagedError: The disk did not keep what was written; it is set aside, and made again next time.
    """
    with only_run(schedule.directory, WHAT) as ours:
        if not ours:
            return
        for period in schedule.periods():
            wanted = Filter.of(**{**where.model_dump(exclude_none=True), "since": period.since, "until": period.until})
            path = _missing(schedule.directory, reader, period, wanted, format_)
            if path is not None:
                report = export(path, wanted)
                yield report, _deviations(report)


def _missing(directory: Path, reader: AuditReader, period: Period, wanted: Filter, format_: str) -> Path | None:
    """Return the file that is to be written for *period*; None when there is nothing to do."""
    newest = None
    for path in _names(directory / f"{reader.settings.stream}-{period.name}", format_):
        if not (is_made(path) and is_made(manifest_path(path))):
            break
        newest = path
    if newest is not None:
        manifest = read_manifest(manifest_path(newest))
        asked = {"stream": reader.settings.stream, "filter": wanted.model_dump(mode="json", exclude_none=True)}
        if any(manifest.get(name) != value for name, value in asked.items()):
            raise QueryError(
                f"{newest} is an export with other filters: give each schedule a directory of its own with --out-dir."
            )
        more = reader.count(wanted) - manifest["events"]
        if more <= 0:
            return None
        click.echo(f"{more:,} events of {period.name} came after {newest.name} was made.", err=True)
    return path


def _names(stem: Path, format_: str) -> Iterator[Path]:
    """Yield the names of the files of a period, in the order in which they are made."""
    number = 1
    while True:
        yield stem.with_name(f"{stem.name}{f'+{number}' if number > 1 else ''}.{format_}.gz")
        number += 1


def _deviations(report: ExportReport) -> list[str]:
    """Return in what the events deviate from their seals.

    Raises:
        ExportDamagedError: It is the file that is not what was written; it is set aside, as if it had not been made.
    """
    from audit_logging.query.export.check import check_export

    assert report.path is not None
    assert report.manifest is not None
    deviations = list(islice(check_export(report.manifest), MOST_DEVIATIONS))
    if deviations and _sha256(report.path) != report.sha256:
        for path in (report.path, report.manifest):
            path.replace(f"{path}{DAMAGED}")
        raise ExportDamagedError(
            f"{report.path} is not what was written ({deviations[0]}), so it was set aside as"
            f" {report.path.name}{DAMAGED}: check the disk, and run this again."
        )
    return deviations


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
