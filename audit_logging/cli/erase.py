"""`audit-logging erase`: make what the trail holds of a person unreadable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from audit_logging.cli.options import connection_options, json_option
from audit_logging.errors import SettingsError

if TYPE_CHECKING:
    from audit_logging.settings import Settings


@click.command()
@click.argument("subject")
@connection_options
@click.option("--reason", metavar="TEXT", help="Why, for the certificate: the number of the request, for example.")
@click.option("--by", metavar="NAME", help="Who asked for it (default: the account that runs this).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def erase(*, subject: str, settings: Settings, reason: str | None, by: str | None, yes: bool, as_json: bool) -> None:
    """Make the protected values of one person unreadable for ever.

    SUBJECT is the id that events name the person by (`user_id`; the name or address where they have no id). The
    person's key is destroyed; events stay, their chain still verifies, and the fields read `[erased]`. An
    `audit.erased` event is the certificate. It cannot be undone.

    \b
    Example:
      audit-logging erase u-42 --reason "request 2026-117" --yes
    """
    from audit_logging.integrations.erasure import erase as carry_out

    if not settings.subject_keys_path.exists():
        raise SettingsError(
            f"There is no key store {settings.subject_keys_path}: run this where the application's is, or name it in"
            " AUDIT_SUBJECT_KEYS_FILE. Nothing was erased."
        )
    if not yes:
        click.confirm(f"Make everything protected of {subject!r} unreadable for ever?", abort=True, err=True)
    done = carry_out(settings, subject, reason=reason, by=by)
    if as_json:
        from audit_logging.cli.output import print_json

        print_json(done._asdict())
        return
    what = "The key is destroyed." if done.had_key else "There was no key: nothing of this person was readable."
    click.echo(f"{what} Certificate: event {done.event_id}, person {done.token}.")
