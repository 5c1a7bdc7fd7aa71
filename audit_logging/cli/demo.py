"""`audit-logging demo`: a small web shop, its trail in a real OpenSearch, and how to read it."""

from __future__ import annotations

import importlib.util
import os
import random
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_logging.errors import AuditError, LocalServerError
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS = 300
START_SECONDS = 30.0
SEED = 7
ADDRESSES = ("203.0.113.7", "198.51.100.23", "2001:db8::42", "192.0.2.99")
COMMANDS = (
    "search --limit 8",
    "search --category authentication --outcome failure --limit 5",
    "stats --by event_type",
    "stats --by user",
    "count --severity critical",
    "export --out {export}",
)


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server and its trail up afterwards.")
@click.option("--requests", "count", type=click.IntRange(10, 100_000), default=REQUESTS, show_default=True)
def demo(*, keep: bool, count: int) -> None:
    """Watch a web shop emit audit events into a real OpenSearch, and find them again.

    It starts a local server (or uses AUDIT_OPENSEARCH_URL), sets up the stream, runs the shop under a few hundred
    requests, and shows what the trail knows. Nothing stays behind, unless told to --keep it.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        environment = stack.enter_context(_server(keep=keep))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-demo-")))
        environment |= {"AUDIT_SPOOL_DIR": str(folder / "spool"), "AUDIT_TRUSTED_PROXIES": "127.0.0.1/32"}
        _headline("Set up the stream")
        _run("setup", environment)
        _headline(f"A web shop, {count} requests by several users from several addresses")
        with _shop(environment) as url:
            _visit(url, count)
        click.echo("The shop is closed; its last events were shipped before it ended.")
        _refresh(environment)
        _headline("What the trail knows")
        for command in COMMANDS:
            _run(command.format(export=folder / "trail.ndjson"), environment)
        with (folder / "trail.ndjson").open("rb") as exported:
            click.echo(f"  first line: {exported.readline()[:160].decode('utf-8', 'ignore')}…")
        _say_goodbye(keep=keep, seconds=time.monotonic() - started)


@contextmanager
def _server(*, keep: bool) -> Iterator[dict[str, str]]:
    """Yield the environment in which every command of the demo finds its OpenSearch."""
    settings = Settings.load()
    if settings.opensearch_url:
        _headline(f"Using the OpenSearch at {', '.join(settings.opensearch_url)} (AUDIT_OPENSEARCH_URL)")
        yield dict(os.environ)
        return
    _headline("Start a real OpenSearch on this machine")
    if keep:
        _run("server up", dict(os.environ))
        yield dict(os.environ)
        return
    from audit_logging.local import LocalServer

    with LocalServer() as server:
        click.echo(f"It answers at {server.url}.")
        yield {**os.environ, "AUDIT_OPENSEARCH_URL": server.url}


@contextmanager
def _shop(environment: dict[str, str]) -> Iterator[str]:
    """Run the shop in a process of its own and yield its URL; on leaving it has shipped what it emitted."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(_examples()), "examples.shop.app:app"]
        command += ["--fd", str(listener.fileno()), "--log-level", "critical", "--no-proxy-headers"]
        shop = subprocess.Popen(  # noqa: S603 - our own interpreter and our own example
            command, env=_with_url(environment), pass_fds=[listener.fileno()], stdout=subprocess.DEVNULL
        )
        stack.callback(_close, shop)
        listener.close()
        yield f"http://127.0.0.1:{port}"


def _close(shop: subprocess.Popen[bytes]) -> None:
    shop.terminate()
    try:
        shop.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        shop.kill()
        shop.wait()


def _with_url(environment: dict[str, str]) -> dict[str, str]:
    if environment.get("AUDIT_OPENSEARCH_URL"):
        return environment
    from audit_logging.local import find_running

    server = find_running(Settings.load().home)
    if server is None:
        raise LocalServerError("The local server went away; start the demo again.")
    return {**environment, "AUDIT_OPENSEARCH_URL": server.url}


def _examples() -> Path:
    """Return the directory in which ``examples`` lies: the checkout, or the installed package."""
    import audit_logging

    package = Path(audit_logging.__file__).parent
    for directory in (package.parent, package):
        if (directory / "examples" / "shop" / "app.py").exists():
            return directory
    raise LocalServerError("The example shop is missing from this installation; install audit-logging[all] again.")


def _visit(url: str, count: int) -> None:
    """Send *count* requests, the same ones at every run."""
    if importlib.util.find_spec("httpx") is None:
        raise LocalServerError("The demo needs the extra `demo`: pip install 'audit-logging[demo]'.")
    import httpx
    from rich.console import Console
    from rich.progress import Progress

    chance = random.Random(SEED)  # noqa: S311 - the same visitors at every run
    with (
        httpx.Client(base_url=url, timeout=START_SECONDS) as client,
        Progress(console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("requests", total=count)
        try:
            client.get("/health")
            for _ in range(count):
                _one_visit(client, chance)
                progress.advance(task)
        except httpx.HTTPError as error:
            raise LocalServerError(
                f"The example shop does not answer ({error}); is another program in its way?"
            ) from error


def _one_visit(client: Any, chance: random.Random) -> None:
    user = chance.choices(["ann", "bob", "cleo", "root"], [5, 4, 3, 2])[0]
    headers = {
        "x-user": user,
        "x-forwarded-for": chance.choice(ADDRESSES),
        "user-agent": chance.choice(["Mozilla/5.0 (X11)", "ShopApp/3.1 (iPhone)", "curl/8.5"]),
    }
    passwords = {"ann": "correct horse", "bob": "battery staple", "cleo": "tr0ub4dor", "root": "s3cret"}
    visits: list[tuple[float, str, str, dict[str, str] | None]] = [
        (4, "POST", "/login", {"user": user, "password": passwords[user]}),
        (2, "POST", "/login", {"user": user, "password": "guess"}),
        (1, "POST", "/login", {"user": "mallory", "password": "guess"}),
        (3, "POST", "/logout", None),
        (5, "GET", f"/products/{chance.choice(['book', 'lamp', 'sofa', 'moon'])}", None),
        (4, "POST", f"/buy/{chance.choice(['book', 'lamp'])}", None),
        (2, "POST", "/buy/sofa", None),
        (1, "PUT", f"/users/{chance.choice(['ann', 'bob'])}/role/{chance.choice(['editor', 'member'])}", None),
        (0.5, "PUT", "/settings/card-limit?limit=500.00", None),
        (0.5, "GET", "/users/export", None),
        (0.2, "GET", "/broken", None),
    ]
    _, method, path, body = chance.choices(visits, [visit[0] for visit in visits])[0]
    client.request(method, path, json=body, headers=headers)


def _refresh(environment: dict[str, str]) -> None:
    """Make the newest events searchable now and not in a second."""
    from audit_logging.opensearch.client import Client

    client = Client(Settings.load(opensearch_url=_with_url(environment)["AUDIT_OPENSEARCH_URL"]))
    client.request("POST", f"/{Settings.load().stream}/_refresh")
    client.close()


def _run(command: str, environment: dict[str, str]) -> None:
    """Show a command as a user would type it, run it, and show what it says."""
    click.secho(f"\n$ audit-logging {command}", fg="cyan")
    arguments = [sys.executable, "-m", "audit_logging", *shlex.split(command)]
    result = subprocess.run(arguments, env=environment, check=False)  # noqa: S603 - our own command line
    if result.returncode:
        raise AuditError(f"`audit-logging {command}` ended with exit code {result.returncode}; see above.")


def _headline(text: str) -> None:
    click.secho(f"\n── {text}", bold=True)


def _say_goodbye(*, keep: bool, seconds: float) -> None:
    _headline(f"That was the trail, after {seconds:.0f} s")
    if keep:
        click.echo("The server is still up. Look around, and stop it when you are done:")
        commands = ("search --user u-ann --since -1h", "search --text refused --json", "doctor", "server down")
    else:
        click.echo("Nothing is left running. Next, keep a server and look around yourself:")
        commands = ("demo --keep", "search --user u-ann --since -1h", "stats --by ip", "server down")
    for command in commands:
        click.echo(f"  audit-logging {command}")
