"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from audit_logging.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_SECRETS: Final = ("opensearch_password", "opensearch_token", "opensearch_token_file")


def connection_options(command: Command) -> Command:
    """Add the options that say which OpenSearch and stream; the command receives them as one ``settings``."""

    @click.option("--url", metavar="URL", help="OpenSearch (default: AUDIT_OPENSEARCH_URL, else the local server).")
    @click.option("--stream", metavar="NAME", help="Data stream (default: AUDIT_STREAM, else audit-events).")
    @click.option("--username", metavar="NAME", help="User; the password comes from AUDIT_OPENSEARCH_PASSWORD.")
    @click.option(
        "--password-file",
        type=click.Path(dir_okay=False),
        help="File that holds the password, instead of AUDIT_OPENSEARCH_PASSWORD.",
    )
    @click.option("--ca-file", type=click.Path(dir_okay=False), help="PEM of the authority that signed the server.")
    @functools.wraps(command)
    def with_settings(
        *,
        url: str | None,
        stream: str | None,
        username: str | None,
        password_file: str | None,
        ca_file: Path | None,
        **rest: Any,
    ) -> Any:
        given: dict[str, Any] = {
            "opensearch_url": url,
            "stream": stream,
            "opensearch_username": username,
            "opensearch_ca_file": ca_file,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if password_file is not None:  # the option wins over whatever credentials the environment holds
            given |= {**dict.fromkeys(_SECRETS), "opensearch_password_file": password_file}
        return command(settings=resolve_settings(**given), **rest)

    return with_settings  # type: ignore[return-value]


def resolve_settings(**given: Any) -> Settings:
    """Return the settings of a command: options, then environment, then the local server where one runs.

    With no URL set and a local server running, that one is used, and stderr says so.
    """
    settings = Settings.load(**given)
    if settings.opensearch_url:
        return settings
    from audit_logging.local import find_running

    server = find_running(settings.home)
    if server is None:
        return settings
    click.echo(f"Using the local server at {server.url}.", err=True)
    return settings.model_copy(update=server.settings())


spool_dir_option = click.option(
    "--spool-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the spool (default: AUDIT_SPOOL_DIR, else `spool` under AUDIT_HOME).",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic in newer click alone
    """A length of time such as ``30s``, ``5m`` or ``1h30m``; the command receives seconds.

    A number alone is seconds, so that scripts written for earlier versions keep working.
    """

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return *value* in seconds."""
        from audit_logging.errors import FilterError
        from audit_logging.query.times import duration_of

        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", str(value), re.ASCII):
            return float(value)
        try:
            return duration_of(value).total_seconds()
        except FilterError as error:
            self.fail(str(error), param, ctx)


class _RenamedOption(click.Option):
    """An option whose earlier names still work, and are not in the help."""

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002
        return f"'{self.opts[0]}'"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return None if record is None else (record[0].replace(", ".join(self.opts), self.opts[0]), record[1])


def timeout_option(words: str, *earlier: str, default: str | None = "1m") -> Callable[[Command], Command]:
    """Add ``--timeout``, which the command receives as ``timeout_seconds``; *words* say what is waited for.

    Args:
        words: The help text.
        earlier: Names that the option had in earlier versions.
        default: The default, as a duration.
    """
    return click.option(
        "--timeout",
        *earlier,
        "timeout_seconds",
        cls=_RenamedOption,
        type=Duration(),
        default=default,
        show_default=default is not None,
        metavar="DURATION",
        help=words,
    )
