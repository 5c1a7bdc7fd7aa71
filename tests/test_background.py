"""Background threads: every exception is survived, reported once a minute, and tried again."""

import ctypes
import threading

import pytest

from audit_logging import background
from audit_logging.background import BackgroundThread
from tests.waiting import until


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 0.01)


def not_yet(_seconds):
    return False


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), RecursionError(), KeyError("x")])
def test_a_step_that_raises_is_repeated(error, caplog):
    failures = [error] * 5
    done = threading.Event()

    def step():
        if failures:
            raise failures.pop()
        done.set()
        return False

    thread = BackgroundThread("audit-test", step, not_yet)
    thread.ensure_running()
    assert done.wait(20)
    assert thread.join(20)
    assert thread.problem == ""
    assert caplog.text.count("Audit thread audit-test failed") == 1


def test_the_problem_is_known_while_it_lasts():
    over = threading.Event()

    def step():
        if not over.is_set():
            raise OSError(5, "Input/output error\x1b[31m\n")
        return False

    thread = BackgroundThread("audit-test", step, not_yet)
    thread.ensure_running()
    until(lambda: "Input/output error" in thread.problem)
    assert thread.problem.isprintable()
    over.set()
    assert thread.join(20)


def test_a_thread_that_cannot_be_started_is_started_later(monkeypatch, caplog):
    ran = threading.Event()

    def step():
        ran.set()
        return False

    def refuse(_):
        raise RuntimeError("can't start new thread")

    thread = BackgroundThread("audit-test", step, not_yet)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        thread.ensure_running()
        thread.ensure_running()
    assert "cannot be started" in thread.problem
    assert not thread.join(0)
    assert caplog.text.count("cannot be started") == 1
    thread.ensure_running()
    assert ran.wait(20)
    assert thread.join(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_started_again():
    """By an exception that is no ``Exception``, set from outside."""
    steps = []
    over = threading.Event()

    def step():
        steps.append(threading.get_ident())
        return not over.wait(0.001)

    thread = BackgroundThread("audit-test", step, not_yet)
    thread.ensure_running()
    until(lambda: steps)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(steps[0]), ctypes.py_object(SystemExit))
    until(lambda: not thread.is_alive)
    known = len(steps)
    thread.ensure_running()
    until(lambda: len(steps) > known)
    over.set()
    assert thread.join(20)
    thread.ensure_running()
    assert not thread.is_alive, "what is done for good is not started again"


def test_it_ends_in_a_pause_when_told():
    def step():
        raise OSError(5, "Input/output error")

    thread = BackgroundThread("audit-test", step, lambda _seconds: True)
    thread.ensure_running()
    assert thread.join(20)
