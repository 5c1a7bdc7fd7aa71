"""Servers that outlive the command that started them: start, find again, stop."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.errors import LocalServerError
from audit_logging.local.launch import GRACE_SECONDS
from audit_logging.local.places import locked
from audit_logging.local.state import State, state_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.local.server import LocalServer

POLL_SECONDS = 0.05


def bring_up(home: Path, name: str, build: Callable[[State | None], LocalServer]) -> tuple[State, bool]:
    """Return the running server called *name*, and whether it was started just now.

    Args:
        home: The home under which its state is written down.
        name: Its name, so that there may be several.
        build: Makes the server to start. It is given the state of a server of that name that ended without being
            stopped (the machine went down, say), whose directory it may adopt; what it does not adopt is removed.
    """
    path = state_file(home, name)
    with locked(path.with_suffix(".lock")):
        state = State.read(path)
        if state is not None and state.is_alive:
            return state, False
        server = build(state)
        if state is not None and server.directory_or_none != Path(state.directory):
            shutil.rmtree(state.directory, ignore_errors=True)
        state = server.start().state
        state.write(path)  # first: a server that nobody knows of would run for ever, should we be killed here
        server.detach()
        return state, True


def take_down(home: Path, name: str) -> bool:
    """Stop the server called *name* and remove its data; return whether it ran."""
    path = state_file(home, name)
    with locked(path.with_suffix(".lock")):
        state = State.read(path)
        if state is None:
            return False
        ran = state.is_alive
        stop_detached(state)
        path.unlink()
        return ran


def stop_detached(state: State) -> None:
    """Stop a detached server, wait for that, and remove its data.

    Raises:
        LocalServerError: It is another user's.
    """
    if state.is_alive:
        try:
            os.kill(state.supervisor, signal.SIGTERM)
        except PermissionError:
            raise LocalServerError(f"The server (process {state.supervisor}) belongs to another user.") from None
        except ProcessLookupError:
            pass
        if not _has_ended(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.supervisor, signal.SIGKILL)  # the kernel then kills the server too
    shutil.rmtree(state.directory, ignore_errors=True)


def _has_ended(state: State) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.pidfd_open(state.supervisor)
        try:
            return bool(select.select([descriptor], [], [], GRACE_SECONDS)[0])
        finally:
            os.close(descriptor)
    deadline = time.monotonic() + GRACE_SECONDS
    while state.is_alive and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return not state.is_alive
