"""Reading the trail is itself in the trail, where the setting ``audit_searches`` says so."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from audit_logging.opensearch.templates import RESTORED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.capture.trail import Trail
    from audit_logging.query.questions import Asked
    from audit_logging.settings import Settings

SEARCHED = "audit.searched"


def live_stream(stream: str) -> str:
    """Return the stream that takes the record of a reading: a restored archive takes nothing, and the live one does.

    Example:
        >>> live_stream("audit-events-restored-000001"), live_stream("audit-events")
        ('audit-events', 'audit-events')
    """
    return stream.partition(RESTORED)[0]


@contextmanager
def recording_trail(settings: Settings, shipping_seconds: float) -> Iterator[Trail]:
    """Yield the trail that takes the record of a reading: this process's where it has that stream, else one for this.

    Args:
        settings: Of the reader.
        shipping_seconds: How long a trail of its own may take to ship the record; it is safe in the spool meanwhile.

    Raises:
        AuditError: There can be no such trail.
    """
    from audit_logging.capture.configuration import configured_trail
    from audit_logging.capture.trail import Trail

    trail, stream = configured_trail(), live_stream(settings.stream)
    if trail is not None and trail.settings.stream == stream:
        yield trail
        return
    own = Trail(settings.model_copy(update={"console": False, "stream": stream}))
    try:
        yield own
    finally:
        own.shutdown(shipping_seconds)


def record_search(asked: Asked, settings: Settings) -> None:
    """Emit ``audit.searched`` into this process's trail before anything is asked, so that no answer goes unrecorded.

    Raises:
        DurabilityError: The event could not be kept; then there is no answer.
    """
    if settings.audit_searches:
        from audit_logging.capture.configuration import current_trail

        current_trail().emit(SEARCHED, _facts(asked, settings))


async def arecord_search(asked: Asked, settings: Settings) -> None:
    """Do the same without holding up the event loop."""
    if settings.audit_searches:
        from audit_logging.capture.configuration import current_trail

        await current_trail().aemit(SEARCHED, _facts(asked, settings))


def reader_identity(settings: Settings) -> dict[str, Any]:
    """Return who reads, as keywords of an event.

    The user of the context around, where there is one (an application that reads for somebody); else the account
    that this process runs as. Beside it stands the user by whom OpenSearch knows the reader.
    """
    from audit_logging.capture.processors import merge_context

    identity: dict[str, Any] = {"opensearch_user": settings.opensearch_username}
    around = merge_context(None, "info", {})
    if around.get("user_id") is None and around.get("user_name") is None:
        identity["user_name"] = _account()
    return {name: value for name, value in identity.items() if value is not None}


def _facts(asked: Asked, settings: Settings) -> dict[str, Any]:
    facts = {"resource": settings.stream, "query": asked.verb, "filter": asked.conditions}
    return {**reader_identity(settings), "metadata": facts}


def _account() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as an account that has no name
        return str(os.getuid())
