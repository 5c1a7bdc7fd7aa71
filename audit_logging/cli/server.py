"""`audit-logging server`: a real OpenSearch on this machine, without Docker."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.options import json_option
from audit_logging.cli.output import print_json
from audit_logging.errors import LocalServerError
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.local.server import LocalServer
    from audit_logging.local.state import State

FOLLOW_SECONDS = 0.2

name_option: Callable[..., Any] = click.option(
    "--name", default="default", show_default=True, metavar="NAME", help="Which server, when there are several."
)


@click.group()
def server() -> None:
    """Run a real OpenSearch on this machine, without Docker.

    It is fetched once, listens on 127.0.0.1 alone, and every other command uses it while no other OpenSearch is
    configured.
    """


@server.command()
@click.option("--version", metavar="V", help="Version of OpenSearch (default: 3.8.0; with --secure: 2.19.4).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port (default: a free one).")
@click.option("--secure", is_flag=True, help="TLS, a random password and roles.")
@click.option("--heap", metavar="SIZE", default="512m", show_default=True, help="Memory for Java's heap.")
@name_option
@json_option
def up(*, version: str | None, port: int | None, secure: bool, heap: str, name: str, as_json: bool) -> None:
    """Start the server; return when it answers.

    It runs on until `server down`, which also removes its data. After a crash or a reboot, `server up` goes on with
    the data that is there.

    \b
    Examples:
      audit-logging server up
      audit-logging server up --secure --name vault --json
    """
    from audit_logging.local.detached import bring_up

    def build(left_behind: State | None) -> LocalServer:
        from audit_logging.local.server import LocalServer

        wanted = LocalServer(version, home, port, heap, secure=secure)
        if left_behind is not None and _can_go_on(left_behind, wanted):
            wanted.adopt(left_behind)
        click.echo(f"Starting OpenSearch {wanted.version}; this takes about 10 seconds …", err=True)
        return wanted

    home = Settings.load().home
    state, started = bring_up(home, name, build)
    if not started:
        _refuse_another(state, name, version=version, port=port, secure=secure)
    if as_json:
        print_json(_facts(state, name))
    else:
        _welcome(state, name, started=started)


@server.command()
@name_option
@json_option
def down(*, name: str, as_json: bool) -> None:
    """Stop the server and remove its data."""
    from audit_logging.local.detached import take_down

    ran = take_down(Settings.load().home, name)
    if as_json:
        print_json({"name": name, "stopped": ran})
        return
    message = "Stopped; its data is removed." if ran else f"No local server called {name!r} runs: nothing to stop."
    click.echo(message, err=True)


@server.command()
@name_option
@json_option
def status(*, name: str, as_json: bool) -> None:
    """Say whether the server runs and where; exit code 3 when it does not."""
    from audit_logging.local.health import is_ready

    state = _read_state(name)
    if state is None or not state.is_alive:
        if not as_json:
            raise LocalServerError(f"No local server called {name!r} runs: start it with `{_command('up', name)}`.")
        print_json({"name": name, "running": False})
        sys.exit(LocalServerError.exit_code)
    answers = is_ready(state.running())
    if as_json:
        print_json({**_facts(state, name), "running": True, "answers": answers})
    else:
        how = "answers" if answers else "runs, but does not answer yet,"
        click.echo(f"OpenSearch {state.version} {how} at {state.running().url} (process {state.server_pid}).")
        click.echo(f"Log: {state.log}")


@server.command()
@click.option("--lines", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="How many, at the end.")
@click.option("--follow", "-f", is_flag=True, help="Then print new lines, until Ctrl-C or the end of the server.")
@name_option
def logs(*, lines: int, follow: bool, name: str) -> None:
    """Print the end of the server's log, also after it crashed."""
    state = _read_state(name)
    if state is None or not state.log.exists():
        raise LocalServerError(f"No local server called {name!r} has a log: start it with `{_command('up', name)}`.")
    with state.log.open(errors="replace") as log:
        for line in deque(log, maxlen=lines):
            click.echo(line, nl=False)
        if follow:
            _follow(log, state)


def _follow(log: Any, state: State) -> None:
    from time import sleep

    while True:
        alive = state.is_alive
        for line in log:
            click.echo(line, nl=False)
        if not alive:
            return
        sleep(FOLLOW_SECONDS)


def _read_state(name: str) -> State | None:
    from audit_logging.local.state import State, state_file

    return State.read(state_file(Settings.load().home, name))


def _can_go_on(left_behind: State, wanted: LocalServer) -> bool:
    """Tell whether the data of a server that ended by itself suits the one that is wanted."""
    from pathlib import Path

    same = (left_behind.version, left_behind.password is not None) == (wanted.version, wanted.secure)
    return same and Path(left_behind.directory).is_dir()


def _refuse_another(state: State, name: str, *, version: str | None, port: int | None, secure: bool) -> None:
    """Say so when a running server is not the one that was asked for."""
    other = (
        (version is not None and version != state.version)
        or (port is not None and port != state.http_port)
        or (secure and state.password is None)
    )
    if other:
        kind = "secured " if state.password else ""
        raise LocalServerError(
            f"A {kind}server {state.version} called {name!r} runs already at {state.running().url}: stop it first with"
            f" `{_command('down', name)}`, or start another with --name."
        )


def _facts(state: State, name: str) -> dict[str, Any]:
    running = state.running()
    facts: dict[str, Any] = {
        "name": name,
        "url": running.url,
        "version": state.version,
        "pid": state.server_pid,
        "log": str(state.log),
    }
    if running.password is not None:
        facts |= {
            "username": running.username,
            "password": running.password.get_secret_value(),
            "ca_file": str(running.ca_file),
        }
    return facts


def _welcome(state: State, name: str, *, started: bool) -> None:
    """Say where it is and what to type next."""
    url = state.running().url
    click.echo(f"OpenSearch {state.version} {'answers' if started else 'runs already'} at {url}")
    if state.password is not None:
        click.echo(f"User admin; `{_command('status', name)} --json` shows the password and the CA file.")
    configured = os.environ.get("AUDIT_OPENSEARCH_URL")
    if configured:
        click.echo(f"Note: commands use AUDIT_OPENSEARCH_URL ({configured}) as long as it is set.", err=True)
    elif name != "default":
        click.echo(f"Commands use it with --url {url}", err=True)
    click.echo("\nNext:")
    for command, effect in (
        ("audit-logging setup", "prepare it for audit events"),
        ("audit-logging emit user.login user_id=u-42", "send one"),
        ("audit-logging search", "find it again"),
        (_command("down", name), "stop the server and remove its data"),
    ):
        click.echo(f"  {command:45}{effect}")


def _command(verb: str, name: str) -> str:
    return f"audit-logging server {verb}" + ("" if name == "default" else f" --name {name}")
