"""Whoever is not the user of a spool or a home is told so in one sentence, whatever the command."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

STRANGER = 54321


@pytest.fixture
def home(monkeypatch):
    """Another user's home, which everybody may enter, with a spool in it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        for name in [name for name in os.environ if name.startswith("AUDIT_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AUDIT_HOME", directory)
        monkeypatch.setenv("AUDIT_OPENSEARCH_URL", "http://127.0.0.1:1")
        trail = Trail(Settings.load(opensearch_url=()))
        trail.emit("user.login", {"user_id": "u-1"})
        trail.shutdown(0)
        yield Path(directory)


@pytest.mark.parametrize(
    "command",
    [
        "ship --once",
        "spool status",
        "spool dead list",
        "trace 01a210e5-00a4-7257-b971-73c9c6bf933e",
        "emit user.login user_id=u-2",
        "server up",
        "server down",
        "server status",
    ],
)
def test_it_is_told_in_one_sentence(home, audit_logging, command):
    if "server" not in command:
        audit_logging(*command.split())  # a stranger may not read everything that is imported when first used
    os.seteuid(STRANGER)
    try:
        ended = audit_logging(*command.split())
    finally:
        os.seteuid(0)
    assert ended.code in {2, 3}
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("Error: ")
    assert "user" in ended.err.splitlines()[-1]
