"""A command whose reader leaves ends as Unix tools do: at once, quietly, and not as if it had done its work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from audit_logging.cli.root import PIPE_CLOSED
from audit_logging.query import AuditReader

COMMANDS = {
    "export": ("export", "--out", "-"),
    "search": ("search", "--limit", "500"),
    "search, JSON": ("search", "--json"),
    "tail": ("tail", "-n", "500"),
    "tail -f": ("tail", "-f", "-n", "500"),
    "stats": ("stats", "--by", "user"),
    "show": ("show", "e-7"),
    "count": ("count",),
    "help": ("search", "--help"),
}


def into_a_pipe(settings, *arguments, read=0):
    """Run the command line; whoever reads its standard output goes after *read* bytes."""
    environment = {
        **os.environ,
        "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
        "AUDIT_STREAM": settings.stream,
        "AUDIT_HOME": str(settings.home),
    }
    reading, writing = os.pipe()
    if not read:
        os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "audit_logging", *arguments], stdout=writing, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(writing)
        if read:
            assert os.read(reading, read)
            os.close(reading)
        _, said = process.communicate(timeout=60)
    return process.returncode, said.decode()


@pytest.mark.server
@pytest.mark.parametrize("command", COMMANDS)
def test_it_ends_quietly_with_the_code_of_a_closed_pipe(trail_of_events, command):
    assert into_a_pipe(trail_of_events, *COMMANDS[command]) == (PIPE_CLOSED, "")


@pytest.mark.server
def test_what_had_left_of_an_export_is_in_the_trail(trail_of_events, client):
    """As failed, for it did not come to its end; also when it ended within the first page."""
    assert into_a_pipe(trail_of_events, "export", "--out", "-", read=100) == (PIPE_CLOSED, "")
    client.request("POST", f"/{trail_of_events.stream}/_refresh")
    with AuditReader(settings=trail_of_events) as reader:
        [exported] = reader.search(event_type="audit.exported").events
    assert (exported.outcome, exported.reason) == ("failure", "ended early: BrokenPipeError")
    assert exported.metadata["record_count"] == 400


@pytest.fixture
def trail_of_events(settings, client):
    from tests.query.trail import Trail, event

    # More than a pipe holds.
    Trail(settings, client).add(
        *(event(f"e-{number}", user__id=f"u-{number}", message="x" * 500) for number in range(400))
    )
    return settings
