"""`audit-logging trace`: where one event is now."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option, spool_dir_option

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.query.trace import Trace
    from audit_logging.settings import Settings

EXIT_FINDING, EXIT_OPENSEARCH = 1, 3
_SHOWN = ("event_id", "event_type", "timestamp", "writer", "sequence", "index", "reason")


@click.command()
@click.argument("event_id", metavar="EVENT_ID")
@spool_dir_option
@connection_options
@json_option
def trace(*, event_id: str, spool_dir: Path | None, settings: Settings, as_json: bool) -> None:
    """Show where one event is now: in this host's spool, sent, indexed, in quarantine, a dead letter, or unknown here.

    EVENT_ID is the event.id that emitting returned, or writer-sequence. Exits with 0 when the event was found, 1 when
    it is not known here or not in the stream any more, 3 when that depends on OpenSearch and it could not be asked.

    \b
    Examples:
      audit-logging trace 0197f3c2-5b7e-7cc1-9d0a-3f2a6f1e8b11
      audit-logging trace 3f9c0d2b8a7e6f5c4d3b-17 --spool-dir /var/lib/shop/audit
    """
    from audit_logging.query.trace import trace as find

    if spool_dir is not None:
        settings = settings.model_copy(update={"spool_dir": spool_dir})
    found = find(event_id, settings)
    if as_json:
        from audit_logging.cli.output import print_json

        print_json(asdict(found))
    else:
        _print_for_people(found)
    if found.depends_on_server:
        sys.exit(EXIT_OPENSEARCH)
    if found.state in ("acknowledged", "unknown"):
        sys.exit(EXIT_FINDING)


def _print_for_people(found: Trace) -> None:
    from audit_logging.cli.output import printable

    click.secho(found.state, bold=True)
    click.echo(printable(found.sentence))
    rows = [(name, getattr(found, name)) for name in _SHOWN if getattr(found, name) is not None]
    if rows:
        click.echo()
    for name, value in rows:
        click.echo(f"{name.replace('_', ' '):<10}  {printable(str(value))}")
    if found.unasked:
        but = "so the stream may know more" if found.depends_on_server else "which changes nothing of this"
        click.echo(f"\nOpenSearch could not be asked, {but}: {printable(found.unasked)}", err=True)
