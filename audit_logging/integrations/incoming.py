"""An event that another system, or this library elsewhere, recorded first, and that is to enter the trail."""

from __future__ import annotations

import json
import re
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from audit_logging.errors import EventFileError
from audit_logging.integrations.json_records import decode

if TYPE_CHECKING:
    from audit_logging.events.document import Origin

MAX_ID_CHARACTERS: Final = 256
"""Longest ``event.id`` that the document takes as it is."""

_CONTENT_IDS: Final = uuid.UUID("6d2f9a3e-0c57-5b1c-9a53-2f1f7c0b7a11")
_MOST_WRAPPINGS: Final = 4
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z](?!s(?:[A-Z]|$))[a-z])")


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


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """Return *name* as a part of an event type.

    Example:
        >>> snake_case("DescribeDBInstances"), snake_case("resource-explorer-2")
        ('describe_db_instances', 'resource_explorer_2')
    """
    return re.sub(r"[^a-z0-9]+", "_", _WORD_START.sub("_", name).lower()).strip("_")


def unwrapped(record: Any, members: tuple[str, ...], mark: str) -> Any:
    """Return the record within *record*, where another system wrapped it.

    Args:
        record: What may be the wrapping.
        members: Names of members that hold the record, as an object or as JSON text.
        mark: A member of the record itself: what has it is not wrapped.

    Raises:
        EventFileError: The text in such a member is not JSON.
    """
    for _ in range(_MOST_WRAPPINGS):
        if not isinstance(record, dict) or mark in record:
            break
        name, inner = next(((name, record[name]) for name in members if name in record), ("", None))
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            try:
                inner = decode(inner)
            except (ValueError, RecursionError) as error:
                raise EventFileError(f"its {name} is not JSON ({error})") from None
        if not isinstance(inner, dict):
            break
        record = inner
    return record
