"""Handlers of signals and finalizers that emit, or end the trail, amid whatever an emit call or an ending may be doing.

None may wait for what it interrupted: that goes on only when the handler has returned.
"""

import contextlib
import os
import signal
import threading

import pytest

from audit_logging.capture import configuration
from audit_logging.capture.trail import Trail
from audit_logging.capture.writer import Writer, WriterClosedError
from audit_logging.settings import Settings
from audit_logging.shipping.bell import Bell
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.interrupting import (  # noqa: F401 - one is a fixture
    STUCK_SECONDS,
    at_every_moment,
    document,
    events_in,
    handling,
    messages_in,
    never_stuck,
    nobody_traces,
    run_at,
    send_never,
)
from tests.waiting import is_in, until


@pytest.fixture
def settings_here(tmp_path):
    return Settings.load(spool_dir=tmp_path / "spool", segment_max_bytes=4096, ship=False)


class Interrupted:
    """A writer, and what was written to it."""

    def __init__(self, settings):
        self.settings = settings
        self.writer = Writer(settings)
        self.written = []

    def write(self, *, durability="process", times=1):
        for _ in range(times):
            name = f"{len(self.written)}"
            self.written.append(name)
            if durability == "disk":
                self.writer.sync(self.writer.commit(document(name + "x" * 300)), name)
            else:
                self.writer.append(document(name + "x" * 300))

    def end(self):
        self.writer.close()

    def check(self):
        """Assert that everything is on the disk, each once, in chains without a gap."""
        self.writer.close()
        found = [message.rstrip("x") for message in messages_in(self.settings.spool_path)]
        assert sorted(found) == sorted(self.written)


@pytest.fixture
def interrupted(settings_here):
    interrupted = Interrupted(settings_here)
    yield interrupted
    interrupted.writer.close()


@pytest.mark.parametrize(("durability", "times"), [("disk", 1), ("process", 12)])
def test_a_handler_that_emits_amid_a_sync(interrupted, durability, times):
    """It needs the turn at the disk that its own thread has: for a sync, or to begin a segment."""
    handled = []

    def emit(*_):
        handled.append(None)
        interrupted.write(durability=durability, times=times)

    with handling(emit):
        at_every_moment(lambda: interrupted.write(durability="disk"), handled, step=times // 6 or 1)
    assert len(handled) > 20
    assert len(SpoolDirectory(interrupted.settings.spool_path).writers()) > 5, "some were in the middle"
    interrupted.check()


@pytest.mark.parametrize("what", ["emit", "close", "flush"])
def test_a_handler_amid_a_sync_that_another_thread_waits_for(interrupted, monkeypatch, what):
    """It wants the writer's lock, whose holder begins a segment and so waits for the sync that is interrupted."""
    acts = {
        "emit": interrupted.write,
        "close": interrupted.end,
        "flush": lambda: interrupted.writer.wait_until_acknowledged(1, 1),
    }
    fdatasync, handled, others = os.fdatasync, [], []
    interrupted.write()

    def emit():
        with contextlib.suppress(WriterClosedError):
            while not handled:
                others.append(f"other {len(others)}")
                interrupted.writer.append(document(others[-1] + "x" * 300))
            return
        others.pop()

    other = threading.Thread(target=emit, daemon=True)

    def handle(*_):
        acts[what]()
        handled.append(None)

    def interrupt(descriptor):
        if threading.current_thread() is threading.main_thread() and other.ident is None:
            other.start()
            until(lambda: is_in(other, "roll"))
            signal.raise_signal(signal.SIGUSR1)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", interrupt)
    with handling(handle), never_stuck():
        signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS)
        interrupted.write(durability="disk")
    other.join(STUCK_SECONDS)
    assert handled
    assert not other.is_alive()
    interrupted.written += others
    interrupted.check()


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_a_handler_that_closes_the_writer(interrupted, durability):
    """What is interrupted is written or refused; and the spool is given up, at the latest with the process."""
    handled = []

    def close(*_):
        handled.append(None)
        interrupted.end()

    def write():
        interrupted.writer = Writer(interrupted.settings)
        try:
            for _ in range(10):  # of which one begins a segment
                interrupted.write(durability=durability)
        except WriterClosedError:
            interrupted.written.pop()
        interrupted.end()

    with handling(close):
        at_every_moment(write, handled, step=7)
    assert len(handled) > 20
    interrupted.check()


def test_a_thread_of_its_own_waits_for_nobody(interrupted):
    """While one thread waits for the disk, what others emit goes into the same chain."""
    amid, go_on = threading.Event(), threading.Event()
    interrupted.write()
    spool = interrupted.writer._spool
    sync = spool.sync

    def hold(sequence):
        amid.set()
        go_on.wait(20)
        sync(sequence)

    spool.sync = hold
    thread = threading.Thread(target=interrupted.write, kwargs={"durability": "disk"})
    thread.start()
    assert amid.wait(20)
    interrupted.write(times=5)
    go_on.set()
    thread.join()
    assert len(SpoolDirectory(interrupted.settings.spool_path).writers()) == 1
    interrupted.check()


@pytest.mark.parametrize("outer", ["disk", "process"])
@pytest.mark.parametrize("others", [0, 3])
def test_a_finalizer_that_emits_in_any_thread(interrupted, outer, others):
    """It may strike whoever writes for the others, too, and wants its own event on the disk itself."""
    finalized, ended = [], threading.Event()
    written = [[] for _ in range(others)]

    def emit(thread, name):
        interrupted.writer.sync(interrupted.writer.commit(document(name)), name)
        written[thread].append(name)

    def finalize():
        finalized.append(None)
        interrupted.write(durability="disk")

    def act():
        for moment in range(1, 100_000, 3):
            known = len(finalized)
            run_at(moment, finalize)
            interrupted.write(durability=outer)
            send_never()
            if len(finalized) == known:
                break
        ended.set()

    def go_on(thread):
        while not ended.is_set():
            emit(thread, f"{thread}: {len(written[thread])}")

    threads = [threading.Thread(target=act, daemon=True)]
    threads += [threading.Thread(target=go_on, args=(thread,), daemon=True) for thread in range(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_SECONDS)
        assert not thread.is_alive()
    assert len(finalized) > 5
    interrupted.written += [name for names in written for name in names]
    interrupted.check()


def test_a_finalizer_that_emits_amid_a_childs_beginning(settings_here):
    """Its event is written, and no file closed twice, which may be another's by then."""
    trail = Trail(settings_here)
    emitted, finalized = [], []

    def emit():
        emitted.append(trail.emit("user.login", {}))

    def finalize():
        finalized.append(None)
        trail.begin_anew()
        emit()

    for moment in range(1, 100_000):
        known = len(finalized)
        emit()
        run_at(moment, finalize)
        trail.begin_anew()
        send_never()
        emit()
        if len(finalized) == known:
            break
    assert len(finalized) > 20
    trail.shutdown(0)
    assert sorted(emitted) == sorted(
        event["event"]["id"]
        for event in events_in(settings_here.spool_path)
        if event["event"]["action"] == "user.login"
    )


def test_bells_are_rung_amid_ringing():
    """By the handler of what interrupts it, or while it is waited for or cleared; nobody misses it."""
    bells, handled = [Bell()], []

    def ring(*_):
        handled.append(None)
        bells[-1].ring()

    def act():
        bells.append(Bell())
        bells[-1].ring()
        assert bells[-1].wait(5)
        assert bells[-1].is_rung
        bells[-1].clear()
        bells[-1].wait(0)

    with handling(ring):
        at_every_moment(act, handled)
    assert len(handled) > 10


@pytest.mark.parametrize("what", ["wake", "hurry", "end_when_done", "finish"])
def test_shippers_are_told_amid_being_told(settings_here, what):
    """Every emit call wakes it, so that a handler that emits does."""

    def another():
        return Shipper(settings_here, SpoolDirectory(settings_here.spool_path), None)

    shippers, handled = [another()], []

    def tell(*_):
        handled.append(None)
        shipper = shippers[-1]
        shipper.wake()
        shipper.hurry()
        shipper.end_when_done()
        shipper.finish(0)

    def act():
        does = getattr(shippers[-1], what)
        does(0) if what == "finish" else does()
        shippers.append(another())

    with handling(tell):
        at_every_moment(act, handled)
    assert len(handled) > 3


def test_the_trail_is_asked_for_while_it_is_made(tmp_path, monkeypatch):
    """By the first event, and by ``configure``: whatever is emitted is in one of the two."""
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "environment"))
    monkeypatch.setenv("AUDIT_SHIP", "false")
    made = Trail(Settings.load(spool_dir=tmp_path / "configured", ship=False))  # imports what there is to import
    before = configuration.swap_trail(None)
    emitted, handled = [], []

    def emit(*_):
        handled.append(configuration.current_trail().emit("user.logout", {}))

    def first():
        configuration.swap_trail(None)
        emitted.append(configuration.current_trail().emit("user.login", {}))
        configuration.shutdown(0)

    def configured():
        configuration.swap_trail(None)
        configuration.configure(spool_dir=tmp_path / "configured", ship=False, replace=True)
        emitted.append(configuration.current_trail().emit("user.login", {}))
        assert configuration.current_trail().settings.spool_path == tmp_path / "configured"
        configuration.shutdown(0)

    try:
        with handling(emit):
            at_every_moment(first, handled, step=397)
            at_every_moment(configured, handled, step=397)
    finally:
        configuration.swap_trail(before)
        made.shutdown(0)
    assert len(handled) > 20
    spools = [tmp_path / "environment", tmp_path / "configured"]
    found = [event["event"]["id"] for spool in spools for event in events_in(spool)]
    assert sorted(found) == sorted(emitted + handled)


def test_fields_are_protected_amid_protecting(tmp_path):
    """The key store is asked for another person's key while it is asked for one's."""
    trail = Trail(
        Settings.load(spool_dir=tmp_path / "spool", home=tmp_path / "home", ship=False, erasable_fields="user_email")
    )
    emitted, handled = [], []

    def emit_about(person):
        return trail.emit("user.login", {"user_id": person, "user_email": f"{person}@example.org"})

    with handling(lambda *_: handled.append(emit_about(f"h-{len(handled)}"))):
        at_every_moment(lambda: emitted.append(emit_about(f"u-{len(emitted)}")), handled, step=5)
    trail.shutdown(0)
    assert len(handled) > 20
    found = [event["event"]["id"] for event in events_in(tmp_path / "spool")]
    assert sorted(found) == sorted(emitted + handled)
