"""Exports of a million events to NDJSON, manifest included, side by side with opensearch-py's scan on the same index.

Each contender in a process of its own, in rounds that take turns; ratios by the clock, medians of the rounds. "The
limit" asks for page after page on one connection, the next one under way, and writes the answers as they come.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opensearchpy import OpenSearch
from opensearchpy.helpers import scan

from audit_logging.local.server import PEAK, LocalServer
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings
from bench.measuring import Row, Run, median_ratio, run_alone, tell_run
from bench.trail_of import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = 1_000_000
ROUNDS = 3
PAGE = 5000
MOST_MEGABYTES = 150
STREAM = "bench-export"

SCAN = "opensearchpy.helpers.scan"
LIMIT = "the limit"
UNORDERED = "export --unordered"
ORDERED = "export"
SCROLL = "export --method scroll"
SCROLL_UNORDERED = "export --method scroll --unordered"
OURS: dict[str, dict[str, Any]] = {
    UNORDERED: {"method": "pit", "unordered": True},
    ORDERED: {"method": "pit"},
    SCROLL: {"method": "scroll"},
    SCROLL_UNORDERED: {"method": "scroll", "unordered": True},
}
TIMES_SCAN = {UNORDERED: 5.0, ORDERED: 3.0, SCROLL: 1.5, SCROLL_UNORDERED: 1.5}
OF_THE_LIMIT = 0.8


def measure() -> Iterator[Row]:
    """Fill a stream, and export it by each contender."""
    with server() as url, tempfile.TemporaryDirectory() as folder:
        fill(Settings.load(opensearch_url=url, stream=STREAM), EVENTS)
        runs: dict[str, list[Run]] = {name: [] for name in (SCAN, LIMIT, *OURS)}
        for _ in range(ROUNDS):
            for name, found in runs.items():
                out = str(Path(folder) / "out.ndjson")
                found.append(run_alone(__name__, name, url, out, AUDIT_HOME=folder, AUDIT_AUDIT_EXPORTS="false"))
    for name, found in runs.items():
        yield _row(name, found, runs[SCAN])
    ratio = median_ratio((run.wall for run in runs[LIMIT]), (run.wall for run in runs[UNORDERED]))
    yield Row(f"{UNORDERED}, of the limit", f"{ratio:.0%}", f"at least {OF_THE_LIMIT:.0%}", ratio >= OF_THE_LIMIT)
    for name in OURS:
        most = max(run.megabytes for run in runs[name])
        yield Row(f"{name}, memory", f"{most:.0f} MB", f"under {MOST_MEGABYTES} MB", most < MOST_MEGABYTES)


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server to measure: the one that is set, or one of this measurement's own."""
    given = Settings.load().opensearch_url
    if given:
        yield given[0]
        return
    with LocalServer(heap="1g", jvm_options=PEAK) as server:
        yield server.url


def _row(name: str, found: list[Run], scan: list[Run]) -> Row:
    ratio = median_ratio((run.wall for run in scan), (run.wall for run in found))
    rate = EVENTS / statistics.median(run.wall for run in found)
    cpu = statistics.median(run.cpu for run in found) / EVENTS * 1e6
    figure = f"{rate:9,.0f} events/s  {ratio:5.2f} × scan  ({cpu:.1f} µs of processor an event)"
    target = TIMES_SCAN.get(name)
    return Row(name, figure, f"at least {target:g} ×", ratio >= target) if target else Row(name, figure)


def _alone(name: str, url: str, path: str) -> None:
    """Run one contender in this process and print what it took."""
    contender: Callable[[str, str], int] = {SCAN: _scan, LIMIT: _limit}.get(name, lambda *_: _export(name, url, path))
    tell_run(lambda: contender(url, path), EVENTS)


def _scan(url: str, path: str) -> int:
    events = 0
    with Path(path).open("w") as file:
        for hit in scan(OpenSearch([url]), index=STREAM, size=PAGE):
            file.write(json.dumps(hit["_source"]) + "\n")
            events += 1
    return events


def _limit(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def ask(method: str, where: str, body: dict[str, Any] | None) -> bytes:
        connection.request(method, where, json.dumps(body) if body else None, {"content-type": "application/json"})
        return connection.getresponse().read()

    point = json.loads(ask("POST", f"/{STREAM}/_search/point_in_time?keep_alive=5m", None))["pit_id"]
    body = {"pit": {"id": point, "keep_alive": "5m"}, "size": PAGE, "sort": ["_shard_doc"], "track_total_hits": False}
    events = 0
    with ThreadPoolExecutor(1) as pool, Path(path).open("wb") as file:
        page = ask("POST", "/_search", body)
        while (last := page.rfind(b'"sort":[')) > 0:
            body["search_after"] = json.loads(page[last + len('"sort":') : -len("}]}}")])
            pending = pool.submit(ask, "POST", "/_search", body)
            file.write(page)
            events += page.count(b'{"_index":"')
            page = pending.result()
    ask("DELETE", "/_search/point_in_time", {"pit_id": [point]})
    return events


def _export(name: str, url: str, path: str) -> int:
    with AuditReader(opensearch_url=url, stream=STREAM) as reader:
        return reader.export(path, **OURS[name]).events


if __name__ == "__main__":
    _alone(*sys.argv[1:])
