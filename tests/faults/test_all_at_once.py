"""Applications that ship, applications that only write, sidecars and ``ship --once``, on one spool directory.

Any of them is killed at any moment, children are forked and killed beside, and the way to the server fails.
"""

import subprocess
import sys
import time
from contextlib import ExitStack
from random import Random

import pytest

from tests.faults.proxy import FaultProxy
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROUNDS = 8

APPLICATION = """
import os, signal, sys
from tests.faults.emitting import emit

def child(signed):
    if not os.fork():
        emit(user_id="child")
        os.kill(os.getpid(), signed)
    os.wait()

for line in sys.stdin:
    for number in range(int(line)):
        emit(user_id=f"u-{number}", reason="x" * 300)
        if number % 50 == 49:
            child((signal.SIGKILL, signal.SIGTERM)[number % 20 == 9])
"""

SMALL = {
    "AUDIT_BATCH_MAX_BYTES": "8192",
    "AUDIT_SEGMENT_MAX_BYTES": "16384",
    "AUDIT_BATCH_SECONDS": "0.01",
    "AUDIT_OPENSEARCH_TIMEOUT_SECONDS": "2",
}
SHIP = ("-m", "audit_logging", "ship")
LOOK = ("-m", "audit_logging", "spool", "status")


class Crowd:
    """The processes, each of which may be killed and begun again."""

    def __init__(self, programs, proxy, stack):
        self.stack = stack
        self.output = stack.enter_context(programs.output.open("ab"))
        self.environment = programs.environment | SMALL | {"AUDIT_OPENSEARCH_URL": proxy.url}
        self.running = {}

    def start(self, name, *command, **environment):
        process = subprocess.Popen(
            [sys.executable, *command],
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        self.running[name] = process

    def say(self, name, line):
        self.running[name].stdin.write(f"{line}\n")
        self.running[name].stdin.flush()

    def kill(self, name):
        self.running[name].kill()
        self.running[name].wait()


@pytest.mark.parametrize("seed", [7])
def test_whoever_is_killed_nothing_is_lost_or_doubled(programs, seed):
    """Of what was emitted by anybody, nobody misses anything, and nobody sees anything twice."""
    chance = Random(seed)
    begin = {
        "writes": lambda: crowd.start("writes", "-c", APPLICATION, AUDIT_SHIP="false"),
        "ships": lambda: crowd.start("ships", "-c", APPLICATION),
        "sidecar": lambda: crowd.start("sidecar", *SHIP),
        "once": lambda: crowd.start("once", *SHIP, "--once"),
        "looks": lambda: crowd.start("looks", *LOOK),
    }
    with FaultProxy(programs.settings.opensearch_url[0]) as proxy, ExitStack() as stack:
        crowd = Crowd(programs, proxy, stack)
        proxy.anything(Random(seed), 0.1, late_seconds=0.2)
        for start in begin.values():
            start()
        crowd.say("writes", 1)
        until(programs.emitted)  # on a busy machine all might be killed before any of them gets that far
        for _ in range(ROUNDS):
            for name in ("writes", "ships"):
                crowd.say(name, chance.randrange(50, 200))
            for name in ("once", "looks"):
                crowd.kill(name)
                begin[name]()
            time.sleep(chance.uniform(0.2, 1.0))  # the moment, not a wait for anything
            victim = chance.choice(["writes", "ships", "sidecar", "once"])
            crowd.kill(victim)
            begin[victim]()
        proxy.chance = None
    assert len(programs.emitted()) > 100
    programs.reckon()
