"""Archives back into OpenSearch: into a stream of their own, searchable like any, and open to no further event."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import ArchiveError, OpenSearchError
from audit_logging.opensearch.archive import archived_file, read_lines, verify_archive
from audit_logging.opensearch.setup import carry_out, plan_setup
from audit_logging.opensearch.templates import RESTORED

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.opensearch.archive import Manifest
    from audit_logging.opensearch.capabilities import Capabilities
    from audit_logging.opensearch.client import Client
    from audit_logging.settings import Settings

"""Stands in the name of every restored stream, so that none can be mistaken for the trail itself."""

BATCH_BYTES: Final = 5_000_000

Progress = Callable[[int, int], None]
"""Told (events done, events in all) after each batch."""

_CREATED, _THERE_ALREADY = 201, 409
_WRITE_BLOCK: Final = "index.blocks.write"


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.

    Attributes:
        stream: The stream that holds it.
        events: Events in the archives.
        restored: Those that were not there yet.
    """

    stream: str
    events: int
    restored: int


def restore(
    client: Client,
    settings: Settings,
    able: Capabilities,
    manifest_paths: Sequence[Path],
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore archives into ``<stream>-restored-<name>``, which is read-only afterwards. Repeating it is harmless.

    The stream has no retention of its own: it stays until it is deleted.

    Args:
        client: The server.
        settings: The trail's; the restored stream is named after the stream in the first manifest.
        able: What the server can do.
        manifest_paths: Manifests of one stream's archives; all are checked before anything is written.
        name: End of the restored stream's name; None: the number of the first index.
        progress: Called after each batch.

    Raises:
        ArchiveError: An archive is damaged, or they are of several streams. Nothing was written.
        OpenSearchError: The server refused. What was written stays; run it again.
    """
    archives = [(path, verify_archive(path)) for path in manifest_paths]
    stream = _restored_stream([manifest for _, manifest in archives], name)
    plan = plan_setup(client, settings.model_copy(update={"stream": stream}), replace(able, ism=False))
    carry_out(client, plan)
    _block(client, stream, on=None)
    done = restored = 0
    total = sum(manifest.events for _, manifest in archives)
    for path, manifest in archives:
        for batch in _batches(archived_file(path, manifest)):
            restored += _create(client, stream, batch)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    client.request("POST", f"/{stream}/_refresh")
    _block(client, stream, on=True)
    return RestoreReport(stream, total, restored)


def _restored_stream(manifests: list[Manifest], name: str | None) -> str:
    if len({manifest.stream for manifest in manifests}) != 1:
        raise ArchiveError("These archives are of several streams: restore one stream at a time.")
    stream = f"{manifests[0].stream}{RESTORED}{name or manifests[0].index.rpartition('-')[2]}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,200}", stream):
        raise ArchiveError(f"{stream!r} cannot be the name of a stream: choose another with --name.")
    return stream


def _block(client: Client, stream: str, *, on: bool | None) -> None:
    client.request("PUT", f"/{stream}/_settings", body={_WRITE_BLOCK: on})


def _batches(path: Path) -> Any:
    batch: list[bytes] = []
    size = 0
    for line in read_lines(path):
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _create(client: Client, stream: str, lines: list[bytes]) -> int:
    """Create each event under the id it had; return how many were not there yet."""
    body = b"".join(part for line in lines for part in (_action(line), line))
    items = client.request(
        "POST", f"/{stream}/_bulk", body=body, params={"filter_path": "items.*.status,items.*.error"}
    )
    results = [item["create"] for item in items["items"]]
    refused = [result for result in results if result["status"] not in {_CREATED, _THERE_ALREADY}]
    if refused:
        reason = refused[0].get("error", {}).get("reason", refused[0]["status"])
        raise OpenSearchError(f"{stream} did not take {len(refused)} events ({reason}): restore again to go on.")
    return sum(result["status"] == _CREATED for result in results)


def _action(line: bytes) -> bytes:
    integrity = orjson.loads(line).get("audit", {}).get("integrity")
    # What the library did not write had an id that no export tells; this one makes a second restore harmless, too.
    doc_id = f"{integrity['writer']}-{integrity['sequence']}" if integrity else hashlib.sha256(line).hexdigest()
    return orjson.dumps({"create": {"_id": doc_id}}, option=orjson.OPT_APPEND_NEWLINE)
