"""An event as it is read back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from audit_logging.query.times import EARLIEST, normalise_time


@dataclass(frozen=True)
class Event:
    """A light view of one stored event. What it has no property for, :meth:`get` finds by its path.

    Attributes:
        document: The document as it is stored: nested dictionaries of strings, integers, booleans, lists and None.

    Example:
        >>> event = Event({"event": {"action": "user.login"}, "user": {"id": "u-42"}})
        >>> event.event_type, event.user_id, event.get("source.ip")
        ('user.login', 'u-42', None)
    """

    document: dict[str, Any]

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value at the dotted *path*, or *default* where there is none."""
        value: Any = self.document
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value

    @property
    def id(self) -> str:
        """The event's id, ``event.id``."""
        return str(self.get("event.id", ""))

    @property
    def timestamp(self) -> dt.datetime:
        """When it happened, in UTC, to the microsecond."""
        value = normalise_time(str(self.get("@timestamp")))
        return value if isinstance(value, dt.datetime) else EARLIEST

    @property
    def event_type(self) -> str:
        """The event type, like ``user.login``."""
        return str(self.get("event.action", ""))

    @property
    def severity(self) -> str:
        """``info``, ``warning`` or ``critical``."""
        return str(self.get("log.level", ""))

    @property
    def outcome(self) -> str | None:
        """``success``, ``failure`` or ``unknown``."""
        return _text(self.get("event.outcome"))

    @property
    def categories(self) -> tuple[str, ...]:
        """The ECS categories."""
        value = self.get("event.category", ())
        return tuple(value) if isinstance(value, (list, tuple)) else (str(value),)

    @property
    def user_id(self) -> str | None:
        """Who did it."""
        return _text(self.get("user.id"))

    @property
    def user_name(self) -> str | None:
        """The name of who did it."""
        return _text(self.get("user.name"))

    @property
    def effective_user_id(self) -> str | None:
        """The user as whom it was done, where somebody acted for another."""
        return _text(self.get("user.effective.id"))

    @property
    def target_user_id(self) -> str | None:
        """The user to whom it was done."""
        return _text(self.get("user.target.id"))

    @property
    def source_ip(self) -> str | None:
        """The address it came from."""
        return _text(self.get("source.ip"))

    @property
    def organization_id(self) -> str | None:
        """The tenant."""
        return _text(self.get("organization.id"))

    @property
    def service(self) -> str | None:
        """The application that emitted it."""
        return _text(self.get("service.name"))

    @property
    def request_id(self) -> str | None:
        """The HTTP request it belongs to."""
        return _text(self.get("http.request.id"))

    @property
    def session_id(self) -> str | None:
        """The session it belongs to."""
        return _text(self.get("session.id"))

    @property
    def trace_id(self) -> str | None:
        """The distributed trace it belongs to."""
        return _text(self.get("trace.id"))

    @property
    def message(self) -> str:
        """One sentence for people."""
        return str(self.get("message", ""))

    @property
    def reason(self) -> str | None:
        """Why it came out as it did."""
        return _text(self.get("event.reason"))

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's own data."""
        value = self.get("audit.metadata")
        return value if isinstance(value, dict) else {}

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What was changed: ``field``, ``before`` and ``after`` of each."""
        value = self.get("audit.changes")
        return value if isinstance(value, list) else []

    def to_dict(self) -> dict[str, Any]:
        """Return the document, for JSON."""
        return self.document


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
