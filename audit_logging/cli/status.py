"""`audit-logging spool status`: what waits on this host's disk, and whether that needs a hand."""

from __future__ import annotations

import datetime as dt
import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.options import json_option, spool_dir_option

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.settings import Settings
    from audit_logging.shipping.accounts import Accounts, WriterAccount
    from audit_logging.shipping.concern import Concern

EXIT_FINDING = 1
_COLUMNS = ("writer", "state", "service", "process", "waiting", "oldest", "last acknowledged", "refused, lost", "full")


@click.command()
@spool_dir_option
@json_option
def status(*, spool_dir: Path | None, as_json: bool) -> None:
    """Show where this host's events are, by writer, and any problems.

    Reads the spool and changes nothing; OpenSearch is not asked. A writer is one process: alive; adopted (it died, and
    another process ships its events); or dead. Exits with 0 when there is no problem and with 1 when there is one:
    events pending for over a minute while none is acknowledged, a spool that is nearly full, dead letters, missing
    events.

    \b
    Examples:
      audit-logging spool status
      audit-logging spool status --spool-dir /var/lib/shop/audit --json
    """
    from audit_logging.settings import Settings
    from audit_logging.shipping.accounts import take_accounts
    from audit_logging.shipping.concern import concerns

    settings = Settings.load() if spool_dir is None else Settings.load(spool_dir=spool_dir)
    with _reading():
        accounts = take_accounts(settings.spool_path)
    found = list(concerns(accounts, settings.spool_max_bytes))
    if as_json:
        from audit_logging.cli.output import print_json

        print_json(_plain(accounts, settings, found))
    else:
        _print_for_people(accounts, settings, found)
    if found:
        sys.exit(EXIT_FINDING)


def _reading() -> Any:
    """Show on a terminal that something is going on: a large spool takes some seconds."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.status import Status

    return Status("Reading the spool …", console=Console(stderr=True))


def _plain(accounts: Accounts, settings: Settings, found: list[Concern]) -> dict[str, Any]:
    limit = settings.spool_max_bytes
    return {**accounts.to_dict(), "limit_bytes": limit, "concerns": [asdict(concern) for concern in found]}


def _print_for_people(accounts: Accounts, settings: Settings, found: list[Concern]) -> None:
    from audit_logging.cli.output import printable, table

    now = dt.datetime.now(dt.timezone.utc)
    if accounts.writers:
        table(_COLUMNS, [_row(account, settings.spool_max_bytes, now) for account in accounts.writers])
        click.echo()
    click.echo(_summary(accounts))
    for concern in found:
        click.echo(f"\n{concern.kind.upper()}: {printable(concern.sentence)}\n  {printable(concern.remedy)}")
    if not found:
        click.echo("Nothing needs a hand.")


def _row(account: WriterAccount, limit_bytes: int, now: dt.datetime) -> tuple[Any, ...]:
    balance = account.balance
    waiting = f"{balance.in_spool:,} ({_size(account.waiting_bytes)})" if balance.in_spool else "-"
    acknowledged = (
        f"{account.acknowledged:,}, {_ago(account.acknowledged_at, now)} ago" if account.acknowledged else "-"
    )
    aside = {"quarantined": balance.quarantined, "dead": balance.dead, "lost": balance.lost}
    return (
        account.writer,
        account.state,
        account.service or "?",
        f"{account.host or '?'}:{account.pid or '?'}",
        waiting,
        _ago(account.waiting_since, now),
        acknowledged,
        ", ".join(f"{number:,} {name}" for name, number in aside.items() if number) or "-",
        f"{account.kept_bytes / limit_bytes:.0%}",
    )


def _summary(accounts: Accounts) -> str:
    from audit_logging.shipping.concern import count_of

    total = accounts.total
    closed = sum(account.writers for account in accounts.closed)
    alive = sum(account.state == "alive" for account in accounts.writers)
    parts = [
        f"{total.indexed:,} indexed",
        f"{total.in_spool:,} in the spool",
        f"{total.quarantined:,} quarantined",
        f"{total.dead:,} dead",
        *([f"{total.lost:,} lost"] if total.lost else []),
    ]
    writers = count_of(len(accounts.writers), "writer")
    return (
        f"{accounts.spool_dir}: {writers} ({alive} alive), {closed:,} closed before.\n"
        f"{total.emitted:,} emitted = {' + '.join(parts)}"
    )


def _size(size: int) -> str:
    if size < 1 << 10:
        return f"{size} B"
    return f"{size / (1 << 10):.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):,.1f} MiB"


def _ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    """Return how long ago that was: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    if moment is None:
        return "-"
    seconds = max((now - moment).total_seconds(), 0)
    for unit, size, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
