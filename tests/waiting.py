"""Waiting, in tests: for what is to come about and never for a time, with a deadline."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable

Holds = TypeVar("Holds")

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02


def until(
    holds: Callable[[], Holds],
    process: subprocess.Popen[bytes] | subprocess.Popen[str] | None = None,
    *,
    seconds: float = PATIENCE_SECONDS,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
) -> Holds:
    """Return what *holds* returns, once that is true.

    Args:
        holds: What is asked again and again.
        process: What it depends on: once that has ended, there is nothing to wait for.
        seconds: How long it may take.
        despite: What *holds* may raise until then.

    Raises:
        AssertionError: It did not come about in time, or *process* has ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answer := holds():
                return answer
        except despite:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come about in time"
        assert process is None or process.poll() is None, "the program has ended"
        time.sleep(POLL_SECONDS)


def until_ended(pid: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once process *pid* (any process, not only a child) has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], seconds)[0], f"process {pid} still runs"
    finally:
        os.close(descriptor)


def is_in(thread: threading.Thread, *functions: str) -> bool:
    """Whether *thread* is in one of these functions of Python, and in no other that it calls."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name in functions
