"""The structlog processors of the trail. Each may stand alone in an application's own chain.

A processor takes ``(logger, method_name, event_dict)`` and returns the ``event_dict`` (structlog documentation,
"Processors"). The keys are the keywords of the typed calls: ``user_id``, ``source_ip``, ``outcome`` …
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structlog.contextvars import get_contextvars

from audit_logging.capture.context import current_facts, hidden_from_structlog
from audit_logging.events.catalogue import CATALOGUE
from audit_logging.events.identity import new_event_id, now
from audit_logging.events.values import PlainValues
from audit_logging.privacy.redaction import SecretKeys

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, MutableMapping

    EventDict = MutableMapping[str, Any]

KEY = "audit"
"""The key that marks an event of an ordinary chain as an audit event, and holds its type."""


def merge_context(logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
    """Add what the contexts around know, under what the call itself gives.

    Example:
        >>> from audit_logging.capture.context import context
        >>> with context(user_id="u-42", request_id="r-1"):
        ...     merge_context(None, "info", {"user_id": "u-7"})
        {'user_id': 'u-7', 'request_id': 'r-1'}
    """
    for key, value in current_facts().items():
        if event_dict.get(key) is None:
            event_dict[key] = value
    if of_structlog := get_contextvars():
        hidden = hidden_from_structlog()
        for key, value in of_structlog.items():
            if event_dict.get(key) is None and hidden.get(key, event_dict) is not value:
                event_dict[key] = value
    return event_dict


def add_event_id(logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
    """Add ``event_id``, unique and sorted by time, so that an application's own log can refer to the event."""
    if event_dict.get("event_id") is None:
        event_dict["event_id"] = new_event_id()
    return event_dict


def add_timestamp(logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
    """Add ``timestamp``: UTC, ISO 8601, microseconds."""
    if event_dict.get("timestamp") is None:
        event_dict["timestamp"] = now()
    return event_dict


def add_severity(logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
    """Add ``outcome`` and ``severity`` as the catalogue judges them, where ``audit`` names the event type.

    Example:
        >>> add_severity(None, "info", {"audit": "user.login", "outcome": "failure"})["severity"]
        'warning'
    """
    if KEY in event_dict:
        outcome, severity = CATALOGUE.get(str(event_dict[KEY])).judge(event_dict)
        event_dict.setdefault("severity", severity)
        if event_dict.get("outcome") is None:
            event_dict["outcome"] = outcome
    return event_dict


class RedactKeys:
    """Replaces every value under a secret key, at any depth, by ``[redacted]``; makes the rest plain JSON.

    Args:
        additional: More keys that are secret in this application, in any spelling.

    Example:
        >>> RedactKeys(additional=["iban"])(None, "info", {"user_id": "u-42", "form": {"password": "x", "IBAN": "y"}})
        {'user_id': 'u-42', 'form': {'password': '[redacted]', 'IBAN': '[redacted]'}}
    """

    def __init__(self, additional: Collection[str] = ()) -> None:
        self._plain = PlainValues(SecretKeys(additional))

    def __call__(self, logger: Any, method_name: str, event_dict: Mapping[str, Any]) -> EventDict:
        """Redact one event."""
        return self._plain.of_mapping(event_dict)
