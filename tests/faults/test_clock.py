"""A wall clock that jumps hours back and forth while an application emits and ships, checkpoints included.

Who has the rights to set a machine's clock has no suite to run on it, so the clock of the application is exchanged where
the library, and what it stands on, reads it: ``time.time`` and ``time.time_ns``, before anything is imported. Between
event and acknowledgement nothing asks ``datetime`` for the time. What counts seconds must use the monotonic clock.
"""

import datetime as dt
import json
import subprocess
import sys
import time
from email.utils import format_datetime
from random import Random

import pytest

from audit_logging.query.reader import AuditReader
from tests.faults.proxy import FaultProxy
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

PROMPT_SECONDS = 15.0
"""What takes longer has waited for the wall clock: it jumps by hours, and attempts are half a second apart at most."""

SIGNED = {"audit.started", "audit.checkpoint", "audit.stopped"}

APPLICATION = """
import json, random, sys, threading, time

offset_ns, really = 0, time.time_ns
time.time_ns = lambda: really() + offset_ns
time.time = lambda: time.time_ns() / 1e9

import audit_logging
from audit_logging.shipping import backoff
from tests.faults.emitting import emit

backoff.FIRST_SECONDS, backoff.LONGEST_SECONDS = 0.02, 0.5

def jump(hours):
    global offset_ns
    offset_ns = int(hours * 3600e9)

def emit_some(count):
    before = time.time()
    return [(before, emit(), time.time()) for _ in range(count)]

def wait_for_one(*hours):
    begun = time.monotonic()
    timers = [threading.Timer(0.005 * number, jump, [each]) for number, each in enumerate(hours)]
    [timer.start() for timer in timers]
    emit(durability="indexed")
    took = time.monotonic() - begun
    [timer.join() for timer in timers]
    return took

def ailments():
    return [reason.kind for reason in audit_logging.health().reasons]

does = {"jump": jump, "emit": emit_some, "indexed": wait_for_one, "flush": audit_logging.flush, "ailments": ailments}
for line in sys.stdin:
    what, *values = json.loads(line)
    print(json.dumps(does[what](*values)), flush=True)
"""


@pytest.fixture
def tell(programs):
    """Tell an application that signs what to do, and return what it answers; it ends when told nothing more."""
    script = programs.settings.home / "application.py"
    script.write_text(APPLICATION)
    signs = {"AUDIT_HOME": str(programs.settings.home), "AUDIT_SIGNING": "true", "AUDIT_CHECKPOINT_SECONDS": "1"}
    started = []

    def tell(*words, urls=None):
        if not started:
            environment = programs.environment | signs | {"AUDIT_OPENSEARCH_URL": ",".join(urls)}
            started.append(
                subprocess.Popen(
                    [sys.executable, str(script)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        (application,) = started
        if not words:
            application.communicate(timeout=60)
            return application.returncode
        application.stdin.write(json.dumps(words) + "\n")
        application.stdin.flush()
        return json.loads(application.stdout.readline())

    yield tell
    for application in started:
        application.kill()
        application.communicate()


def all_is_there(programs, tell):
    """End the application, and reckon: signatures and chains are verified with the key that it made."""
    assert tell() == 0
    assert programs.writers() == []
    events = programs.reckon()
    with AuditReader(settings=programs.settings) as reader:
        assert reader.verify().signed == sum(event.event_type in SIGNED for event in events) >= 2
    return events


def checkpoints(client, settings):
    """Return how many checkpoints have arrived."""
    client.request("POST", f"/{settings.stream}/_refresh")
    query = {"query": {"term": {"event.action": "audit.checkpoint"}}}
    return client.request("GET", f"/{settings.stream}/_count", body=query)["count"]


@pytest.mark.parametrize("seed", [3])
def test_a_clock_that_jumps_between_events(programs, tell, client, seed):
    """Times are what the clock said, ids are unique, numbers have no gap, and whoever waits does not wait for it."""
    chance = Random(seed)
    told = tell("emit", 5, urls=programs.settings.opensearch_url)
    for _ in range(30):
        tell("jump", chance.uniform(-9, 9))
        told += tell("emit", chance.randrange(1, 20))
        if chance.random() < 0.2:
            hours = [chance.uniform(-9, 9) for _ in range(10)]
            assert tell("indexed", *hours) < PROMPT_SECONDS
    for hours in (5, -5, 0):
        tell("jump", hours)
        known = checkpoints(client, programs.settings)
        until(lambda: checkpoints(client, programs.settings) > known)  # noqa: B023 - it is called at once
    events = {event.id: event for event in all_is_there(programs, tell)}
    assert len(set(programs.emitted())) == len(programs.emitted()) > len(told)
    for before, event_id, after in told:
        said = events[event_id].timestamp.timestamp()
        assert before - 1e-5 <= said <= after, "it is not what the clock said"


@pytest.mark.parametrize("hours", [5, -5])
def test_a_jump_in_the_middle_of_an_outage(programs, tell, hours):
    """What waits is sent as soon as the server is back, whatever the clock and the server's ``Retry-After`` say."""
    with FaultProxy(programs.settings.opensearch_url[0]) as proxy:

        def unavailable():
            back = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=1)
            return proxy.status(503, headers=[("retry-after", format_datetime(back, usegmt=True))])

        proxy.chance = unavailable
        tell("emit", 50, urls=[proxy.url])
        until(lambda: len(proxy.bulk_requests) >= 2)
        tell("jump", hours)
        assert tell("ailments") == [], "nothing has waited for a minute"
        tell("emit", 50)
        known = len(proxy.bulk_requests)
        until(lambda: len(proxy.bulk_requests) >= known + 2)
        proxy.chance = None
        begun = time.monotonic()
        assert tell("flush", PROMPT_SECONDS)
        assert time.monotonic() - begun < PROMPT_SECONDS
        tell("jump", 0)
        assert len(all_is_there(programs, tell)) >= 100


def test_a_host_that_failed_before_the_clock_was_set_back(programs, tell):
    """It is asked again within seconds, and needed: the other one fails now."""
    url = programs.settings.opensearch_url[0]
    with FaultProxy(url) as early, FaultProxy(url) as late:
        early.chance = lambda: early.status(503)
        tell("jump", 5, urls=[early.url, late.url])
        until(lambda: tell("emit", 1) and early.bulk_requests)
        early.chance = None
        tell("jump", 0)
        late.chance = lambda: late.status(503)
        tell("emit", 50)
        assert tell("flush", PROMPT_SECONDS)
        all_is_there(programs, tell)


def test_verification_while_the_clock_is_wrong(programs, tell, client):
    """A clock ahead is no finding. One behind cannot be told from a chain that was cut, and is named as a cause."""
    tell("emit", 5, urls=programs.settings.opensearch_url)

    def found():
        tell("emit", 5)
        assert tell("flush", PROMPT_SECONDS)
        client.request("POST", f"/{programs.settings.stream}/_refresh")
        with AuditReader(settings=programs.settings) as reader:
            return reader.verify().findings

    tell("jump", 5)
    assert found() == ()
    tell("jump", -5)
    (finding,) = found()
    assert finding.kind == "unfinished"
    assert "its clock is behind" in finding.sentence
    tell("jump", 0)
    assert found() == ()
    all_is_there(programs, tell)
