"""An event that another system, or this library elsewhere, recorded first, and that is to enter the trail."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from audit_logging.errors import EventFileError
from audit_logging.events.models import Moment

if TYPE_CHECKING:
    from audit_logging.events.document import Origin

MAX_ID_CHARACTERS: Final = 256
"""Longest ``event.id`` that the document takes as it is."""

_CONTENT_IDS: Final = uuid.UUID("6d2f9a3e-0c57-5b1c-9a53-2f1f7c0b7a11")
_MOMENT: Final = TypeAdapter(Moment)


class IncomingEvent(NamedTuple):
    """What :meth:`Trail.emit <audit_logging.capture.trail.Trail.emit>` is given.

    Attributes:
        event_type: Dotted name.
        facts: Keywords of the typed call; ``event_id`` is always among them.
        origin: What the first recorder determined, over what the importing process would.
    """

    event_type: str
    facts: dict[str, Any]
    origin: Origin

    @property
    def event_id(self) -> str:
        """By which the event is recognised when it comes again."""
        identity: str = self.facts["event_id"]
        return identity


def usable_id(value: Any) -> str | None:
    """Return *value* as the id that the document will hold; None when it could not hold it unchanged.

    Example:
        >>> usable_id("e-1"), usable_id(17), usable_id("")
        ('e-1', '17', None)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def content_id(record: Any, *more: object) -> str:
    """Return an id that the same *record* gets every time: a UUID of version 5 over its JSON and *more*."""
    return str(uuid.uuid5(_CONTENT_IDS, json.dumps([record, *more], sort_keys=True, default=str)))


def require_moment(value: Any, name: str) -> str:
    """Return *value* as the document holds times.

    Raises:
        EventFileError: It is no moment, so that the event would lose the time at which it happened.
    """
    try:
        moment: str = _MOMENT.validate_python(value)
    except ValidationError:
        raise EventFileError(
            f"its {name} is {_shown(value)}, not an ISO 8601 time with a zone between 1970 and 2262"
        ) from None
    return moment


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:80]
