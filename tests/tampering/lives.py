"""Lives of writers that end in every lawful way, each in a process of its own: ``python -m tests.tampering.lives``.

Arguments: a seed and how many. Settings come from the environment. Prints how many events were emitted at least.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

import opensearchpy  # noqa: F401 - what a trail imports late is imported once, and not in every life

import audit_logging as audit
from audit_logging.capture.configuration import current_trail

HOW = ("shutdown", "exit", "kill", "kill while emitting", "fork", "fork and kill", "threads", "again", "silence")


def main(seed: int, count: int) -> None:
    """Run *count* lives, four at a time."""
    audit.get_logger()
    running: list[int] = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                live(random.Random(f"{seed}-{number}"), HOW[number % len(HOW)])
            finally:
                os._exit(0)
        running.append(child)
        if len(running) == 4:
            os.waitpid(running.pop(0), 0)
    for child in running:
        os.waitpid(child, 0)


def live(chance: random.Random, how: str) -> None:
    """Emit, and end."""
    audit.configure(service="lives", ship=chance.random() < 0.5, checkpoint_seconds=1.0, console=False)
    emit(chance.randrange(1, 30))
    if chance.random() < 0.3:
        audit.flush(0.2)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill while emitting":
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        emit(1_000_000)
    if how.startswith("fork"):
        fork(chance, kill=how.endswith("kill"))
    if how == "threads":
        shut_down_among_threads()
    if how == "again":
        audit.shutdown(5)
        emit(3)
    if how == "silence":
        current_trail()._checkpoint()
    if how != "exit":  # which is what happens to the children of multiprocessing
        audit.shutdown(5)


def shut_down_among_threads() -> None:
    """Emit from several threads while one shuts down."""
    threads = [threading.Thread(target=emit, args=(20,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    audit.shutdown(5)
    for thread in threads:
        thread.join()


def fork(chance: random.Random, *, kill: bool) -> None:
    """Let a child emit as well, beside its parent."""
    child = os.fork()
    if child == 0:
        emit(chance.randrange(1, 10))
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        audit.shutdown(5)
        os._exit(0)
    emit(5)
    os.waitpid(child, 0)


def emit(count: int) -> None:
    """Emit some events."""
    log = audit.get_logger()
    for number in range(count):
        log.user_login(user_id=f"u-{number}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
