"""A process has its own: it is begun anew in every child, also in one that was forked without telling Python."""

import ctypes
import os

import orjson
import pytest

from audit_logging import forks
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader

raw_fork = ctypes.PyDLL(None).fork


def in_child(fork, function):
    """Return the exit code of a child that returns what *function* does."""
    child = fork()
    if not child:
        code = 99
        try:
            code = int(function())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(params=[forks.same_process, forks._ByProcessId()], ids=["wiped by the kernel", "by process id"])
def same_process(request, monkeypatch):
    monkeypatch.setattr(forks, "same_process", request.param)
    return request.param


@pytest.fixture
def begun(monkeypatch):
    """Nothing else begins anew; one item for each time that something does."""
    begun = []
    monkeypatch.setattr(forks, "_beginnings", [lambda: begun.append(os.getpid())])
    return begun


@pytest.mark.skipif(isinstance(forks.same_process, forks._ByProcessId), reason="no kernel for it")
def test_the_kernel_wipes_the_mark():
    """So that asking costs a look into memory."""
    assert in_child(raw_fork, lambda: forks.same_process[0]) == 0


def test_a_child_that_python_forked_begins_anew_by_itself(same_process, begun):
    """Once, before anybody asks."""
    assert in_child(os.fork, lambda: begun == [os.getpid()] and same_process[0]) == 1
    assert begun == []


def test_a_child_that_it_did_not_fork_begins_anew_when_asked(same_process, begun):
    """Once; and so does a child of that."""

    def ask():
        before = bool(same_process[0])
        for _ in range(2):
            if not same_process[0]:
                forks.begin_anew()
        return not before and begun[-1:] == [os.getpid()] and len(begun) == len({*begun})

    assert in_child(raw_fork, lambda: ask() and in_child(raw_fork, ask)) == 1
    assert same_process[0]


def test_a_kernel_that_wipes_nothing_is_seen_through(monkeypatch):
    """An old one, or a sandbox in its place."""
    monkeypatch.setattr(forks, "_WIPE_ON_FORK", 9999)
    assert isinstance(forks._mark(), forks._ByProcessId)


FORK_AMID_LOCKS = """
    import ctypes, faulthandler, os, sys, threading
    import audit_logging as audit
    from audit_logging import forks
    from audit_logging.capture import configuration

    spool, how = sys.argv[1:]
    audit.configure(spool_dir=spool, ship=False)
    log = audit.get_logger()
    ids = [log.user_logout()]
    trail = configuration.current_trail()
    parent = trail.writer_id
    locks = [trail._writer._lock, trail._beginning, configuration._lock]
    if how == "raw":  # for the first of these a fork by Python waits
        locks += [forks.undivided(), forks._locks.setdefault(os.getpid(), threading.RLock())]
    for each in locks:  # by this thread, which the others of a child are not
        each.acquire()

    def open_files():
        for name in os.listdir("/proc/self/fd"):
            if os.path.exists(path := f"/proc/self/fd/{name}"):
                yield os.readlink(path)

    def emit_in_threads():
        faulthandler.dump_traceback_later(20, exit=True)
        ids.clear()
        threads = [threading.Thread(target=lambda: ids.append(log.user_logout())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not [path for path in open_files() if parent in path]

    children = []
    for _ in range(3):
        if not (child := (ctypes.PyDLL(None) if how == "raw" else os).fork()):
            try:
                emit_in_threads()
                os.write(1, " ".join([trail.writer_id, *ids, "\\n"]).encode())  # whole, whoever else writes
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    for each in reversed(locks):
        each.release()
    ids.append(log.user_logout())
    print(trail.writer_id, *ids, flush=True)
"""


@pytest.mark.parametrize("how", ["raw", "by Python"])
def test_a_child_of_a_parent_that_holds_every_lock_emits_all_the_same(program, tmp_path, how):
    """As a writer of its own, with ids of its own, and nothing of its parent's spool open any more."""
    process = program(FORK_AMID_LOCKS, tmp_path, how)
    lines = [line.split() for line in process.communicate(timeout=60)[0].splitlines()]
    assert len(lines) == 4
    writers, ids = zip(*((line[0], line[1:]) for line in lines), strict=True)
    assert sorted(map(len, ids)) == [2, 4, 4, 4]
    assert len(set(writers)) == 4
    assert len({event_id for each in ids for event_id in each}) == 14
    kept = {path.name: SpoolReader(path).read(1 << 20) for path in SpoolDirectory(tmp_path).writers()}
    found = {
        name: [orjson.loads(record.payload)["event"]["id"] for record in records] for name, records in kept.items()
    }
    assert {name: sorted(each) for name, each in found.items()} == {
        name: sorted(each) for name, each in zip(writers, ids, strict=True)
    }
