"""Handlers of signals that raise, or emit themselves, wherever Python may run them inside an append."""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.capture.writer import Writer
from audit_logging.errors import NotIndexedError
from audit_logging.settings import Settings
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.interrupting import (  # noqa: F401 - one is a fixture
    document,
    events_in,
    handling,
    messages_in,
    nobody_traces,
    send_at,
    send_never,
)


class InterruptedError(Exception):  # noqa: A001 - it is what a request's timeout raises
    """What the handler raises."""


@pytest.fixture
def writer(tmp_path):
    writer = Writer(Settings.load(spool_dir=tmp_path, segment_max_bytes=4096, ship=False))
    yield writer
    writer.close()


def raise_interrupted(*_):
    raise InterruptedError


def test_a_handler_that_raises_costs_no_number_and_no_event(tmp_path, writer):
    """At every moment of an append, and of one that begins a segment."""
    returned, uncertain = ["first"], []
    writer.append(document("first"))
    with handling(raise_interrupted):
        for moment in range(400):  # each five times, since some appends begin a segment
            name = f"{moment}"
            send_at(moment // 5 + 1)
            try:
                writer.append(document(name))
            except InterruptedError:
                uncertain.append(name)
            else:
                send_never()
                returned.append(name)
            writer.append(document(f"{moment} after"))
            returned.append(f"{moment} after")
    assert len(uncertain) > 50
    messages = messages_in(tmp_path)
    assert len(messages) == len(set(messages))
    assert set(returned) <= set(messages) <= {*returned, *uncertain}


def test_a_handler_that_raises_in_a_sync_is_in_no_other_threads_way(writer):
    """The turn at the disk is given back, whenever it strikes."""
    interrupted = 0
    with handling(raise_interrupted):
        for moment in range(1, 80):
            sequence = writer.append(document(f"{moment}"))
            try:
                send_at(moment)
                writer.sync(sequence, "id")
            except InterruptedError:
                interrupted += 1
            send_never()
            other = threading.Thread(target=writer.sync, args=(sequence, "id"), daemon=True)
            other.start()
            other.join(20)
            assert not other.is_alive()
    assert interrupted > 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's own files, left open by it
def test_births_are_interrupted_at_every_moment(tmp_path):
    """The first append makes a directory with locks; whatever is left of it is in nobody's way."""
    settings = Settings.load(spool_dir=tmp_path, ship=False)
    returned, handled = [], []

    def raise_once(*_):
        handled.append(None)
        raise InterruptedError

    with handling(raise_once):
        for moment in range(1, 10_000):
            writer, known = Writer(settings), len(handled)
            send_at(moment)
            try:
                writer.append(document(f"first {moment}"))
            except InterruptedError:
                writer.append(document(f"second {moment}"))
                returned.append(f"second {moment}")
                writer.close()
            else:
                send_never()
                returned.append(f"first {moment}")
                writer.close()
                if len(handled) == known:  # otherwise it was raised in a finalizer, where Python passes over it
                    break
    assert len(returned) > 100
    assert set(returned) <= set(messages_in(tmp_path))


def test_timers_go_off_at_any_time(tmp_path, writer):
    """Some thousand real timers, as request timeouts use them; some appends come through and some do not."""
    chance = random.Random(4)
    returned = [f"first {number}" for number in range(20)]
    took = []
    for name in returned:
        began = time.perf_counter()
        writer.append(document(name))
        took.append(time.perf_counter() - began)
    longest = 4 * min(took)
    interrupted, armed = 0, False

    def raise_if_armed(*_):
        if armed:  # a timer that goes off as it is stopped may be heard of a moment later
            raise InterruptedError

    before = signal.signal(signal.SIGALRM, raise_if_armed)
    try:
        for number in range(1500):
            event = document(f"{number}")
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, longest) if number % 3 else 0)
                writer.append(event)
                returned.append(event.event_id)
                signal.setitimer(signal.ITIMER_REAL, 0)
                armed = False
            except InterruptedError:
                armed = False
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    messages = messages_in(tmp_path)
    assert len(messages) == len(set(messages))
    assert set(returned) <= set(messages)
    assert interrupted > 10


def test_a_handler_that_emits_is_neither_lost_nor_in_the_way(tmp_path, writer):
    """At every moment of an append; where it cannot be the next in the same chain it is in another."""
    expected = []

    def emit(*_):
        expected.append(f"{len(expected)} handler")
        writer.append(document(expected[-1]))

    with handling(emit):
        for moment in range(1, 10_000):
            emitted = len(expected)
            send_at(moment)
            writer.append(document(f"{moment}"))
            send_never()
            expected.append(f"{moment}")
            if len(expected) == emitted + 1:
                break
    assert len(SpoolDirectory(tmp_path).writers()) > 5, "some were in the middle"
    assert sorted(messages_in(tmp_path)) == sorted(expected)


def test_a_handler_that_emits_while_the_writer_is_made_is_in_nobodys_way(tmp_path):
    """At every moment of a writer's first append; one of the two makes it."""
    expected = []
    settings = Settings.load(spool_dir=tmp_path, ship=False)

    def emit(*_):
        expected.append(f"{len(expected)} handler")
        writer.append(document(expected[-1]))

    with handling(emit):
        for moment in range(1, 10_000):
            writer = Writer(settings)
            emitted = len(expected)
            send_at(moment)
            writer.append(document(f"{moment}"))
            send_never()
            writer.close()
            expected.append(f"{moment}")
            if len(expected) == emitted + 1:
                break
    assert len(expected) > 200
    assert sorted(messages_in(tmp_path)) == sorted(expected)


def test_a_handler_that_emits_in_a_trails_first_event_is_in_nobodys_way(tmp_path):
    """Where the chain is begun, and shipping started: every tenth moment of it."""
    settings = Settings.load(spool_dir=tmp_path, opensearch_url="http://127.0.0.1:1")
    expected = []
    with handling(lambda *_: expected.append(trail.emit("user.logout", {}))):
        for moment in range(1, 600, 10):
            trail = Trail(settings)
            send_at(moment)
            expected.append(trail.emit("user.login", {}))
            send_never()
            trail.shutdown(0)
    assert len(expected) > 100
    found = [event["event"]["id"] for event in events_in(tmp_path)]
    assert len(found) == len(set(found))
    assert set(expected) <= set(found)


def test_who_cannot_wait_says_so(tmp_path, writer):
    """The acknowledgement would come through the very writer that was interrupted."""
    failures = []

    def emit(*_):
        try:
            writer.append(document("handler"), awaited=True)
        except NotIndexedError as error:
            failures.append(error)

    with handling(emit):
        for moment in range(1, 200):
            send_at(moment)
            writer.append(document(f"{moment}"))
            send_never()
    assert {(error.state, error.event_id) for error in failures} == {("spooled", "handler")}
