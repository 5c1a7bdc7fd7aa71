"""A stream with real events and real rollovers, whose retention is applied at another time than now."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_logging.capture.trail import Trail
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.capabilities import Capabilities
from audit_logging.opensearch.retention_apply import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.opensearch.retention import BackingIndex, RetentionPlan
    from audit_logging.opensearch.retention_apply import RetentionReport
    from audit_logging.settings import Settings


class TravellingRetention(Retention):
    """Sees every moment as the traveller's clock showed it."""

    traveller: Traveller

    def _look(self):
        indices, holds = super()._look()
        return [self.traveller.seen(index) for index in indices], holds

    def _roll_over(self, index, report):
        # The server knows nothing of the journey.
        super()._roll_over(replace(index, created=self.traveller.created[index.name]), report)


class Traveller:
    """Emits events, rolls over, and lets time pass in between.

    Attributes:
        admin: The administrator, who records what is done.
        days: The retention period.
    """

    def __init__(self, admin: AuditAdmin, days: int = 1) -> None:
        self.admin = admin
        self.days = days
        self.stream = admin.settings.stream
        self.client = admin._client
        self.created: dict[str, dt.datetime] = {}
        self._passed = dt.timedelta()
        self._then: dict[tuple[str, str], dt.timedelta] = {}

    def later(self, **delta: float) -> Traveller:
        """Let time pass."""
        self.plan()  # what happened so far happened before
        self._passed += dt.timedelta(**delta)
        return self

    def clock(self) -> dt.datetime:
        return dt.datetime.now(dt.timezone.utc) + self._passed

    def seen(self, index: BackingIndex) -> BackingIndex:
        """Return *index* with its times as the clock showed them: by how much was settled when each was first seen."""
        self.created.setdefault(index.name, index.created)
        born = self._then.setdefault((index.name, "created"), self._passed)
        closed = self._then.setdefault((index.name, "closed"), self._passed) if index.rolled_over else self._passed
        return replace(
            index,
            created=index.created + born,
            rolled_over=index.rolled_over and index.rolled_over + closed,
            oldest=index.oldest and index.oldest + born,
            newest=index.newest and index.newest + closed,
        )

    def emit(self, *users: str, **facts: Any) -> None:
        """Put a login of each of *users* into the trail, by a writer of its own."""
        trail = Trail(self.admin.settings)
        for user in users:
            trail.emit("user.login", {"user_id": user, **facts}, "indexed")
        assert trail.shutdown(5) == 0

    def roll_over(self) -> None:
        """Roll the stream over, really."""
        assert self.client.request("POST", f"/{self.stream}/_rollover")["rolled_over"]

    def retention(self, archive: Path | None = None, admin: AuditAdmin | None = None) -> Retention:
        """Return the retention that a host applies."""
        admin = admin or self.admin
        kept = None if archive is None else admin._archive(archive)
        made = TravellingRetention(
            admin._client,
            self.stream,
            days=self.days,
            ism=False,
            lock=Capabilities.probe(self.client).lock,
            clock=self.clock,
            archive=kept,
        )
        made.traveller = self
        return made

    def plan(self) -> RetentionPlan:
        return self.retention().plan()

    def apply(self, archive: Path | None = None) -> RetentionReport:
        return self.retention(archive).apply(self.admin._record)

    def indices(self) -> list[str]:
        """Return the numbers of the backing indices that are there."""
        found = self.client.request("GET", f"/_data_stream/{self.stream}")["data_streams"][0]["indices"]
        return [index["index_name"].rpartition("-")[2] for index in found]

    def name(self, number: int) -> str:
        return f".ds-{self.stream}-{number:06}"

    def recorded(self, event_type: str) -> list[dict[str, Any]]:
        """Return the metadata of the events of one type, oldest first."""
        self.client.request("POST", f"/{self.stream}/_refresh")
        query = {"query": {"term": {"event.action": event_type}}, "sort": ["@timestamp"], "size": 100}
        hits = self.client.request("POST", f"/{self.stream}/_search", body=query)["hits"]["hits"]
        return [hit["_source"]["audit"]["metadata"] for hit in hits]


@contextmanager
def travelling(settings: Settings, days: int = 1) -> Iterator[Traveller]:
    """Set a stream up and yield its traveller."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
        yield Traveller(admin, days)
