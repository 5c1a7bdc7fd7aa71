"""The thread that signs how far a writer came, at intervals, and hands signed events to a command."""

from __future__ import annotations

import logging
import queue
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Final

from audit_logging.background import BackgroundThread
from audit_logging.shipping.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND_SECONDS: Final = 30.0
"""How long the command may take for one event."""

_MOST_WAITING: Final = 1000
"""Signed events that wait for a slow command; they are checkpoints, of which the last one says most."""

_log = logging.getLogger("audit_logging")


class Checkpoints:
    """Writes a checkpoint at intervals, in silence too, so that silence is provable.

    Args:
        interval: Seconds between two.
        write: Writes one.
        command: Is given every signed event on its standard input, one process each.
    """

    def __init__(self, interval: float, write: Callable[[], None], command: str | None) -> None:
        self._interval = interval
        self._write = write
        self._command = shlex.split(command) if command else []
        self._signed: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._due = time.monotonic() + interval
        self._stopping = Bell()
        self._thread = BackgroundThread("audit-logging-checkpoints", self._step, self._stopping.wait)

    def start(self) -> None:
        """Start in the background unless it runs already."""
        self._thread.ensure_running()

    @property
    def problem(self) -> str:
        """Why no checkpoint can be written; empty when the last one was."""
        return self._thread.problem

    def tell(self, payload: bytes) -> None:
        """Hand a signed event to the command. Returns at once."""
        if not self._command:
            return
        try:
            self._signed.put_nowait(payload)
        except queue.Full:
            _log.error("The checkpoint command is too slow: a signed event was not given to it.")

    def stop(self, timeout: float) -> None:
        """Let the command have what is left, and end within *timeout* seconds."""
        if not self._thread.is_alive:
            return
        try:
            self._signed.put(None, timeout=timeout)
        except queue.Full:
            return
        finally:
            self._stopping.ring()
        self._thread.join(timeout)

    def _step(self) -> bool:
        """Write a checkpoint when it is time, or hand one signed event to the command; false at the end."""
        try:
            payload = self._signed.get(timeout=max(self._due - time.monotonic(), 0))
        except queue.Empty:
            self._write()
            self._due = time.monotonic() + self._interval  # afterwards, so that one that failed is tried again soon
            return True
        if payload is not None:
            self._give(payload)
        return payload is not None

    def _give(self, payload: bytes) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - whoever sets up the application chose it
                self._command, input=payload + b"\n", capture_output=True, timeout=COMMAND_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _log.error("The checkpoint command %s failed: %s", self._command[0], error)
            return
        if done.returncode:
            last_words = done.stderr.decode("utf-8", "replace").strip()[-200:]
            _log.error(
                "The checkpoint command %s ended with %d: %s", self._command[0], done.returncode, ascii(last_words)
            )
