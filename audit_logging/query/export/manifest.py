"""The manifest beside an export: what was asked, what came, and the sums by which the file proves itself."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging._version import __version__
from audit_logging.errors import QueryError
from audit_logging.events.document import SCHEMA
from audit_logging.files import read_bounded, write_durably
from audit_logging.query.export.outfile import beside

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.query.export.state import State
    from audit_logging.settings import Settings

VERSION: Final = 1
ORDERED: Final = "time, writer, sequence"
UNORDERED: Final = "unordered"


def manifest_of(state: State, target: Path, sha256: str, settings: Settings, finished: str) -> dict[str, Any]:
    """Return the manifest of a complete export."""
    query = state.query
    return {
        "manifest": VERSION,
        "stream": query["stream"],
        "opensearch_url": list(settings.opensearch_url),
        "filter": state.filter,
        "filter_given": query["filter"],
        "order": query["order"],
        "format": query["format"],
        "compression": query["compression"],
        **{name: query[name] for name in ("columns", "bom") if name in query},
        "method": state.method,
        "begun": state.begun,
        "resumed": state.resumed,
        "finished": finished,
        "exported_by": exporter(settings),
        "library": f"audit-logging {__version__}",
        "schema": SCHEMA,
        "event_id": state.event_id,
        "copies_left_out": state.copies,
        **state.tally,
        "files": [
            {
                "name": target.name,
                "bytes": state.bytes,
                "sha256": sha256,
                "content_bytes": state.content_bytes,
                "content_sha256": state.content_sha256,
            }
        ],
    }


def exporter(settings: Settings) -> dict[str, str | None]:
    """Return who exports: the account, the host, and the user that OpenSearch knows."""
    return {"user": _account(), "host": socket.gethostname(), "opensearch_user": settings.opensearch_username}


def _account() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as an account that has no name
        return str(os.getuid())


def manifest_path(target: Path) -> Path:
    """Return where the manifest of *target* lies."""
    return beside(target, "manifest.json")


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write it durably, readable by its owner."""
    write_durably(path, orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest in *path*.

    Raises:
        QueryError: It cannot be read, or is no manifest that this version knows.
    """
    try:
        manifest: dict[str, Any] = orjson.loads(read_bounded(path))
    except OSError as error:
        raise QueryError(f"The manifest {path} cannot be read ({error.strerror}).") from None
    except orjson.JSONDecodeError:
        manifest = {}
    files = manifest.get("files") if isinstance(manifest, dict) and "manifest" in manifest else None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise QueryError(f"{path} is not the manifest of an export: give the FILE.manifest.json beside it.")
    if manifest["manifest"] != VERSION:
        raise QueryError(f"{path} is a manifest of version {manifest['manifest']}; this version reads {VERSION}.")
    return manifest
