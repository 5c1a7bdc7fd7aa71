"""All events that a query finds, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import AnswerTooLargeError, IncompleteResultError
from audit_logging.query.event import Event
from audit_logging.query.walk import PAGE_SIZE, Walk

if TYPE_CHECKING:
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer, Steps

PAGE_BYTES: Final = 2 << 20
"""Size to which pages are made. Parsed, a page takes a few times that in memory, and there may be two."""


class Scan:
    """A walk through all of it that notices when it ended early.

    Attributes:
        verb: ``"scan"``.
        conditions: What it is about, as plain JSON values.
    """

    verb = "scan"

    def __init__(self, stream: str, query: Query, *, newest: bool, conditions: dict[str, Any]) -> None:
        self.conditions = conditions
        self._walk = Walk(stream, query, newest=newest, page_size=PAGE_SIZE, page_bytes=PAGE_BYTES)
        self._promised: int | None = None

    @property
    def done(self) -> bool:
        """Whether there are no more pages."""
        return self._walk.done

    def page(self) -> Steps[list[Event]]:
        """Find the next page.

        Raises:
            IncompleteResultError: It was the last, and there came fewer than the first had promised.
        """
        first = self._promised is None
        answer = yield from self._ask(**({"track_total_hits": True} if first else {}))
        if first:
            self._promised = answer["hits"]["total"]["value"]
        events = [Event(hit.document) for hit in self._walk.take(answer)]
        found = self._walk.distinct.hits
        if self.done and found < (self._promised or 0):
            raise IncompleteResultError(
                f"The scan ended after {found} of {self._promised} stored events: did a backing index leave meanwhile?"
                " Scan again."
            )
        return events

    def _ask(self, **more: Any) -> Steps[Answer]:
        while True:
            try:
                return (yield self._walk.request(**more))
            except AnswerTooLargeError:
                self._walk.shrink()
