"""Real signals, whose handlers Python runs at a moment that the test chooses."""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import orjson
import pytest

from audit_logging.events.document import Document
from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STUCK_SECONDS = 30.0
"""How long one of many attempts may take on a busy machine."""


@pytest.fixture(autouse=True)
def nobody_traces():
    """A tool that measures coverage takes a lock of its own wherever it looks on; a handler that raises would keep it."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@contextmanager
def never_stuck() -> Iterator[None]:
    """Fail where a handler waits for what it interrupted: taking a lock ends when another handler raises."""

    def fail(*_: object) -> None:
        raise AssertionError("a handler waits for what it interrupted")

    before = signal.signal(signal.SIGALRM, fail)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def handling(handler: Callable[..., object]) -> Iterator[None]:
    """Let *handler* handle the signal."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        send_never()
        signal.signal(signal.SIGUSR1, before)


_TESTS = str(Path(__file__).parent)
_awaited = SimpleNamespace(moments=0, act=None)


def _watch(frame: FrameType, event: str, _: object) -> None:
    # A function of the module, which lives on: CPython 3.11 was seen to free a closure that was watching, in a process
    # with other threads, which then died of SIGSEGV.
    if event not in ("call", "c_return") or frame.f_code.co_filename.startswith(_TESTS):
        return
    _awaited.moments -= 1
    if not _awaited.moments:
        sys.setprofile(None)
        _awaited.act()


def run_at(moment: int, finalizer: Callable[[], object]) -> None:
    """Let *finalizer* run in the middle of whatever this thread does then, as the garbage collector may have it."""
    _awaited.moments, _awaited.act = moment, finalizer
    sys.setprofile(_watch)


def send_at(moment: int) -> None:
    """Let a real signal arrive at the given one of the moments at which Python runs handlers.

    Those are the beginning of a function and the return from one that is written in C.
    """
    run_at(moment, functools.partial(signal.raise_signal, signal.SIGUSR1))


def send_never() -> None:
    """Let nothing happen any more."""
    sys.setprofile(None)


def at_every_moment(act: Callable[[], object], handled: list, *, step: int = 1) -> None:
    """Do it again and again, interrupted one moment later each time, until it is through before.

    Args:
        act: What is interrupted.
        handled: What the handler adds something to.
        step: How many moments later.
    """
    with never_stuck():
        for moment in range(1, 100_000, step):
            signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS)
            known = len(handled)
            send_at(moment)
            act()
            send_never()
            if len(handled) == known:
                return


def document(name: str) -> Document:
    """Return an event that says its name."""
    canonical = orjson.dumps({"@timestamp": "2026-01-01T00:00:00.000000Z", "audit": {"schema": "1"}, "message": name})
    return Document(name, canonical, canonical.index(b'"schema"'))


def messages_in(spool: Path) -> list[str]:
    """Check every chain in the spool, and return what all events say."""
    return [event["message"] for event in events_in(spool)]


def events_in(spool: Path) -> list[dict]:
    """Check every chain in the spool, and return all events."""
    found = []
    for path in SpoolDirectory(spool).writers():
        reader = SpoolReader(path)
        previous = None
        documents = []
        while records := reader.read(1 << 20):
            documents += [orjson.loads(record.payload) for record in records]
        for number, event in enumerate(documents, 1):
            seal = event["audit"]["integrity"]
            assert seal["sequence"] == number, "a sequence twice, or a gap"
            assert previous in (None, seal["previous"])
            previous = seal["hash"]
            assert previous == digest_of(seal["previous"], path.name, number, canonical_form(event))
        found += documents
    return found
