"""``kill -9`` of processes whose threads share writes and syncs."""

import os
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from tests.faults.interrupting import events_in

KILLS = 40

APPLICATION = """
    import itertools, os, random, signal, sys, threading, time
    import audit_logging as audit

    spool, kills, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    audit.configure(spool_dir=spool, ship=False, durability="disk", segment_max_bytes=65536, console=False)
    log = audit.get_logger()

    def emit():
        for number in itertools.count():
            os.write(1, log.user_login(user_id=str(os.getpid()), reason="x" * 300).encode() + b"\\n")
            if number == 10:
                os.write(begin, b".")

    for _ in range(int(kills)):
        began, begin = os.pipe()
        if not (process := os.fork()):
            for _ in range(12):
                threading.Thread(target=emit).start()
            signal.pause()
        os.read(began, 1)  # however busy the machine is, every child emits a while before it is killed
        time.sleep(chance.uniform(0.0, 0.06))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(began)
        os.close(begin)
"""


@pytest.mark.parametrize("seed", [3])
def test_what_returned_is_there_once(tmp_path, seed):
    """Whoever was writing for the others when it was killed; no sequence has a gap, and no chain a break."""
    application = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(APPLICATION), str(tmp_path), str(KILLS), str(seed)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )  # fmt: skip
    returned = application.stdout.split()
    found = Counter(event["event"]["id"] for event in events_in(tmp_path))
    assert len(returned) > 10 * KILLS
    assert set(returned) <= found.keys()
    assert set(found.values()) == {1}
