"""Finding a page among five million events, against the same question written by hand in OpenSearch's query DSL.

Both ask for the newest 50 events of a day and their exact number, over opensearch-py; medians of rounds in which they
take turns. The command is timed as a whole process. Loading takes some minutes, unless AUDIT_OPENSEARCH_URL leads to a
server that was filled before.
"""

from __future__ import annotations

import datetime as dt
import itertools
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import NotFoundError
from audit_logging.local import LocalServer
from audit_logging.local.server import PEAK
from audit_logging.opensearch.client import Client
from audit_logging.query import AuditReader
from audit_logging.settings import Settings
from bench.measuring import Row, median_ratio, take_turns
from bench.trail_of import BEGIN, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: Final = 5_000_000
USERS: Final = 2000
STREAM: Final = "bench-search"
LIMIT: Final = 50
ROUNDS: Final = 15
CALLS: Final = 8
MOST_OF_A_PAGE: Final = 1.3
MOST_OF_A_COMMAND: Final = 2.0

DAY: Final[dict[str, Any]] = {"since": BEGIN + dt.timedelta(days=19), "until": BEGIN + dt.timedelta(days=20)}
RANGE: Final = {"range": {"@timestamp": {"gte": DAY["since"].isoformat(), "lt": DAY["until"].isoformat()}}}

USER: Final = "user and 24 hours"
FILTERS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "event type with a star": ({"event_type": "admin.*"}, {"wildcard": {"event.action": {"value": "admin.*"}}}),
    "category": ({"category": "iam"}, {"term": {"event.category": "iam"}}),
    "severity at least": ({"min_severity": "warning"}, {"terms": {"log.level": ["warning", "critical"]}}),
    "outcome": ({"outcome": "failure"}, {"term": {"event.outcome": "failure"}}),
    "not an outcome": ({"not_outcome": "success"}, {"bool": {"must_not": {"term": {"event.outcome": "success"}}}}),
    "address": ({"source_ip": "203.0.7.9"}, {"term": {"source.ip": "203.0.7.9"}}),
    "network": ({"source_ip": "203.0.7.0/24"}, {"term": {"source.ip": "203.0.7.0/24"}}),
    "tenant": ({"organization_id": "tenant-3"}, {"term": {"organization.id": "tenant-3"}}),
    "service": ({"service": "shop"}, {"term": {"service.name": "shop"}}),
    "request": ({"request_id": "r-4000000"}, {"term": {"http.request.id": "r-4000000"}}),
    "text": ({"text": "u-77 failure"}, {"match": {"message": {"query": "u-77 failure", "operator": "and"}}}),
    "metadata": ({"metadata": {"order": "o-4000000"}}, {"term": {"audit.metadata.order": "o-4000000"}}),
}
"""What is measured within 24 hours, each as a filter and as a query by hand."""


def measure() -> Iterator[Row]:
    """Measure pages, and the command."""
    with ExitStack() as stack:
        settings = Settings.load(stream=STREAM)
        if not settings.opensearch_url:
            server = stack.enter_context(LocalServer(heap="1g", jvm_options=PEAK))
            settings = Settings.load(**server.settings(), stream=STREAM)
        client = Client(settings)
        stack.callback(client.close)
        if _stored(client) != EVENTS:
            fill(settings, EVENTS, users=USERS)
        reader = stack.enter_context(AuditReader(settings=settings))
        yield _page_of_a_user(client, reader)
        for name, (conditions, query) in FILTERS.items():
            yield _page(f"page: {name}", client, reader, conditions, query)
        yield _command(settings)


def _stored(client: Client) -> int:
    try:
        count: int = client.request("GET", f"/{STREAM}/_count")["count"]
    except NotFoundError:
        return 0
    return count


def _by_hand(client: Client, query: dict[str, Any]) -> Any:
    body = {
        "size": LIMIT,
        "track_total_hits": True,
        "sort": [{"@timestamp": "desc"}],
        "query": {"bool": {"filter": [query, RANGE]}},
    }
    return client.request("POST", f"/{STREAM}/_search", body=body)


def _page_of_a_user(client: Client, reader: AuditReader) -> Row:
    """Ask for another user each time, so that neither finds what the other left in a cache."""
    users = itertools.cycle(f"u-{number}" for number in range(USERS))

    def by_hand() -> None:
        _by_hand(client, {"term": {"user.id": next(users)}})

    def ours() -> None:
        reader.search(user_id=next(users), limit=LIMIT, **DAY)

    return _row(f"page: {USER}", by_hand, ours)


def _page(name: str, client: Client, reader: AuditReader, conditions: dict[str, Any], query: dict[str, Any]) -> Row:
    hand = _by_hand(client, query)["hits"]["total"]["value"]
    assert reader.search(limit=LIMIT, **DAY, **conditions).total == hand
    return _row(name, lambda: _by_hand(client, query), lambda: reader.search(limit=LIMIT, **DAY, **conditions))


def _row(name: str, by_hand: Any, ours: Any) -> Row:
    costs = take_turns({"hand": by_hand, "ours": ours}, rounds=ROUNDS, calls=CALLS)
    ratio = median_ratio([cost.wall for cost in costs["ours"]], [cost.wall for cost in costs["hand"]])
    milliseconds = statistics.median(cost.wall for cost in costs["ours"]) * 1000
    figure = f"{ratio:.2f} x by hand ({milliseconds:.1f} ms)"
    return Row(name, figure, f"at most {MOST_OF_A_PAGE} x", ratio <= MOST_OF_A_PAGE)


def _command(settings: Settings) -> Row:
    """Compare the command with a program that imports opensearch-py and asks the same."""
    url = settings.opensearch_url[0]
    query = {"bool": {"filter": [{"term": {"user.id": "u-7"}}, RANGE]}}
    body = {"size": 20, "track_total_hits": True, "sort": [{"@timestamp": "desc"}], "query": query}
    program = f"import opensearchpy\nopensearchpy.OpenSearch([{url!r}]).search(index={STREAM!r}, body={body!r})"
    times = [f"--{name}={moment.isoformat()}" for name, moment in DAY.items()]
    search = ["-m", "audit_logging", "search", "--url", url, "--stream", STREAM, "--user-id", "u-7", *times]
    seconds: dict[str, list[float]] = {"hand": [], "ours": []}
    for _ in range(ROUNDS):
        for name, arguments in (("hand", ["-c", program]), ("ours", search)):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - began)
    ratio = median_ratio(seconds["ours"], seconds["hand"])
    figure = f"{ratio:.2f} x opensearch-py and that query ({statistics.median(seconds['ours']) * 1000:.0f} ms)"
    return Row("audit-logging search, first page", figure, f"under {MOST_OF_A_COMMAND} x", ratio < MOST_OF_A_COMMAND)
