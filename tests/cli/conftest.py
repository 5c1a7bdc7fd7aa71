"""Run the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.cli.root import run
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def audit_logging(capsys, monkeypatch) -> Callable[..., Ended]:
    """Call it with the arguments of a command; it returns exit code and output."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> Ended:
        code = 0
        try:
            run([*arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def ready(settings, monkeypatch):
    """Lead every command to a stream that is set up."""
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    return settings


@pytest.fixture
def trail(settings):
    """Ten log-ins, every other one failed, and one hostile event."""
    AuditAdmin(settings=settings).setup()
    trail = Trail(settings)
    for number in range(10):
        outcome = "failure" if number % 2 else "success"
        trail.emit("user.login", {"user_id": f"u-{number % 3}", "source_ip": f"203.0.113.{number}", "outcome": outcome})
    trail.emit(
        "data.accessed", {"user_id": "eve\x1b[31m", "resource": "[bold]r", "message": "\u202ered [red]alert[/red]"}
    )
    assert trail.shutdown(20) == 0
    client = Client(settings)
    client.request("POST", f"/{settings.stream}/_refresh")
    client.close()
    return settings


@pytest.fixture
def cli(audit_logging, trail):
    """Run a command against that stream."""

    def cli(*arguments):
        return audit_logging(*arguments, "--url", trail.opensearch_url[0], "--stream", trail.stream)

    return cli
