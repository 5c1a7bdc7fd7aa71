"""Threads that share a write and a sync: who waits for whom, and what each is told."""

import contextlib
import ctypes
import os
import random
import sys
import threading

import pytest

from audit_logging.capture import commit
from audit_logging.capture.commit import GroupCommit
from audit_logging.capture.trail import Trail
from audit_logging.capture.writer import Writer
from audit_logging.errors import SpoolFullError, SpoolWriteError
from audit_logging.settings import Settings
from tests.faults.interrupting import document, events_in, messages_in, run_at, send_never
from tests.spool.conftest import fill, small_disk  # noqa: F401 - a fixture
from tests.waiting import until

SECONDS = 30
"""After which a thread is stuck."""


class Disk:
    """What a commit writes to and syncs, and the threads that commit.

    Attributes:
        written: The names of what was written, in order.
        syncs: Up to where each sync went.
        expected: How many threads had been known before each.
        told: What each name's thread was told: its sequence, or an error.
    """

    def __init__(self):
        self.written = []
        self.syncs = []
        self.expected = []
        self.told = {}
        self.commit = GroupCommit(self.write, self.sync)
        self.threads = []
        self.amid_sync, self.go_on = threading.Event(), threading.Event()

    def write(self, turn):
        self.written.append(turn.document.event_id)
        turn.sequence = len(self.written)

    def sync(self, sequence):
        self.syncs.append(sequence)
        self.expected.append(self.commit._expected)
        self.amid_sync.set()
        assert self.go_on.wait(SECONDS)

    def join(self, name):
        try:
            self.told[name] = self.commit.join(document(name))
        except BaseException as error:
            self.told[name] = error

    def start(self, *names):
        """Let one thread commit each name, one after the other: the first until it syncs, the others wait for it."""
        for name in names:
            is_first, known = not self.threads, len(self.commit._waiting)
            self.threads.append(threading.Thread(target=self.join, args=(name,), daemon=True))
            self.threads[-1].start()
            until(self.amid_sync.is_set if is_first else lambda: len(self.commit._waiting) > known)  # noqa: B023

    def end(self):
        """Let the sync end, and wait for all threads."""
        self.go_on.set()
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive(), "a thread was forgotten"


def end(group, threads):
    """Wait for the threads; those that wait for one that is gone are told so."""
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a thread was forgotten"
        group._expected = 0
        group._wake_first()


@pytest.fixture
def disk():
    return Disk()


def test_who_comes_during_a_sync_shares_the_next(disk):
    """One of them writes for all in the order in which they came, and syncs once."""
    disk.start("first", *"abcdef")
    disk.end()
    assert disk.written == ["first", *"abcdef"]
    assert disk.syncs == [1, 7]
    assert disk.expected == [0, 7]
    assert disk.told == {name: number for number, name in enumerate(disk.written, 1)}


def test_as_many_as_the_last_time_gather(disk, monkeypatch):
    """Nobody leads before they are here, if the first has the patience."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", SECONDS)
    disk.commit._expected, disk.commit._seconds = 3, SECONDS
    disk.amid_sync.set()
    disk.go_on.set()
    disk.threads = [threading.Thread(target=disk.join, args=(name,), daemon=True) for name in "abc"]
    for number, thread in enumerate(disk.threads):
        thread.start()
        until(lambda: len(disk.commit._waiting) > number or number == 2)  # noqa: B023 - it is called here
    disk.end()
    assert disk.syncs == [3]


def test_the_first_does_not_wait_for_ever(disk):
    """Where fewer come than the last time, it leads those who are here; where as many come, the last of them does."""
    disk.start("first", *"ab")
    disk.end()
    assert disk.commit._expected == 2
    disk.go_on.clear()
    disk.amid_sync.clear()
    disk.threads.clear()
    disk.start("alone")
    disk.end()
    assert disk.syncs == [1, 3, 4]


def test_an_error_is_told_to_the_one_whose_event_it_cost(disk, monkeypatch):
    """The others are served all the same."""
    write = disk.write

    def refuse(turn):
        if turn.document.event_id == "b":
            turn.error = SpoolWriteError("no room", event_id="b", state="refused")
        else:
            write(turn)

    monkeypatch.setattr(disk.commit, "_write", refuse)
    disk.start("first", *"abc")
    disk.end()
    assert isinstance(disk.told.pop("b"), SpoolWriteError)
    assert disk.told == {"first": 1, "a": 2, "c": 3}


def test_the_trouble_of_who_writes_is_its_own(tmp_path, monkeypatch):
    """A thread deep in recursion writes for another: that one hears nothing of it, and each event is there once."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", SECONDS)
    trail = Trail(Settings.load(spool_dir=tmp_path, ship=False, durability="disk", signing=False))
    returned, raised = [trail.emit("user.login", {})], []
    group = trail._writer._commit

    def deep(levels):
        return deep(levels - 1) if levels else trail.emit("user.login", {})

    def emit_at(levels):
        with contextlib.suppress(RecursionError):
            returned.append(deep(levels))

    def emit():
        try:
            returned.append(trail.emit("user.login", {}))
        except BaseException as error:
            raised.append(error)

    limit = sys.getrecursionlimit()
    for levels in range(limit - 60, limit - 5):
        group._expected, group._seconds = 2, SECONDS
        threads = [threading.Thread(target=emit), threading.Thread(target=emit_at, args=(levels,))]
        for thread in threads:
            thread.start()
            until(lambda: group._waiting or len(returned) > 1 or raised)  # the first is there before the second
        end(group, reversed(threads))
    assert raised == []
    assert not any(lock.locked() for lock in group.members.values())
    trail.shutdown(0)
    found = [event["event"]["id"] for event in events_in(tmp_path)]
    assert set(returned) <= set(found)
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_who_writes_is_broken_off_at_any_moment(tmp_path, monkeypatch):
    """By an exception that is set into its thread: the others go on, and their events are there once."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", 2)
    writer = Writer(Settings.load(spool_dir=tmp_path, ship=False))
    writer.append(document("begin"))
    group, told, struck = writer._commit, {}, []

    def strike():
        struck.append(None)
        identifier = ctypes.c_ulong(threading.get_ident())
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identifier, ctypes.py_object(KeyboardInterrupt))

    def emit(name, moment=0):
        try:
            if moment:
                run_at(moment, strike)
            writer.sync(writer.commit(document(name)), name)
            told[name] = "safe"
        except BaseException as error:
            told[name] = type(error)
        finally:
            send_never()

    for moment in range(1, 10_000):
        known = len(struck)
        group._expected, group._seconds = 3, SECONDS
        threads = [
            threading.Thread(target=emit, args=arguments, daemon=True)
            for arguments in ((f"{moment} a",), (f"{moment} b",), (f"{moment} broken", moment))
        ]
        for place, thread in enumerate(threads):
            thread.start()
            until(lambda: place == 2 or len(group._waiting) > place or f"{moment} a" in told)  # noqa: B023
        end(group, reversed(threads))
        if len(struck) == known:
            break
    writer.close()
    assert len(struck) > 50
    assert {told[name] for name in told if "broken" not in name} == {"safe"}
    found = messages_in(tmp_path)
    assert {name for name in told if told[name] == "safe"} <= set(found)
    assert len(set(found)) == len(found)


def test_threads_share_while_there_is_room_for_their_events(tmp_path, monkeypatch):
    """However small the spool is."""
    writer = Writer(Settings.load(spool_dir=tmp_path, ship=False, spool_max_bytes=500_000))
    writer.append(document("begin"))
    join, given_back = writer._commit.join, []

    def look(event):
        sequence = join(event)
        given_back.append(event.event_id) if not sequence else None
        return sequence

    monkeypatch.setattr(writer._commit, "join", look)
    threads = [threading.Thread(target=writer.commit, args=(document(name),)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert given_back == []
    assert writer.sequence == 5
    writer.close()


def test_what_must_wait_is_given_back(disk, monkeypatch):
    """Where nothing was written, nothing is synced."""
    monkeypatch.setattr(disk.commit, "_write", lambda _: None)
    disk.amid_sync.set()
    disk.join("a")
    assert disk.told == {"a": 0}
    assert disk.syncs == []


def test_a_leader_that_is_broken_off_leaves_nobody_behind(disk, monkeypatch):
    """As greenlets are by a timeout: it alone is told, and the next leads."""
    sync = disk.sync

    def break_off(sequence):
        sync(sequence)
        if len(disk.syncs) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(disk.commit, "_sync", break_off)
    disk.start("first", *"abc")
    disk.end()
    assert isinstance(disk.told.pop("first"), KeyboardInterrupt)
    assert disk.told == {"a": 2, "b": 3, "c": 4}


def test_a_leader_that_is_broken_off_before_it_wrote_takes_its_event_back(disk, monkeypatch):
    """Its call has raised, so that event is not to come after all."""

    def break_off(_):
        disk.amid_sync.set()
        assert disk.go_on.wait(SECONDS)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(disk.commit, "_take", break_off)
    disk.start("first", *"ab")
    disk.end()
    assert isinstance(disk.told.pop("first"), KeyboardInterrupt)
    assert disk.told == {"a": 1, "b": 2}


@pytest.mark.parametrize("step", ["_take", "_serve"])
def test_who_is_forgotten_looks_for_itself(disk, monkeypatch, step):
    """Where an exception strikes the leader so that it knows of nobody any more. What it wrote is not written again."""
    go, strikes = getattr(disk.commit, step), [0, 1]

    def strike(turns):
        go(turns)
        if strikes.pop(0):
            turns.clear()
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(disk.commit, step, strike)
    disk.start("first", *"abc")
    disk.end()
    assert isinstance(disk.told.pop("a"), KeyboardInterrupt)
    assert disk.told.keys() == {"first", "b", "c"}
    assert {name: disk.written[sequence - 1] for name, sequence in disk.told.items()} == {
        name: name for name in disk.told
    }
    assert len(set(disk.written)) == len(disk.written)
    assert max(disk.told.values()) <= max(disk.syncs)


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_forgotten(seed):
    """Threads that come and go at random, while Python changes between them as often as it can."""
    chance = random.Random(seed)
    written, told = [], []
    lock = threading.Lock()

    def write(turn):
        with lock:  # which makes the leader wait at times
            written.append(turn.document.event_id)
            turn.sequence = len(written)

    commit = GroupCommit(write, lambda _: os.sched_yield())

    def work(name, pauses):
        for number, pause in enumerate(pauses):
            for _ in range(pause):
                os.sched_yield()
            event = document(f"{name} {number}")
            assert written[commit.join(event) - 1] == event.event_id
            told.append(event.event_id)

    threads = [
        threading.Thread(
            target=work, args=(name, chance.choices((0, 0, 0, 1, 20), k=chance.randrange(100))), daemon=True
        )
        for name in range(24)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    finally:
        sys.setswitchinterval(before)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(told) == sorted(written)
    assert len(set(written)) == len(written)


def test_threads_that_find_no_room_wait_together(tmp_path):
    """Not one after the other behind whoever leads; and each is told of its own event."""
    settings = Settings.load(spool_dir=tmp_path, ship=False, spool_max_bytes=1 << 20, spool_block_seconds=1)
    writer = Writer(settings)
    last = writer.append(document("x" * ((1 << 20) - 1000)))
    told = []

    def commit(name):
        with pytest.raises(SpoolFullError) as caught:
            writer.commit(document(name * 1000))
        told.append(caught.value.event_id)

    threads = [threading.Thread(target=commit, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    until(lambda: len(writer._changed._waiters) == len(threads))  # all at once
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(told) == [name * 1000 for name in "abcdefgh"]
    assert writer.sequence == last
    writer.close()


def test_a_full_disk_is_told_to_each(small_disk):  # noqa: F811
    """And when there is room again, all is well."""
    trail = Trail(Settings.load(spool_dir=small_disk / "spool", ship=False, durability="disk", signing=False))
    trail.emit("user.login", {})
    filler = fill(small_disk)
    refused, returned = [], []

    def emit():
        while not returned:
            try:
                trail.emit("user.login", {"reason": "x" * 5000})
            except SpoolWriteError as error:
                refused.append((error.event_id, error.state))
            else:
                returned.append(threading.get_ident())

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(refused) > 50)
    filler.unlink()
    for thread in threads:
        thread.join(SECONDS)
    assert returned
    assert {state for _, state in refused} == {"refused"}
    assert len({event_id for event_id, _ in refused}) == len(refused)
    trail.shutdown(0)


def test_the_main_thread_writes_for_nobody_else(tmp_path, monkeypatch):
    """A signal's handler may raise in it at any moment, which is to be nobody else's business."""
    writer = Writer(Settings.load(spool_dir=tmp_path, ship=False))
    monkeypatch.setattr(writer._commit, "join", None)
    writer.sync(writer.commit(document("here")), "here")
    monkeypatch.undo()
    thread = threading.Thread(target=lambda: writer.sync(writer.commit(document("there")), "there"))
    thread.start()
    thread.join(SECONDS)
    writer.close()
    assert messages_in(tmp_path) == ["here", "there"]
