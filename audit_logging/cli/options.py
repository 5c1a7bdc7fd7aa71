"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from audit_logging.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def connection_options(command: Command) -> Command:
    """Add the options that say which OpenSearch and stream; the command receives them as one ``settings``."""

    @click.option("--url", metavar="URL", help="OpenSearch (default: AUDIT_OPENSEARCH_URL, else the local server).")
    @click.option("--stream", metavar="NAME", help="Data stream (default: AUDIT_STREAM, else audit-events).")
    @click.option("--username", metavar="NAME", help="User; the password comes from AUDIT_OPENSEARCH_PASSWORD.")
    @click.option("--ca-file", type=click.Path(dir_okay=False), help="PEM of the authority that signed the server.")
    @functools.wraps(command)
    def with_settings(
        *, url: str | None, stream: str | None, username: str | None, ca_file: Path | None, **rest: Any
    ) -> Any:
        given = {
            "opensearch_url": url,
            "stream": stream,
            "opensearch_username": username,
            "opensearch_ca_file": ca_file,
        }
        return command(settings=resolve_settings(**given), **rest)

    return with_settings  # type: ignore[return-value]


def resolve_settings(**given: Any) -> Settings:
    """Return the settings of a command: options, then environment, then the local server where one runs.

    With no URL set and a local server running, that one is used, and stderr says so.
    """
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
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


def patience_option(words: str) -> Callable[[Command], Command]:
    """Add ``--patience``; *words* say what is waited for."""
    return click.option(
        "--patience",
        "patience_seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help=words,
    )
