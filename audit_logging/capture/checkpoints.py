"""The thread that signs how far a writer came, at intervals, and hands signed events to a command."""

from __future__ import annotations

import logging
import queue
import shlex
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

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
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start in the background; a process that is exiting goes on without."""
        thread = threading.Thread(target=self._run, name="audit-logging-checkpoints", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

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
        if self._thread is None:
            return
        try:
            self._signed.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while True:
            try:
                payload = self._signed.get(timeout=max(due - time.monotonic(), 0))
            except queue.Empty:
                due = time.monotonic() + self._interval
                self._write()
                continue
            if payload is None:
                return
            self._give(payload)

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
