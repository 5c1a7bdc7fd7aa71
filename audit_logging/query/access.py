"""Reading the trail is itself in the trail, where the setting ``audit_searches`` says so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from audit_logging.opensearch.templates import RESTORED

if TYPE_CHECKING:
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
