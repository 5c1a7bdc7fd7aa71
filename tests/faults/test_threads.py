"""The library's threads through faults of the machine: descriptors and threads that run out, a disk that fails."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from audit_logging import background
from audit_logging.capture.checkpoints import Checkpoints
from audit_logging.capture.sidecar import sidecar
from audit_logging.capture.trail import Trail
from audit_logging.shipping import shipper as shipper_module
from audit_logging.shipping.source import Source
from audit_logging.spool import reader as reader_module
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import Records
from tests.faults.emitting import JOURNAL
from tests.faults.reckoning import reckon
from tests.shipping.spools import write_spool
from tests.waiting import until


def emit(trail, count):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]


APPLICATION = """
import json, os, resource, sys
import audit_logging

def emit():
    return audit_logging.get_logger().user_login(user_id="u-1")

def limit(name, count):
    which = getattr(resource, name)
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (hard if count is None else count, hard))

def open_files():
    return len(os.listdir("/proc/self/fd"))

def lower(user):
    os.setresuid(user, user, 0)

def rise():
    os.setresuid(0, 0, 0)

def health():
    found = audit_logging.health()
    return [found.is_ready, [[reason.kind, reason.sentence] for reason in found.reasons]]

does = {
    "emit": lambda count: [emit() for _ in range(count)],
    "limit": limit, "open_files": open_files, "lower": lower, "rise": rise, "health": health,
    "configure": audit_logging.configure, "flush": audit_logging.flush, "end": audit_logging.shutdown,
}
for line in sys.stdin:
    what, *values = json.loads(line)
    print(json.dumps(does[what](*values)), flush=True)
"""


@pytest.fixture
def of_everybody(programs):
    """Put the spool where any user may make it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        programs.environment["AUDIT_SPOOL_DIR"] = f"{directory}/spool"
        yield


@pytest.fixture
def tell(programs):
    """Tell an application what to do, and return what it answers."""
    script = programs.settings.home / "application.py"
    script.write_text(APPLICATION)
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=programs.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as application:

        def tell(*words):
            application.stdin.write(json.dumps(words) + "\n")
            application.stdin.flush()
            answer = application.stdout.readline()
            assert answer, "the application has ended"
            if words[0] == "emit":
                with Path(programs.environment[JOURNAL]).open("a") as journal:
                    journal.writelines(f"{event_id}\n" for event_id in json.loads(answer))
            return json.loads(answer)

        yield tell
        application.kill()


@pytest.mark.server
class TestRealLimits:
    def test_descriptors_that_run_out_for_a_moment_end_no_lane(self, programs, tell):
        """No file and no directory can be opened meanwhile; the segment that is written is open already."""
        tell("emit", 5)
        assert tell("flush", 20)
        for _ in range(4):  # there are three lanes
            tell("limit", "RLIMIT_NOFILE", tell("open_files") - 1)
            tell("emit", 20)
            until(lambda: not tell("health")[0], seconds=10)
            tell("limit", "RLIMIT_NOFILE", None)
            assert tell("flush", 20)
            until(lambda: tell("health") == [True, []])
        assert tell("end") == 0
        programs.reckon()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_threads_that_cannot_be_started_are_started_later(self, of_everybody, tell):
        """The first event is safe, health says at once what is wrong, and shipping begins when it is possible."""
        tell("configure")
        tell("limit", "RLIMIT_NPROC", 1)
        tell("lower", 54_321)
        try:
            tell("emit", 3)
            is_ready, ailments = tell("health")
            assert not is_ready
            (kind, sentence), *_ = ailments
            assert kind == "shipper stopped"
            assert "cannot be started" in sentence
            assert not tell("flush", 0.2)
            tell("limit", "RLIMIT_NPROC", None)
            assert tell("flush", 20)
            assert tell("health") == [True, []]
        finally:
            tell("rise")
        assert tell("end") == 0


@pytest.mark.server
class TestLanes:
    @pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError(), KeyError("x")])
    @pytest.mark.parametrize("where", ["segments_of", "_read_at"])
    def test_a_spool_that_cannot_be_read_for_a_moment(self, through_proxy, prepared, monkeypatch, error, where):
        """Every lane meets it several times."""
        monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 0.5)
        monkeypatch.setattr(shipper_module, "_READ_AGAIN_SECONDS", 0.1)
        trail = Trail(through_proxy.model_copy(update={"batches_in_flight": 2}))
        ids = emit(trail, 20)
        assert trail.flush(20)
        failed = []

        def fail(*_):
            failed.append(threading.current_thread().name)
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(reader_module, where, fail)
            ids += emit(trail, 20)
            until(lambda: len(failed) >= 5)
        assert trail.flush(20)
        until(lambda: trail.health().status == "ok")
        assert trail.shutdown(10) == 0
        reckon(prepared, ids)

    def test_a_batch_is_not_sent_again_because_it_could_not_be_settled(
        self, proxy, through_proxy, prepared, monkeypatch
    ):
        settle, failures = Source.settle, [OSError(errno.EIO, "Input/output error")] * 3

        def fail_first(*arguments):
            if failures:
                raise failures.pop()
            return settle(*arguments)

        monkeypatch.setattr(Source, "settle", fail_first)
        trail = Trail(through_proxy)
        ids = emit(trail, 5)
        assert trail.flush(20)
        assert failures == []
        sent = b"".join(proxy.bulk_requests)
        assert all(sent.count(each.encode()) == 1 for each in ids)
        assert trail.shutdown(10) == 0
        reckon(prepared, ids)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_lane_that_is_killed_is_replaced_and_loses_nothing(self, proxy, through_proxy, prepared):
        """In the middle of a request that waits; its batch is delivered by the thread that takes its place."""
        proxy.chance = lambda: proxy.status(503)
        trail = Trail(through_proxy.model_copy(update={"batches_in_flight": 1}))
        ids = emit(trail, 5)
        until(lambda: proxy.bulk_requests)
        thread = trail._shipper._lanes[0].thread._thread
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        until(lambda: not thread.is_alive())
        proxy.chance = None
        until(lambda: trail._shipper._lanes[0].thread.is_alive, seconds=5)
        assert trail.flush(20)
        assert trail.shutdown(10) == 0
        reckon(prepared, ids)

    def test_health_says_at_once_that_no_lane_works(self, through_proxy, prepared, monkeypatch):
        """And that it is over."""
        trail = Trail(through_proxy)
        emit(trail, 1)
        assert trail.flush(20)
        with monkeypatch.context() as broken:
            broken.setattr(Source, "take", lambda *_: 1 / 0)
            trail.emit("user.login", {"user_id": "u-1"})
            began = time.monotonic()
            until(lambda: not trail.health().is_ready)
            assert time.monotonic() - began < 2
            (reason,) = trail.health().reasons
            assert (reason.kind, "ZeroDivisionError" in reason.sentence) == ("shipper stopped", True)
        assert trail.flush(20)
        until(lambda: trail.health().status == "ok")
        assert trail.shutdown(10) == 0

    def test_a_sidecar_goes_on_after_errors(self, prepared, monkeypatch):
        """Where the spool directory cannot be listed for a moment."""
        trail = Trail(prepared.model_copy(update={"ship": False}))
        ids = emit(trail, 5)
        shipper = sidecar(prepared)
        failures = [OSError(errno.EMFILE, "Too many open files")] * 6
        writers = shipper._directory.writers
        monkeypatch.setattr(shipper._directory, "writers", lambda: 1 / 0 if failures and failures.pop() else writers())
        shipper.start()
        assert trail.flush(30)
        assert shipper.finish(10)
        assert trail.shutdown(0) == 0
        reckon(prepared, ids)


class TestMemory:
    def test_records_that_were_read_and_not_returned_are_read_again(self, tmp_path, monkeypatch):
        """They would be acknowledged with what comes next, and lost."""
        path = write_spool(tmp_path, [b'{"n":%d}' % number for number in range(10)])
        reader = SpoolReader(path)
        extend, failures = Records.extend, [MemoryError()]

        def fail_once(*arguments):
            if failures:
                raise failures.pop()
            extend(*arguments)

        monkeypatch.setattr(Records, "extend", fail_once)
        with pytest.raises(MemoryError):
            reader.read(1 << 20)
        assert list(reader.read(1 << 20).sequences) == list(range(1, 11))

    def test_records_that_are_in_no_batch_are_read_again(self, tmp_path, monkeypatch):
        path = write_spool(tmp_path, [b'{"n":%d}' % number for number in range(10)])
        source = Source(SpoolReader(path), is_final=lambda: False)
        with monkeypatch.context() as full, pytest.raises(MemoryError):
            full.setattr("audit_logging.shipping.source.Batch", _no_memory)
            source.take(1 << 20)
        batch, _ = source.take(1 << 20)
        assert list(batch.records.sequences) == list(range(1, 11))


def _no_memory(*_, **__):
    raise MemoryError


class TestCheckpoints:
    def test_one_that_cannot_be_written_is_tried_again_soon(self, caplog):
        failures, written = [OSError(errno.ENOSPC, "No space left on device"), MemoryError()], threading.Event()

        def write():
            if failures:
                raise failures.pop()
            written.set()

        made = Checkpoints(0.01, write, None)
        made.start()
        until(lambda: made.problem or written.is_set())
        assert written.wait(20)
        until(lambda: not made.problem)
        made.stop(10)
        assert "audit-logging-checkpoints failed" in caplog.text
