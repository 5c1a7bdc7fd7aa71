"""Processes of every making, and every way to end: what was emitted is there once, by a writer for each process."""

import signal
import subprocess
import sys

import pytest

from tests.waiting import until, until_ended

pytestmark = [pytest.mark.server, pytest.mark.slow]

START = "from tests.faults.emitting import emit, log, note\nimport asyncio, faulthandler, os, signal, sys, threading, time\n"


def writers_of(events):
    """Return the processes by writer."""
    return {event.get("audit.integrity.writer"): event.get("process.pid") for event in events}


WORK = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def work(number):
    for _ in range(5):
        emit(user_id=f"u-{number}")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    emit(user_id="parent")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    with ProcessPoolExecutor(2, mp_context=context) as pool, ThreadPoolExecutor(4) as threads:
        list(pool.map(work, range(6)))
        list(threads.map(work, range(6)))
    for child in children:
        child.join()
        assert child.exitcode == 0
    emit(user_id="parent")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_and_pools(programs, method):
    """multiprocessing's processes, concurrent.futures' pools and threads, together in one program."""
    programs.python(START + WORK, method)
    events = programs.reckon()
    writers = writers_of(events)
    assert len(events) == 2 + 5 * (3 + 6 + 6)
    assert 5 <= len(writers) == len(set(writers.values())) <= 6


COROUTINES = """
from concurrent.futures import ThreadPoolExecutor

async def work(number):
    for durability in ("process", "disk", "indexed"):
        note(await log.aemit("user.login", user_id=f"u-{number}", durability=durability))
    await asyncio.get_running_loop().run_in_executor(pool, emit)
    await asyncio.to_thread(emit)

async def main():
    await asyncio.gather(*[work(number) for number in range(8)])

with ThreadPoolExecutor(3) as pool:
    asyncio.run(main())
"""


def test_coroutines_and_their_executors(programs):
    """Of every durability; one process is one writer, and leaves nothing behind."""
    programs.python(START + COROUTINES)
    assert programs.writers() == []
    events = programs.reckon()
    assert (len(events), len(writers_of(events))) == (40, 1)


FORK_AMID_EMITS = """
stopping = threading.Event()

def work():
    while not stopping.wait(0.001):
        emit()

sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
children = []
for _ in range(20):
    if not (child := os.fork()):
        faulthandler.dump_traceback_later(20, exit=True)
        for _ in range(3):
            emit(user_id="child")
        os._exit(0)
    children.append(child)
    time.sleep(0)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stopping.set()
for thread in threads:
    thread.join()
assert not any(codes), codes
"""


def test_forks_while_other_threads_emit(programs):
    """At whatever moment of their calls; the children end by `os._exit`, and their parent adopts what they leave."""
    programs.python(START + FORK_AMID_EMITS)
    events = programs.reckon()
    assert len(writers_of(events)) == 21
    assert sum(event.user_id == "child" for event in events) == 60


ENDINGS = {
    "return": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise KeyError('no')", 1),
    "an exception in a thread": (
        (
            "def fail():\n    emit()\n    raise KeyError('no')\n"
            "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\nemit()"
        ),
        0,
    ),
    "os._exit": ("os._exit(4)", 4),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", -signal.SIGTERM),
    "SIGTERM, handled": (
        (
            "signal.signal(signal.SIGTERM, lambda *_: (emit(), sys.exit(5)))\n"
            "os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()"
        ),
        5,
    ),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "a fork that goes on": (
        (
            "r, w = os.pipe()\nif os.fork():\n    os.read(r, 1)\n    os._exit(0)\n"
            "os.setsid()\nprint(os.getpid(), flush=True)\nos.write(w, b'.')\nemit()"
        ),
        0,
    ),
}
BY_ITSELF = {"return", "sys.exit", "an exception", "an exception in a thread", "SIGTERM, handled"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_way_to_end(programs, ending):
    """Those that let Python end ship first; the others leave it to whoever comes next."""
    last, code = ENDINGS[ending]
    printed = programs.python(f"{START}for _ in range(20):\n    emit()\n{last}\n", code=code)
    if ending in BY_ITSELF:
        assert programs.writers() == []
    if ending == "a fork that goes on":
        until_ended(int(printed))
        assert len(programs.emitted()) == 21
    events = programs.reckon()
    assert len(events) == len(programs.emitted()) >= 20


def test_the_end_is_bounded_and_says_what_stays(programs):
    """With nobody listening: within the setting's time, and with the number and the place."""
    printed = programs.python(
        f"{START}for _ in range(7):\n    emit()\nbegun = time.monotonic()\n"
        "import atexit; atexit.register(lambda: print(f'took {time.monotonic() - begun:.0f}'))\n"
        "import audit_logging; atexit.register(audit_logging.shutdown)\n",
        AUDIT_OPENSEARCH_URL="http://127.0.0.1:1",
        AUDIT_SHUTDOWN_TIMEOUT_SECONDS="1",
    )
    assert f"7 audit events remain in the spool {programs.settings.spool_path}" in printed
    assert "took 1" in printed or "took 2" in printed
    assert len(programs.reckon()) == 7


EIGHT = """
from audit_logging.shipping import shipper
shipper.ADOPTION_SECONDS = 0.5
children = {}
for number in range(8):
    if not (child := os.fork()):
        while True:
            emit(user_id=f"u-{number}")
            time.sleep(0.002)
    children[child] = number
for line in sys.stdin:
    os.kill([*children][int(line)], signal.SIGKILL)
    print(os.waitpid([*children][int(line)], 0)[1], flush=True)
for child in [*children][3:]:
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
"""


def test_three_of_eight_forked_workers_are_killed(programs):
    """In the middle of emitting; what they leave is adopted by a living one, without anybody's doing."""
    program = subprocess.Popen(
        [sys.executable, "-c", f"{START}emit(user_id='parent')\n{EIGHT}"],
        env=programs.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: len(programs.writers()) == 9 and len(programs.emitted()) > 200, program)
        for number in range(3):
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            assert program.stdout.readline() == f"{int(signal.SIGKILL)}\n"
        until(lambda: len(programs.writers()) == 6, program)  # adopted, shipped and removed while the others go on
        program.communicate(timeout=60)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 0
    events = programs.reckon()
    assert len(set(writers_of(events).values())) == len(writers_of(events)) == 9
