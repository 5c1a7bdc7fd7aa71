"""Output where the encoding of the terminal or pipe lacks characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.client import Client

MESSAGE = "Zoë bought 🍏 – 雪"


@pytest.fixture
def told(ready):
    trail = Trail(ready)
    event_id = trail.emit("user.login", {"user_id": "Zoë-雪", "message": MESSAGE}, "indexed")
    trail.shutdown(20)
    client = Client(ready)
    client.request("POST", f"/{ready.stream}/_refresh")
    client.close()

    def run(encoding, *arguments):
        arguments = [event_id if word == "ID" else word for word in arguments]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        return subprocess.run(
            [sys.executable, "-m", "audit_logging", *arguments],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.server
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "show --help",
        "search",
        "tail",
        "show ID",
        "stats --by user --interval 1s --since -5m",
        "trace ID",
        "export --out -",
    ],
)
def test_no_encoding_ends_a_command(told, encoding, command):
    ended = told(encoding, *command.split())
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.server
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("command", ["search --json", "tail --json", "show ID --json", "stats --by user --json"])
def test_json_is_json_in_every_encoding(told, encoding, command):
    ended = told(encoding, *command.split())
    assert "Zoë-雪" in json.dumps(
        json.loads(ended.stdout.decode("utf-8").splitlines()[0] if "tail" in command else ended.stdout),
        ensure_ascii=False,
    )


def test_what_commands_draw_becomes_ascii(tmp_path):
    script = "import sys; from audit_logging.cli.encoding import never_fail; never_fail(); print('a…b –→ ▁▄█ é 雪')"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, timeout=30)
    assert ended.stdout.decode("latin-1") == "a...b --> .=# é \\u96ea\n"
