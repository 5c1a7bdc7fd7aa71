"""Sidecars that are killed, and two at a time, beside applications that only write."""

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from tests.faults.proxy import FaultProxy
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

KILLS = 6

APPLICATION = """
import sys, time
from tests.faults.emitting import emit, note

for line in sys.stdin:  # ends when nobody holds the other end any more
    if line == "end\\n":
        break
    for number in range(int(line)):
        emit(user_id=f"u-{number}", reason="x" * 300)
        time.sleep(0.001)
    print("done", flush=True)
emit(user_id="last", durability="indexed")
"""

SMALL = {"AUDIT_BATCH_MAX_BYTES": "8192", "AUDIT_SEGMENT_MAX_BYTES": "16384", "AUDIT_BATCH_SECONDS": "0.01"}


class Application:
    """Emits as many as it is told, and ships nothing."""

    def __init__(self, programs):
        self.process = subprocess.Popen(
            [sys.executable, "-c", APPLICATION],
            env=programs.environment | SMALL | {"AUDIT_SHIP": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self):
        """Let it wait for its last event, which a sidecar ships, and end."""
        self.say("end")
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def applications(programs):
    applications = [Application(programs) for _ in range(2)]
    yield applications
    for application in applications:
        application.process.kill()
        application.process.communicate()


@pytest.fixture
def slow(programs):
    """A way to the server on which an answer takes a moment after all is stored, so that a kill comes in between."""
    with FaultProxy(programs.settings.opensearch_url[0]) as proxy:

        def answer_late(handler, body):
            answer = proxy.forward(handler.command, handler.path, handler.headers, body)
            time.sleep(0.05)  # the delay is the fault
            handler.answer(*answer)

        proxy.chance = lambda: answer_late
        yield proxy


@contextmanager
def sidecar(programs, proxy):
    """Start a sidecar, and return it once it ships."""
    before = ready(programs)
    with programs.start(sys.executable, "-m", "audit_logging", "ship", AUDIT_OPENSEARCH_URL=proxy.url, **SMALL) as one:
        until(lambda: ready(programs) > before, one)
        yield one


def ready(programs):
    return programs.output.read_text().count("Shipping from") if programs.output.exists() else 0


def emit_and_kill(programs, proxy, applications, chance, victim):
    """Let the applications emit, and kill *victim* amid its shipping."""
    before = len(proxy.bulk_requests)
    for application in applications:
        application.say(chance.randrange(100, 200))
    wanted = before + chance.randrange(1, 6)
    until(lambda: len(proxy.bulk_requests) >= wanted, victim)
    time.sleep(chance.uniform(0, 0.05))  # the moment, not a wait for anything
    victim.kill()
    victim.wait()
    for application in applications:
        assert application.process.stdout.readline() == "done\n"


@pytest.mark.parametrize("seed", [4])
def test_a_sidecar_is_killed_again_and_again(programs, slow, applications, seed):
    """Between what is stored and its answer, too; the next one looks up what was sent, and goes on."""
    chance = Random(seed)
    for _ in range(KILLS):
        with sidecar(programs, slow) as victim:
            emit_and_kill(programs, slow, applications, chance, victim)
    with sidecar(programs, slow) as last:
        assert [application.end() for application in applications] == [0, 0]
        until(lambda: programs.writers() == [], last)
    events = programs.reckon()
    assert len(events) == len(programs.emitted())
    assert any("_mget" in path for path in slow.paths), "no kill came between request and answer"


@pytest.mark.parametrize("seed", [5])
def test_two_sidecars_of_which_one_is_killed(programs, slow, applications, seed):
    """Both reach for every spool, one gets it, and whoever lives takes over what a killed one had."""
    chance = Random(seed)
    with ExitStack() as stack:
        living = stack.enter_context(sidecar(programs, slow))
        for _ in range(3):
            other = stack.enter_context(sidecar(programs, slow))
            emit_and_kill(programs, slow, applications, chance, living)
            living = other
        other = stack.enter_context(sidecar(programs, slow))
        applications[0].process.kill()  # what the dead one leaves goes, too
        assert applications[1].end() == 0
        until(lambda: programs.writers() == [], living)
        assert other.poll() is None
    events = programs.reckon()
    assert len(events) == len(programs.emitted())
    assert len({event.get("audit.integrity.writer") for event in events}) == 2
