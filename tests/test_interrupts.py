"""Exceptions of signal handlers are told from those of the code that they interrupt."""

import functools
import signal

import pytest

from audit_logging.interrupts import is_interrupt, suppress


class SoftTimeLimitExceeded(Exception):
    """What a handler raises."""


def plain(_number, _frame):
    raise SoftTimeLimitExceeded


def of_any_arguments(*_):
    raise SoftTimeLimitExceeded


def by_way_of_others(number, frame):
    plain(0, None)


def that_unregisters_itself(number, frame):
    signal.signal(number, signal.SIG_DFL)
    raise SoftTimeLimitExceeded


def that_forgets_its_arguments(number, frame):
    del number, frame
    raise SoftTimeLimitExceeded


class Handlers:
    """Handlers of other kinds."""

    def method(self, _number, _frame):
        raise SoftTimeLimitExceeded

    def __call__(self, _number, _frame):
        raise SoftTimeLimitExceeded


HANDLERS = {
    "function": plain,
    "any arguments": of_any_arguments,
    "by way of others": by_way_of_others,
    "unregisters itself": that_unregisters_itself,
    "forgets its arguments": that_forgets_its_arguments,
    "lambda": lambda *_: plain(0, None),
    "method": Handlers().method,
    "object": Handlers(),
    "partial": functools.partial(lambda _extra, number, frame: plain(0, None), "extra"),
    "partial of a method": functools.partial(Handlers().method),
}


@pytest.fixture(params=HANDLERS)
def handler(request):
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupted():
    signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize(
    "code", [interrupted, lambda: [interrupted() for _ in range(3)], lambda: sorted("ab", key=_key)]
)
def test_what_a_handler_raises_is_known(handler, code):
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        code()
    assert is_interrupt(raised.value)


def _key(_):
    interrupted()
    return 0


def test_what_code_raises_itself_is_not(handler):
    def fail(number, frame):
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded) as raised:
        fail(signal.SIGUSR1, None)
    assert not is_interrupt(raised.value)
    assert not is_interrupt(KeyError("never raised"))
    assert not is_interrupt(None)


def test_it_is_never_suppressed(handler):
    with pytest.raises(SoftTimeLimitExceeded), suppress(Exception):
        interrupted()
    with suppress(SoftTimeLimitExceeded):
        raise SoftTimeLimitExceeded
