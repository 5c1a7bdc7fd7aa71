"""gunicorn as it is, with nothing written for it: workers that are killed, recycled and reloaded lose nothing."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from audit_logging.local.instance import free_port
from tests.faults.programs import get
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

PRELOAD = ["--preload"]


def gunicorn(programs, port, *options, **environment):
    command = [sys.executable, "-m", "gunicorn", "tests.faults.emitting:application", "--bind", f"127.0.0.1:{port}"]
    return programs.start(*command, "--workers", "2", "--graceful-timeout", "20", *options, **environment)


def get_many(port, path, times):
    """Return the processes that answered."""
    with ThreadPoolExecutor(4) as pool:
        return {pid for pid in pool.map(lambda _: get(port, path), range(times)) if pid}


@pytest.mark.parametrize("preload", [[], PRELOAD], ids=["", "preload"])
@pytest.mark.parametrize("worker", [["-k", "sync"], ["-k", "gthread", "--threads", "4"]], ids=["sync", "gthread"])
def test_workers_that_are_killed_reloaded_and_stopped(programs, worker, preload):
    """One by `kill -9` in the middle of a request, the others by HUP and by TERM, which ship before they end."""
    port = free_port()
    with gunicorn(programs, port, *worker, *preload, AUDIT_TEST_EMIT_AT_IMPORT="1") as master:
        until(lambda: get(port, "/1"), master)
        get_many(port, "/5", 20)
        assert get(port, "/3/killed") == ""
        before = get_many(port, "/5", 20)
        os.kill(master.pid, signal.SIGHUP)
        until(lambda: not {get(port, "/1"), get(port, "/1")} & {*before, ""}, master)
        get_many(port, "/5", 20)
        os.kill(master.pid, signal.SIGTERM)
        assert master.wait(30) == 0
    left = programs.writers()
    assert len(left) <= 1  # that of the killed worker, if no other came to adopt it
    events = programs.reckon()
    assert {str(event.get("process.pid")) for event in events} >= before


def test_workers_that_are_recycled_all_the_time(programs):
    """`--max-requests`: each ships what it has before it ends."""
    port = free_port()
    with gunicorn(programs, port, "--max-requests", "5") as master:
        until(lambda: get(port, "/1"), master)
        workers = get_many(port, "/4", 30)
        os.kill(master.pid, signal.SIGTERM)
        assert master.wait(30) == 0
    assert len(workers) > 3
    assert programs.writers() == []
    programs.reckon()
