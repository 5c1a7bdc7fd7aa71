"""`audit-logging spool`: look at what is on this host's disk."""

from __future__ import annotations

import click

from audit_logging.cli.dead import dead
from audit_logging.cli.status import status


@click.group()
def spool() -> None:
    """Look at what waits on this host's disk, or was refused."""


spool.add_command(status)
spool.add_command(dead)
