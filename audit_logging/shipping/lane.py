"""One lane of the shipper: a background thread with one request under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit_logging.background import BackgroundThread
from audit_logging.shipping.delivery import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from audit_logging.shipping.delivery import Delivery
    from audit_logging.shipping.source import Batch, Source


@dataclass
class Job:
    """A batch that was taken and is not settled yet. Each stage is kept, so that an error repeats only its own stage.

    Attributes:
        source: The spool that the batch was read from.
        batch: The events.
        refused: The sequences that OpenSearch refused, with the reasons; None while the batch is not delivered.
        freed: How many bytes became free; None while the batch is not settled.
        companions: Batches of other writers that go in the same request.
        is_sent: Whether that request was made.
    """

    source: Source
    batch: Batch
    refused: Mapping[int, str] | None = None
    freed: int | None = None
    companions: tuple[Job, ...] = ()
    is_sent: bool = False


class Lane:
    """Takes jobs one after the other. A job stays the lane's until it is settled, also across errors and restarts.

    Args:
        number: Which lane this is, from 1.
        connect: Returns what to deliver with.
        take: Returns the next job; None when there is none at the moment.
        settle: Takes a job through its stages.
        on_settled: Called when a job is no longer under way.
        pause: Waits that many seconds; true when the lane is to end.

    Attributes:
        thread: The lane's thread.
    """

    def __init__(
        self,
        number: int,
        *,
        connect: Callable[[], Delivery],
        take: Callable[[], Job | None],
        settle: Callable[[Delivery, Job], None],
        on_settled: Callable[[], None],
        pause: Callable[[float], bool],
    ) -> None:
        self._connect = connect
        self._take = take
        self._settle = settle
        self._on_settled = on_settled
        self._delivery: Delivery | None = None
        self._job: Job | None = None
        name = "audit-logging-shipper" if number == 1 else f"audit-logging-shipper-{number}"
        self.thread = BackgroundThread(name, self._step, pause)

    @property
    def is_holding(self) -> bool:
        """Whether the lane has a job that is not settled."""
        return self._job is not None

    def _step(self) -> bool:
        """Take and settle at most one job; false when the shipper is to end."""
        try:
            if self._delivery is None:
                self._delivery = self._connect()
            if self._job is None:
                self._job = self._take()
            if self._job is not None:
                self._settle(self._delivery, self._job)
                self._give_back()
        except StoppedError:
            self._give_back()
            return False
        return True

    def _give_back(self) -> None:
        if self._job is not None:
            self._job = None
            self._on_settled()
