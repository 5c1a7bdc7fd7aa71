"""Replaying dead letters is killed at every step that touches the disk or the server, and the stream rolls over."""

import sys

import pytest

from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.proxy import FaultProxy

pytestmark = [pytest.mark.server, pytest.mark.slow]

REPLAYS = """
import os, signal
import audit_logging.cli.dead
from audit_logging.cli.root import run
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings
from tests.faults.dying import die_at

STEPS = {"open", "os.remove", "socket.connect"}

def replay(step):
    if not (process := os.fork()):
        die_at(step, STEPS)
        try:
            run(["spool", "dead", "replay", "--all"])
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

settings = Settings.load()
client, kills = Client(settings), 0
while code := replay(10 + 3 * kills):
    assert code == -signal.SIGKILL, code
    kills += 1
    client.request("POST", f"/{settings.stream}/_rollover")
print(kills)
"""


def test_a_replay_is_killed_at_every_step(programs, client):
    """A letter is stored once, in whichever backing index, although nobody may have noted that it is."""
    programs.python("from tests.faults.emitting import emit\nfor _ in range(4):\n    emit()\n", AUDIT_SHIP="false")
    with FaultProxy(programs.settings.opensearch_url[0]) as proxy:
        proxy.chance = lambda: proxy.items(400, "mapper_parsing_exception", every=1)
        ship = [sys.executable, "-m", "audit_logging", "ship", "--once"]
        with programs.start(*ship, AUDIT_OPENSEARCH_URL=proxy.url) as shipping:
            assert shipping.wait(60) == 0
    letters = DeadLetters(SpoolDirectory(programs.settings.spool_path).dead_letters, programs.settings.stream)
    assert len(letters.ids()) == 8, "the events that tell of them, too"
    assert int(programs.python(REPLAYS).split()[-1]) > 5
    assert letters.ids() == set()
    assert len(programs.reckon()) == 8
    client.request("POST", f"/{programs.settings.stream}/_refresh")
    assert client.request("GET", f"/{programs.settings.stream}/_count")["count"] == 8, "one is stored twice"
