"""Tells exceptions that a signal handler raises from those of the code that it interrupted.

A signal handler runs in the main thread, in the middle of any code, and what it raises appears there: ``TimeoutError``
of an alarm, ``SoftTimeLimitExceeded`` of Celery. It is meant for the application. A guard against failing code that
catches ``Exception``, or ``OSError``, would swallow it, so every such guard on the way of an emit call asks here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import signal
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType


def is_interrupt(error: BaseException | None) -> bool:
    """Whether a signal handler raised *error*, itself or in something that it called.

    Known by its traceback: the code of a handler is in it, or a function that was called as handlers are, with the
    number of a signal and the frame that it interrupted.
    """
    if error is None or threading.current_thread() is not threading.main_thread():
        return False
    codes = _codes_of_handlers()
    traceback, caller = error.__traceback__, None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code in codes or _was_called_as_handler(frame, caller):
            return True
        traceback, caller = traceback.tb_next, frame
    return False


class suppress(contextlib.suppress):  # noqa: N801 - it stands in for contextlib.suppress
    """Like :class:`contextlib.suppress`, but never of what a signal handler raises.

    Example:
        >>> with suppress(OSError):
        ...     raise FileNotFoundError
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Suppress what it was made for."""
        return bool(super().__exit__(kind, error, traceback)) and not is_interrupt(error)


def _codes_of_handlers() -> set[CodeType]:
    codes = (_code_of(signal.getsignal(number)) for number in signal.valid_signals())
    return {code for code in codes if code is not None}


def _code_of(handler: Any) -> CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = handler if inspect.isroutine(handler) else vars(type(handler)).get("__call__")
    code: CodeType | None = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return code


def _was_called_as_handler(frame: FrameType, caller: FrameType | None) -> bool:
    """Whether a function was called with the number of a signal and the frame that was interrupted, its caller's."""
    if caller is None:
        return False
    found = inspect.getargvalues(frame)
    values = [found.locals.get(name) for name in found.args]
    if found.varargs is not None:
        values += found.locals.get(found.varargs, ())
    return any(
        following is caller and isinstance(number, int) and number in _NUMBERS for number, following in pairwise(values)
    )


_NUMBERS = signal.valid_signals()
