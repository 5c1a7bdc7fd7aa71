"""uWSGI, which forks without telling Python: each worker notices, and is a writer of its own."""

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audit_logging.local.instance import free_port
from tests.faults.programs import get
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]


def uwsgi(programs, port, *options, **environment):
    command = [str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{port}", "--master"]
    served = ["--module", "tests.faults.emitting:application", "--virtualenv", sys.prefix, "--need-app"]
    # What stands in the guide, and nothing else that has to do with this library.
    recipe = ["--enable-threads", "--die-on-term"]
    return programs.start(*command, *served, *recipe, "--processes", "2", *options, **environment)


def get_many(port, path, times):
    """Return the processes that answered."""
    with ThreadPoolExecutor(4) as pool:
        return {pid for pid in pool.map(lambda _: get(port, path), range(times)) if pid}


def stop(master):
    """End it, as systemd does: all its processes, within 90 s. A worker misses the signal while it starts.

    So it is sent again. A worker ends its Python in the handler of that signal, and seldom hangs there; uWSGI kills it
    after 60 s (worker-reload-mercy).
    """
    for _ in range(60):
        os.killpg(master.pid, signal.SIGTERM)
        try:
            master.wait(1.5)
            return
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"it does not end: {states_of(master)}")


def states_of(master):
    """Return what is left of its processes, and in which call each of their threads is."""
    left = {}
    for status in Path("/proc").glob("[0-9]*/task/[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended
            if os.getpgid(int(status.parts[2])) == master.pid:
                signals = [line for line in status.read_text().splitlines() if line.startswith(("State", "Sig", "Shd"))]
                left[status.parent.relative_to("/proc")] = (*signals, (status.parent / "syscall").read_text())
    return left


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ([], {}),
        (["--threads", "4"], {}),
        (["--lazy-apps", "--threads", "4"], {"AUDIT_TEST_EMIT_AT_IMPORT": "1"}),
        (["--max-requests", "5", "--min-worker-lifetime", "0"], {}),
    ],
    ids=["preloaded", "preloaded, threads", "lazy, threads", "preloaded, recycled"],
)
def test_workers_that_are_killed_and_stopped(programs, options, environment):
    """One by `kill -9` in the middle of a request, the others by TERM, which ship before they end."""
    port = free_port()
    with uwsgi(programs, port, *options, **environment) as master:
        until(lambda: get(port, "/1"), master)
        workers = {get(port, "/1")}
        until(lambda: workers.add(get(port, "/1")) or len(workers) > 1, master)
        workers |= get_many(port, "/5", 10)
        assert get(port, "/3/killed") == ""
        until(lambda: get(port, "/1") not in {*workers, ""}, master)
        workers |= get_many(port, "/5", 10)
        stop(master)
    events = programs.reckon()
    writers = {event.get("audit.integrity.writer"): str(event.get("process.pid")) for event in events}
    assert workers <= set(writers.values())
    assert len(writers) == len(set(writers.values()))


def test_a_preloaded_application_that_emitted_before_its_workers_were_forked(programs):
    """The master's own events ship from the master, and no worker writes into its spool."""
    port = free_port()
    with uwsgi(programs, port, AUDIT_TEST_EMIT_AT_IMPORT="1", AUDIT_SHIP="false") as master:
        until(lambda: get(port, "/1"), master)
        workers = get_many(port, "/5", 10)
        stop(master)
    events = programs.reckon()
    (first,) = (event for event in events if event.user_id == "at-import")
    assert str(first.get("process.pid")) not in workers
    assert sum(event.get("process.pid") == first.get("process.pid") for event in events) == 1
