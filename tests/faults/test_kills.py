"""``kill -9`` of an application at any moment, two hundred times; each that comes next adopts what the dead left."""

import os
import subprocess
import sys
import textwrap

import pytest

from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.reckoning import reckon

pytestmark = pytest.mark.server

KILLS = 200

APPLICATION = """
    import os, random, signal, sys, time
    import audit_logging as audit

    spool, stream, url, kills, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    audit.configure(
        spool_dir=spool, stream=stream, opensearch_url=url, batch_seconds=0.01, segment_max_bytes=16384, console=False
    )
    log = audit.get_logger()

    def emit(pause):
        while True:
            event_id = log.user_login(user_id=str(os.getpid()), reason="x" * 300)
            os.write(1, event_id.encode() + b"\\n")
            time.sleep(pause) if pause else None

    def first_seconds():
        # How long a forked child takes to its first event, on this machine as it is now.
        read, write = os.pipe()
        began = time.monotonic()
        if not (process := os.fork()):
            os.write(1, log.user_login(user_id=str(os.getpid())).encode() + b"\\n")
            os.write(write, b".")
            signal.pause()
        os.read(read, 1)
        seconds = time.monotonic() - began
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return seconds

    window = max(0.05, 4 * max(first_seconds() for _ in range(5)))
    living = {}
    for number in range(int(kills)):
        ships = chance.random() < 0.1  # the others die before they have sent anything
        seconds = chance.uniform(0.1, 0.6) if ships else chance.uniform(0.0, window)
        if not (process := os.fork()):
            emit(0.005 if ships else 0)
        living[process] = time.monotonic() + seconds
        while len(living) == 5 or (living and number == int(kills) - 1):
            first = min(living, key=living.get)
            time.sleep(max(0, living.pop(first) - time.monotonic()))
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
"""


@pytest.mark.parametrize("seed", [9])
def test_two_hundred_kills_lose_and_double_nothing(prepared, seed):
    """Every event whose call returned is in the stream once, and no writer's sequence has a gap."""
    application = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(APPLICATION),
         *map(str, (prepared.spool_path, prepared.stream, prepared.opensearch_url[0], KILLS, seed))],
        stdout=subprocess.PIPE, text=True, check=True, timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )  # fmt: skip
    ids = application.stdout.splitlines()
    left = SpoolDirectory(prepared.spool_path, prepared.stream)
    assert left.writers(), "the last to be killed are adopted by nobody"
    last = Shipper(prepared, left, None)
    last.start()
    assert last.finish(60)
    assert left.writers() == []
    events = reckon(prepared, ids)
    assert len({event.get("audit.integrity.writer") for event in events}) > KILLS / 2
    assert last.shipped < len(events), "the living shipped what the dead had left"
