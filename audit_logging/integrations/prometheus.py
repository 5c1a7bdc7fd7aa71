"""Metrics of the trail for Prometheus, through its own client library. Needs the extra ``metrics``.

    from prometheus_client import REGISTRY
    from audit_logging.integrations.prometheus import AuditCollector

    REGISTRY.register(AuditCollector())

They are taken from the accounts of the spool directory when Prometheus asks; emitting an event does nothing for them.
A spool directory has the events of every process on its host that uses it, and of those that died. So any one of these
processes tells of all, and one per host is enough: of a server with several workers, whichever answers the scrape.

By stream and by state, never by writer: every process is a writer with an id of its own, and Prometheus would keep a
series for each that ever lived. ``audit-logging spool status`` tells them apart.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from audit_logging.errors import AuditError
from audit_logging.settings import Settings
from audit_logging.shipping.accounts import Balance, take_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from audit_logging.shipping.accounts import Accounts, WriterAccount

_STATES: Final = ("alive", "adopted", "dead")

COUNTERS: Final = {
    "emitted": "Events that were written to the spool.",
    "indexed": "Events that OpenSearch has acknowledged, without those in quarantine.",
    "quarantined": "Events that OpenSearch refused and took into quarantine.",
}
"""What of a balance only grows: metric ``audit_events_<name>_total``."""

GAUGES: Final = {
    "in_spool": "Events that wait in the spool.",
    "dead": "Events that are kept as dead letters.",
    "lost": "Events that cannot be found: the disk was damaged, or somebody deleted them.",
}
"""What of a balance may shrink: metric ``audit_events_<name>``."""

DAMAGED: Final = "Places where segments were damaged; what was there is kept beside the dead letters."


class AuditCollector(Collector):
    """Tells Prometheus of one spool directory.

    Args:
        settings: Whose spool directory and limit; None: those of this process's trail, or of the environment.

    Example:
        >>> sorted(metric.name for metric in AuditCollector(Settings.load(spool_dir="/nowhere")).collect())[:3]
        ['audit_events_dead', 'audit_events_emitted', 'audit_events_in_spool']
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, so that registering reads no spool."""
        for name, help_ in COUNTERS.items():
            yield CounterMetricFamily(f"audit_events_{name}", help_, labels=["stream"])
        for name, help_ in GAUGES.items():
            yield GaugeMetricFamily(f"audit_events_{name}", help_, labels=["stream"])
        yield _gauge("audit_spool_damaged_places", DAMAGED)
        yield _gauge("audit_spool_up", "Whether the spool can be read: 1, or 0.")

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        settings = self._settings or _settings_of_this_process()
        up = _gauge("audit_spool_up", "Whether the spool can be read: 1, or 0.")
        try:
            accounts = take_accounts(settings.spool_path, quick=True)
        except (AuditError, OSError):  # the application's own metrics must not suffer
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        damaged = _gauge("audit_spool_damaged_places", DAMAGED)
        damaged.add_metric([], len(accounts.damaged))
        yield damaged
        yield from _balances(accounts)
        yield from _places(accounts, settings)


def _settings_of_this_process() -> Settings:
    from audit_logging.capture.configuration import configured_trail

    trail = configured_trail()
    return Settings.load() if trail is None else trail.settings


def _balances(accounts: Accounts) -> Iterator[Metric]:
    by_stream: dict[str, Balance] = defaultdict(Balance)
    for account in (*accounts.writers, *accounts.closed):
        by_stream[account.stream] += account.balance
    for name, help_ in COUNTERS.items():
        counter = CounterMetricFamily(f"audit_events_{name}", help_, labels=["stream"])
        for stream, balance in by_stream.items():
            counter.add_metric([stream], getattr(balance, name))
        yield counter
    for name, help_ in GAUGES.items():
        gauge = GaugeMetricFamily(f"audit_events_{name}", help_, labels=["stream"])
        for stream, balance in by_stream.items():
            gauge.add_metric([stream], getattr(balance, name))
        yield gauge


def _places(accounts: Accounts, settings: Settings) -> Iterator[Metric]:
    by_stream: dict[str, list[WriterAccount]] = defaultdict(list)
    writers = GaugeMetricFamily("audit_spool_writers", "Writers that have a directory.", labels=["stream", "state"])
    for account in accounts.writers:
        by_stream[account.stream].append(account)
    for stream, its in by_stream.items():
        for state in _STATES:
            writers.add_metric([stream, state], sum(account.state == state for account in its))
    yield writers

    def gauge(name: str, help_: str, value: Callable[[list[WriterAccount]], float | None]) -> Metric:
        family = GaugeMetricFamily(name, help_, labels=["stream"])
        for stream, its in by_stream.items():
            if (number := value(its)) is not None:
                family.add_metric([stream], number)
        return family

    yield gauge("audit_spool_bytes", "Size of all segments.", lambda its: sum(each.kept_bytes for each in its))
    yield gauge(
        "audit_spool_fullest_ratio",
        "How full the fullest writer's spool is, from 0 to 1.",
        lambda its: max(each.kept_bytes for each in its) / settings.spool_max_bytes,
    )
    yield gauge(
        "audit_spool_oldest_waiting_timestamp_seconds",
        "When the oldest event that waits was written; absent while none waits.",
        lambda its: min((each.waiting_since.timestamp() for each in its if each.waiting_since), default=None),
    )
    yield gauge(
        "audit_spool_last_acknowledged_timestamp_seconds",
        "When OpenSearch last acknowledged an event; absent until it has.",
        lambda its: max((each.acknowledged_at.timestamp() for each in its if each.acknowledged_at), default=None),
    )


def _gauge(name: str, help_: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, labels=[])
