"""The logger that applications call."""

from __future__ import annotations

from typing import Any

from audit_logging.capture.calls import TypedCalls
from audit_logging.capture.configuration import current_trail


class AuditLogger(TypedCalls):
    """Emits audit events: ``log.user_login(…)`` and its like for known types, :meth:`emit` for any.

    Lazy: it may be made at import time, before the trail is configured. It has no level; nothing is filtered.

    Example:
        >>> log = get_logger()
        >>> shop = log.bind(organization_id="acme")
        >>> event_id = shop.user_login(user_id="u-42")  # doctest: +SKIP
    """

    __slots__ = ("_facts",)

    def __init__(self, facts: dict[str, Any] | None = None) -> None:
        self._facts = facts or {}

    def bind(self, **facts: Any) -> AuditLogger:
        """Return a logger whose every event carries *facts* as well."""
        return AuditLogger({**self._facts, **facts})

    def emit(self, event_type: str, /, *, durability: str | None = None, **facts: Any) -> str:
        """Emit one event of any type and return its id.

        Args:
            event_type: Dotted ``noun.verb``; registered or new.
            durability: ``process``, ``disk`` or ``indexed``; None: what the settings say of the event's type.
            **facts: The common keywords and the type's own; any other becomes metadata.

        Raises:
            DurabilityError: The promise that the durability makes could not be kept.
            InvalidEventError: A value did not validate and ``on_invalid`` is ``raise``.
        """
        return self._emit(event_type, facts, durability)

    def _emit(self, event_type: str, facts: dict[str, Any], durability: str | None) -> str:
        return current_trail().emit(event_type, {**self._facts, **facts} if self._facts else facts, durability)

    async def aemit(self, event_type: str, /, *, durability: str | None = None, **facts: Any) -> str:
        """Do the same from a coroutine: waiting for disk or OpenSearch does not hold up the event loop."""
        return await current_trail().aemit(event_type, {**self._facts, **facts}, durability)

    def __repr__(self) -> str:
        return f"AuditLogger(bound={sorted(self._facts)})"


def get_logger(**facts: Any) -> AuditLogger:
    """Return a logger, with *facts* bound to it; fine at import time."""
    return AuditLogger(facts)
