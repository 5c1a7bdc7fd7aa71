"""`audit-logging ship`: the sidecar, which ships what others have written."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option, spool_dir_option, timeout_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from audit_logging.settings import Settings
    from audit_logging.shipping.shipper import Shipper

EXIT_OPENSEARCH, EXIT_PROMISE = 3, 4
_LOOK_SECONDS = 0.1


@click.command()
@click.option("--once", is_flag=True, help="Ship what is there, and end.")
@timeout_option("With --once: give up after this long without progress.", "--patience")
@spool_dir_option
@connection_options
@json_option
def ship(*, once: bool, timeout_seconds: float, spool_dir: Path | None, settings: Settings, as_json: bool) -> None:
    """Ship the spools of processes that do not ship themselves.

    Those are the dead, and the living whose setting `ship` is false (AUDIT_SHIP=false): they only write, and this does
    the rest. It runs until SIGTERM or Ctrl-C. Any number may run beside each other.

    With --once it ships what is there and ends: with 0 when nothing remains, with 3 when OpenSearch cannot be reached
    or refuses, with 4 when a spool cannot be read or is damaged.

    \b
    Examples:
      audit-logging ship --spool-dir /var/lib/shop/audit
      audit-logging ship --once --spool-dir /var/lib/shop/audit
    """
    if spool_dir is not None:
        settings = settings.model_copy(update={"spool_dir": spool_dir})
    if once:
        _ship_once(settings, timeout_seconds, as_json=as_json)
    else:
        _ship_until_told(settings)


def _ship_once(settings: Settings, timeout_seconds: float, *, as_json: bool) -> None:
    from audit_logging.capture.sidecar import sidecar
    from audit_logging.cli.emit import make_findable, why_it_cannot_ship
    from audit_logging.spool.directory import require_trusted_spool

    require_trusted_spool(settings)
    shipped = 0
    damaged = _damaged(settings)
    problem = why_it_cannot_ship(settings)
    if problem is None:
        shipper = sidecar(settings)
        shipper.start()
        shipper.end_when_done()
        with _progress() as show:
            _watch(shipper, timeout_seconds, show)
        shipper.finish(0)
        shipped, problem = shipper.shipped, shipper.notices.last_problem or None
        if shipped:
            make_findable(settings)
    remaining, unreadable = _remaining(settings)
    unreadable += [told for damage_id, told in _damaged(settings).items() if damage_id not in damaged]
    _report(settings, shipped, remaining, problem, unreadable, as_json=as_json)
    if unreadable:
        sys.exit(EXIT_PROMISE)
    if remaining:
        sys.exit(EXIT_OPENSEARCH)


def _watch(shipper: Shipper, timeout_seconds: float, show: Callable[[int], None]) -> None:
    """Return when it has ended, or nothing has moved for too long."""
    shipped, moved = -1, time.monotonic()
    while not shipper.wait(_LOOK_SECONDS) and time.monotonic() < moved + timeout_seconds:
        if shipper.shipped != shipped:
            shipped, moved = shipper.shipped, time.monotonic()
            show(shipped)


def _remaining(settings: Settings) -> tuple[int, list[str]]:
    """Return how many events of the stream wait, but for those whose process ships them, and what cannot be read."""
    from audit_logging.errors import AuditError
    from audit_logging.spool.directory import SpoolDirectory
    from audit_logging.spool.reader import SpoolReader

    count = 0
    unreadable = []
    spool = SpoolDirectory(settings.spool_path, settings.stream)
    for directory in spool.claim():
        try:
            count += SpoolReader(directory.path).count_waiting()
        except (AuditError, OSError) as error:
            unreadable.append(str(error))
        directory.release()
    return count, [*unreadable, *spool.unreadable.values()]


def _damaged(settings: Settings) -> dict[str, str]:
    """Return what is known of damage by now, by its id."""
    from audit_logging.spool.damage import DamagedBytes
    from audit_logging.spool.directory import SpoolDirectory

    return {
        damage.id: f"{damage.segment} of writer {damage.writer} was damaged and {damage.missing}: see `audit-logging"
        f" spool dead show {damage.id}`."
        for damage in DamagedBytes(SpoolDirectory(settings.spool_path).dead_letters)
    }


def _report(
    settings: Settings, shipped: int, remaining: int, problem: str | None, unreadable: list[str], *, as_json: bool
) -> None:
    why = " ".join([*unreadable, *([problem] if problem and remaining else [])])
    if as_json:
        from audit_logging.cli.output import print_json

        print_json({"shipped": shipped, "remaining": remaining, "problem": why or None})
        return
    click.echo(f"{_events(shipped)} shipped to {settings.stream}.")
    if remaining:
        click.echo(f"{_events(remaining)} remain in the spool {settings.spool_path}: {why or 'time ran out'}", err=True)
    elif why:
        click.echo(why, err=True)


def _ship_until_told(settings: Settings) -> None:
    from audit_logging.capture.sidecar import sidecar
    from audit_logging.opensearch.client import Client
    from audit_logging.shipping.bell import Bell

    Client(settings).close()  # what is wrong with the settings stops this now, and not in the background
    told = Bell()

    def stop(_number: int, _frame: FrameType | None) -> None:
        told.ring()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    shipper = sidecar(settings)
    shipper.start()
    click.echo(f"Shipping from {settings.spool_path} to {settings.stream}; end with Ctrl-C or SIGTERM.", err=True)
    with _progress() as show:
        while not told.wait(_LOOK_SECONDS):
            show(shipper.shipped)
    for number, handler in before.items():  # whoever is impatient now may end it at once
        signal.signal(number, handler)
    shipper.finish(settings.shutdown_timeout_seconds)
    click.echo(f"{_events(shipper.shipped)} shipped to {settings.stream}.", err=True)


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show how many were shipped on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.status import Status

    with Status("Shipping …", console=Console(stderr=True)) as status:
        yield lambda shipped: status.update(f"{_events(shipped)} shipped …")
