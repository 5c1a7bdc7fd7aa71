"""`audit-logging hold`: keep events from leaving, for as long as it takes."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.filtering import event_filter_options
from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import print_json, printable, table
from audit_logging.cli.retention import hold_as_json, report_as_json, summary

if TYPE_CHECKING:
    from audit_logging.integrations.admin import HoldReport
    from audit_logging.query.filter import Filter
    from audit_logging.settings import Settings


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        raise click.UsageError("This account has no name: give yours with --by.") from None


reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded in the trail.")
person_option = click.option(
    "--by", "person", default=_user, metavar="NAME", help="Who; it is recorded in the trail (default: your login name)."
)


@click.group()
def hold() -> None:
    """Legal holds: what must stay whatever the retention period says.

    \b
    Examples:
      audit-logging hold place --user u-42 --events-until 2026-03-01 --reason "Case 12/2026"
      audit-logging hold list
      audit-logging hold release h-1f0c92ab --reason "Case closed"
    """


def _refuse_time(_context: click.Context, option: click.Parameter, given: str | None) -> None:
    if given is not None:
        name = option.opts[0].removeprefix("--")
        raise click.UsageError(
            f"--{name} is not an option here, because a hold has no end of its own: it lasts until `audit-logging hold"
            f" release`. To hold only the events of some time, use --events-{name}."
        )


@hold.command()
@connection_options
@event_filter_options
@click.option("--since", hidden=True, expose_value=False, callback=_refuse_time)
@click.option("--until", hidden=True, expose_value=False, callback=_refuse_time)
@reason_option
@person_option
@json_option
def place(*, settings: Settings, where: Filter, reason: str, person: str, as_json: bool) -> None:
    """Keep every backing index that holds a matching event, now or later. Without filters: all of the stream.

    Held indices are locked in OpenSearch itself, which then refuses to delete them. --events-since and --events-until
    choose events by their time; the hold itself lasts until `hold release`.

    \b
    Examples:
      audit-logging hold place --user u-42 --reason "Case 12/2026" --by jane.doe
      audit-logging hold place --events-since 2026-01-01 --events-until 2026-04-01 --reason "Audit of Q1"
      audit-logging hold place --stream audit-shop --reason "Case 13/2026"
    """
    from audit_logging.integrations.admin import AuditAdmin

    conditions = {name: value for name, value in where if value is not None}
    with AuditAdmin(settings=settings) as admin:
        report = admin.place_hold(reason=reason, person=person, **conditions)
        covers = admin.readable(report.hold).covers
    if as_json:
        _print_json(report)
        return
    _print_summary(report)
    held = f"it keeps {', '.join(report.indices)}" if report.indices else "nothing there matches yet"
    click.echo(f"Hold {report.hold.id} is in force for {printable(covers)}; {held}.")


@hold.command("list")
@connection_options
@click.option("--all", "everything", is_flag=True, help="Also those that were released.")
@json_option
def list_(*, settings: Settings, everything: bool, as_json: bool) -> None:
    """Show the holds that are in force.

    \b
    Example:
      audit-logging hold list --all
    """
    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=settings) as admin:
        holds = [admin.readable(one) for one in admin.list_holds() if one.active or everything]
    if as_json:
        print_json({"holds": [hold_as_json(one) for one in holds]})
        return
    if not holds:
        click.echo(f"No hold is in force in {settings.stream}.")
        return
    rows = [
        (
            one.id,
            "in force" if one.active else f"released by {one.released_by}: {one.release_reason}",
            one.placed_at[:10],
            one.placed_by,
            one.covers,
            one.reason,
        )
        for one in holds
    ]
    table(("hold", "state", "since", "by", "covers", "reason"), rows)


@hold.command()
@click.argument("hold_id", metavar="HOLD")
@connection_options
@reason_option
@person_option
@json_option
def release(*, hold_id: str, settings: Settings, reason: str, person: str, as_json: bool) -> None:
    """Let a hold go. What no other hold keeps leaves when retention is applied next.

    \b
    Example:
      audit-logging hold release h-1f0c92ab --reason "Case closed"
    """
    from audit_logging.integrations.admin import AuditAdmin

    with AuditAdmin(settings=settings) as admin:
        report = admin.release_hold(hold_id, reason=reason, person=person)
    if as_json:
        _print_json(report)
        return
    _print_summary(report)
    click.echo(f"Hold {hold_id} is released.")


def _print_json(report: HoldReport) -> None:
    told: dict[str, Any] = {"hold": hold_as_json(report.hold), "indices": report.indices}
    print_json({**told, "report": report_as_json(report.report)})


def _print_summary(report: HoldReport) -> None:
    for line in summary(report.report) if report.report.changed else report.report.notes:
        click.echo(printable(line))
