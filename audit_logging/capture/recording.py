"""A stand-in for the trail that keeps events in memory, for the tests of applications."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from audit_logging.events.document import Origin


class RecordedEvents(list[dict[str, Any]]):
    """The wire documents of the events emitted so far, without their seal."""

    def of(self, event_type: str) -> list[dict[str, Any]]:
        """Return the events of one type."""
        return [event for event in self if event["event"]["action"] == event_type]

    def one(self, event_type: str) -> dict[str, Any]:
        """Return the only event of one type.

        Raises:
            AssertionError: There is none, or several.
        """
        found = self.of(event_type)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} events {event_type!r}, not one; emitted were {self.types()}")
        return found[0]

    def types(self) -> list[str]:
        """Return the types of the events in the order of their emission."""
        return [event["event"]["action"] for event in self]


class _RecordingTrail(Trail):
    def __init__(self, settings: Settings, events: RecordedEvents) -> None:
        super().__init__(settings)
        self._events = events

    def emit(
        self,
        event_type: str,
        facts: Mapping[str, Any],
        durability: str | None = None,
        *,
        origin: Origin | None = None,
    ) -> str:
        self._durabilities.of(event_type, durability)
        document = self._document(event_type, facts, origin)
        self._events.append(orjson.loads(document.canonical))
        return document.event_id


@contextmanager
def record_events(**settings: Any) -> Iterator[RecordedEvents]:
    """Keep what is emitted within in memory, instead of spool and OpenSearch.

    Values that do not validate raise, unless ``on_invalid="record"`` is given: a test should hear of them.

    Example:
        >>> import audit_logging as audit
        >>> with record_events() as events:
        ...     _ = audit.get_logger().user_login(user_id="u-42")
        >>> events.one("user.login")["user"]["id"]
        'u-42'
    """
    events = RecordedEvents()
    chosen: dict[str, Any] = {"on_invalid": "raise", "console": False, "signing": False, **settings}
    before = swap_trail(_RecordingTrail(Settings.load(**chosen), events))
    try:
        yield events
    finally:
        swap_trail(before)
