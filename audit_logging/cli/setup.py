"""`audit-logging setup`: prepare OpenSearch for the trail."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import groupby
from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from audit_logging.opensearch.steps import SetupReport

FOLDED_FROM = 4
"""From how many things on that became the same of them, they share a line."""


@click.command()
@connection_options
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option(
    "--retention-days",
    type=click.IntRange(min=1),
    help="Days every event is kept at least (default: AUDIT_RETENTION_DAYS, else 90).",
)
@click.option("--no-append-only", is_flag=True, help="Leave the stream open to changes and deletions, for trials.")
@click.option(
    "--dashboards",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Also put searches and a dashboard into OpenSearch Dashboards (default URL: AUDIT_DASHBOARDS_URL).",
)
@click.option("--security", is_flag=True, help="Also make the roles: writer, analyst, auditor, administrator.")
@json_option
def setup(
    *,
    settings: Settings,
    dry_run: bool,
    retention_days: int | None,
    no_append_only: bool,
    dashboards: str | None,
    security: bool,
    as_json: bool,
) -> None:
    """Prepare OpenSearch for the trail: retention policy, templates, data stream.

    Run it as often as you like: it does only what is missing or older, and says so. An append-only backing index can
    never be opened to changes again.

    \b
    Example:
      audit-logging setup --url https://search.example:9200 --retention-days 365 --dry-run
      audit-logging setup --dashboards http://127.0.0.1:5601
      audit-logging setup --security
    """
    from audit_logging.opensearch.admin import AuditAdmin

    if retention_days is not None:
        settings = settings.model_copy(update={"retention_days": retention_days})
    if dashboards:
        settings = settings.model_copy(
            update={"dashboards_url": Settings.load(dashboards_url=dashboards).dashboards_url}
        )
    with AuditAdmin(settings=settings) as admin:
        extras = [admin.setup_security] * security + [admin.setup_dashboards] * (dashboards is not None)
        for set_up in extras:
            set_up(dry_run=True)  # what cannot be done is told before anything is changed
        report = admin.setup(dry_run=dry_run, append_only=not no_append_only)
        for set_up in extras:
            more = set_up(dry_run=dry_run)
            report = replace(report, steps=report.steps + more.steps, notes=report.notes + more.notes)
    if as_json:
        _print_json(report)
    else:
        _print_table(report)


def _print_json(report: SetupReport) -> None:
    from audit_logging.cli.output import print_json

    print_json(
        {
            "stream": report.stream,
            "dry_run": report.dry_run,
            "changed": report.changed,
            "steps": [asdict(step) for step in report.steps],
            "notes": report.notes,
        }
    )


def _print_table(report: SetupReport) -> None:
    from audit_logging.cli.output import table

    would = "would be " if report.dry_run else ""
    rows = []
    for (what, outcome, detail), alike in groupby(report.steps, lambda step: (step.what, step.outcome, step.detail)):
        said = outcome if outcome in {"unchanged", "left out"} else would + outcome
        names = [step.name for step in alike]
        # The many objects of Dashboards in few lines; --json names each.
        shown = names if len(names) < FOLDED_FROM else [f"{len(names)}, from {names[0]} to {names[-1]}"]
        rows += [(what, name, f"{said}: {detail}" if detail else said) for name in shown]
    table(("what", "name", "outcome"), rows)
    click.echo()
    click.echo(_summary(report))
    for note in report.notes:
        click.echo(f"Note: {note}")


def _summary(report: SetupReport) -> str:
    if report.dry_run:
        return "Nothing was changed." if report.changed else "Nothing would be changed."
    return f"The stream {report.stream!r} is ready." + ("" if report.changed else " Nothing had to be changed.")
