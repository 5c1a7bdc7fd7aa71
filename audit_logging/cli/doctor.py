"""`audit-logging doctor`: what is weaker than it could be."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option, spool_dir_option

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.opensearch.doctor import Diagnosis
    from audit_logging.settings import Settings

EXIT_FINDING = 1
EXIT_OPENSEARCH = 3


@click.command()
@spool_dir_option
@connection_options
@json_option
def doctor(*, spool_dir: Path | None, settings: Settings, as_json: bool) -> None:
    """Check the installation, the spool, the signing key, OpenSearch and the stream. Changes nothing.

    Exits with 0 when there is no problem (warnings do not count), 1 when there is one, 3 when OpenSearch does not
    answer.

    \b
    Examples:
      audit-logging doctor --url https://search.example:9200
      audit-logging doctor --spool-dir /var/lib/shop/audit
    """
    from audit_logging.opensearch.doctor import diagnose
    from audit_logging.query.accounting import check_accounts

    if spool_dir is not None:
        settings = settings.model_copy(update={"spool_dir": spool_dir})
    diagnosis = diagnose(settings)
    ask = diagnosis.answered and bool(settings.opensearch_url)
    diagnosis = replace(diagnosis, checks=(*diagnosis.checks, *check_accounts(settings, ask=ask)))
    if as_json:
        from audit_logging.cli.output import print_json

        print_json({"answered": diagnosis.answered, "checks": [asdict(check) for check in diagnosis.checks]})
    else:
        _print_for_people(diagnosis)
    if not diagnosis.answered:
        sys.exit(EXIT_OPENSEARCH)
    if diagnosis.problems:
        sys.exit(EXIT_FINDING)


def _print_for_people(diagnosis: Diagnosis) -> None:
    from audit_logging.cli.output import table

    rows = [(check.verdict, check.name, f"{check.sentence} {check.remedy}".rstrip()) for check in diagnosis.checks]
    table(("verdict", "what", "finding"), rows)
    warnings = sum(check.verdict == "warning" for check in diagnosis.checks)
    click.echo()
    click.echo(f"{_count(len(diagnosis.problems), 'problem')}, {_count(warnings, 'warning')}.")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
