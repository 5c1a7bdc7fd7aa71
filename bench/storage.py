"""Bytes on disk an event, against OpenSearch's default dynamic mapping of the same documents.

Both indices have one shard, no replica, and were merged into one segment. What filters cost on ours is in `search`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.local import LocalServer
from audit_logging.local.server import PEAK
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings
from bench.measuring import Row
from bench.trail_of import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: Final = 200_000
STREAM: Final = "bench-storage"
PLAIN: Final = "bench-storage-dynamic"
MOST: Final = 0.6
PAGE: Final = 5000
PATIENCE_SECONDS: Final = 600


def measure() -> Iterator[Row]:
    """Store the same documents twice, and compare."""
    with ExitStack() as stack:
        settings = Settings.load(stream=STREAM)
        if not settings.opensearch_url:
            server = stack.enter_context(LocalServer(heap="1g", jvm_options=PEAK))
            settings = Settings.load(**server.settings(), stream=STREAM)
        client = Client(settings)
        stack.callback(client.close)
        fill(settings, EVENTS)
        client.request("PUT", f"/{PLAIN}", body={"settings": {"number_of_replicas": 0}})
        _copy(client)
        ours, plain = (_bytes_an_event(client, name) for name in (STREAM, PLAIN))
        client.request("DELETE", f"/_data_stream/{STREAM}")
        client.request("DELETE", f"/{PLAIN}")
    yield Row("default dynamic mapping", f"{plain:.0f} bytes an event")
    share = ours / plain
    figure = f"{ours:.0f} bytes an event, {share:.0%}"
    yield Row("the trail", figure, f"at most {MOST:.0%}", share <= MOST)


def _copy(client: Client) -> None:
    """Index what is in the stream once more, unchanged, in the order of arrival."""
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {"size": PAGE, "sort": [{"_seq_no": "asc"}], "track_total_hits": False}
        if after is not None:
            body["search_after"] = after
        hits = client.request("POST", f"/{STREAM}/_search", body=body)["hits"]["hits"]
        if not hits:
            return
        after = hits[-1]["sort"]
        lines = [line for hit in hits for line in ({"index": {"_id": hit["_id"]}}, hit["_source"])]
        body_bytes = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        answer = client.request("POST", f"/{PLAIN}/_bulk", params={"filter_path": "errors"}, body=body_bytes)
        assert not answer["errors"]


def _bytes_an_event(client: Client, name: str) -> float:
    merge = {"max_num_segments": 1, "flush": True}
    client.request("POST", f"/{name}/_refresh")
    client.request("POST", f"/{name}/_forcemerge", params=merge, timeout=PATIENCE_SECONDS)
    totals = client.request("GET", f"/{name}/_stats/store,docs")["_all"]["primaries"]
    size: int = totals["store"]["size_in_bytes"]
    events: int = totals["docs"]["count"]
    return size / events
