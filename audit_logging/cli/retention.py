"""`audit-logging retention`: what leaves when, and seeing to it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.options import connection_options, json_option, timeout_option
from audit_logging.cli.output import print_json, printable, table
from audit_logging.cli.schedule import only_run

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from audit_logging.opensearch.holds import Hold
    from audit_logging.opensearch.retention import Outlook, RetentionPlan
    from audit_logging.opensearch.retention_apply import RetentionReport
    from audit_logging.settings import Settings

EXIT_FINDING = 1

days_option = click.option(
    "--retention-days",
    type=click.IntRange(min=1),
    help="Days every event is kept at least (default: AUDIT_RETENTION_DAYS, else the period in force, else 90).",
)


@click.group()
def retention() -> None:
    """See to it that events leave when their time has come, and not before.

    \b
    Examples:
      audit-logging retention plan
      audit-logging retention apply --archive /var/backups/audit
      audit-logging retention verify
    """


@retention.command()
@connection_options
@days_option
@click.option("--at", metavar="TIME", help="Plan for another time: 2027-03-01, or 30d or 1M (month) from now.")
@json_option
def plan(*, settings: Settings, retention_days: int | None, at: str | None, as_json: bool) -> None:
    """Show what will leave when, and what `apply` would do now. Changes nothing.

    \b
    Examples:
      audit-logging retention plan
      audit-logging retention plan --retention-days 365 --at 30d
    """
    from dataclasses import replace

    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=_with_days(settings, retention_days)) as admin:
        found = admin.retention_plan(at=None if at is None else _moment(at))
        found = replace(found, holds=tuple(admin.readable(hold) for hold in found.holds))
    if as_json:
        print_json(plan_as_json(found))
        return
    _print_outlooks(found)
    click.echo(f"\n{found.promise}")
    for hold in found.holds_in_force:
        told = f"Hold {hold.id} since {hold.placed_at[:10]}, by {hold.placed_by}: {hold.covers} ({hold.reason})."
        click.echo(printable(told))


@retention.command()
@connection_options
@days_option
@click.option(
    "--archive",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory in which each sealed index is kept, and checked, before it may leave.",
)
@timeout_option("How long Index State Management may take to take a policy over.", "--wait", default="30s")
@json_option
def apply(
    *, settings: Settings, retention_days: int | None, archive: Path | None, timeout_seconds: float, as_json: bool
) -> None:
    """Roll over, seal, archive and let leave what is due. Run it daily, on as many hosts as you like.

    Where OpenSearch has Index State Management, the policy does the rolling over and deleting; this puts it, brings it
    to every backing index, and takes out what is on hold. `audit-logging retention plan` is the dry run.

    Exits with 3 when OpenSearch did not answer or refused, and 4 when the trail did not take the record of it or an
    archive is not whole: nothing leaves then.

    \b
    Examples:
      audit-logging retention apply
      audit-logging retention apply --retention-days 365 --archive /var/backups/audit
    """
    from audit_logging.integrations.admin import AuditAdmin

    only = nullcontext(True) if archive is None else only_run(archive, "archives", option="--archive")
    with only as ours, AuditAdmin(settings=_with_days(settings, retention_days)) as admin:
        if not ours:
            return
        report = admin.apply_retention(archive=archive, wait_seconds=timeout_seconds)
    assert report.plan is not None
    if as_json:
        print_json(report_as_json(report))
        return
    for line in summary(report):
        click.echo(printable(line))
    click.echo(report.plan.promise)


@retention.command()
@connection_options
@days_option
@json_option
def verify(*, settings: Settings, retention_days: int | None, as_json: bool) -> None:
    """Look at every backing index: how it is managed, its oldest event, when it goes. Changes nothing.

    Exits with 1 when something is wrong, so that a monitor can run it.

    \b
    Example:
      audit-logging retention verify --json
    """
    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=_with_days(settings, retention_days)) as admin:
        found = admin.verify_retention()
    if as_json:
        states = {index.outlook.index.name: index for index in found.indices}
        told = plan_as_json(found.plan)
        for index in told["indices"]:
            index |= {"state": states[index["index"]].state, "problems": states[index["index"]].problems}
        print_json({**told, "policy_problems": found.policy_problems, "problems": found.problems})
    else:
        rows = [
            (
                index.outlook.index.name,
                index.state,
                _day(index.outlook.index.oldest),
                found.plan.leaving(index.outlook),
                "; ".join(index.problems) or "ok",
            )
            for index in found.indices
        ]
        table(("backing index", "state", "oldest event", "leaves", "finding"), rows)
        click.echo(f"\n{found.plan.promise}")
        for problem in found.policy_problems:
            click.echo(printable(problem))
        click.echo(f"{len(found.problems) or 'No'} problem{'' if len(found.problems) == 1 else 's'}.")
    if found.problems:
        sys.exit(EXIT_FINDING)


@retention.command()
@connection_options
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="End of the new stream's name (default: the number of the first index).")
@json_option
def restore(*, settings: Settings, manifests: tuple[Path, ...], name: str | None, as_json: bool) -> None:
    """Bring archived indices back, into a read-only stream of their own: <stream>-restored-<name>.

    Every archive is checked before anything is written. Repeating it goes on where it stopped. The stream stays until
    you delete it.

    \b
    Example:
      audit-logging retention restore /var/backups/audit/audit-events-000007-*.manifest.json
    """
    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=settings) as admin:
        report = admin.restore_archive(manifests, name=name)
    if as_json:
        print_json({"stream": report.stream, "events": report.events, "restored": report.restored})
        return
    click.echo(
        f"{report.stream} holds {report.events:,} archived events, {report.restored:,} of them new, and takes no"
        f" others.\nSearch it with --stream {report.stream}."
    )


def _with_days(settings: Settings, days: int | None) -> Settings:
    return settings if days is None else settings.model_copy(update={"retention_days": days})


def _moment(text: str) -> dt.datetime:
    import datetime as dt

    from audit_logging.query.times import normalise_time, resolve_time

    now = dt.datetime.now(dt.timezone.utc)
    given = normalise_time(text)
    found = resolve_time(given, now=now)
    # Elsewhere "30d" lies in the past; a plan is about what is to come.
    return found if isinstance(given, dt.datetime) or given.isalpha() else now + (now - found)


def plan_as_json(found: RetentionPlan) -> dict[str, Any]:
    """Return a plan as plain JSON values."""
    return {
        "stream": found.stream,
        "retention_days": found.days,
        "rollover_days": found.rollover_days,
        "at": found.at,
        "carried_out_by": "ism" if found.ism else "apply",
        "indices": [_index_as_json(outlook) for outlook in found.outlooks],
        "holds": [hold_as_json(hold) for hold in found.holds_in_force],
    }


def _index_as_json(outlook: Outlook) -> dict[str, Any]:
    index = outlook.index
    return {
        "index": index.name,
        "events": index.events,
        "oldest": index.oldest,
        "newest": index.newest,
        "created": index.created,
        "rolled_over": index.rolled_over,
        "sealed": index.sealed_events is not None,
        "locked": index.locked,
        "holds": index.holds,
        "leaves": outlook.leaves,
        "kept": outlook.kept,
        "actions": outlook.actions,
    }


def hold_as_json(hold: Hold) -> dict[str, Any]:
    """Return a hold as plain JSON values."""
    return {
        "id": hold.id,
        "active": hold.active,
        "covers": hold.covers,
        "query": hold.query,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_at": hold.placed_at,
        "released_by": hold.released_by,
        "release_reason": hold.release_reason or None,
    }


def report_as_json(report: RetentionReport) -> dict[str, Any]:
    """Return what was done as plain JSON values."""
    told = {name: value for name, value in vars(report).items() if name != "plan"}
    return {**told, "changed": report.changed, "plan": None if report.plan is None else plan_as_json(report.plan)}


def summary(report: RetentionReport) -> Iterable[str]:
    """Yield what was done, one line for each kind of thing."""
    if report.policy != "left out":
        yield f"ISM policy: {report.policy}"
    if report.attached:
        yield f"Backing indices: {report.attached}"
    done = {
        "Recorded again": report.restated,
        "Locked, kept from leaving": report.locked,
        "Unlocked": report.unlocked,
        "Rolled over": report.rolled_over,
        "Sealed": report.sealed,
        "Archived": report.archived,
        "Deleted": report.deleted,
    }
    yield from (f"{what}: {', '.join(names)}" for what, names in done.items() if names)
    if not report.changed:
        yield "Nothing had to be done."
    yield from (f"Note: {note}" for note in report.notes)


def _print_outlooks(found: RetentionPlan) -> None:
    rows = [
        (
            outlook.index.name,
            f"{outlook.index.events:,}",
            _day(outlook.index.oldest),
            _day(outlook.index.newest),
            found.leaving(outlook),
            ", ".join(outlook.actions) or "-",
        )
        for outlook in found.outlooks
    ]
    table(("backing index", "events", "oldest event", "newest event", "leaves", "to do now"), rows)


def _day(moment: dt.datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
