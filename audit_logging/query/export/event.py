"""The event by which the trail knows of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.capture.processors import merge_context
from audit_logging.query.access import recording_trail
from audit_logging.query.export.manifest import exporter

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.query.export.state import State
    from audit_logging.settings import Settings

EXPORTED = "audit.exported"

FAILED_SECONDS = 1.0
"""How long shipping may take when the export failed: OpenSearch may be away, and the event is safe in the spool."""


def emit_exported(
    state: State, path: Path | None, sha256: str, settings: Settings, *, failure: str | None = None
) -> str:
    """Emit ``audit.exported`` into the trail that was exported, and return the event's id once it is on the disk.

    The trail of this process takes it where that is the one; else a writer of its own does, for this one event.

    Args:
        state: What was exported.
        path: Where to; None for standard output.
        sha256: Of the file; empty where it is not complete.
        settings: Of the reader.
        failure: What ended the export early.

    Raises:
        AuditError: It could not be kept.
    """
    facts = _facts(state, path, sha256, settings)
    if failure is not None:
        facts |= {"outcome": "failure", "reason": f"ended early: {failure}"}
    with recording_trail(settings, settings.shutdown_timeout_seconds if failure is None else FAILED_SECONDS) as trail:
        return trail.emit(EXPORTED, facts, "disk")


def _facts(state: State, path: Path | None, sha256: str, settings: Settings) -> dict[str, Any]:
    around = merge_context(None, "info", {})
    who = exporter(settings)
    # An application exports for the user of the context around; a person at a shell for himself.
    named = {} if around.keys() & {"user_id", "user_name"} else {"user_name": who["user"]}
    metadata = {
        "resource": settings.stream,
        "filter": state.filter,
        "record_count": state.tally["events"],
        "format": state.query["format"],
        "order": state.query["order"],
        "file": str(path) if path else "standard output",
        "sha256": sha256,
        "content_sha256": state.content_sha256 if sha256 else None,
        "opensearch_user": who["opensearch_user"],
        "host": who["host"],
    }
    return {**named, "metadata": {name: value for name, value in metadata.items() if value not in (None, "")}}
