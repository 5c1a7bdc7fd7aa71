"""What a signal handler raises in the middle of an emit call reaches the application, whatever it interrupts."""

from __future__ import annotations

import signal

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings
from tests.faults.interrupting import (  # noqa: F401 - one is a fixture
    events_in,
    handling,
    nobody_traces,
    send_at,
    send_never,
)


class SoftTimeLimitExceeded(Exception):
    """An ``Exception``, as Celery's own is."""


ERRORS = [SoftTimeLimitExceeded, TimeoutError, ValueError, FileNotFoundError, KeyError]
"""Those that some guard or other on the way catches."""


def interrupt(*_):
    signal.raise_signal(signal.SIGUSR1)


class Interrupting:
    """A value whose text is made when the signal comes."""

    def __str__(self):
        interrupt()
        return "text"


def processor(logger, method, event_dict):
    interrupt()
    return event_dict


class ProcessorObject:
    """A processor with a name of its own."""

    def __call__(self, logger, method, event_dict):
        interrupt()
        return event_dict


@pytest.fixture
def settings_here(tmp_path):
    return Settings.load(spool_dir=tmp_path / "spool", ship=False, home=tmp_path / "home")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("processors", "facts"),
    [
        ((processor,), {}),
        ((ProcessorObject(),), {}),
        ((), {"thing": Interrupting()}),
        ((), {"x": [{"y": Interrupting()}]}),
    ],
)
def test_it_is_not_taken_for_the_applications_mistake(settings_here, error, processors, facts):
    """In an enricher, or where a value of the application is made text. Nothing was written."""

    def handler(*_):
        raise error("of the handler")

    trail = Trail(settings_here, processors)
    with handling(handler), pytest.raises(error, match="of the handler"):
        trail.emit("user.login", facts)
    with handling(lambda *_: None):
        trail.emit("user.login", facts)
    trail.shutdown(0)
    (event,) = events_in(settings_here.spool_path)
    assert "processor_error" not in str(event)


def test_a_processor_that_fails_by_itself_costs_no_event(settings_here):
    def fails(logger, method, event_dict):
        raise SoftTimeLimitExceeded

    trail = Trail(settings_here, (fails,))
    trail.emit("user.login", {})
    trail.shutdown(0)
    (event,) = events_in(settings_here.spool_path)
    assert event["audit"]["metadata"]["processor_error"] == "fails: SoftTimeLimitExceeded"


@pytest.mark.parametrize(
    ("error", "durability", "signing"),
    [
        (SoftTimeLimitExceeded, "process", False),
        (TimeoutError, "process", True),
        (TimeoutError, "disk", False),
        (FileNotFoundError, "disk", True),
    ],
)
def test_it_reaches_the_application_from_every_moment_of_an_emit_call(settings_here, error, durability, signing):
    """The event is there or not, and every event whose call returned is; the chain has neither gap nor fork."""
    handled, returned = [], []

    def handler(*_):
        handled.append(len(handled))
        raise error("of the handler")

    trail = Trail(settings_here.model_copy(update={"signing": signing}), (lambda _logger, _method, facts: facts,))
    returned.append(trail.emit("user.login", {"user_id": "u-1"}))
    swallowed = 0
    with handling(handler):
        for moment in range(1, 100_000):
            known = len(handled)
            send_at(moment)
            try:
                returned.append(trail.emit("user.login", {"user_id": f"u-{moment}", "thing": object()}, durability))
            except error as raised:
                assert str(raised) == "of the handler"  # noqa: PT017 - every other moment raises nothing
                continue
            finally:
                send_never()
            if len(handled) == known:
                break
            swallowed += 1
    trail.shutdown(0)
    assert len(handled) > 100
    assert swallowed <= len(handled) // 20, "only what strikes in a finalizer is passed over, by Python itself"
    found = [event["event"]["id"] for event in events_in(settings_here.spool_path)]
    assert len(found) == len(set(found))
    assert set(returned) <= set(found)
