"""Celery's prefork pool as it is: its children, one of which is killed, and a warm shutdown."""

import os
import signal
import sys

import pytest

from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

SEND = """
from tests.faults.celery_tasks import die, work
for number in range(8):
    work.delay(number)
    if number == 3:
        die.delay()
"""


def test_the_children_of_a_pool(programs):
    """The tasks' events are there once each, those of the child that was killed with them."""
    queue = programs.settings.home / "queue"
    queue.mkdir()
    environment = {"AUDIT_TEST_QUEUE": str(queue)}
    programs.python(SEND, **environment)
    command = [sys.executable, "-m", "celery", "-A", "tests.faults.celery_tasks", "worker", "--concurrency", "2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with programs.start(*command, **environment) as worker:
        until(lambda: len(programs.emitted()) >= 25, worker)
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(60) == 0, programs.output.read_text()
    assert len(programs.writers()) <= 1  # that of the killed child, if no other came to adopt it
    events = programs.reckon()
    assert {event.user_id for event in events} == {"killed", *(f"task-{number}" for number in range(8))}
    processes = {event.get("process.pid") for event in events}
    writers = {event.get("audit.integrity.writer") for event in events}
    assert len(writers) == len(processes) >= 2
