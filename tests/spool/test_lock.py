"""A lock belongs to one process: no child, forked or started, keeps it after that process's death."""

import signal

import pytest

from audit_logging.spool.lock import FileLock


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    return path


def test_one_holds_it_at_a_time(path):
    """Two objects of one process are two holders; taking what one has is nothing new."""
    one, other = FileLock(), FileLock()
    assert one.take(path)
    assert one.take(path)
    assert (one.held, other.take(path), other.held) == (True, False, False)
    one.release()
    one.release()
    assert other.take(path)
    other.release()


def test_it_is_made_only_when_asked_for(tmp_path):
    """Whoever looks at a directory that goes must not leave a file in it."""
    lock = FileLock()
    assert not lock.take(tmp_path / "none")
    assert not lock.take(tmp_path / "none" / "deeper")
    assert list(tmp_path.iterdir()) == []
    assert lock.take(tmp_path / "made", create=True)
    with pytest.raises(FileExistsError):
        FileLock().take(tmp_path / "made", create=True)
    lock.release()


def test_a_link_is_not_followed(tmp_path, path):
    """Nobody else's file is locked in our name."""
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="link"):
        FileLock().take(tmp_path / "link")


CHILD = "print('there is a child'); input()"
CHILDREN = {
    "forked": "os.fork() or live()",
    "forked without Python's hooks": "ctypes.PyDLL(None).fork() or live()",
    "forked by a child": "os.fork() or (os.fork() and (os.wait(), os._exit(0))) or live()",
    "started, inheriting all it can": f"subprocess.Popen([sys.executable, '-c', {CHILD!r}], close_fds=False)",
    "started by multiprocessing": f"multiprocessing.get_context('spawn').Process(target=exec, args=({CHILD!r},)).start()",
}
PARENT = """
import ctypes, multiprocessing, os, signal, subprocess, sys
from pathlib import Path
from audit_logging.spool.lock import FileLock

def live():
    print("there is a child")
    sys.stdin.read()
    os._exit(0)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
lock = FileLock()
assert lock.take(Path(sys.argv[1]))
exec(sys.argv[2])
signal.sigwait({signal.SIGUSR1})
lock.release()
print("released")
sys.stdin.read()
"""


@pytest.mark.parametrize("child", [name for name in CHILDREN if name != "forked without Python's hooks"])
def test_it_dies_with_its_process_whatever_children_live(path, program, child):
    """A gunicorn master that is killed leaves its spool to others, though its workers live."""
    process = program(PARENT, path, CHILDREN[child])
    assert process.stdout.readline() == "there is a child\n"
    assert not FileLock().take(path)
    process.kill()
    process.wait()
    lock = FileLock()
    assert lock.take(path)
    lock.release()


@pytest.mark.parametrize("child", CHILDREN)
def test_it_is_free_once_released_whatever_children_live(path, program, child):
    """Even a child that was forked behind Python's back does not keep what its parent gives up."""
    process = program(PARENT, path, CHILDREN[child])
    assert process.stdout.readline() == "there is a child\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "released\n"
    lock = FileLock()
    assert lock.take(path)
    lock.release()


def test_a_child_cannot_give_up_its_parents_lock(path, program):
    """Neither by its own copy of the object, nor by ending."""
    process = program(
        """
        import ctypes, os, sys
        from pathlib import Path
        from audit_logging.spool.lock import FileLock
        lock = FileLock()
        assert lock.take(Path(sys.argv[1]))
        for fork in (os.fork, ctypes.PyDLL(None).fork):
            if not (child := fork()):
                lock.release()
                os._exit(lock.held)
            assert os.waitpid(child, 0)[1] == 0
            assert not FileLock().take(Path(sys.argv[1]))
        print("still locked")
        """,
        path,
    )
    assert process.stdout.readline() == "still locked\n"


def test_a_child_forked_while_another_thread_takes_and_releases_has_no_lock(path, program):
    """At whatever moment of the other thread's work the fork comes; and the child can lock for itself."""
    process = program(
        """
        import os, sys, threading
        from pathlib import Path
        from audit_logging.spool.lock import FileLock
        path = Path(sys.argv[1])
        stopping = threading.Event()

        def work():
            lock = FileLock()
            while not stopping.is_set():
                lock.take(path)
                lock.release()

        def has_lock():
            for name in os.listdir("/proc/self/fd"):
                try:
                    if os.readlink(f"/proc/self/fd/{name}") == str(path):
                        return True
                except OSError:
                    continue
            return False

        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(200):
            if not (child := os.fork()):
                clean = not has_lock()
                locking = threading.Thread(target=FileLock().take, args=(path,), daemon=True)
                locking.start()
                locking.join(20)
                os._exit(not clean or locking.is_alive())
            if found := os.waitpid(child, 0)[1]:
                break
        stopping.set()
        thread.join()
        print(found)
        """,
        path,
    )
    assert process.stdout.readline() == "0\n"
