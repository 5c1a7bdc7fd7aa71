"""`audit-logging demo`: a small web shop, its trail in a real OpenSearch, and how to read it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from audit_logging._version import install_command
from audit_logging.errors import AuditError, LocalServerError, UnreachableError
from audit_logging.settings import ENVIRONMENT_PREFIX, Settings
from audit_logging.spool.segment import SUFFIX as SEGMENT_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.local import RunningServer

REQUESTS: Final = 300
TERMINATED: Final = 128 + signal.SIGTERM

READING: Final = (
    ("The newest events, whoever did them", "search --limit 8"),
    ("Who failed to log in, and from where", "search --category authentication --outcome failure --limit 6"),
    ("One address guesses passwords: what else did it do?", "stats --by event_type --ip 192.0.2.66"),
    ("What administrators did", "search --type 'admin.*' --limit 4"),
    ("How much of everything", "stats --by event_type"),
    ("Who was busy", "stats --by user"),
    ("What needs a look", "count --severity critical"),
    ("All of it, into a file", "export --out {export}"),
)
"""Questions that an auditor asks, and the command that answers each."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server and its trail running afterwards.")
@click.option(
    "--requests", "count", type=click.IntRange(10, 100_000), default=REQUESTS, show_default=True, metavar="N",
    help="How many requests to send to the shop.",
)  # fmt: skip
def demo(*, keep: bool, count: int) -> None:
    """Watch a web shop emit audit events into a real OpenSearch, and find them again.

    It starts a local server (or uses AUDIT_OPENSEARCH_URL, or the local server that runs already), sets up the
    stream, runs the shop under a few hundred requests, and shows what the trail knows. Nothing of it stays running,
    unless told to --keep the server.

    \b
    Examples:
      audit-logging demo
      audit-logging demo --keep --requests 1000
    """
    from audit_logging.local.guarded import guarded_directory
    from audit_logging.local.places import demo_directory

    _require_extra()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that everything is put away then as well
    started = time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(guarded_directory(demo_directory(Settings.load().home), "demo-"))
        environment, afterwards = stack.enter_context(_server(keep=keep))
        environment |= {"AUDIT_SPOOL_DIR": str(folder / "spool"), "AUDIT_TRUSTED_PROXIES": "127.0.0.1/32"}
        _headline("Set up the stream: templates, retention, append-only")
        _run("setup", environment)
        _headline(f"A web shop gets {count} requests, from several users and addresses")
        _visit(environment, count)
        _refresh(environment)
        for question, command in READING:
            _headline(question)
            _run(command.format(export=folder / "trail.ndjson"), environment)
        _show_first_line(folder / "trail.ndjson")
    _headline(f"That was the trail, after {time.monotonic() - started:.0f} s")
    click.echo(afterwards)


def _require_extra() -> None:
    missing = [name for name in ("httpx", "uvicorn", "fastapi") if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalServerError(f"The demo needs {', '.join(missing)}: {install_command('demo')}.")


@contextmanager
def _server(*, keep: bool) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the environment in which every part of the demo finds its OpenSearch, and the last words."""
    settings = Settings.load()
    if settings.opensearch_url:
        _headline(f"Use the OpenSearch at {', '.join(settings.opensearch_url)}, which AUDIT_OPENSEARCH_URL names")
        yield dict(os.environ), _next("The events stay in its stream. Look around:", *_LOOK)
        return
    from audit_logging.local import LocalServer, find_running

    running = find_running(settings.home)
    if running is not None:
        _headline(f"Use the local server at {running.url}, which runs already")
        yield (
            _environment(running),
            _next("The server is still up. Look around, and stop it in the end:", *_LOOK, "server down"),
        )
        return
    _headline("Start a real OpenSearch on this machine")
    if keep:
        _run("server up", dict(os.environ))
        running = find_running(settings.home)
        if running is None:
            raise LocalServerError("The local server went away; start the demo again.")
        yield (
            _environment(running),
            _next("The server is still up. Look around, and stop it in the end:", *_LOOK, "server down"),
        )
        return
    with LocalServer() as server:
        click.echo(f"It answers at {server.url}.")
        yield (
            _environment(server.running),
            _next(
                "Nothing is left running. Next, keep the server and look around yourself:",
                "demo --keep",
                *_LOOK,
                "server down",
            ),
        )


def _environment(server: RunningServer) -> dict[str, str]:
    """Return our environment with the variables that lead to *server*."""
    variables = {}
    for name, value in server.settings().items():
        secret = getattr(value, "get_secret_value", None)
        text = secret() if secret else ",".join(value) if isinstance(value, tuple) else str(value)
        variables[f"{ENVIRONMENT_PREFIX}{name.upper()}"] = text
    return {**os.environ, **variables}


def _visit(environment: dict[str, str], count: int) -> None:
    from rich.console import Console
    from rich.progress import track

    from audit_logging.cli.demo_shop import run_shop
    from audit_logging.cli.demo_visitors import Visits

    with run_shop(environment) as url, Visits(url) as visits:
        visits.wait_until_open()
        click.echo(f"The shop is open at {url}.")
        steps = visits.run(count)
        for _ in track(steps, total=count, description="requests", console=Console(stderr=True)):
            pass
    spool = Path(environment["AUDIT_SPOOL_DIR"])
    if any(spool.rglob(f"*{SEGMENT_SUFFIX}")):
        raise UnreachableError("The shop could not ship all its events in time; `audit-logging doctor` may say why.")
    click.echo("The shop is closed. What it emitted went to disk first, and is in OpenSearch now.")


def _refresh(environment: dict[str, str]) -> None:
    """Make the newest events searchable now and not in a second."""
    from audit_logging.cli.emit import make_findable

    given: dict[str, Any] = {
        name: environment[variable]
        for name in Settings.model_fields
        if name.startswith("opensearch_") and (variable := f"{ENVIRONMENT_PREFIX}{name.upper()}") in environment
    }
    make_findable(Settings.load(**given))


def _run(command: str, environment: dict[str, str]) -> None:
    """Show a command as a user would type it, run it, and show what it says."""
    click.secho(f"$ audit-logging {command}", fg="cyan")
    arguments = [sys.executable, "-m", "audit_logging", *shlex.split(command)]
    # Ctrl-C is for the demo, which then ends the command: one that is just starting would print a trace.
    process = None
    try:
        with _signals_held_back():
            process = subprocess.Popen(arguments, env=environment, start_new_session=True)  # noqa: S603 - our own
        code = process.wait()
    except BaseException:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it started in its turn
        raise
    if code:
        raise AuditError(f"`audit-logging {command}` ended with exit code {code}; see above.")


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Deliver what comes meanwhile afterwards: a process that is started must not be lost in the middle."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _show_first_line(path: Path) -> None:
    with path.open("rb") as exported:
        click.echo(f"Its first line: {exported.readline()[:160].decode('utf-8', 'ignore')}…")


def _headline(text: str) -> None:
    click.secho(f"\n── {text}", bold=True)


_LOOK: Final = ("search --user ann --since -1h", 'search --text "card\'s limit" --json', "stats --by ip", "doctor")


def _next(words: str, *commands: str) -> str:
    return "\n".join([words, *(f"  audit-logging {command}" for command in commands)])
