"""What the programs under test emit with: it notes the id of every event whose call returned, whatever comes next."""

from __future__ import annotations

import os

import audit_logging as audit

JOURNAL = "AUDIT_TEST_JOURNAL"
log = audit.get_logger()


def note(event_id: str) -> str:
    """Note an id in the file that all processes share; one write is whole, and outlives the process."""
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{event_id}\n".encode())
    os.close(descriptor)
    return event_id


def emit(**facts) -> str:
    """Emit one event and return its id."""
    return note(log.user_login(**{"user_id": "u-42", **facts}))


def application(environ, start_response):
    """A WSGI application: the path says how many events a request emits, and what becomes of the worker."""
    _, count, *end = environ["PATH_INFO"].split("/")
    for _ in range(int(count)):
        emit(source_ip="203.0.113.7")
    if end == ["killed"]:
        os.kill(os.getpid(), 9)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


if os.environ.get("AUDIT_TEST_EMIT_AT_IMPORT"):
    emit(user_id="at-import")
